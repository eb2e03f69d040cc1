"""What every benchmark prints and writes: the machine, medians with their range, one Markdown table, one JSON file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = Path("outputs") / "bench"
_PACKAGES = ("torch", "transformers", "datasets", "pyarrow", "ray", "mlflow", "accelerate")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, the load others put on it now, and the versions that matter."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range: '1.20 (1.10-1.35)'; the value alone where there is one; '-' where there is none."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    marks = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in [columns, marks, *rows])


def publish(name: str, table: str, results: Mapping[str, Any], *, out: Path = OUT, notes: Sequence[str] = ()) -> Path:
    """Print the command, the machine and the table, and write all of it to ``<out>/<name>.json`` (and .md)."""
    machine = describe_machine()
    command = " ".join(["python", str(Path(sys.argv[0])), *sys.argv[1:]])
    versions = ", ".join(f"{package} {found}" for package, found in machine["versions"].items())
    text = "\n".join(
        [
            f"command: `{command}`",
            "",
            f"machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, load at the end "
            f"{machine['load_average_1min']}; Python {machine['python']}, {versions}",
            "",
            table,
            *(["", *(f"- {note}" for note in notes)] if notes else []),
            "",
        ]
    )
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    path.write_text(json.dumps({"command": command, "machine": machine, **results}, indent=1, default=str))
    path.with_suffix(".md").write_text(text)
    print(text)
    print(f"written: {path}, {path.with_suffix('.md')}")
    return path
