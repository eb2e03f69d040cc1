"""Where base models come from, read from cells; families of names."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from analysis.origins import family_of, gather_origins
from tracking.schema import cell_schema

REQUIRED = {"run_id": "r", "kind": "cell", "attempt": "a", "state": "complete", "method": "finetune", "end_time_ms": 0}


def cells(*rows: dict[str, Any]) -> pa.Table:
    defaults = {"arch": "my/arch", "base_model": "plain", "task": "t"}
    return pa.Table.from_pylist([REQUIRED | defaults | row for row in rows], schema=cell_schema())


def source(key: str, task: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "task": task, "base_revision": "hub", "role": "source", **more}


def target(key: str, base: str, revision: str) -> dict[str, Any]:
    return {"key": key, "base_model": base, "base_revision": revision, "role": "target"}


def test_an_origin_is_the_cell_whose_key_is_the_revision() -> None:
    found = gather_origins(
        cells(
            source("k0", "mnli", seed=0, score=0.8, n_train=900, series="x"),
            source("k1", "mnli", seed=1, score=0.6, n_train=1100, series="x"),
            target("c0", "startline/my_arch-mnli", "k0"),
            target("c1", "startline/my_arch-mnli", "k1"),
            target("c2", "org/hub-model", "commit"),
        )
    )
    assert set(found) == {"startline/my_arch-mnli"}
    origin = found["startline/my_arch-mnli"]
    assert (origin.task, origin.label, origin.series, origin.seed) == ("mnli", "", "x", None)
    # means over the two seeds: (900 + 1100) / 2 and (0.8 + 0.6) / 2
    assert origin.train_size == 1000 and origin.score == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("name", "seed", "label", "kept_seed"),
    [
        ("startline/my_arch-mnli-s7", 7, "", 7),
        ("startline/my_arch-mnli-n500-s7", 7, "n500", 7),
        ("startline/my_arch-mnli-n500", 0, "n500", None),
        ("startline/my_arch-mnli-decay1", 1, "decay1", None),
    ],
)
def test_label_and_seed_are_read_from_the_name(name: str, seed: int, label: str, kept_seed: int | None) -> None:
    found = gather_origins(cells(source("k", "mnli", seed=seed, score=0.5, cap_train=500), target("c", name, "k")))
    assert (found[name].label, found[name].seed, found[name].train_size) == (label, kept_seed, 500)


def test_what_is_not_logged_is_unknown() -> None:
    found = gather_origins(cells(source("k", "qnli", seed=0), target("c", "startline/my_arch-qnli", "k")))
    origin = found["startline/my_arch-qnli"]
    assert math.isnan(origin.train_size) and math.isnan(origin.score) and origin.series == ""


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("ibm/ColD-Fusion-itr13-seed2", "ibm/ColD-Fusion"),
        ("ibm/ColD-Fusion", "ibm/ColD-Fusion"),
        ("yanaiela/roberta-base-epoch_83", "yanaiela/roberta-base"),
        ("startline/minilm-mnli-s3", "startline/minilm-mnli"),
        ("org/model-v2", "org/model"),
        ("deepset/roberta-base-squad2", "deepset/roberta-base-squad2"),
        ("cardiffnlp/twitter-roberta-base-dec2021", "cardiffnlp/twitter-roberta-base-dec2021"),
        ("org/123", "org/123"),
        ("roberta-base", "roberta-base"),
    ],
)
def test_family_of(name: str, family: str) -> None:
    assert family_of(name) == family
