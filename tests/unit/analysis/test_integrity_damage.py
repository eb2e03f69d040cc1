"""Known damage is found; sound rows are left alone (the published tables are in tests/contract)."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.integrity import recover_test_sizes
from analysis.integrity.damage import count_false_alarms, damage_study

SIZES = np.array([1043, 408, 40430, 3270, 56, 100, 4848, 638, 104, 3000, 1534, 7532, 500, 872, 277, 71])


def sound_rows(rng: np.random.Generator, n_rows: int) -> np.ndarray:
    level = np.linspace(0.5, 0.95, len(SIZES))
    return np.round((level + rng.normal(0, 0.01, size=(n_rows, len(SIZES)))) * SIZES) / SIZES


def test_recall_and_precision_floors(rng: np.random.Generator) -> None:
    rows, repetitions = sound_rows(rng, 40), sound_rows(rng, 20)
    sizes = recover_test_sizes(repetitions, [str(n) for n in SIZES], scores=rows)
    assert sizes.n.tolist() == SIZES.tolist()
    results = damage_study(rows, test_sizes=sizes, repetitions=repetitions, rng=rng)
    assert [result.damage for result in results] == [
        "dropped, end kept", "dropped, end empty", "dropped, end padded", "two tasks exchanged", "other split",
    ]  # fmt: skip
    for result in results:
        assert (result.damaged, result.untouched) == (12, 28)
        assert result.false_alarms == 0
        assert result.precision == 1.0
        assert result.recall >= 0.9
        assert result.wrong_cells <= 4


def test_sound_repetitions_raise_no_alarm(rng: np.random.Generator) -> None:
    repetitions = sound_rows(rng, 20)
    sizes = recover_test_sizes(repetitions, [str(n) for n in SIZES])
    assert count_false_alarms(repetitions, test_sizes=sizes, rng=rng, n_rows=100) == 0


def test_a_study_needs_intact_rows(rng: np.random.Generator) -> None:
    rows = sound_rows(rng, 12)
    sizes = recover_test_sizes(rows, [str(n) for n in SIZES])
    rows[0, 0] = np.nan
    with pytest.raises(ValueError, match="at least 10 rows without missing scores"):
        damage_study(rows, test_sizes=sizes, repetitions=None, rng=rng)
