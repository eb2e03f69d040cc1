"""`python -m ray_app config`: the resolved configuration, as it would be used."""

from __future__ import annotations

import sys

import yaml

from ray_app.config import AppConfig
from ray_app.config_tree import as_plain


def run(config: AppConfig) -> int:
    """Print the configuration as YAML."""
    sys.stdout.write(yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True))
    return 0
