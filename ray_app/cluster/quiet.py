"""Ray told to report nothing, and to keep its chatter to itself."""

from __future__ import annotations

import logging
import os
from typing import Any

logger = logging.getLogger(__name__)


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


def tell_in_one_line() -> None:
    """Have what Ray tells its driver (a node died, a worker cannot start) logged in one line.

    Ray prints it to the terminal, with the last 20 lines of the dead node's own log, whatever its log level. There is no setting
    for that; where a later Ray has no such function nothing changes.
    """
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = _log_first_line


def _log_first_line(data: dict[str, Any], *given: Any, **more: Any) -> None:
    lines = [line.strip() for text in data.get("lines", ()) for line in str(text).splitlines() if line.strip()]
    if not lines:
        return
    if lines[0].startswith("Raylet is terminated"):
        logger.warning("a node was lost; its cells are handed out again")
    else:
        logger.warning("Ray: %s", lines[0][:300])
