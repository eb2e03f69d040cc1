"""A task that fusing may look at: what a checkpoint scores on it frozen, and its rows for estimates."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

from ray_app.config import AppConfig
from ray_app.hub.tasks import SplitCaps
from ray_app.sweeps.session import SweepSession
from ray_app.sweeps.settings import CandidatesConfig
from ray_app.training.tokens import EncodedTask

_CACHE_BYTES = 1 << 40
"""The features of one checkpoint are kept for as long as it is scored, whatever their size."""


class HeldOut:
    """One task of the configuration, tokenised when it is asked for.

    Args:
        session: finds task data and settles precision and probe.
        task: its name.
        caps: upper limits of rows; None: the suite's.

    Raises:
        InputError: neither mirror nor hub has the task.
    """

    def __init__(self, session: SweepSession, task: str, *, caps: SplitCaps | None = None) -> None:
        config: AppConfig = session.config
        part = dataclasses.replace(config, candidates=CandidatesConfig(name="fuse"))
        part.suite = dataclasses.replace(config.suite, tasks=[task], train_sizes=[])
        if caps is not None:
            part.suite.caps = caps
        self.task = task
        self.study = session.study(part, probe=True)
        self.config = config

    def encoded(self, checkpoint: Path) -> EncodedTask:
        """The task as the checkpoint's tokenizer has it."""
        study, variant = self.study, self.study.targets[0]
        assert study.probe is not None
        length = study.probe.max_length or study.method.max_length
        fingerprint = study.shelf.fingerprint(variant)
        folder = study.shelf.encoded_folder(
            variant, checkpoint, family=study.arch.family, max_length=length, fingerprint=fingerprint
        )
        study.shelf.encode(variant, checkpoint, folder=folder, family=study.arch.family, max_length=length)
        _hush_transformers()
        return EncodedTask(folder)

    def score(self, checkpoint: Path) -> float:
        """Validation score of a linear probe on the frozen checkpoint, fraction; the test set is not looked at."""
        from ray_app.probing.backbone import BackboneShelf
        from ray_app.probing.features import FeatureCache, FeatureSource
        from ray_app.probing.probe import fit_probe
        from ray_app.sweeps.trial import device_here

        study = self.study
        assert study.probe is not None
        task = self.encoded(checkpoint)
        source = FeatureSource(
            base_model="held-out",
            revision="",
            folder=checkpoint,
            family=study.arch.family,
            precision=study.probe.precision,
        )
        shelf = BackboneShelf()
        folder = Path(tempfile.mkdtemp(prefix="held-out-", dir=self.study.shelf.cache))
        try:
            cache = FeatureCache(folder, limit_bytes=_CACHE_BYTES)
            limit = self.config.execution.eval_batch_tokens
            train, validation = (
                cache.features(source, task, split, shelf=shelf, max_tokens=limit, device=device_here())
                for split in ("train", "validation")
            )
            return fit_probe(train, validation, validation, task.facts, study.probe).validation_score
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _hush_transformers() -> None:
    """That a frozen body comes without a head is no news here."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
