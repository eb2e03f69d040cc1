"""Which cells may be compared: those that share every setting besides base model, task and seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tracking.published_format import TASKS


def comparable_cells(cells: pa.Table, *, wanted: str | None = None) -> tuple[pa.Table, list[str]]:
    """The cells of one settings hash, and a sentence on whatever is left out by it.

    Without a wish, the settings with the most cells are taken among those under which the pretrained model was tried.

    Args:
        cells: scored finetune cells, one a key, in the order of their end.
        wanted: settings hash, or the start of one.

    Raises:
        ValueError: no cell of the pretrained model, or none under the wanted settings.
    """
    with_baseline = set(cells.filter(pc.equal(cells["baseline"], "true"))["settings"].to_pylist())
    counts = Counter(cells["settings"].to_pylist())
    fitting = {
        name: n
        for name, n in counts.items()
        if name in with_baseline and (wanted is None or str(name).startswith(wanted))
    }
    if not fitting:
        known = ", ".join(f"{name} ({n} cells)" for name, n in counts.most_common(5))
        under = f" under settings {wanted}" if wanted else ""
        raise ValueError(
            f"no cell of the pretrained model{under}, so there is nothing to measure a gain against; run the pretrained model "
            f"on these tasks too. Settings with cells: {known or 'none'}"
        )
    chosen = max(fitting, key=lambda name: (fitting[name], str(name)))
    others = [f"{n} cells under other settings {name} left out" for name, n in counts.most_common() if name != chosen]
    return cells.filter(pc.equal(cells["settings"], chosen)), others


COMMON_SHARE = 0.5
"""Share of base models that must have a task for it to count in a ranking."""


def _place(task: str) -> tuple[int, str]:
    """Published tasks in the order of the published files, by which the gate undoes shifts; others after them by name."""
    return (TASKS.index(task) if task in TASKS else len(TASKS), task)


def tasks_to_rank(
    pretrained: pa.Table, others: pa.Table, *, wanted: Sequence[str] | None = None
) -> tuple[tuple[str, ...], list[str]]:
    """The tasks a ranking is over, and a sentence on those left out.

    Without a wish: the tasks that the pretrained model and at least half of the other base models have. A task that only a few
    were tried on (a source task, a suite begun later) would leave everybody else incomplete.

    Args:
        pretrained: scored cells of the pretrained model.
        others: scored cells of all other base models, under the same settings.
        wanted: tasks asked for.

    Raises:
        ValueError: the pretrained model has a score on none of the wanted tasks.
    """
    measured = set(pretrained["task"].to_pylist())
    pairs = set(zip(others["base_model"].to_pylist(), others["task"].to_pylist(), strict=True))
    n_bases = len({base for base, _ in pairs})
    count = Counter(task for _, task in pairs)
    asked = measured | set(count) if wanted is None else set(wanted)
    unmeasured = sorted(asked - measured)
    rare = sorted(t for t in asked & measured if wanted is None and count[t] < COMMON_SHARE * n_bases)
    kept = tuple(sorted(asked & measured - set(rare), key=_place))
    notes = []
    if unmeasured:
        notes.append(f"tasks left out, for the pretrained model has no score on them: {', '.join(unmeasured)}")
    if rare:
        notes.append(f"tasks left out, for fewer than half of the base models have them: {', '.join(rare)}")
    if not kept:
        raise ValueError(
            f"no task to rank over: {'; '.join(notes) or 'none has a cell'}; run the pretrained model on them"
        )
    return kept, notes
