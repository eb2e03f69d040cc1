"""Every transferability score keeps the same promises: a finite number or a stated refusal, whatever order and names rows come in."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.proxies import ENSEMBLE, PROXIES, RefusalError, prepare_rows, score_all

NAMES = sorted(PROXIES)
FOR_NUMBERS = {"logme", "knn", "probe_cv"}


def _task(
    separation: float, *, seed: int = 0, n: int = 150, d: int = 12, k: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels and source logits whose classes lie ``separation`` apart; the noise is the same for every separation."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    means, noise = rng.normal(size=(k, d)), rng.normal(size=(n, d))
    source = separation * np.eye(k)[labels] @ rng.normal(size=(k, 5)) + rng.normal(size=(n, 5))
    return separation * means[labels] + noise, labels, source


def test_the_registry_is_whole() -> None:
    assert len(PROXIES) == 8
    assert set(ENSEMBLE) == set(PROXIES) - {"leep"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("separation", [0.0, 0.5, 3.0])
def test_finite(name: str, separation: float) -> None:
    features, labels, source = _task(separation)
    assert np.isfinite(PROXIES[name](prepare_rows(features, labels, source_logits=source)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_names_of_classes_do_not_matter(name: str, seed: int) -> None:
    features, labels, source = _task(0.6, seed=seed)
    score = PROXIES[name](prepare_rows(features, labels, source_logits=source))
    for renamed in ((labels + 1) % 3, 10 * labels + 7, np.array(["x", "a", "m"])[labels]):
        again = PROXIES[name](prepare_rows(features, renamed, source_logits=source))
        assert again == pytest.approx(score, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_rows_does_not_matter(name: str, seed: int) -> None:
    features, labels, source = _task(0.6, seed=seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    score = PROXIES[name](prepare_rows(features, labels, source_logits=source))
    again = PROXIES[name](prepare_rows(features[order], labels[order], source_logits=source[order]))
    assert again == pytest.approx(score, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_easier_features_score_higher(name: str) -> None:
    scores = []
    for separation in (0.0, 0.3, 0.8, 2.0):
        features, labels, source = _task(separation, n=300)
        scores.append(PROXIES[name](prepare_rows(features, labels, source_logits=source)))
    assert scores == sorted(scores)
    assert len(set(scores)) == len(scores)


@pytest.mark.parametrize("name", NAMES)
def test_the_unit_of_the_features_does_not_matter(name: str) -> None:
    features, labels, source = _task(0.6)
    score = PROXIES[name](prepare_rows(features, labels, source_logits=source))
    again = PROXIES[name](prepare_rows(1000 * features, labels, source_logits=source))
    assert again == pytest.approx(score, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [4, 5, 7, 12])
def test_tiny_inputs_give_a_number_or_a_reason(name: str, n: int) -> None:
    features, labels, source = _task(1.0, n=n, d=6, k=2)
    try:
        assert np.isfinite(PROXIES[name](prepare_rows(features, labels, source_logits=source)))
    except RefusalError as refusal:
        assert str(refusal)


@pytest.mark.parametrize("name", NAMES)
def test_more_features_than_rows(name: str) -> None:
    features, labels, source = _task(1.0, n=30, d=200)
    assert np.isfinite(PROXIES[name](prepare_rows(features, labels, source_logits=source)))


@pytest.mark.parametrize("name", NAMES)
def test_repeated_rows_and_columns_without_spread(name: str) -> None:
    features, labels, source = _task(1.0, n=60)
    features[:, 3] = 5.0
    features[:, 4] = features[:, 0]
    doubled, twice, both = np.repeat(features, 2, axis=0), np.repeat(labels, 2), np.repeat(source, 2, axis=0)
    assert np.isfinite(PROXIES[name](prepare_rows(doubled, twice, source_logits=both)))


@pytest.mark.parametrize("name", NAMES)
def test_a_rare_class_of_one_row(name: str) -> None:
    features, labels, source = _task(1.0, n=60)
    labels = labels.copy()
    labels[7] = 99
    assert np.isfinite(PROXIES[name](prepare_rows(features, labels, source_logits=source)))


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_scored_or_refused(name: str) -> None:
    features, labels, source = _task(1.0)
    rows = prepare_rows(features, features[:, 0] + 0.1 * labels, regression=True, source_logits=source)
    if name in FOR_NUMBERS:
        assert np.isfinite(PROXIES[name](rows))
    else:
        with pytest.raises(RefusalError, match="is defined for classes"):
            PROXIES[name](rows)


@pytest.mark.parametrize("name", sorted(FOR_NUMBERS))
def test_easier_numbers_score_higher(name: str) -> None:
    rng = np.random.default_rng(0)
    targets, noise = rng.normal(size=200), rng.normal(size=(200, 5))
    series = [noise + share * targets[:, None] for share in (0, 0.5, 3)]
    scores = [PROXIES[name](prepare_rows(features, targets, regression=True)) for features in series]
    assert scores == sorted(scores)


BAD = {
    "one class": (lambda x, y: (x, np.zeros_like(y)), "one class"),
    "a class for every row": (lambda x, y: (x, np.arange(len(y))), "too many for 150 rows"),
    "NaN features": (lambda x, y: (np.where(np.arange(len(x))[:, None] < 3, np.nan, x), y), "3 of 150 rows"),
    "infinite features": (lambda x, y: (np.where(np.arange(len(x))[:, None] < 1, np.inf, x), y), "1 of 150 rows"),
    "constant features": (lambda x, y: (np.ones_like(x), y), "constant"),
    "three rows": (lambda x, y: (x[:3], y[:3]), "too few"),
    "no rows": (lambda x, y: (x[:0], y[:0]), "too few"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_what_no_score_can_read_is_refused_with_the_reason(case: str) -> None:
    damage, reason = BAD[case]
    with pytest.raises(RefusalError, match=reason):
        prepare_rows(*damage(*_task(1.0)[:2]))


@pytest.mark.parametrize("targets", [np.ones(150), np.full(150, np.nan)])
def test_numbers_that_say_nothing_are_refused(targets: np.ndarray) -> None:
    with pytest.raises(RefusalError):
        prepare_rows(_task(1.0)[0], targets, regression=True)


def test_leep_without_a_source_head_refuses_and_the_others_go_on() -> None:
    features, labels, _ = _task(1.0)
    scores = score_all(prepare_rows(features, labels, no_source_head="it is a BertModel"))
    assert scores.refusals == {"leep": "it is a BertModel"}
    assert np.isnan(scores.values["leep"])
    assert all(np.isfinite(scores.values[name]) for name in ENSEMBLE)


def test_a_source_head_that_gives_nan_is_refused() -> None:
    features, labels, source = _task(1.0)
    source[0, 0] = np.nan
    with pytest.raises(RefusalError, match="own head"):
        prepare_rows(features, labels, source_logits=source)
