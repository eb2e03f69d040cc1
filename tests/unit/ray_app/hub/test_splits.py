"""Split rules, cuts and caps, against hand-made cases, published numbers and a second implementation."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.hub.splits import cap_rows, cut_rows, cut_size, draw_order, plan_splits, splitmix64
from ray_app.hub.tasks import SplitRule


def test_splitmix64_gives_the_published_numbers():
    """Rosetta Code, "Pseudo-random numbers/Splitmix64", seed 1234567."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert splitmix64(1234567, 5).tolist() == published


def _order_in_plain_python(n: int, seed: int, stream: str) -> list[int]:
    state = int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], "little")
    numbers = []
    for _ in range(n):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        numbers.append(z ^ (z >> 31))
    return sorted(range(n), key=numbers.__getitem__)


@pytest.mark.parametrize(("n", "seed", "stream"), [(0, 0, "a"), (1, 0, "a"), (500, 0, "cap/cola/train"), (500, 7, "x")])
def test_draw_order_agrees_with_integers_of_unlimited_size(n, seed, stream):
    assert draw_order(n, seed=seed, stream=stream).tolist() == _order_in_plain_python(n, seed, stream)


def test_seed_and_stream_both_change_the_draw():
    drawn = [draw_order(100, seed=seed, stream=stream).tolist() for seed in (0, 1) for stream in ("a", "b")]
    assert len({tuple(order) for order in drawn}) == 4
    assert all(sorted(order) == list(range(100)) for order in drawn)


@given(n=st.integers(1, 300), small=st.integers(1, 400), more=st.integers(0, 400), seed=st.integers(0, 5))
def test_a_smaller_cap_is_a_prefix_of_a_larger_one(n, small, more, seed):
    fewer = cap_rows(n, cap=small, seed=seed, stream="s").tolist()
    larger = cap_rows(n, cap=small + more, seed=seed, stream="s").tolist()
    assert fewer == larger[: len(fewer)]
    assert len(fewer) == min(n, small) and len(set(fewer)) == len(fewer)


def test_without_a_cap_the_rows_keep_their_order():
    assert cap_rows(4, cap=None, seed=0, stream="s").tolist() == [0, 1, 2, 3]


def test_a_cap_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a cap of 0 rows leaves nothing"):
        cap_rows(4, cap=0, seed=0, stream="s")


@pytest.mark.parametrize(
    ("n_train", "rows"),
    [(2, 1), (9, 1), (250, 25), (635, 63), (9_999, 999), (10_000, 1_000), (10_001, 1_000), (392_702, 1_000)],
)
def test_cut_size_is_a_tenth_but_at_most_a_thousand(n_train, rows):
    assert cut_size(n_train) == rows


@given(n_train=st.integers(20, 2_000_000))
def test_cut_size_is_that_of_the_original_policy(n_train):
    """train[:5%] + train[95%:] up to 10,000 rows, train[:500] + train[-500:] above; percentages are rounded."""
    small = round(0.05 * n_train) + n_train - round(0.95 * n_train)
    assert abs(cut_size(n_train) - (small if n_train <= 10_000 else 1_000)) <= 1


@given(texts=st.lists(st.integers(0, 12), min_size=2, max_size=80), seed=st.integers(0, 3), data=st.data())
def test_a_cut_shares_no_text_and_loses_no_row(texts, seed, data):
    ids = np.unique(texts, return_inverse=True)[1].astype(np.int64)
    size = data.draw(st.integers(1, len(ids) - 1))
    smallest = int(np.bincount(ids).min())
    if smallest > size:
        with pytest.raises(ValueError, match="every text is repeated more often"):
            cut_rows(ids, size=size, seed=seed, stream="s")
        return
    cut, left = cut_rows(ids, size=size, seed=seed, stream="s")
    assert sorted([*cut, *left]) == list(range(len(ids)))
    assert not set(ids[cut]) & set(ids[left])
    assert 1 <= len(cut) <= size and len(left) >= 1
    assert cut.tolist() == sorted(cut) and left.tolist() == sorted(left)


def test_a_cut_has_the_size_asked_for_where_texts_differ():
    cut, left = cut_rows(np.arange(1000), size=100, seed=0, stream="s")
    assert (len(cut), len(left)) == (100, 900)


def test_a_cut_from_rows_ordered_by_class_has_both_classes():
    """500 rows of one class, then 500 of the other: the ends that the original takes hold one class each half."""
    cut, _ = cut_rows(np.arange(1000), size=100, seed=0, stream="s")
    first_class = int((cut < 500).sum())
    assert 30 <= first_class <= 70  # 50 expected, standard deviation 4.7


@pytest.mark.parametrize("size", [0, 5, 6])
def test_a_cut_leaves_something_on_both_sides(size):
    with pytest.raises(ValueError, match="at least one must go and one must stay"):
        cut_rows(np.arange(5), size=size, seed=0, stream="s")


ALL = ("train", "validation", "test")
SITE, PAPER = SplitRule.SITE, SplitRule.PAPER


@pytest.mark.parametrize(
    ("present", "hidden", "names_test", "rule", "sources", "cut", "unused"),
    [
        # labelled test set: both rules take what there is
        (ALL, False, True, SITE, {"train": "train", "validation": "validation", "test": "test"}, (), ()),
        (ALL, False, True, PAPER, {"train": "train", "validation": "validation", "test": "test"}, (), ()),
        (("train", "test"), False, True, SITE, {"train": "train", "test": "test"}, ("validation",), ()),
        (("train",), False, False, PAPER, {"train": "train"}, ("test", "validation"), ()),
        # hidden test set (cola)
        (("train", "validation"), True, False, SITE, {"train": "train", "test": "validation"}, ("validation",), ()),
        (("train", "validation"), True, False, PAPER, {"train": "train", "validation": "validation"}, ("test",), ()),
        # hidden, but a mirror has labels for it (stsb, sst2): left out as in the sources
        (ALL, True, False, SITE, {"train": "train", "test": "validation"}, ("validation",), ("test",)),
        (ALL, True, False, PAPER, {"train": "train", "validation": "validation"}, ("test",), ("test",)),
        # mnli: matched is validation, mismatched is test
        (ALL, True, True, SITE, {"train": "train", "test": "test"}, ("validation",), ("validation",)),
        (ALL, True, True, PAPER, {"train": "train", "validation": "validation", "test": "test"}, (), ()),
        # mnli of a mirror that has matched only
        (("train", "validation"), True, True, SITE, {"train": "train", "test": "validation"}, ("validation",), ()),
        (("train", "validation"), True, True, PAPER, {"train": "train", "validation": "validation"}, ("test",), ()),
    ],
)
def test_the_two_rules(present, hidden, names_test, rule, sources, cut, unused):
    plan = plan_splits(present, hidden_test=hidden, names_test=names_test, rule=rule)
    assert (plan.sources, plan.cut, plan.unused) == (sources, cut, unused)


def test_no_rule_makes_a_train_split():
    with pytest.raises(ValueError, match="no train split"):
        plan_splits(("validation", "test"), hidden_test=False, names_test=True, rule=SITE)
