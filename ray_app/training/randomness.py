"""Chance that depends on the cell only: seeds derived by name, data order by epoch, dropout keyed by row.

Nothing here reads or advances a global random state, so a number cannot depend on which worker ran a cell, what ran on it
before, how a batch was cut into micro-batches, or where training was resumed.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from ray_app.training.batches import PAD_TO

POOL_BITS = 24
"""The pool of dropout draws holds 2**24 of them (16 MiB)."""
WINDOWS = 2 ** (POOL_BITS - 1)
"""Where a row's window may start; fixed, so that it does not depend on how far the row is padded."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FEWEST_CALLS = 16
"""Dropout calls of a forward pass whose windows are drawn at once, before their number is known."""


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
        self.n_calls = _FEWEST_CALLS
        """Most dropout calls of a forward pass so far; how many windows to draw ahead, no part of any number."""
        self._pools: dict[tuple[float, torch.dtype], torch.Tensor] = {}

    def draws(self, p: float, dtype: torch.dtype = torch.bool) -> torch.Tensor:
        """The pool for drop probability ``p``: shape (2**24,), 1 (True) = kept, as ``dtype``."""
        if (p, dtype) not in self._pools:
            if dtype is torch.bool:
                generator = np.random.Generator(np.random.SFC64(derive_seed(self.seed, "dropout", f"{p:.6f}")))
                threshold = np.uint16(min(65535, round(p * 65536)))
                kept = generator.integers(0, 65536, size=2**POOL_BITS, dtype=np.uint16) >= threshold
                self._pools[p, dtype] = torch.from_numpy(kept).to(self.device)
            else:
                self._pools[p, dtype] = self.draws(p).to(dtype)
        return self._pools[p, dtype]


