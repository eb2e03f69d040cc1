"""What a target or source task is, as its YAML under conf/task states it, and what a suite of tasks is."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum

ROLES = ("train", "validation", "test")
"""What a split is used for, in this order everywhere."""

_TASK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HUB_ID = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Metric(Enum):
    """How a task is scored; both are fractions, higher is better.

    The lower-case names are aliases of the same members: YAML and the command line say ``accuracy``, and OmegaConf looks
    a string up among the member names.
    """

    ACCURACY = "accuracy"
    SPEARMAN = "spearman"
    accuracy = "accuracy"
    spearman = "spearman"


class SplitRule(Enum):
    """Which rows are train, validation and test; part of a cell's identity.

    SITE: as the model-recycling site has it: where test labels are hidden the hub's validation is the test set and the
    validation set is cut from train. PAPER: "Where to start?" App. C: where test labels are hidden, 1,000 rows or 10 % of
    train, the smaller, are the test set, and the hub's validation stays the validation set. The lower-case names are
    aliases, for the reason given at ``Metric``.
    """

    SITE = "site"
    PAPER = "paper"
    site = "site"
    paper = "paper"


@dataclass(kw_only=True)
class TaskConfig:
    """One task. Everything here but ``license``, ``groups`` and ``notes`` defines its data and is hashed into the cell."""

    name: str
    """Name used everywhere (file name of the YAML, MLflow, result tables)."""
    hub_id: str | None = None
    """Data set id on the hub, org/name; None for a task made here, or one that only a mirror holds."""
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
    text_columns_fallback: list[str] = field(default_factory=list)
    """Text fields read instead where a copy of the data lacks the ones above (some copies join or rename them)."""
    image_columns: list[str] = field(default_factory=list)
    """Of a task of images, in place of text: the names its image column has in the copies of the data; the first that is there
    is read."""
    label_column: str = "label"
    """Column holding the class or the number."""
    label_column_fallback: str | None = None
    """Column read instead where a copy of the data lacks that one."""
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
    def is_image(self) -> bool:
        """True when a row is an image and not a text."""
        return bool(self.image_columns)

    @property
    def column_choices(self) -> list[list[str]]:
        """Columns that a row may be read from, the best first; all names of one choice are needed."""
        if self.is_image:
            return [[name] for name in self.image_columns]
        return [names for names in (self.text_columns, self.text_columns_fallback) if names]

    @property
    def is_regression(self) -> bool:
        """True when the label is a number and not a class."""
        return self.metric is Metric.SPEARMAN

    def faults(self) -> list[str]:
        """Everything wrong with this task, one sentence each, beginning with the field's name."""
        return [*self._source_faults(), *self._split_faults(), *self._column_faults(), *self._label_faults()]

    def _source_faults(self) -> list[str]:
        found = []
        if not _TASK_NAME.fullmatch(self.name):
            found.append(f"name: {self.name!r} is not a plain name; use letters, digits, '_', '-' and '.'")
        if self.hub_id is not None and not _HUB_ID.fullmatch(self.hub_id):
            found.append(f"hub_id: {self.hub_id!r} is not of the form org/name; bare names are no longer served")
        if self.revision is not None and not _COMMIT.fullmatch(self.revision):
            found.append(f"revision: {self.revision!r} is not a 40-hex commit; give the full commit, or null")
        if self.hub_id is not None and not self.license.strip():
            found.append("license: empty; give the licence its source states, or 'not stated'")
        return found

    def _split_faults(self) -> list[str]:
        found = [f"splits: {role!r} is not one of {', '.join(ROLES)}" for role in self.splits if role not in ROLES]
        if self.splits and not self.splits.get("train"):
            found.append("splits: no hub split is named for train")
        found += [
            f"splits.{role}: names no hub split; leave the role out" for role, names in self.splits.items() if not names
        ]
        used = [name for names in self.splits.values() for name in names]
        found += [f"splits: hub split {name!r} is used twice" for name in sorted(_repeated(used))]
        unknown = sorted(set(self.data_files) - set(used)) if self.splits else []
        found += [f"data_files: {name!r} is not a hub split that splits names" for name in unknown]
        return found

    def _column_faults(self) -> list[str]:
        found = []
        if not self.text_columns and not self.is_image:
            found.append("text_columns: empty; name at least one text column, or image_columns for a task of images")
        if self.is_image and (self.text_columns or self.text_columns_fallback):
            found.append("text_columns: given beside image_columns; a row is a text or an image, not both")
        for name in ("text_columns", "text_columns_fallback", "image_columns"):
            columns = getattr(self, name)
            found += [f"{name}: {column!r} is named twice" for column in sorted(_repeated(columns))]
            if self.label_column in columns:
                found.append(f"{name}: {self.label_column!r} is the label column")
            elif "label" in columns:
                kind = "image" if self.is_image else "text"
                found.append(f"{name}: a {kind} column may not be called 'label', the name of the labels once read")
        return found

    def _label_faults(self) -> list[str]:
        if self.is_regression:
            return ["label_names: a regression task has none"] if self.label_names or self.label_words else []
        found = []
        if len(self.label_names) < 2:
            found.append(f"label_names: {len(self.label_names)} given; a classification task needs at least two")
        if self.label_words and len(self.label_words) != len(self.label_names):
            found.append(f"label_words: {len(self.label_words)} given for {len(self.label_names)} label names")
        for name in ("label_names", "label_words"):
            words = getattr(self, name)
            found += [f"{name}: {word!r} is given twice" for word in sorted(_repeated(words))]
            found += [
                f"{name}: {word!r} has no text, or blanks around it"
                for word in words
                if word != word.strip() or not word
            ]
        return found


