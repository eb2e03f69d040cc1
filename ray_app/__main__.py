"""The front door behind make: `python -m ray_app <command> [VARIABLE=value | override ...]`."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

from tracking.errors import StartlineError
from tracking.names import visible_lines
from tracking.secrets import RedactingFormatter, redact

COMMANDS = {
    "sweep": "finetune base models over tasks, log every finetune to MLflow, rank",
    "rank": "rank base models from what is in MLflow",
    "discover": "make a candidate list from the hub, with pinned revisions",
    "probe": "rank base models by a linear head on their frozen features",
    "proxies": "score base models for one target by every transferability score",
    "backtest": "which score to trust, measured on finetunes that are there",
    "clean-features": "remove the stored features of frozen models",
    "analyze": "every analysis of 'Where to start?', with figures",
    "assess": "what a probe alone says of a new base model",
    "start": "where to start for a new target: spend a few finetunes, get a verdict",
    "matrix": "finetune base models over benchmark tasks in equal stages: what selection learns from",
    "select": "recall candidates for a new target, train them stage by stage, drop the worse, keep the best",
    "clusters": "cluster base models by what they score on benchmark tasks",
    "recall": "rank base models for a new target from proxy scores of a few",
    "replay-selection": "every selection policy on recorded curves, without training: the paper's tables and figures",
    "fuse": "fuse models of one architecture into a base model",
    "cold-fusion": "contributors finetune apart, their models are fused, again and again",
    "import-published": "put published results into MLflow",
    "report": "write the leaderboard site of every architecture with results",
    "card": "write what a model card says of a base model",
    "publish": "open a pull request with a card on the hub (shows it only, unless DRY=0)",
    "register": "put the best base model into MLflow's model registry",
    "tracking-up": "run an MLflow server on PostgreSQL until Ctrl-C",
    "tracking-sync": "upload the results that wait because MLflow was away",
    "cluster-up": "start a cluster (CLUSTER=aws, gcp, kuberay)",
    "cluster-status": "nodes, demand and jobs of a cluster",
    "cluster-down": "end a cluster; results on its storage stay",
    "ui": "open MLflow's UI on the results",
    "config": "print the resolved configuration",
    "licenses": "list the tasks with their sources and licences",
}
"""Name -> what it does; each is a module of ray_app.commands with run(config)."""
TRAINING = ("sweep", "start", "matrix", "select", "fuse", "cold-fusion", "probe", "proxies", "discover", "config")
"""Commands that need an architecture known under conf/arch; the others only read results, of any architecture."""
DEFAULTS = {"start": ("seeds=[0,1,2]",)}
"""Overrides that a command begins with: a verdict on one target needs its noise, and so several seeds."""


def usage() -> str:
    """Commands and variables, for --help."""
    from ray_app.variables import VARIABLES

    lines = ["usage: python -m ray_app COMMAND [VARIABLE=value | hydra.override=value ...]", "", "commands:"]
    lines += [f"  {name:<18}{text}" for name, text in COMMANDS.items()]
    lines += ["", "variables:"] + [f"  {name:<18}{text}" for name, (_, text) in VARIABLES.items()]
    return "\n".join([*lines, f"  {'ARGS':<18}any overrides, in quotes", ""])


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code (0 all done, 1 some failed, 2 bad request, 3 infrastructure, 130 interrupted)."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0 if arguments else 2
    try:
        return _run(arguments[0], arguments[1:])
    except StartlineError as error:
        sys.stderr.write(f"error: {harmless(error.message)}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was finished is kept, run the same command again to go on\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(command: str, rest: Sequence[str]) -> int:
    from ray_app.config import load_config, nearest
    from ray_app.sweeps.notice import interrupt_on_sigterm
    from ray_app.variables import to_overrides
    from tracking.errors import ConfigError

    interrupt_on_sigterm()
    if command not in COMMANDS:
        raise ConfigError(f"{command}: no such command{nearest(command, COMMANDS)}")
    overrides = [*DEFAULTS.get(command, ()), *to_overrides(rest)]
    config = load_config(overrides, any_arch=command not in TRAINING)
    _log_plainly(config.debug.log_level)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs every address at INFO
    if config.cluster.jobs is not None or config.cluster.launch is not None:
        from ray_app.cluster.submission import is_submitted, submit
        from ray_app.commands.console import console

        if is_submitted(command, config):
            return submit(command, overrides, config, say=console.print)
    module = importlib.import_module(f"ray_app.commands.{command.replace('-', '_')}")
    return int(module.run(config))


def _log_plainly(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def harmless(text: str) -> str:
    """A text for the terminal: no secret in it, and nothing that a terminal obeys."""
    return visible_lines(redact(text))


def _show_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What is shown of a fault of Startline's own: the traceback, without secrets."""
    sys.stderr.write(harmless("".join(traceback.format_exception(kind, error, trace))) + "\n")


if __name__ == "__main__":
    sys.excepthook = _show_fault
    raise SystemExit(main(sys.argv[1:]))