class RowKeyedDropout(TorchFunctionMode):
    """Within this mode every dropout of a model draws its mask by (seed, step, call, row), not from a global generator.

    The mask of a row is the window of the cell's pool that starts at a hash of those four; within the row an element has a
    place that does not depend on padding. So the draw for one example is the same whatever other examples share its
    micro-batch and however far it is padded: cutting a batch otherwise changes results by float rounding only. Attention
    dropout inside ``scaled_dot_product_attention`` is done the same way by its formula softmax(QK'/sqrt(d) + M) V (the fused
    kernels cannot take a mask of their own); without dropout the fused kernel runs.

    A tensor whose first axis is not as long as the batch has rows (position embeddings) gets one mask a step, the same in
    every micro-batch. Models that put the sequence before the rows, or features before the sequence, are not covered.

    Stochastic depth is done the same way: a draw of ``torch.rand`` of one number a row (and singleton axes) is keyed by row.

    Args:
        pool: the cell's draws.
        step: optimiser step.
        rows: identity of the rows of this micro-batch, shape (n_rows,), in the order of the batch's first axis.
        stride: at least the longest sequence length; fixes the place of an attention weight within its row.
        windows: a first axis of k times the rows holds k windows of each row, row by row (shifted windows of Swin).
    """

    def __init__(self, pool: DropoutPool, *, step: int, rows: np.ndarray, stride: int, windows: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.windows = windows
        self.stride = -(-stride // PAD_TO) * PAD_TO
        self.n_rows = len(rows)
        self._calls = 0
        base = np.uint64(derive_seed(pool.seed, "mask", step))
        identities = np.append(rows.astype(np.uint64) + np.uint64(1), np.uint64(0))  # the last: what all rows share
        with np.errstate(over="ignore"):
            self._keys = _mix(base + identities * _GOLDEN)
        self._table = torch.empty(0, dtype=torch.int64)

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
        if func is F.scaled_dot_product_attention:
            p = args[4] if len(args) > 4 else given.get("dropout_p", 0.0)
            return self._attention(*args, **given) if p > 0.0 else func(*args, **given)
        if func is torch.rand and args and self._is_by_row(args[0]):
            return self._uniform(args[0], **given)
        return func(*args, **given)

    def _dropout(
        self, values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if not training or p == 0.0:
            return values
        return values * self._mask(values, p) * (1.0 / (1.0 - p) if p < 1.0 else 0.0)

    def _is_by_row(self, shape: Any) -> bool:
        """Whether a shape is that of one number a row, with singleton axes."""
        return isinstance(shape, tuple) and len(shape) > 1 and shape == (self.n_rows,) + (1,) * (len(shape) - 1)

    def _uniform(self, shape: tuple[int, ...], **given: Any) -> torch.Tensor:
        """One number from [0, 1) a row, by (seed, step, call, row): the place of the row's window over all windows."""
        drawn = (self._next_offsets()[:-1].double() / WINDOWS).view(shape)
        return drawn.to(given.get("device"), given.get("dtype") or torch.get_default_dtype())

    def _mask(self, values: torch.Tensor, p: float) -> torch.Tensor:
        """Mask of the shape of ``values``, or of its shape less the rows where it has none.

        The last two axes are a window of the pool: a row of attention weights (queries, keys) begins every ``stride`` draws,
        features directly follow each other. Axes between the rows and those two (heads) shift the window.
        """
        if self.windows and values.ndim > 2 and values.shape[0] != self.n_rows and values.shape[0] % self.n_rows == 0:
            return self._mask(values.unflatten(0, (self.n_rows, -1)), p).flatten(0, 1)
        by_row = values.ndim > 0 and values.shape[0] == self.n_rows
        shape = tuple(values.shape[1:]) if by_row else tuple(values.shape)
        window, between = shape[-2:], shape[:-2]
        width = window[-1] if window else 1
        place = max(self.stride, width) if between else width
        strides = (place, 1)[2 - len(window) :]
        extent = (window[0] - 1) * place + width if len(window) == 2 else width
        # Products of one type are several times faster on a CPU; elsewhere a mask of bytes saves memory.
        pool = self.pool.draws(p, values.dtype if values.device.type == "cpu" else torch.bool)
        if extent > pool.shape[0] - WINDOWS:
            raise ValueError(
                f"a dropout mask of {window} spans {extent} draws, expected at most {pool.shape[0] - WINDOWS}; lower max_length"
            )
        offsets = self._next_offsets()
        offsets = offsets[:-1] if by_row else offsets[-1]
        for size in between:
            offsets = (offsets[..., None] + _shifts(size, offsets.device)) % WINDOWS
        return pool.as_strided((WINDOWS, *window), (1, *strides))[offsets]

    def _next_offsets(self) -> torch.Tensor:
        """Where the windows of this call start, shape (n_rows + 1,): every row's, and the one that all rows share."""
        self._calls += 1
        if self._calls > len(self._table):
            calls = np.arange(1, max(self.pool.n_calls, 2 * len(self._table)) + 1, dtype=np.uint64)
            with np.errstate(over="ignore"):
                offsets = _mix(self._keys[None, :] + calls[:, None] * _GOLDEN) % np.uint64(WINDOWS)
            self._table = torch.from_numpy(offsets.astype(np.int64)).to(self.pool.device)
        self.pool.n_calls = max(self.pool.n_calls, self._calls)
        return self._table[self._calls - 1]

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
        """softmax(Q K' * scale + M), dropout by row, times V; shapes (rows, heads, length, width).

        What M forbids gets the lowest finite weight, not minus infinity: a padded query may see no key at all, and a softmax
        over nothing has no gradient but NaN.
        """
        if enable_gqa:
            key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], -3) for part in (key, value))
        factor = scale if scale is not None else query.shape[-1] ** -0.5
        weights = torch.matmul(query, key.transpose(-2, -1)) * factor
        lowest = torch.finfo(weights.dtype).min
        if is_causal:
            attn_mask = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:  # added, for that is faster than filling
            attn_mask = torch.zeros(attn_mask.shape, dtype=weights.dtype, device=weights.device).masked_fill_(
                ~attn_mask, lowest
            )
        if attn_mask is not None:
            weights = weights + attn_mask.clamp(min=lowest)
        weights = torch.softmax(weights, dim=-1, dtype=torch.float32).to(value.dtype)
        return torch.matmul(self._dropout(weights, dropout_p, True), value)


@functools.cache
def _shifts(size: int, device: torch.device) -> torch.Tensor:
    """How far the windows of heads lie apart: a fixed hash of the head's number, shape (size,)."""
    with np.errstate(over="ignore"):
        mixed = _mix(np.arange(1, size + 1, dtype=np.uint64) * _GOLDEN) % np.uint64(WINDOWS)
    return torch.from_numpy(mixed.astype(np.int64)).to(device)