@dataclass(kw_only=True)
class SplitCaps:
    """Upper limits of rows per split, drawn by a fixed seed; part of a cell's identity."""

    train: int | None = None
    """Most training rows; None: all."""
    validation: int | None = None
    """Most validation rows; None: all."""
    test: int | None = None
    """Most test rows; None: all."""

    def faults(self) -> list[str]:
        """Everything wrong with these caps, one sentence each, beginning with the field's name."""
        caps = {role: getattr(self, role) for role in ROLES}
        return [
            f"{role}: {cap} is not a number of rows; give 1 or more, or null for all"
            for role, cap in caps.items()
            if cap is not None and cap < 1
        ]


@dataclass(kw_only=True)
class SuiteConfig:
    """A named set of tasks with the split rule and the caps they are read under."""

    name: str
    """Name of the suite (file name of the YAML)."""
    tasks: list[str] = field(default_factory=list)
    """Task names, each a YAML under conf/task."""
    split_rule: SplitRule = SplitRule.SITE
    """Which rows are train, validation and test."""
    caps: SplitCaps = field(default_factory=SplitCaps)
    """Upper limits of rows per split."""
    train_sizes: list[int] = field(default_factory=list)
    """A study of the target's size: every task once per size, each in place of ``caps.train``; empty: ``caps`` alone."""

    def variants(self) -> list[SplitCaps]:
        """The caps that every task is read under, one for each training size."""
        return [dataclasses.replace(self.caps, train=size) for size in self.train_sizes] or [self.caps]

    def faults(self) -> list[str]:
        """Everything wrong with the suite itself, one sentence each; ``unknown_tasks`` looks at the names."""
        found = [] if self.tasks else ["tasks: empty; name at least one task"]
        found += [
            f"train_sizes: {size} is not a number of rows; give 1 or more" for size in self.train_sizes if size < 1
        ]
        found += [
            f"train_sizes: {size} is named twice"
            for size in sorted({size for size in self.train_sizes if self.train_sizes.count(size) > 1})
        ]
        found += [f"tasks: {name!r} is named twice" for name in sorted(_repeated(self.tasks))]
        return found

    def unknown_tasks(self, known: Collection[str]) -> list[str]:
        """Faults for the tasks that are not among the known ones, each with the nearest known names."""
        return [f"tasks: no task {name!r}{nearest_names(name, known)}" for name in self.tasks if name not in known]


def nearest_names(name: str, known: Collection[str]) -> str:
    """The nearest known names, worded to end a sentence; empty where none is near."""
    close = difflib.get_close_matches(name, sorted(known), n=3)
    return f"; nearest: {', '.join(close)}" if close else ""


def _repeated(names: list[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}
