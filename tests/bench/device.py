"""The device a benchmark runs on: its name, and how fast it multiplies matrices; not a benchmark itself."""

from __future__ import annotations

import os
import statistics
import time


def synchronize(device: str) -> None:
    """Wait until the device has done all it was given."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: str, precision: str, threads: int) -> float:
    """Floating-point operations a second of one square matrix product in the given arithmetic: best of the sizes tried."""
    import torch

    torch.set_num_threads(threads)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    for size in (4096, 8192) if device == "cuda" else (1024, 2048):
        left = torch.randn(size, size, device=device).to(kind)
        right = torch.randn(size, size, device=device).to(kind)
        times = []
        for _ in range(12):
            synchronize(device)
            began = time.perf_counter()
            left @ right
            synchronize(device)
            times.append(time.perf_counter() - began)
        best = max(best, 2.0 * size**3 / statistics.median(times[2:]))
    return best


def describe_device(device: str) -> str:
    """Name of the device."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"CPU, {os.cpu_count()} cores"
