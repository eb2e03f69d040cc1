"""Telling a lack of memory from other errors, and measuring what is used."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ray_app.training.memory import forget_peak, free_unused, is_out_of_memory, used_bytes

CPU = torch.device("cpu")


def test_what_torch_itself_raises_on_a_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_other_ways_of_saying_it(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("can't allocate memory"), KeyError("x")],
)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_memory_of_the_process_grows_with_what_it_holds() -> None:
    forget_peak(CPU)
    free_unused(CPU)
    before = used_bytes(CPU)
    held = np.ones(64 << 20, dtype=np.uint8)
    grown = used_bytes(CPU) - before
    assert 48 << 20 < grown < 96 << 20, held.nbytes
