"""Chance: seeds by name, order by epoch, dropout masks by row; against hand-written integer arithmetic and binomial bounds."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ray_app.training.randomness import POOL_BITS, WINDOWS, DropoutPool, RowKeyedDropout, _mix, derive_seed, epoch_order

MASK64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def sha_seed(*parts: object) -> int:
    """The 63 high bits of the SHA-256 of the parts, joined by the unit separator."""
    digest = hashlib.sha256(b"\x1f".join(str(part).encode() for part in parts)).hexdigest()
    return int(digest[:16], 16) // 2


def mix(value: int) -> int:
    """SplitMix64's finaliser on Python integers."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK64
    return value ^ (value >> 31)


@pytest.fixture(scope="module")
def pool() -> DropoutPool:
    return DropoutPool(seed=11, device="cpu")


def mode(pool: DropoutPool, rows: list[int], *, step: int = 0, stride: int = 32) -> RowKeyedDropout:
    return RowKeyedDropout(pool, step=step, rows=np.array(rows), stride=stride)


def kept(pool: DropoutPool, shape: tuple[int, ...], rows: list[int], *, p: float = 0.5, **given: int) -> torch.Tensor:
    """Which elements a single dropout over ones keeps."""
    with mode(pool, rows, **given):
        return F.dropout(torch.ones(shape), p) != 0


def test_seed_is_the_high_bits_of_a_digest_of_its_names() -> None:
    assert derive_seed(7, "order", 0) == sha_seed(7, "order", 0)
    assert 0 <= derive_seed(7, "order", 0) < 2**63


def test_seeds_of_different_uses_differ_and_names_do_not_run_together() -> None:
    uses = [(seed, name, number) for seed in range(20) for name in ("order", "head", "mask") for number in range(20)]
    assert len({derive_seed(*use) for use in uses}) == len(uses)
    assert derive_seed(1, "a", "bc") != derive_seed(1, "ab", "c")
    assert derive_seed(1, "1") != derive_seed(11, "")


def test_order_is_the_permutation_of_a_counter_based_generator() -> None:
    expected = np.random.Generator(np.random.Philox(key=sha_seed(3, "order", 2))).permutation(50)
    np.testing.assert_array_equal(epoch_order(50, seed=3, epoch=2), expected)
    assert sorted(epoch_order(50, seed=3, epoch=2)) == list(range(50))


def test_order_differs_by_epoch_and_by_seed_and_only_by_them() -> None:
    first = epoch_order(100, seed=0, epoch=0)
    np.testing.assert_array_equal(first, epoch_order(100, seed=0, epoch=0))
    assert not np.array_equal(first, epoch_order(100, seed=0, epoch=1))
    assert not np.array_equal(first, epoch_order(100, seed=1, epoch=0))


def test_finaliser_gives_the_published_sequence_of_splitmix64() -> None:
    # First three outputs of SplitMix64 seeded with 0 (Steele, Lea and Flood 2014; also the test vector of xoshiro's authors).
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    with np.errstate(over="ignore"):
        states = np.arange(1, 4, dtype=np.uint64) * np.uint64(GOLDEN)
    assert [int(value) for value in _mix(states)] == expected


def test_mask_of_features_is_the_window_that_integer_arithmetic_gives(pool: DropoutPool) -> None:
    rows, step = [5, 0, 9], 4
    found = kept(pool, (3, 6, 4), rows, step=step)
    draws = pool.draws(0.5).numpy()
    base = sha_seed(pool.seed, "mask", step)
    for place, row in enumerate(rows):
        key = mix((base + (row + 1) * GOLDEN) & MASK64)
        start = mix((key + 1 * GOLDEN) & MASK64) % WINDOWS
        np.testing.assert_array_equal(found[place].numpy().ravel(), draws[start : start + 24])


