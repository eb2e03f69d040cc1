"""The variables of the front door (`make sweep ARCH=t5-small SEEDS=3`) as overrides of the configuration."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence

from tracking.errors import ConfigError

_Translate = Callable[[str], str]
_MOST_SEEDS = 1000


def _group(name: str) -> _Translate:
    return lambda value: f"{name}={value}"


def quoted(path: str, value: str) -> str:
    """The override that sets a text as it stands, whatever is in it."""
    return f"{path}='" + re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", "\\'") + "'"


def _text(path: str) -> _Translate:
    return lambda value: quoted(path, value)


def _names(path: str) -> _Translate:
    return lambda value: f"{path}=[{','.join(part.strip() for part in value.split(',') if part.strip())}]"


def _texts(path: str) -> _Translate:
    return lambda value: (
        f"{path}=[{','.join(quoted('', part.strip())[1:] for part in value.split(',') if part.strip())}]"
    )


def _seeds(value: str) -> str:
    """'3' means seeds 0, 1, 2; '0,7' means just these."""
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"SEEDS={value}: expected how many (SEEDS=3) or which (SEEDS=0,7), whole numbers from 0 up")
    if len(parts) == 1 and int(parts[0]) == 0:
        raise ConfigError("SEEDS=0: no seed at all; write SEEDS=1 for one seed, or SEEDS=0,1 to name them")
    if len(parts) == 1 and int(parts[0]) > _MOST_SEEDS:
        raise ConfigError(f"SEEDS={value}: more than {_MOST_SEEDS} seeds; write fewer, or name them")
    chosen = parts if len(parts) > 1 else [str(seed) for seed in range(int(parts[0]))]
    return f"seeds=[{','.join(chosen)}]"


def _number(path: str) -> _Translate:
    def translate(value: str) -> str:
        try:
            float(value)
        except ValueError as error:
            raise ConfigError(f"{path}={value}: expected a number") from error
        return f"{path}={value}"

    return translate


def _switch(path: str) -> _Translate:
    def translate(value: str) -> str:
        if value.lower() not in ("0", "1", "true", "false", "yes", "no"):
            raise ConfigError(f"{path.upper()}={value}: expected 1 or 0")
        return f"{path}={'true' if value.lower() in ('1', 'true', 'yes') else 'false'}"

    return translate


VARIABLES: dict[str, tuple[_Translate, str]] = {
    "ARCH": (_group("arch"), "architecture: a YAML under conf/arch"),
    "SUITE": (_group("suite"), "target tasks: a YAML under conf/suite"),
    "TASKS": (_names("tasks"), "target tasks instead of the suite's: mnli,rte"),
    "CANDIDATES": (_group("candidates"), "base models: a YAML under conf/candidates"),
    "EXPERIMENT": (_group("experiment"), "a YAML under conf/experiment that sets several groups"),
    "CLUSTER": (_group("cluster"), "where cells run: a YAML under conf/cluster"),
    "SEEDS": (_seeds, "how many seeds (3), or which (0,7)"),
    "MIRROR": (_text("mirror"), "folder that replaces the hub"),
    "OUT": (_text("out"), "folder for everything that is written (outputs)"),
    "DRY": (_switch("dry"), "1: only show what would be done; `make publish` does so unless DRY=0"),
    "OFFLINE": (_switch("offline"), "1: never ask the hub"),
    "FROM": (_text("source"), "folder of published results to import"),
    "MODEL": (_text("model"), "base model to assess, or that a card is about"),
    "PROBE": (_number("probe_score"), "linear-probe score on MNLI of MODEL, points, where none is in the results"),
    "TASK": (_text("task"), "new target task: a YAML under conf/task"),
    "LIMIT": (_number("discover.limit"), "most candidates that `make discover` takes from the hub"),
    "REPLAY": (_switch("replay"), "1: replay `make start` on every target with results, without finetuning"),
    "BUDGET": (_number("start.budget"), "most finetunes that `make start` may spend"),
    "MATRIX": (_text("matrix"), "folder with a performance matrix: published, or written by make matrix"),
    "SCORES": (_texts("scores"), "files of proxy scores on the target, <proxy>_score_<task>.txt, with commas"),
    "THRESHOLD": (_number("recall.threshold"), "largest mean distance at which clusters merge (0.09)"),
    "VARIANT": (_text("recall.variant"), "of recall: paper or reference_code"),
    "K": (_number("select.k"), "candidates that coarse recall hands on (10)"),
    "POLICY": (_text("select.policy"), "who is trained further: fine_selection, successive_halving, brute_force, asha"),
    "MODELS": (_texts("fuse.models"), "models to fuse: org/a,./folder,startline/b"),
    "RULE": (
        _text("fuse.fusion.rule"),
        "how to fuse: mean, weighted_mean, fisher, task_arithmetic, ties, dare, greedy_soup",
    ),
    "WEIGHTS": (_names("fuse.weights"), "weight of each of MODELS: 2,1,1"),
    "FISHER": (
        _texts("fuse.fisher"),
        "Fisher of each of MODELS: a safetensors file, or a task to estimate it on; one for all",
    ),
    "NAME": (_text("fuse.name"), "name of the fused model: startline/<name>"),
    "CONTRIBUTORS": (_number("cold_fusion.contributors"), "contributors of an iteration of `make cold-fusion`"),
    "ITERATIONS": (_number("cold_fusion.iterations"), "times that `make cold-fusion` fuses their contributions"),
    "SET": (
        _text("subset"),
        "part of the cells to analyse: in_house, off_the_shelf, general, nli, twitter, paper_table_4, ...",
    ),
    "AGAINST": (_names("against"), "other architectures to compare with: bert-base-cased,t5-base"),
    "FORCE": (_switch("force"), "1: register also what is not significantly better than the pretrained model"),
    "SITE": (_text("site"), "address at which the leaderboard site is published, for links in cards"),
    "FAITHFUL": (_switch("faithful"), "1: the published pages from the published files, byte for byte"),
    "REBUILD": (_switch("rebuild"), "1: read all runs from MLflow again"),
    "SETTINGS": (_text("settings"), "start of the settings hash to rank under"),
}
"""Name -> (translation to an override, what it is)."""


def to_overrides(arguments: Sequence[str]) -> list[str]:
    """Overrides for arguments that are variables (``ARCH=...``), ``ARGS=...`` or overrides already; empty ones are left out.

    Raises:
        ConfigError: a variable with a value it cannot have.
    """
    translated: list[str] = []
    faults: list[str] = []
    for argument in arguments:
        name, separator, value = argument.partition("=")
        if not separator or not name.isupper():
            translated.append(argument)
        elif not value.strip():
            continue
        elif name == "ARGS":
            try:
                translated += shlex.split(value)
            except ValueError as error:
                faults.append(f"ARGS={value}: {error}; close every quote")
        elif name in VARIABLES:
            try:
                translated.append(VARIABLES[name][0](value.strip()))
            except ConfigError as error:
                faults += error.faults
        else:
            faults.append(f"{name}: no such variable; known: {', '.join([*VARIABLES, 'ARGS'])}")
    if faults:
        raise ConfigError(faults)
    return translated
