"""Memory of a cell: how much it takes, and how running out of it is told from other errors."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import torch

_PAGE_BYTES = resource.getpagesize()
CONTEXT_BYTES = 768 * 2**20
"""Memory of a GPU that a process takes besides its tensors: context, kernels, libraries (703 MiB measured on an H200)."""
_SIGNS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""How torch says it in a plain RuntimeError: its CPU allocator, and CUDA's libraries for their own workspaces."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the device or of the machine, ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def free_unused(device: torch.device) -> None:
    """Give back what nothing refers to any more; call it where no exception is being handled, for that holds its frames."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def cap_memory(device: torch.device, share: float) -> None:
    """Let this process allocate no more than its share of a GPU, so that those it shares with keep theirs.

    Args:
        device: nothing is done on a CPU.
        share: 1/k where k processes use the card; 0, 1 or more: all of it.

    Each process also holds a CUDA context, which the allocator knows nothing of: that much is left out of the share.
    """
    if device.type != "cuda":
        return
    fraction = 1.0
    if 0 < share < 1:
        fraction = max(share / 2, share - CONTEXT_BYTES / torch.cuda.get_device_properties(device).total_memory)
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.set_per_process_memory_fraction(fraction, index)


def forget_peak(device: torch.device) -> None:
    """Start measuring anew, so that a cell is not charged for the one before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def used_bytes(device: torch.device) -> int:
    """Most memory allocated on a GPU since ``forget_peak``; on a CPU what the process holds now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:  # not Linux: the most that the process ever held, in bytes on macOS and kilobytes elsewhere
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return held if sys.platform == "darwin" else held * 1024