def test_mask_of_attention_weights_is_the_window_that_integer_arithmetic_gives(pool: DropoutPool) -> None:
    rows, stride = [5, 7], 24
    with mode(pool, rows, step=1, stride=stride):
        F.dropout(torch.ones(2, 3), 0.5)  # the first call; the one looked at is the second
        found = (F.dropout(torch.ones(2, 3, 16, 16), 0.5) != 0).numpy()
    draws = pool.draws(0.5).numpy()
    base = sha_seed(pool.seed, "mask", 1)
    for place, row in enumerate(rows):
        key = mix((base + (row + 1) * GOLDEN) & MASK64)
        for head in range(3):
            start = (mix((key + 2 * GOLDEN) & MASK64) + mix(((head + 1) * GOLDEN) & MASK64)) % WINDOWS
            for query in range(16):
                expected = draws[start + query * stride : start + query * stride + 16]
                np.testing.assert_array_equal(found[place, head, query], expected)


def test_pool_is_a_bernoulli_sample(pool: DropoutPool) -> None:
    generator = np.random.Generator(np.random.SFC64(sha_seed(pool.seed, "dropout", "0.100000")))
    draws = generator.integers(0, 2**16, size=2**POOL_BITS, dtype=np.uint16)
    np.testing.assert_array_equal(pool.draws(0.1).numpy(), draws >= round(0.1 * 2**16))
    assert torch.equal(pool.draws(0.1, torch.float32), pool.draws(0.1).float())


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_kept_lies_within_binomial_bounds(pool: DropoutPool, p: float) -> None:
    found = kept(pool, (64, 16, 32), list(range(64)), p=p).float()
    spread = math.sqrt(p * (1 - p) / found.numel())
    assert abs(found.mean() - (1 - p)) < 5 * spread
    # within every single row too, at 64 rows times two sides: six standard deviations
    assert (abs(found.flatten(1).mean(1) - (1 - p)) < 6 * math.sqrt(p * (1 - p) / found[0].numel())).all()


def test_kept_values_are_scaled_and_dropped_ones_zero(pool: DropoutPool) -> None:
    values = torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(0))
    with mode(pool, [0, 1, 2, 3]):
        found = F.dropout(values, 0.25)
    mask = kept(pool, (4, 8, 16), [0, 1, 2, 3], p=0.25)
    torch.testing.assert_close(found, torch.where(mask, values / 0.75, 0.0))


def test_masks_of_two_rows_calls_steps_and_seeds_are_unrelated(pool: DropoutPool) -> None:
    shape = (2, 64, 64)
    one = kept(pool, shape, [0, 1])
    with mode(pool, [0, 1]):
        again, second_call = (F.dropout(torch.ones(shape), 0.5) != 0 for _ in range(2))
    assert torch.equal(one, again)
    other_step = kept(pool, shape, [0, 1], step=1)
    other_seed = kept(DropoutPool(seed=12, device="cpu"), shape, [0, 1])
    pairs = [(one[0], one[1]), (one[0], second_call[0]), (one[0], other_step[0]), (one[0], other_seed[0])]
    for left, right in pairs:
        agreement = (left == right).float().mean()
        assert abs(agreement - 0.5) < 5 * 0.5 / math.sqrt(left.numel())


def test_heads_of_one_row_get_unrelated_masks(pool: DropoutPool) -> None:
    found = kept(pool, (2, 4, 32, 32), [0, 1])
    for head in range(1, 4):
        agreement = (found[0, 0] == found[0, head]).float().mean()
        assert abs(agreement - 0.5) < 5 * 0.5 / 32


@pytest.mark.parametrize("shape", [(3, 16, 8), (3, 2, 16, 16), (3, 8), (3,)])
def test_mask_of_a_row_does_not_depend_on_the_other_rows(pool: DropoutPool, shape: tuple[int, ...]) -> None:
    together = kept(pool, shape, [4, 2, 8])
    alone = kept(pool, (1, *shape[1:]), [2])
    pair = kept(pool, (2, *shape[1:]), [8, 4])
    assert torch.equal(together[1], alone[0])
    assert torch.equal(together[[2, 0]], pair)


