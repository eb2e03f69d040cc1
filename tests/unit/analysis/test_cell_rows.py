"""Probe scores by base model: the mean over seeds, not whichever came last."""

from __future__ import annotations

import pyarrow as pa
import pytest

from analysis.cell_rows import probe_scores


def test_a_base_model_probed_under_several_seeds_has_their_mean() -> None:
    probes = pa.table(
        {"run_id": ["r1", "r2", "r3"], "base_model": ["a", "b", "a"], "score": [0.4, 0.5, 0.6]},
    )
    found = probe_scores(probes)
    assert found["a"] == pytest.approx(0.5) and found["b"] == 0.5
    assert (found["r1"], found["r3"]) == (0.4, 0.6)


def test_no_probes() -> None:
    assert probe_scores(None) == {}
