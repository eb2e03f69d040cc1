"""Which cells may be compared: those that share every setting besides base model, task and seed."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

Wanted = str | None


def comparable_cells(cells: pa.Table, *, wanted: Wanted = None) -> tuple[pa.Table, list[str]]:
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
