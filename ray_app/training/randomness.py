"""Chance that depends on the cell only: seeds derived by name, data order by epoch, dropout keyed by row.

Nothing here reads or advances a global random state, so a number cannot depend on which worker ran a cell, what ran on it
before, how a batch was cut into micro-batches, or where training was resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

POOL_BITS = 24
"""The pool of dropout draws holds 2**24 of them (16 MiB)."""
WINDOWS = 2 ** (POOL_BITS - 1)
"""Where a row's window may start; fixed, so that it does not depend on how far the row is padded."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def derive_seed(seed: int, *names: object) -> int:
    """A 63-bit seed for one use of chance within a cell, from the cell's seed and the names of the use."""
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def epoch_order(n_rows: int, *, seed: int, epoch: int) -> np.ndarray:
    """Order in which the rows are seen in one epoch, shape (n_rows,), int64: a permutation."""
    generator = np.random.Generator(np.random.Philox(key=derive_seed(seed, "order", epoch)))
    return generator.permutation(n_rows)


def _mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: uint64 -> well-mixed uint64 (Steele et al. 2014, fig. 16)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class DropoutPool:
    """Bernoulli draws of one cell, made once per drop probability; every mask is a window into them."""

    def __init__(self, *, seed: int, device: torch.device | str) -> None:
        self.seed = seed
        self.device = torch.device(device)
        self._pools: dict[float, torch.Tensor] = {}

    def draws(self, p: float) -> torch.Tensor:
        """The pool for drop probability ``p``: shape (2**24,), bool, True = kept."""
        if p not in self._pools:
            generator = np.random.Generator(np.random.SFC64(derive_seed(self.seed, "dropout", f"{p:.6f}")))
            threshold = np.uint16(min(65535, round(p * 65536)))
            kept = generator.integers(0, 65536, size=2**POOL_BITS, dtype=np.uint16) >= threshold
            self._pools[p] = torch.from_numpy(kept).to(self.device)
        return self._pools[p]


class RowKeyedDropout(TorchFunctionMode):
    """Within this mode every dropout of a model draws its mask by (seed, step, call, row), not from a global generator.

    The mask of a row is the window of the cell's pool that starts at a hash of those four; within the row an element has a
    place that does not depend on padding. So the draw for one example is the same whatever other examples share its
    micro-batch and however far it is padded: cutting a batch otherwise changes results by float rounding only. Attention
    dropout inside ``scaled_dot_product_attention`` is done the same way by its formula softmax(QK'/sqrt(d) + M) V (the fused
    kernels cannot take a mask of their own); without dropout the fused kernel runs.

    Args:
        pool: the cell's draws.
        step: optimiser step.
        rows: identity of the rows of this micro-batch, shape (n_rows,), in the order of the batch's first axis.
        stride: at least the longest sequence length; fixes the place of an attention weight within its row.
    """

    def __init__(self, pool: DropoutPool, *, step: int, rows: np.ndarray, stride: int) -> None:
        super().__init__()
        self.pool = pool
        self.stride = stride
        self.n_rows = len(rows)
        self._calls = 0
        base = np.uint64(derive_seed(pool.seed, "mask", step))
        with np.errstate(over="ignore"):
            self._row_keys = _mix(base + (rows.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
            self._shared_key = _mix(np.array([base], dtype=np.uint64))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace dropout and attention with dropout; pass everything else through."""
        given = kwargs or {}
        if func is F.dropout:
            return self._dropout(*args, **given)
        if func is F.scaled_dot_product_attention and given.get("dropout_p", 0.0) > 0.0:
            return self._attention(*args, **given)
        return func(*args, **given)

    def _dropout(
        self, values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if not training or p == 0.0:
            return values
        return values * self._mask(values, p) * (1.0 / (1.0 - p))

    def _mask(self, values: torch.Tensor, p: float) -> torch.Tensor:
        """Mask of the shape of ``values``: windows by row where the first axis is the rows, one window otherwise."""
        self._calls += 1
        by_row = values.shape[0] == self.n_rows
        keys = self._row_keys if by_row else self._shared_key
        shape = tuple(values.shape[1:]) if by_row else tuple(values.shape)
        strides = self._strides(shape)
        extent = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1
        pool = self.pool.draws(p)
        if extent > pool.shape[0] - WINDOWS:
            raise ValueError(f"a dropout mask of {shape} spans {extent} draws, at most {pool.shape[0] - WINDOWS} are held")
        with np.errstate(over="ignore"):
            offsets = _mix(keys + np.uint64(self._calls) * _GOLDEN) % np.uint64(WINDOWS)
        windows = pool.as_strided((WINDOWS, *shape), (1, *strides))
        mask = windows[torch.from_numpy(offsets.astype(np.int64)).to(pool.device)]
        return mask if by_row else mask[0]

    def _strides(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Place of an element within its row; attention weights (heads, queries, keys) are placed by the fixed stride."""
        if len(shape) == 3:
            return (self.stride * self.stride, self.stride, 1)
        strides = [1]
        for size in reversed(shape[1:]):
            strides.append(strides[-1] * size)
        return tuple(reversed(strides)) if shape else ()

    def _attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        """softmax(Q K' * scale + M), dropout by row, times V; shapes (rows, heads, length, width)."""
        factor = scale if scale is not None else query.shape[-1] ** -0.5
        weights = torch.matmul(query, key.transpose(-2, -1)) * factor
        if is_causal:
            allowed = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).tril()
            weights = weights.masked_fill(~allowed, float("-inf"))
        if attn_mask is not None:
            weights = (
                weights.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else weights + attn_mask
            )
        weights = torch.softmax(weights, dim=-1, dtype=torch.float32).to(value.dtype)
        return torch.matmul(self._dropout(weights, dropout_p, True), value)
