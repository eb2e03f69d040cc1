"""One attempt at a probe: features of the three splits, head, test, record."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil

from ray_app.probing.backbone import BackboneShelf
from ray_app.probing.features import FeatureCache, FeatureSource, SplitFeatures
from ray_app.probing.probe import ProbeResult, fit_probe
from ray_app.probing.settings import ProbeConfig
from ray_app.sweeps.attempt import Attempt
from ray_app.sweeps.multitask_attempt import MultitaskAttempt, is_joint
from ray_app.sweeps.orders import Order
from ray_app.sweeps.recording import RecordedAttempt, Step, predictions_table
from ray_app.training.models import ModelPool
from ray_app.training.tokens import SPLITS, EncodedTask
from tracking.schema import Metric, Param


class ProbeAttempt(RecordedAttempt):
    """Probes one base model on one task; nothing is stored in between, for every split's features are kept as they are made.

    Args:
        order: the cell.
        shelf: frozen models this worker keeps loaded.
        device: where to run the model.
    """

    def __init__(self, order: Order, shelf: BackboneShelf, *, device: str = "cpu") -> None:
        super().__init__(order, device=device)
        self.shelf = shelf

    def store(self) -> None:
        """Nothing to store."""

    def _step(self) -> Step:
        order = self.order
        assert isinstance(order.config, ProbeConfig)
        self.stage = "load data"
        task = EncodedTask(order.encoded)
        self.stage = "features"
        train, validation, test = features_of(order, task, SPLITS, shelf=self.shelf, device=self.device)
        self.stage = "probe"
        started = time.perf_counter()
        result = fit_probe(train, validation, test, task.facts, order.config)
        metrics = _measured(result, (train, validation, test), time.perf_counter() - started)
        self.stage = "record"
        predictions = predictions_table(np.asarray(test.labels), result.test)
        return None, self._write(self._scored_record(result.test, metrics), {"predictions.parquet": predictions})


def features_of(
    order: Order, task: EncodedTask, splits: tuple[str, ...], *, shelf: BackboneShelf, device: str = "cpu"
) -> list[SplitFeatures]:
    """Features of the base model of an order on some splits of its task, from the cache where they are there."""
    source = FeatureSource(
        base_model=order.base_name,
        revision=order.params[Param.BASE_REVISION],
        folder=Path(order.base),
        family=order.family,
        precision=order.config.precision,
    )
    cache = FeatureCache(order.features, limit_bytes=int(order.execution.feature_cache_gb * 1e9))
    limit = order.execution.eval_batch_tokens
    return [cache.features(source, task, split, shelf=shelf, max_tokens=limit, device=device) for split in splits]


def _measured(result: ProbeResult, splits: tuple[SplitFeatures, ...], fit_s: float) -> dict[str, float]:
    return {
        Metric.N_TRAIN: float(result.n_train),
        Metric.EXAMPLES_SEEN: float(result.n_train),
        Metric.BEST_VALIDATION_SCORE: result.validation_score,
        Metric.L2: result.l2,
        Metric.FORWARD_S: sum(split.forward_s for split in splits),
        Metric.TRAIN_S: fit_s,
        Metric.PEAK_MEM_BYTES: float(psutil.Process().memory_info().rss),
    }


def begin_attempt(order: Order, pool: ModelPool, shelf: BackboneShelf, *, device: str = "cpu") -> RecordedAttempt:
    """The attempt that an order asks for."""
    if isinstance(order.config, ProbeConfig):
        return ProbeAttempt(order, shelf, device=device)
    if is_joint(order.encoded):
        return MultitaskAttempt(order, pool, device=device)
    return Attempt(order, pool, device=device)
