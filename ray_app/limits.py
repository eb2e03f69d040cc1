"""The debug size of a request: the same experiment with fewer tasks, sources, seeds, rows and epochs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ray_app.fusion.cold_settings import ColdFusionConfig
from ray_app.hub.tasks import SplitCaps, SuiteConfig
from ray_app.sweeps.settings import DebugConfig, SourcesConfig

if TYPE_CHECKING:
    from ray_app.config import AppConfig


def limited(config: AppConfig) -> AppConfig:
    """The request within the limits of its debug setting; the request itself where there are none.

    Limits are part of what is asked for, so cells of a debug size have keys of their own and are never taken for real ones.
    """
    debug = config.debug
    candidates = dataclasses.replace(
        config.candidates,
        models=config.candidates.models[: debug.max_models],
        sources=_apart([_source(group, debug) for group in config.candidates.sources]),
    )
    method = config.method
    if debug.max_epochs is not None:
        method = dataclasses.replace(method, max_epochs=min(method.max_epochs, debug.max_epochs))
    return dataclasses.replace(
        config,
        candidates=candidates,
        cold_fusion=_cold_fusion(config.cold_fusion, debug),
        suite=_suite(config.suite, debug),
        method=method,
        seeds=config.seeds[: debug.max_seeds],
    )


def _suite(suite: SuiteConfig, debug: DebugConfig) -> SuiteConfig:
    most = debug.rows.train
    sizes = [size for size in suite.train_sizes if most is None or size <= most] or suite.train_sizes[:1]
    return dataclasses.replace(
        suite, tasks=suite.tasks[: debug.max_tasks], caps=_caps(suite.caps, debug.rows), train_sizes=sizes
    )


def _source(group: SourcesConfig, debug: DebugConfig) -> SourcesConfig:
    changes = dict(group.method)
    if debug.max_epochs is not None and "max_epochs" in changes:
        changes["max_epochs"] = min(changes["max_epochs"], debug.max_epochs)
    return dataclasses.replace(
        group,
        tasks=group.tasks[: debug.max_sources],
        seeds=group.seeds[: debug.max_source_seeds],
        caps=_caps(group.caps, debug.rows),
        method=changes,
    )


def _cold_fusion(cold: ColdFusionConfig, debug: DebugConfig) -> ColdFusionConfig:
    """As many contributors as there are source tasks left, two iterations, one epoch of the multitask model."""
    limited = dataclasses.replace(
        cold, caps=_caps(cold.caps, debug.rows), probe_caps=_caps(cold.probe_caps, debug.rows)
    )
    most = debug.max_sources
    if most is None:
        return limited
    variants = {
        name: dataclasses.replace(
            variant,
            contributors=None if variant.contributors is None else min(variant.contributors, most),
            parts=None if variant.parts is None else min(variant.parts, most),
            arrivals=None if variant.arrivals is None else min(variant.arrivals, most),
        )
        for name, variant in cold.variants.items()
    }
    return dataclasses.replace(
        limited,
        contributors=min(cold.contributors, most),
        iterations=min(cold.iterations, 2),
        tasks=cold.tasks[:most] if cold.tasks is not None else None,
        variants=variants,
        baselines=dataclasses.replace(cold.baselines, multitask_epochs=debug.max_epochs),
    )


def _apart(groups: list[SourcesConfig]) -> list[SourcesConfig]:
    """Groups that the limits have not made the same as an earlier one but for its label."""
    kept: list[SourcesConfig] = []
    for group in groups:
        if all(dataclasses.replace(group, label=other.label) != other for other in kept):
            kept.append(group)
    return kept


def _caps(caps: SplitCaps, limit: SplitCaps) -> SplitCaps:
    def least(cap: int | None, most: int | None) -> int | None:
        known = [value for value in (cap, most) if value is not None]
        return min(known) if known else None

    return SplitCaps(
        train=least(caps.train, limit.train),
        validation=least(caps.validation, limit.validation),
        test=least(caps.test, limit.test),
    )
