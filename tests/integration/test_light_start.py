"""A command that only reads must not pay for what it does not use: seconds of imports."""

from __future__ import annotations

import subprocess
import sys


def test_the_configuration_brings_no_heavy_library() -> None:
    heavy = ("torch", "ray", "mlflow", "sklearn", "transformers", "datasets")
    code = (
        "import sys; from ray_app.config import load_config; import ray_app.commands.rank; load_config(['arch=minilm']); "
        f"print(sorted(set({heavy}) & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
