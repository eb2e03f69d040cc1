"""What a sweep is told besides tasks, models and training: candidates, cluster, tracking, debugging."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray_app.cluster.settings import LaunchConfig
from ray_app.hub.checkpoints import ModelRef
from ray_app.hub.mirror import check_hub_id, faults_of
from ray_app.hub.model_files import VISION_TYPES
from ray_app.hub.tasks import SplitCaps
from ray_app.training.tokens import Family
from tracking.server import ServerConfig

_LABEL = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?")


@dataclass(kw_only=True)
class ArchConfig:
    """An architecture: its pretrained model, and which checkpoints may be compared with it."""

    name: str
    """Name used everywhere (ARCH=, experiment in MLflow, result files)."""
    family: Family = Family.ENCODER
    """Classification head on an encoder, text to text, or classification head on a model of images."""
    pretrained: ModelRef
    """The pretrained model that every gain is measured against."""
    model_types: list[str]
    """``model_type`` values of config.json that belong to it."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = [f"name: {text}" for text in faults_of(check_hub_id, self.name)]
        if not self.model_types:
            found.append("model_types: empty; name at least one model_type of config.json")
        images = self.family is Family.IMAGE
        wrong = [kind for kind in self.model_types if (kind in VISION_TYPES) != images]
        if wrong:
            reads = "images" if images else "text"
            found.append(f"model_types: {', '.join(wrong)}; family {self.family.value} is of models that read {reads}")
        return found


@dataclass(kw_only=True)
class SourcesConfig:
    """Intermediate models made here: the pretrained model finetuned on source tasks, each a base model of the sweep."""

    tasks: list[str]
    """Source tasks."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds of the source finetunes."""
    caps: SplitCaps = field(default_factory=SplitCaps)
    """Upper limits of rows of the source tasks."""
    method: dict[str, Any] = field(default_factory=dict)
    """Hyperparameters that differ from the sweep's method, by name."""
    label: str = ""
    """Appended to the names of these models, to tell studies of one source apart (n500, decay1, ...)."""
    pair_seeds: bool = True
    """Seed s of a target cell starts from the source model of seed s (paper, App. D); else every source seed is a base
    model of its own."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = [] if self.tasks else ["tasks: empty; name at least one source task"]
        if not _LABEL.fullmatch(self.label):
            found.append(f"label: {self.label[:80]!r}; it stands in names, write letters, digits, '-', '_' and '.'")
        if len(set(self.seeds)) < len(self.seeds):
            found.append(f"seeds: {self.seeds} repeats a seed")
        return found


@dataclass(kw_only=True)
class CandidatesConfig:
    """The base models to compare, besides the pretrained one."""

    name: str
    """Name of the list."""
    models: list[ModelRef] = field(default_factory=list)
    """Checkpoints from the hub, a mirror, a folder or a package."""
    sources: list[SourcesConfig] = field(default_factory=list)
    """Intermediate models that Startline finetunes itself."""
    source: str = ""
    """Where the list is from."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        ids = [model.id for model in self.models]
        return [f"models: {name} is listed twice" for name in sorted({name for name in ids if ids.count(name) > 1})]


@dataclass(kw_only=True)
class ExperimentConfig:
    """Names an experiment; its YAML overrides other groups."""

    name: str = "plain"
    """Name of the experiment."""
    text: str = ""
    """What it is for, in one sentence."""


