"""What a finetune is told: hyperparameters (identity) apart from how the machine carries them out (state)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import Enum

RECIPE = "1"
"""Version of the training code; raised whenever the same settings would give another number."""


class Precision(Enum):
    """Arithmetic of forward and backward passes; weights and optimiser state are float32 always. float16 is never used.

    AUTO is bf16 where the hardware has it and fp32 elsewhere; it is settled when the sweep is planned, for the number
    depends on it. The lower-case names are aliases: the configuration library looks a string up among the member names.
    """

    FP32 = "fp32"
    BF16 = "bf16"
    AUTO = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    auto = "auto"


@dataclass(kw_only=True)
class FinetuneConfig:
    """The protocol of "Where to start?" App. B and the site's FAQ; all of it is part of a cell's identity."""

    learning_rate: float = 5e-5
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.01
    """Decoupled weight decay; biases and norms are spared."""
    warmup_fraction: float = 0.006
    """Share of all steps over which the rate rises linearly; it then falls linearly to 0."""
    batch_size: int = 256
    """Examples per optimiser step."""
    max_epochs: float = 10.0
    """Most passes over the training set."""
    validate_every_examples: int = 50 * 256
    """Training examples between validations; the end of training always validates."""
    early_stop_epsilon: float = 0.001
    """Smallest rise of the validation score (fraction) that counts as progress."""
    patience_examples: int = 20 * 50 * 256
    """Training examples without progress after which training stops."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    max_length: int = 256
    """Most tokens of an example."""
    precision: Precision = Precision.AUTO
    """Arithmetic."""
    distance_penalty: float = 0.0
    """Weight of half the squared distance of the backbone to the base model's weights (App. I.1), added to the loss."""
    freeze_backbone: bool = False
    """Train only the new head: the paper's linear probe (section 4.2)."""
    stages: int = 0
    """Equal parts of training that each end with a validation, the last one at the end; training then never stops early and
    ``validate_every_examples`` and ``patience_examples`` have no say. 0: validate as those two tell."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = []
        positive = (
            "learning_rate",
            "batch_size",
            "max_epochs",
            "validate_every_examples",
            "patience_examples",
            "max_length",
        )
        found += [
            f"{name}: {getattr(self, name)}; it must be above 0 and finite"
            for name in positive
            if not 0 < getattr(self, name) < math.inf
        ]
        at_least_0 = ("weight_decay", "early_stop_epsilon", "max_grad_norm", "distance_penalty")
        found += [
            f"{name}: {getattr(self, name)}; it must be 0 or more and finite"
            for name in at_least_0
            if not 0 <= getattr(self, name) < math.inf
        ]
        if not 0 <= self.warmup_fraction <= 1:
            found.append(f"warmup_fraction: {self.warmup_fraction}; it must lie between 0 and 1")
        if self.stages < 0:
            found.append(f"stages: {self.stages}; it must be 0 (none) or more")
        return found

    def hyperparameters(self) -> dict[str, object]:
        """Values by name, ready for hashing.

        ``freeze_backbone`` and ``stages`` are left out while they are false or 0: their absence says the same, and cells from
        before them keep their keys.
        """
        values = {name: value.value if isinstance(value, Enum) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if value or name not in ("freeze_backbone", "stages")}


@dataclass(kw_only=True)
class ExecutionConfig:
    """How a machine carries out a cell; none of it changes the number (beyond float rounding)."""

    micro_batch_tokens: int = 4096
    """Most padded tokens that go through the model together in training; halved when memory runs out."""
    eval_batch_tokens: int = 8192
    """The same for evaluation."""
    threads: int = 1
    """CPU threads of one cell."""
    checkpoint_every_s: float = 120.0
    """Most seconds of training that a killed cell repeats."""
    models_in_memory: int = 2
    """Base models that a worker keeps loaded."""
    feature_cache_gb: float = 10.0
    """Size that the features of frozen models may take under <cache>/features, GB; what was not read for longest goes first."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        names = (
            "micro_batch_tokens",
            "eval_batch_tokens",
            "threads",
            "checkpoint_every_s",
            "models_in_memory",
            "feature_cache_gb",
        )
        return [f"{name}: {getattr(self, name)}; it must be above 0" for name in names if not getattr(self, name) > 0]
