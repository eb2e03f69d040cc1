"""Read the published result files for tests, and keep the tables of docs/integrity.md true.

`python tests/published_files.py` rewrites the tables in docs/integrity.md from ../shared/published/model-recycling.
"""

from __future__ import annotations

import csv
import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from analysis.integrity import RowAudit, TestSizes, audit_rows, recover_test_sizes  # noqa: E402
from analysis.integrity.audit import audit_table, compare_rankings, damage_table, rank_change_table  # noqa: E402
from analysis.integrity.damage import damage_study  # noqa: E402
from analysis.noise_ranking import rank_under_noise  # noqa: E402

PUBLISHED = ROOT.parent / "shared" / "published" / "model-recycling"
GUIDE = ROOT / "docs" / "integrity.md"
ARCHITECTURES = ("roberta-base", "bert-base-cased", "t5-base", "google/t5-v1_1-base")
FIRST_TASK = 11


@dataclass(frozen=True, kw_only=True)
class Published:
    """One architecture as published."""

    names: list[str]
    tasks: list[str]
    scores: NDArray[np.float64]
    """(n_rows, n_tasks) fractions."""
    probe: NDArray[np.float64]
    """(n_rows,) MNLI linear probe."""
    repetitions: NDArray[np.float64]
    """(n_reps, n_tasks) pretrained model."""

    @property
    def listed(self) -> NDArray[np.bool_]:
        """Rows that the published pages show."""
        return np.array(["ibm/ColD-Fusion-itr" not in name for name in self.names])

    @functools.cached_property
    def sizes(self) -> TestSizes:
        return recover_test_sizes(self.repetitions, self.tasks, scores=self.scores)

    @functools.cached_property
    def audit(self) -> RowAudit:
        return audit_rows(
            self.names, self.scores, test_sizes=self.sizes, repetitions=self.repetitions, probe=self.probe
        )

    @property
    def intact(self) -> NDArray[np.float64]:
        """(n_intact, n_tasks) scores of complete rows without a doubt."""
        kept = np.array([kind == "intact" for kind in self.audit.kind])
        return self.scores[kept & np.isfinite(self.scores).all(axis=1)]


def available() -> bool:
    return (PUBLISHED / "models_tested.csv").is_file()


@functools.cache
def read(architecture: str) -> Published:
    with (PUBLISHED / "models_tested.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["base_model"] == architecture]
    tasks = list(rows[0])[FIRST_TASK:]
    stem = re.sub(r"[/\-]", "_", architecture)
    with (PUBLISHED / f"models_results_{stem}_pretrain.csv").open(newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file, delimiter="\t"))
    repetitions = np.full((1 + max(int(cell["stage"]) for cell in cells), len(tasks)), np.nan)
    for cell in cells:
        text = cell["spearmanr"] if cell["dataset name"] == "stsb" else cell["accuracy"]
        repetitions[int(cell["stage"]), tasks.index(cell["dataset name"])] = float(text or "nan")
    return Published(
        names=[row["model_name"] for row in rows],
        tasks=tasks,
        scores=np.array([[float(row[task] or "nan") for task in tasks] for row in rows]),
        probe=np.array([float(row["mnli_lp"] or "nan") for row in rows]),
        repetitions=repetitions,
    )


def tables() -> dict[str, str]:
    """The generated blocks of docs/integrity.md by name."""
    published = {name: read(name) for name in ARCHITECTURES}
    blocks = {"audit": audit_table({name: one.audit for name, one in published.items()})}
    for name, one in published.items():
        changes = compare_rankings(one.audit, one.scores, one.repetitions.T, listed=one.listed)
        usable = one.audit.usable() & one.listed
        ranking = rank_under_noise(one.audit.scores[usable], one.repetitions.T, rng=np.random.default_rng(0))
        ties = int((ranking.tie_group == 1).sum())
        blocks[f"ranking {name}"] = (
            rank_change_table(changes)
            + f"\n{ranking.sentence} {ties} of {int(usable.sum())} cannot be told from the best.\n"
        )
    one = published["roberta-base"]
    blocks["damage"] = damage_table(
        damage_study(one.intact, test_sizes=one.sizes, repetitions=one.repetitions, rng=np.random.default_rng(0))
    )
    return blocks


def filled(text: str, blocks: dict[str, str]) -> str:
    """The guide with each block between its marks replaced."""
    for name, block in blocks.items():
        start, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        head, tail = text.split(start, 1)
        text = head + start + "\n" + block + "\n" + end + tail.split(end, 1)[1]
    return text


if __name__ == "__main__":
    GUIDE.write_text(filled(GUIDE.read_text(encoding="utf-8"), tables()), encoding="utf-8")
