"""Fusing 8 models of 125M parameters against reading their files once, and its peak memory against two models.

Measured against: time within 1.5x of reading the files once, peak memory at most two models (issue 7). The models are random, of
roberta-base's shape, float32, one safetensors file each, made on the spot in a temporary folder (4.5 GB; the disk is asked first).
Reading is a plain loop of readinto over all files, one after the other, by one thread; reading and fusing take turns, each in a process
of its own that has imported what it needs before the clock starts. Cold: the page cache is told to forget the files before each. Warm:
they are in it. Fusing includes opening, checking, writing the result (0.5 GB) and flushing it to disk; the parts are timed by themselves
too. Memory is the peak resident set of the fusing process, imports of torch and transformers included and told apart.

Command: PYTHONPATH=. python tests/bench/bench_fusion.py [--models 8] [--repeats 3] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_report import markdown, publish, spread

RATIO, MODELS = 1.5, 2.0
READ_BYTES = 8 << 20
SPARE_BYTES = 3 << 30
N_PARAMETERS = 124_645_632
"""Of roberta-base with its pooler, without a head."""

READER = """
import os, sys, time
paths, size = sys.argv[2:], int(sys.argv[1])
buffer = bytearray(size)
began, total = time.perf_counter(), 0
for path in paths:
    with open(path, "rb", buffering=0) as file:
        while (got := file.readinto(buffer)):
            total += got
print(time.perf_counter() - began, total)
"""
WRITER = """
import os, sys, time
import numpy as np
path, size = sys.argv[1], int(sys.argv[2])
piece = memoryview(np.random.default_rng(0).standard_normal(1 << 17, np.float32)).cast("B")
began = time.perf_counter()
file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
os.posix_fallocate(file, 0, size)
done = 0
while done < size:
    done += os.pwrite(file, piece[: size - done], done)
written = time.perf_counter() - began
os.fsync(file)
print(written, time.perf_counter() - began)
"""
FUSER = """
import json, resource, sys
from pathlib import Path
import psutil
from ray_app.fusion.blueprint import read_blueprint
from ray_app.fusion.fuse import FusionConfig, Rule, fuse_checkpoints
rule, out, pretrained, *folders = sys.argv[1:]
read_blueprint(Path(folders[0]))  # imports
before = psutil.Process().memory_info().rss
fused = fuse_checkpoints(
    FusionConfig(rule=Rule(rule), density=0.2), {Path(f).name: Path(f) for f in folders}, Path(out), pretrained=Path(pretrained)
)
peak = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"s": fused.wall_s, "before": before, "peak": 1024 * peak.ru_maxrss, "n": fused.n_parameters,
                  "cpu_s": peak.ru_utime + peak.ru_stime}))
"""


def make_models(folder: Path, n_models: int) -> list[Path]:
    """Random models of roberta-base's shape; returns their folders."""
    from transformers import RobertaConfig

    from ray_app.fusion.blueprint import read_blueprint
    from ray_app.fusion.saving import CheckpointWriter

    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    config.save_pretrained(folder / "shape")
    blueprint = read_blueprint(folder / "shape")
    base = np.random.default_rng(0).standard_normal(1 << 22, np.float32) * np.float32(0.02)
    made = []
    for number in range(n_models + 1):
        rng = np.random.default_rng(1 + number)
        with CheckpointWriter(folder / f"model-{number}", blueprint.shapes, {}) as writer:
            for name, shape in blueprint.shapes.items():
                size = int(np.prod(shape))
                for start in range(0, size, len(base)):
                    stop = min(start + len(base), size)
                    moved = base[: stop - start] + rng.standard_normal(stop - start, np.float32) * np.float32(0.001)
                    writer.write(name, start, moved)
            writer.finish(like=folder / "shape", tokenizer=folder / "shape", class_name=blueprint.class_name, card="")
        made.append(folder / f"model-{number}")
    return made


def forget(paths: list[Path]) -> None:
    """Tell the page cache to drop the files."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def run(code: str, *arguments: object) -> str:
    """Run Python code in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    return done.stdout.strip().splitlines()[-1]


def fuse(rule: str, folder: Path, pretrained: Path, models: list[Path]) -> dict[str, float]:
    """One fusing: seconds, resident set before and at its peak."""
    shutil.rmtree(folder / "fused", ignore_errors=True)
    return dict(json.loads(run(FUSER, rule, folder / "fused", pretrained, *models)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    size = 4 * N_PARAMETERS
    needed = (arguments.models + 2) * size + SPARE_BYTES
    root = Path(tempfile.mkdtemp(prefix="bench-fusion-", dir=arguments.folder))
    free = shutil.disk_usage(root).free
    if free < needed:
        root.rmdir()
        raise SystemExit(f"{free / 1e9:.1f} GB are free and {needed / 1e9:.1f} GB are needed")
    try:
        measure(root, arguments.models, arguments.repeats, size)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def measure(root: Path, n_models: int, repeats: int, size: int) -> None:
    """Make the models, take turns, publish."""
    began = time.perf_counter()
    pretrained, *models = make_models(root, n_models)
    print(f"{n_models} models made in {time.perf_counter() - began:.0f} s", flush=True)
    files = [folder / "model.safetensors" for folder in models]
    read: dict[str, list[float]] = {"cold": [], "warm": []}
    fused: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for state in ("cold", "warm"):
        for _ in range(repeats):
            if state == "cold":
                forget(files)
            read[state].append(float(run(READER, READ_BYTES, *files).split()[0]))
            if state == "cold":
                forget(files)
            fused[state].append(fuse("mean", root, pretrained, models))
    written = [float(part) for part in run(WRITER, root / "written.bin", size).split()]
    others = {rule: fuse(rule, root, pretrained, models) for rule in ("task_arithmetic", "ties", "dare")}
    few = fuse("mean", root, pretrained, models[:2])
    report(read, fused, others, few, written, size)


def report(
    read: dict[str, list[float]],
    fused: dict[str, list[dict[str, float]]],
    others: dict[str, dict[str, float]],
    few: dict[str, float],
    written: list[float],
    size: int,
) -> None:
    """Tables and JSON."""
    rows: list[list[object]] = []
    for state in ("cold", "warm"):
        seconds = [one["s"] for one in fused[state]]
        ratio = statistics.median(seconds) / statistics.median(read[state])
        rows.append(
            [
                f"mean of 8, files {state}",
                spread(read[state]),
                spread(seconds),
                f"{ratio:.2f}",
                RATIO if state == "cold" else "",
            ]
        )
    rows += [[f"{rule}, files warm", spread(read["warm"]), f"{one['s']:.2f}", "", ""] for rule, one in others.items()]
    rows.append(["writing the result alone (without, with flush)", "", f"{written[0]:.2f}, {written[1]:.2f}", "", ""])
    times = markdown(["what", "reading once, s", "fusing, s", "ratio", "target"], rows)
    peaks = {"mean of 8": fused["warm"][0], "mean of 2": few, **others}
    memory = markdown(
        ["what", "peak, MB", "imports before, MB", "added by fusing, MB", "peak in models", "target"],
        [
            [
                name,
                f"{one['peak'] / 1e6:.0f}",
                f"{one['before'] / 1e6:.0f}",
                f"{(one['peak'] - one['before']) / 1e6:.0f}",
                f"{one['peak'] / size:.2f}",
                MODELS,
            ]
            for name, one in peaks.items()
        ],
    )
    publish(
        "fusion",
        f"{times}\n\n{memory}\n",
        {"read": read, "fused": fused, "others": others, "few": few, "written": written, "model_bytes": size},
    )


if __name__ == "__main__":
    main()