@dataclass(kw_only=True)
class ClusterConfig:
    """Where cells run."""

    name: str = "local"
    """Name of the cluster."""
    address: str | None = None
    """Ray address; None: a Ray of this machine's own, on loopback only."""
    cpus: int | None = None
    """CPUs of the local Ray; None: all of the machine."""
    gpus: int | None = None
    """GPUs of the local Ray; None: all of the machine."""
    cpus_per_cell: float = 1.0
    """CPUs a cell takes."""
    gpus_per_cell: float = 0.0
    """GPUs a cell takes: 0, a whole number, or a fraction 1/k shared by k cells."""
    workers_per_cell: int | None = None
    """Processes that train one cell together (DDP); None: one for each of its GPUs."""
    max_failures: int = 3
    """How often a cell whose worker or node died is tried again without having got further since."""
    hang_timeout_s: float | None = 7200.0
    """Seconds without a validation after which a running cell is ended and tried again; null: never."""
    storage: Path | None = None
    """Folder that all nodes share, for records, checkpoints and intermediate models; None: <out>/storage."""
    min_free_gb: float = 1.0
    """Free disk space below which a sweep does not start, GB (10**9 bytes)."""
    jobs: str | None = None
    """Address of a running Ray's job server (``http://127.0.0.1:8265``); commands are submitted there as jobs."""
    launch: LaunchConfig | None = None
    """How the cluster is started; commands are submitted to it as jobs. None: it is there already."""

    @property
    def team(self) -> int:
        """Processes that train one cell together."""
        return self.workers_per_cell or max(1, int(self.gpus_per_cell))

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = []
        if self.cpus is not None and self.cpus < 1:
            found.append(f"cpus: {self.cpus}; it must be 1 or more, or null for all")
        if self.cpus_per_cell <= 0:
            found.append(f"cpus_per_cell: {self.cpus_per_cell}; it must be above 0")
        if self.gpus_per_cell < 0 or (self.gpus_per_cell > 1 and self.gpus_per_cell % 1):
            found.append(f"gpus_per_cell: {self.gpus_per_cell}; it must be 0, a fraction below 1, or a whole number")
        if self.workers_per_cell is not None and self.workers_per_cell < 1:
            found.append(
                f"workers_per_cell: {self.workers_per_cell}; it must be 1 or more, or null for one for each GPU"
            )
        elif self.gpus_per_cell and self.workers_per_cell not in (None, max(1, int(self.gpus_per_cell))):
            found.append(
                f"workers_per_cell: {self.workers_per_cell} for {self.gpus_per_cell:g} GPUs; leave it null for one for each"
            )
        if self.jobs is not None and not self.jobs.startswith(("http://", "https://")):
            found.append(
                f"jobs: {self.jobs!r}; expected the address of a job server, for instance http://127.0.0.1:8265"
            )
        if self.jobs is not None and self.storage is None:
            found.append(
                "storage: not set; commands submitted as jobs need a folder that all nodes see (cluster.storage=...)"
            )
        if self.hang_timeout_s is not None and not self.hang_timeout_s > 0:
            found.append(f"hang_timeout_s: {self.hang_timeout_s}; it must be above 0, or null for never")
        if self.max_failures < 0:
            found.append(f"max_failures: {self.max_failures}; it must be 0 or more")
        return found


@dataclass(kw_only=True)
class TrackingConfig:
    """Where results go."""

    name: str = "sqlite"
    """Name of the tracking set-up."""
    uri: str | None = None
    """MLflow tracking URI; None: SQLite in <out>/mlflow.db."""
    artifacts: str | None = None
    """Artifact root for new experiments; None: <out>/mlartifacts (for a server: the server's own)."""
    n_writers: int = 1
    """Results written to MLflow at the same time; above 1 only where the store is a server."""
    patience_s: float = 60.0
    """Seconds that a command waits at its end for a server that is away, before it leaves results on disk."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """The server that `make tracking-up` starts."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = [] if 1 <= self.n_writers <= 64 else [f"n_writers: {self.n_writers}; it must lie between 1 and 64"]
        if not self.patience_s >= 0:
            found.append(f"patience_s: {self.patience_s}; it must be 0 or more")
        return found


@dataclass(kw_only=True)
class DebugConfig:
    """Switches for looking at the machinery."""

    name: str = "off"
    """Name of the setting."""
    max_cells: int | None = None
    """Run at most this many cells of the plan."""
    empty_cells: bool = False
    """Cells that do nothing, for measuring what Ray and MLflow cost; they are written as failed, never as scores."""
    log_level: str = "WARNING"
    """Level of Python's logging."""
    max_tasks: int | None = None
    """Keep the first so many targets."""
    max_models: int | None = None
    """Keep the first so many candidates."""
    max_sources: int | None = None
    """Keep the first so many source tasks of each list."""
    max_seeds: int | None = None
    """Keep the first so many seeds."""
    max_source_seeds: int | None = None
    """Keep the first so many seeds of source models."""
    max_epochs: float | None = None
    """Most passes over a training set."""
    rows: SplitCaps = field(default_factory=SplitCaps)
    """Upper limits of rows of sources and targets."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        known = ("DEBUG", "INFO", "WARNING", "ERROR")
        found = [] if self.log_level in known else [f"log_level: {self.log_level}; known: {', '.join(known)}"]
        names = ("max_tasks", "max_models", "max_sources", "max_seeds", "max_source_seeds", "max_epochs")
        limits = {name: getattr(self, name) for name in names}
        return found + [
            f"{name}: {most}; it must be above 0" for name, most in limits.items() if most is not None and not most > 0
        ]