def test_mask_does_not_depend_on_padding(pool: DropoutPool) -> None:
    assert torch.equal(kept(pool, (3, 16, 8), [4, 2, 8]), kept(pool, (3, 24, 8), [4, 2, 8])[:, :16])
    short, long = kept(pool, (3, 2, 16, 16), [4, 2, 8]), kept(pool, (3, 2, 24, 24), [4, 2, 8])
    assert torch.equal(short, long[:, :, :16, :16])


def test_many_calls_do_not_change_the_first_ones(pool: DropoutPool) -> None:
    with mode(pool, [3, 1]):
        many = [F.dropout(torch.ones(2, 40), 0.5) for _ in range(70)]
    fresh = DropoutPool(seed=pool.seed, device="cpu")  # draws fewer windows ahead
    with mode(fresh, [3, 1]):
        few = [F.dropout(torch.ones(2, 40), 0.5) for _ in range(40)]
    for left, right in zip(many, few, strict=False):
        assert torch.equal(left, right)


def test_a_tensor_without_rows_gets_the_same_mask_in_every_micro_batch(pool: DropoutPool) -> None:
    assert torch.equal(kept(pool, (10, 8), [1, 2, 3]), kept(pool, (10, 8), [5, 6]))
    assert torch.equal(kept(pool, (1, 10, 40), [1, 2, 3]), kept(pool, (1, 10, 40), [5, 6]))
    assert not torch.equal(kept(pool, (10, 8), [1, 2, 3]), kept(pool, (10, 8), [1, 2, 3], step=1))


def test_nothing_is_dropped_outside_training_or_at_p_zero_and_all_at_p_one(pool: DropoutPool) -> None:
    values = torch.randn(2, 4)
    with mode(pool, [0, 1]):
        assert F.dropout(values, 0.5, training=False) is values
        assert F.dropout(values, 0.0) is values
        assert torch.equal(F.dropout(values, 1.0), torch.zeros(2, 4))
        assert torch.equal(torch.nn.Dropout(0.5).eval()(values), values)


def test_gradient_flows_through_what_is_kept_only(pool: DropoutPool) -> None:
    values = torch.randn(3, 8, 4, requires_grad=True)
    with mode(pool, [0, 1, 2]):
        F.dropout(values, 0.4).sum().backward()
    mask = kept(pool, (3, 8, 4), [0, 1, 2], p=0.4)
    torch.testing.assert_close(values.grad, mask / 0.6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_keep_their_type_and_get_the_same_mask(pool: DropoutPool, dtype: torch.dtype) -> None:
    with mode(pool, [0, 1]):
        found = F.dropout(torch.ones(2, 30, dtype=dtype), 0.5)
    assert found.dtype == dtype
    assert torch.equal(found != 0, kept(pool, (2, 30), [0, 1]))


def test_no_global_random_state_is_read_or_advanced(pool: DropoutPool) -> None:
    torch.manual_seed(0)
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first = kept(pool, (2, 8), [0, 1])
    epoch_order(10, seed=0, epoch=0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])
    torch.manual_seed(1)
    assert torch.equal(first, kept(pool, (2, 8), [0, 1]))


def attention_parts(*, heads: int = 2, length: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(3, heads, length, 8, generator=generator) for _ in range(3))
    return query, key, value


def by_hand(query, key, value, *, allowed=None, bias=0.0, scale=None, mask=None, p=0.0) -> torch.Tensor:
    """Attention element by element in float64: exponentials over their sum."""
    scores = torch.einsum("bhqd,bhkd->bhqk", query.double(), key.double())
    scores = scores * (scale if scale is not None else 1 / math.sqrt(query.shape[-1])) + bias
    raised = torch.exp(scores)
    if allowed is not None:
        raised = raised * allowed
    shares = raised / raised.sum(-1, keepdim=True)
    if mask is not None:
        shares = shares * mask / (1 - p)
    return torch.einsum("bhqk,bhkd->bhqd", shares, value.double()).float()


