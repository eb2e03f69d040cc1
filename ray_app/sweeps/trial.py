"""A cell as a Ray Tune trial on a warm worker: imports, models and data stay from one cell to the next."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING, Any

from ray import tune

from ray_app.sweeps.notice import end_with_parent
from tracking.schema import Metric, State, Tag
from tracking.secrets import forget_secrets

if TYPE_CHECKING:
    from ray_app.probing.backbone import BackboneShelf
    from ray_app.sweeps.recording import RecordedAttempt
    from ray_app.training.models import ModelPool

_pools: dict[int, ModelPool] = {}


@functools.cache
def frozen_models() -> BackboneShelf:
    """Frozen models that this process keeps."""
    from ray_app.probing.backbone import BackboneShelf

    return BackboneShelf()


def prepare_worker(threads: int) -> None:
    """Set up this process once: no hub from here on, no chatter, as many threads as the cell pays for."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


class CellTrial(tune.Trainable):
    """Runs one order; a Tune step is the stretch to the next validation."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take up the order in ``config['order']``; what a worker has no use for, tokens of the hub, is forgotten first."""
        forget_secrets()
        self._attempt: RecordedAttempt | None = None
        end_with_parent()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another order in the same process (Tune's actor reuse)."""
        self.config = new_config
        self._attempt = None
        return True

    def step(self) -> dict[str, Any]:
        """Train to the next validation; the last step also tests and leaves the record."""
        attempt = self._attempt or self._open()
        with attempt.notice.heeded() if attempt.notice is not None else contextlib.nullcontext():
            point, record = attempt.step()
        scores = [point.score for point in attempt.curve()]
        result: dict[str, Any] = {
            "key": attempt.order.key,
            "done": record is not None,
            "stage": len(scores),
            "curve": scores,
        }
        if point is not None:
            result |= {"examples_seen": point.examples_seen, "validation_score": point.score}
        if record is not None:
            result |= {
                "state": str(record.state),
                "score": record.metrics.get(Metric.SCORE),
                "model_kept": attempt.order.keep_model and record.state is not State.FAILED,
                "seconds": dict(record.metrics),
                "failed_stage": record.tags.get(Tag.FAILED_STAGE, ""),
                "reason": record.tags.get(Tag.REASON, ""),
            }
            self._attempt = None
        return result

    def _open(self) -> RecordedAttempt:
        from ray_app.sweeps.orders import Order

        order = Order.from_plain(self.config["order"])
        if not order.empty:
            prepare_worker(order.execution.threads)
            _keep_to_share(order.gpus)
        from ray_app.sweeps.probe_attempt import begin_attempt
        from ray_app.training.models import ModelPool

        kept = order.execution.models_in_memory
        pool = _pools.setdefault(kept, ModelPool(kept))
        self._attempt = begin_attempt(order, pool, frozen_models(), device=device_here())
        return self._attempt

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Store the cell's own checkpoint (it lives by cell key, so that any later sweep finds it)."""
        if self._attempt is not None:
            self._attempt.store()

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to do: an attempt looks for its cell's checkpoint by key when it opens."""


def _keep_to_share(gpus: float) -> None:
    """Cap this process's memory at its share of the GPU it has."""
    import torch

    from ray_app.training.memory import cap_memory

    cap_memory(torch.device(device_here()), gpus)


def device_here() -> str:
    """'cuda' where this process sees a GPU, else 'cpu'."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
