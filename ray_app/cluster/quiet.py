"""Ray told to report nothing, and its job client to keep its chatter to itself."""

from __future__ import annotations

import logging
import os


def quiet_ray() -> None:
    """No usage statistics, no chatter; the loggers are imported first, for they set their own level then."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray.dashboard.modules.dashboard_sdk
    import ray.job_submission  # noqa: F401

    for name in (
        "ray.dashboard.modules.dashboard_sdk",
        "ray.dashboard.modules.job.sdk",
        "ray._private.runtime_env.packaging",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
