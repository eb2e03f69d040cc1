"""What a target or source task is, as its YAML under conf/task states it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Metric(Enum):
    """How a task is scored; both are fractions, higher is better."""

    ACCURACY = "accuracy"
    SPEARMAN = "spearman"


class SplitRule(Enum):
    """Which rows are train, validation and test; part of a cell's identity.

    SITE: as the model-recycling site has it: where test labels are hidden the hub's validation is the test set and the
    validation set is cut from train. PAPER: "Where to start?" App. C: where test labels are hidden, 1,000 rows or 10 % of
    train, the smaller, are the test set, and the hub's validation stays the validation set.
    """

    SITE = "site"
    PAPER = "paper"


@dataclass(kw_only=True)
class TaskConfig:
    """One task. Everything here but ``license``, ``groups`` and ``notes`` defines its data and is hashed into the cell."""

    name: str
    """Name used everywhere (file name of the YAML, MLflow, result tables)."""
    hub_id: str | None = None
    """Data set id on the hub, org/name; None for a task made here."""
    config: str | None = None
    """Configuration (subset) of the hub data set."""
    revision: str | None = None
    """40-hex commit of the hub data set; None: resolved at prefetch and recorded."""
    data_files: dict[str, str] = field(default_factory=dict)
    """Hub split name -> path or glob inside the data set repository, where the loader must be told."""
    splits: dict[str, list[str]] = field(default_factory=dict)
    """train/validation/test -> hub split names joined to make it (anli has three a role); a role may be absent."""
    text_columns: list[str] = field(default_factory=list)
    """Text fields in order: the first is segment A, all others segment B."""
    label_column: str = "label"
    """Column holding the class or the number."""
    label_names: list[str] = field(default_factory=list)
    """Class names in the order of our label ids; empty for regression. Labels are mapped by these names."""
    label_words: list[str] = field(default_factory=list)
    """What a text-to-text model has to write for each class; empty: the label names."""
    metric: Metric = Metric.ACCURACY
    """Score of the task."""
    hidden_test: bool = False
    """The hub's test labels are hidden, so the split rule decides what the test set is."""
    license: str = ""
    """Licence of the data as stated by its source; 'not stated' where none is."""
    groups: list[str] = field(default_factory=list)
    """Groups of the papers it belongs to: general, nli, twitter, site36."""
    notes: str = ""
    """What a user has to know (withdrawn, differs from the original, ...)."""

    @property
    def is_regression(self) -> bool:
        """True when the label is a number and not a class."""
        return self.metric is Metric.SPEARMAN


@dataclass(kw_only=True)
class SplitCaps:
    """Upper limits of rows per split, drawn by a fixed seed; part of a cell's identity."""

    train: int | None = None
    """Most training rows; None: all."""
    validation: int | None = None
    """Most validation rows; None: all."""
    test: int | None = None
    """Most test rows; None: all."""
