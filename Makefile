# The front door. `make help` lists what there is; the two to begin with are `make sweep` and `make test`.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
PY := $(VENV)/bin/python
COMMANDS := sweep rank discover probe proxies backtest clean-features analyze assess start matrix select clusters recall replay-selection fuse cold-fusion import-published report card publish register tracking-up tracking-sync cluster-up cluster-status cluster-down ui
VARIABLES := ARCH SUITE TASKS CANDIDATES EXPERIMENT CLUSTER SEEDS MIRROR OUT DRY OFFLINE FROM MODEL PROBE TASK LIMIT \
             BUDGET REPLAY MATRIX SCORES THRESHOLD VARIANT K POLICY MODELS RULE WEIGHTS FISHER NAME CONTRIBUTORS ITERATIONS SET AGAINST FORCE SITE FAITHFUL REBUILD SETTINGS ARGS
# only what was given on make's own command line counts, not a variable of that name in the environment
GIVEN = $(foreach v,$(VARIABLES),$(if $(filter command,$(firstword $(origin $(v)))),$(v)='$(subst ','\'',$($(v)))'))
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help setup $(COMMANDS) config check test test-slow test-browser chaos bench licenses audit fuzz clean

help: ## this list
	@echo "Startline: which checkpoint to start finetuning from, and how sure that is."
	@echo
	@grep -hE '^[a-z][a-z -]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'
	@echo
	@echo "  sweep              finetune base models over tasks on Ray, log every finetune to MLflow, rank"
	@echo "                       ARCH=t5-small  SUITE=general  CANDIDATES=roberta_paper  SEEDS=3  EXPERIMENT=in_house"
	@echo "                       MIRROR=dir  CLUSTER=local  OUT=dir  DRY=1  ARGS=\"any.hydra=override\""
	@echo "  rank               rank base models from MLflow:               ARCH=...  SETTINGS=hash  REBUILD=1"
	@echo "  ui                 open MLflow's UI on the results:            OUT=dir"
	@echo "  tracking-up        an MLflow server on PostgreSQL:             OUT=dir  (then ARGS=\"tracking=server\")"
	@echo "  tracking-sync      upload results that wait on disk:           OUT=dir  ARGS=\"tracking=server\""
	@echo "  cluster-up, cluster-status, cluster-down   a cluster of machines:   CLUSTER=aws  (then make sweep CLUSTER=aws)"
	@echo "  import-published   published results into MLflow:              FROM=folder"
	@echo "  report             static leaderboard site:                    FAITHFUL=1 FROM=folder for the published pages"
	@echo "  analyze            the analyses of 'Where to start?':          ARCH=...  SET=in_house"
	@echo "  assess             what a new model is worth:                  MODEL=...  ARCH=..."
	@echo "  start              where to start for a new target:            TASK=...  ARCH=...  BUDGET=n"
	@echo "  clusters, recall   base models that behave alike; whom to try: MATRIX=folder  SCORES=file  VARIANT=paper"
	@echo "  replay-selection   selection policies on recorded curves:      MATRIX=folder"
	@echo "  fuse               fuse models into one base model:            ARCH=...  MODELS=a,b,c  RULE=ties"
	@echo "  cold-fusion        finetune apart, fuse, again and again:      ARCH=...  SUITE=...  CONTRIBUTORS=8  ITERATIONS=30"
	@echo "  matrix, select     two-phase selection for a new target:       SUITE=benchmark  TASK=...  K=10  POLICY=..."
	@echo "  probe              linear probes of a candidate list:          ARCH=...  TASKS=mnli"
	@echo "  proxies            transferability scores for one target:      TASK=...  ARCH=..."
	@echo "  backtest           which proxy to trust, on your own results:  ARCH=..."
	@echo "  discover           a candidate list from the hub:              ARCH=..."
	@echo "  card, register, publish   model card, MLflow registry, pull request on the hub (dry run unless told)"

setup: $(READY) ## make .venv and install what pyproject.toml names, at the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	print('\n'.join(p['dependencies'] + p['optional-dependencies']['dev']))" > $(VENV)/requirements.txt
	@echo "setting up $(VENV) (once, a few minutes)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -r $(VENV)/requirements.txt -c constraints.txt
	@touch $@

$(COMMANDS) config: $(READY)
	@$(PY) -m ray_app $@ $(GIVEN)

licenses: $(READY) ## the tasks with their sources and licences, as a Markdown table
	@$(PY) -m ray_app.commands.licenses

check: $(READY) ## ruff, mypy and the architecture test
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -m pytest -q tests/unit/test_architecture.py

test test-slow test-browser chaos: export OMP_NUM_THREADS := 1

test: $(READY) ## unit, contract, integration and fuzz tests, on two cores (minutes); the slow ones: make test-slow
	@$(PY) -m pytest -n 2 --dist loadgroup -m "not browser and not chaos and not slow" tests/unit tests/contract tests/integration tests/fuzz

test-slow: $(READY) ## whole sweeps, searches, loops and selections on real Ray, each of seconds to minutes
	@$(PY) -m pytest -m "slow and not browser and not chaos" tests/integration tests/contract

test-browser: $(READY) ## end-to-end tests of the site in Chromium (skipped where there is none)
	@$(PY) -m pytest -m browser tests/browser

chaos: $(READY) ## kill things in the middle of a sweep and compare with an undisturbed one; CHAOS=file for some; MINUTES=20 SEED=0 for the long run
	@$(if $(MINUTES),PYTHONPATH=. $(PY) tests/chaos/long_run.py --minutes $(MINUTES) --seed $(or $(SEED),0),$(PY) -m pytest -m chaos $(or $(CHAOS),tests/chaos))

fuzz: export OMP_NUM_THREADS := 1
fuzz: $(READY) ## hostile inputs on every surface, some 24,000 of them (EXAMPLES=2000), with their counts at the end
	@EXAMPLES=$(or $(EXAMPLES),2000) $(PY) -m pytest -q --timeout=0 tests/fuzz

audit: $(READY) ## known holes of the pinned dependencies, by pip-audit (asks the network)
	@$(PY) -m ray_app.commands.audit

bench: ## how to repeat the benchmarks
	@grep -h '^    ' docs/benchmarks.md | grep 'tests/bench' || true

clean: ## remove outputs/ (results!) after asking; .venv stays
	@printf "remove outputs/ with all results? [y/N] "; read answer; [ "$$answer" = y ] && rm -rf outputs || echo "kept"
