"""Tasks that the text labels itself: source tasks with many rows, target tasks with few."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ray_app.embedded import labelling
from ray_app.embedded.config import EmbeddedConfig
from ray_app.embedded.corpus import Passage
from ray_app.embedded.split import Part
from tracking.errors import InputError

Row = tuple[tuple[str, ...], int]
"""Texts in the order of the text columns, and the class id."""
SINGLE, PAIR = ("text",), ("sentence_a", "sentence_b")


@dataclass(frozen=True, kw_only=True)
class EmbeddedTask:
    """One task and how its rows come about."""

    name: str
    role: str
    """'source' or 'target'."""
    text_columns: tuple[str, ...]
    label_names: tuple[str, ...]
    """Names of the classes in the order of their ids."""
    rows: Callable[[Sequence[Passage], np.random.Generator], Iterator[Row]]
    """Every row that a part of the corpus yields, in the order of the text."""


TASKS = {
    task.name: task
    for task in (
        EmbeddedTask(
            name="doc_library",
            role="source",
            text_columns=SINGLE,
            label_names=labelling.LIBRARIES,
            rows=labelling.by_library,
        ),
        EmbeddedTask(
            name="doc_order",
            role="source",
            text_columns=SINGLE,
            label_names=("intact", "shuffled"),
            rows=labelling.shuffled,
        ),
        EmbeddedTask(
            name="doc_follows",
            role="source",
            text_columns=PAIR,
            label_names=("unrelated", "follows"),
            rows=labelling.follows,
        ),
        EmbeddedTask(
            name="doc_preposition",
            role="source",
            text_columns=SINGLE,
            label_names=labelling.PREPOSITIONS,
            rows=labelling.missing_preposition,
        ),
        EmbeddedTask(
            name="doc_agreement",
            role="target",
            text_columns=SINGLE,
            label_names=("right", "wrong"),
            rows=labelling.agreement,
        ),
        EmbeddedTask(
            name="doc_swap",
            role="target",
            text_columns=SINGLE,
            label_names=("intact", "swapped"),
            rows=labelling.swapped,
        ),
        EmbeddedTask(
            name="doc_replaced",
            role="target",
            text_columns=SINGLE,
            label_names=("intact", "replaced"),
            rows=labelling.replaced,
        ),
        EmbeddedTask(
            name="doc_kind", role="target", text_columns=SINGLE, label_names=labelling.KINDS, rows=labelling.by_kind
        ),
        EmbeddedTask(
            name="doc_field", role="target", text_columns=SINGLE, label_names=labelling.FIELDS, rows=labelling.by_field
        ),
        EmbeddedTask(
            name="doc_first",
            role="target",
            text_columns=PAIR,
            label_names=("in_order", "reversed"),
            rows=labelling.which_first,
        ),
    )
}
"""Every embedded task by name; conf/task has a YAML of the same name for each."""


def make_rows(task: EmbeddedTask, part: Part, passages: Sequence[Passage], config: EmbeddedConfig) -> list[Row]:
    """Rows of one split of one task: as many of every class (one more where it does not come out even), in random order.

    Args:
        task: the task.
        part: where the passages come from; names the split.
        passages: text of that part alone.
        config: numbers of rows, seed.

    Raises:
        InputError: the text gives too few rows of a class.
    """
    wanted = (config.source_rows if task.role == "source" else config.target_rows)[part.split]
    rng = np.random.default_rng([config.seed, *task.name.encode(), *part.name.encode()])
    by_class: dict[int, list[Row]] = defaultdict(list)
    for row in task.rows(passages, rng):
        by_class[row[1]].append(row)
    chosen: list[Row] = []
    for label in range(len(task.label_names)):
        share = wanted // len(task.label_names) + (label < wanted % len(task.label_names))
        available = by_class[label]
        if len(available) < share:
            raise InputError(
                f"task {task.name}, {part.split}: {len(available)} rows of class {task.label_names[label]!r}, {share} needed; "
                f"ask for fewer {task.role}_rows or raise max_bytes",
                task=task.name,
                split=part.split,
            )
        chosen += [available[index] for index in np.sort(rng.permutation(len(available))[:share])]
    return [chosen[index] for index in rng.permutation(len(chosen))]