@pytest.mark.parametrize("kind", ["plain", "bool", "float", "causal", "scale"])
def test_attention_with_dropout_equals_its_formula(pool: DropoutPool, kind: str) -> None:
    query, key, value = attention_parts()
    given: dict[str, object] = {}
    oracle: dict[str, object] = {}
    if kind == "bool":
        allowed = torch.ones(3, 1, 16, 16, dtype=torch.bool)
        allowed[1, ..., 9:] = False
        given, oracle = {"attn_mask": allowed}, {"allowed": allowed}
    if kind == "float":
        bias = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(2))
        given, oracle = {"attn_mask": bias}, {"bias": bias.double()}
    if kind == "causal":
        given, oracle = {"is_causal": True}, {"allowed": torch.ones(16, 16).tril()}
    if kind == "scale":
        given, oracle = {"scale": 1.0}, {"scale": 1.0}
    with mode(pool, [4, 2, 8]):
        found = F.scaled_dot_product_attention(query, key, value, dropout_p=0.3, **given)
    mask = kept(pool, (3, 2, 16, 16), [4, 2, 8], p=0.3)
    torch.testing.assert_close(found, by_hand(query, key, value, mask=mask, p=0.3, **oracle))


def test_attention_takes_its_dropout_by_position_too(pool: DropoutPool) -> None:
    query, key, value = attention_parts()
    with mode(pool, [0, 1, 2]):
        by_name = F.scaled_dot_product_attention(query, key, value, dropout_p=0.3)
    with mode(pool, [0, 1, 2]):
        by_position = F.scaled_dot_product_attention(query, key, value, None, 0.3)
    assert torch.equal(by_name, by_position)


def test_attention_shares_keys_among_heads_as_the_kernel_does(pool: DropoutPool) -> None:
    query, _, _ = attention_parts(heads=4)
    _, key, value = attention_parts(heads=2)
    mask = kept(pool, (3, 4, 16, 16), [0, 1, 2], p=0.3)
    with mode(pool, [0, 1, 2]):
        found = F.scaled_dot_product_attention(query, key, value, dropout_p=0.3, enable_gqa=True)
    wide_key, wide_value = (torch.stack([part[:, head // 2] for head in range(4)], 1) for part in (key, value))
    torch.testing.assert_close(found, by_hand(query, wide_key, wide_value, mask=mask, p=0.3))


@pytest.mark.parametrize("as_float", [False, True])
def test_a_query_that_may_see_nothing_leaves_the_gradients_finite(pool: DropoutPool, as_float: bool) -> None:
    query, key, value = (part.requires_grad_() for part in attention_parts())
    allowed = torch.ones(3, 1, 16, 16, dtype=torch.bool)
    allowed[1, :, 12] = False
    mask = torch.where(allowed, 0.0, -math.inf) if as_float else allowed
    with mode(pool, [0, 1, 2]):
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=0.1)
    found[:, :, :12].sum().backward()
    for part in (query, key, value):
        assert part.grad is not None and torch.isfinite(part.grad).all()


def test_attention_without_dropout_is_the_kernel_itself(pool: DropoutPool) -> None:
    query, key, value = attention_parts()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # refuses to fall back on anything else
        expected = F.scaled_dot_product_attention(query, key, value)
        with mode(pool, [0, 1, 2]):
            found = F.scaled_dot_product_attention(query, key, value, dropout_p=0.0)
    assert torch.equal(found, expected)


def test_a_mask_wider_than_the_pool_is_refused(pool: DropoutPool) -> None:
    with mode(pool, [0], stride=4096), pytest.raises(ValueError, match="lower max_length"):
        F.dropout(torch.ones(1, 1).expand(1, 2**23 + 1), 0.5)


def test_long_attention_fits(pool: DropoutPool) -> None:
    long = kept(pool, (1, 1, 600, 600), [3], stride=2048)
    assert torch.equal(kept(pool, (1, 1, 16, 16), [3], stride=2048)[0, 0], long[0, 0, :16, :16])
