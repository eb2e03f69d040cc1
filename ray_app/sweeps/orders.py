"""What a worker is handed: one cell as plain values, readable by a process that knows nothing of the plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray_app.probing.settings import Pooling, ProbeConfig
from ray_app.sweeps.plan import PlannedCell
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import Family
from tracking.schema import Method, Param, Tag


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Folders that driver and workers share."""

    root: Path

    @property
    def records(self) -> Path:
        """Records of ended attempts, waiting to be uploaded."""
        return self.root / "records"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of cells under way, by key."""
        return self.root / "checkpoints"

    @property
    def models(self) -> Path:
        """Finetuned source models in hub format, by key."""
        return self.root / "models"

    @property
    def curves(self) -> Path:
        """Validation scores of cells that a selection has trained in part, by key."""
        return self.root / "curves"

    @property
    def tune(self) -> Path:
        """Ray Tune's own files."""
        return self.root / "tune"


@dataclass(frozen=True, kw_only=True)
class Order:
    """One cell to be run."""

    key: str
    attempt: str
    arch: str
    family: Family
    base: Path
    """Folder of the base model."""
    base_name: str
    encoded: Path
    """Folder of the tokenised task."""
    config: FinetuneConfig | ProbeConfig
    execution: ExecutionConfig
    seed: int
    keep_model: bool
    """Store the finetuned model: it is a base model of other cells, or the one a selection may choose."""
    storage: Storage
    params: dict[str, str]
    """Identity, for the record."""
    tags: dict[str, str]
    """State known beforehand, for the record."""
    features: Path
    """Folder of the features of frozen models."""
    empty: bool = False
    """Do nothing (measures the machinery)."""
    cpus: float = 1.0
    """CPUs of the cell."""
    gpus: float = 0.0
    """GPUs of the cell; a fraction is a share of one that others use too."""
    team: int = 1
    """Processes that train the cell together."""

    def plain(self) -> dict[str, Any]:
        """Plain values, for Tune's config."""
        return {
            **asdict(self),
            "family": self.family.value,
            "base": str(self.base),
            "encoded": str(self.encoded),
            "config": self.config.hyperparameters(),
            "storage": str(self.storage.root),
            "features": str(self.features),
        }

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Order:
        """Back from ``plain``."""
        return cls(
            **{
                **values,
                "family": Family(values["family"]),
                "base": Path(values["base"]),
                "encoded": Path(values["encoded"]),
                "config": _read_config(values["config"], probed=values["params"][Param.METHOD] == Method.PROBE),
                "execution": ExecutionConfig(**values["execution"]),
                "storage": Storage(root=Path(values["storage"])),
                "features": Path(values["features"]),
            }
        )


def _read_config(values: dict[str, Any], *, probed: bool) -> FinetuneConfig | ProbeConfig:
    """Hyperparameters back from plain values."""
    precision = Precision(values["precision"])
    if probed:
        return ProbeConfig(**{**values, "precision": precision, "pooling": Pooling(values["pooling"])})
    return FinetuneConfig(**{**values, "precision": precision})


def make_order(
    cell: PlannedCell,
    *,
    family: Family,
    execution: ExecutionConfig,
    storage: Storage,
    sweep: str,
    attempt: str,
    tags: dict[str, str],
    features: Path,
    empty: bool = False,
) -> Order:
    """The order for a planned cell."""
    identity = cell.identity
    params = {
        Param.ARCH: identity.arch,
        Param.BASE_MODEL: identity.base_model,
        Param.BASE_REVISION: identity.base_revision,
        Param.TASK: identity.task,
        Param.TASK_REVISION: str(identity.data.get("revision", "")),
        Param.SPLIT_RULE: str(identity.data.get("split_rule", "")),
        Param.METRIC: str(identity.data.get("metric", "")),
        Param.METHOD: identity.method,
        Param.SEED: str(identity.seed),
        Param.RECIPE: identity.recipe,
        Param.SETTINGS: identity.settings,
        Param.SERIES: identity.series,
    }
    params |= {Param.HYPERPARAMETER + name: str(value) for name, value in identity.hyperparameters.items()}
    caps = cell.variant.caps
    params |= {Param.CAP + role: str(cap) for role, cap in zip(("train", "validation", "test"), caps, strict=True)}
    if cell.encoded is None:
        raise ValueError(f"cell {cell.key} has no tokenised task yet")
    if cell.checkpoint is None and cell.requires is None:
        raise ValueError(f"cell {cell.key} has neither a checkpoint nor a cell that makes one")
    return Order(
        key=cell.key,
        attempt=attempt,
        arch=identity.arch,
        family=family,
        base=cell.checkpoint or storage.models / str(cell.requires),
        base_name=identity.base_model,
        encoded=cell.encoded,
        config=cell.config,
        execution=execution,
        seed=identity.seed,
        keep_model=cell.role == "source" or cell.keep,
        storage=storage,
        params=params,
        tags={
            **tags,
            Tag.SWEEP: sweep,
            Tag.ROLE: cell.role,
            Tag.BASELINE: "true" if cell.baseline else "",
            Tag.MODEL_LICENCE: cell.licence,
        },
        features=features,
        empty=empty,
    )
