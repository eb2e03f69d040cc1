"""`make clean-features`: remove the features that probes and scores have stored; they are made again when they are needed."""

from __future__ import annotations

from ray_app.commands.console import console
from ray_app.config import AppConfig
from ray_app.probing.features import FeatureCache


def run(config: AppConfig) -> int:
    """Remove every entry of the feature cache; returns the exit code."""
    folder = config.cache.expanduser().absolute() / "features"
    removed = FeatureCache(folder, limit_bytes=0).clean()
    console.print(f"{removed / 1e9:.2f} GB of features removed from {folder}")
    return 0
