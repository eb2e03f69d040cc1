"""What a linear probe is told; all of it is part of a cell's identity."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import Enum

from ray_app.training.settings import Precision
from ray_app.training.tokens import Family

PROBE_RECIPE = "1"
"""Version of the probing code; raised whenever the same settings would give another number."""


class Pooling(Enum):
    """How the token vectors of a row become one vector; special tokens count, padding does not.

    The lower-case names are aliases: the configuration library looks a string up among the member names.
    """

    MEAN = "mean"
    FIRST = "first"
    MEAN_LAYERS = "mean_layers"
    FIRST_LAYERS = "first_layers"
    HEAD = "head"
    mean = "mean"
    first = "first"
    mean_layers = "mean_layers"
    first_layers = "first_layers"
    head = "head"


POOLINGS = {
    Family.ENCODER: (Pooling.MEAN, Pooling.FIRST, Pooling.MEAN_LAYERS, Pooling.FIRST_LAYERS),
    Family.TEXT_TO_TEXT: (Pooling.MEAN, Pooling.MEAN_LAYERS),
    Family.IMAGE: (Pooling.MEAN, Pooling.HEAD),
}
"""What a forward pass of each family leaves: mean over tokens or first token ([CLS], <s>), of the last layer or averaged over all
layers (the embeddings are none). The encoder of a text-to-text model has no first token of its own meaning. Of images: mean over all
places of the last layer's output, or what the model's own classification head reads (the class token of ViT and DeiT, the normalised
mean of the patches of BEiT, the mean of Swin), which every architecture has."""


@dataclass(kw_only=True)
class ProbeConfig:
    """A linear head on frozen features, fitted to its optimum; its L2 penalty is the one that validates best."""

    pooling: Pooling = Pooling.MEAN
    """Which features the head reads."""
    l2: list[float] = field(default_factory=lambda: [10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4])
    """Penalties tried: the weight of half the squared norm of the head, per row, on standardised features."""
    max_iterations: int = 300
    """Most L-BFGS iterations of a fit."""
    tolerance: float = 1e-4
    """A fit ends when no entry of its (preconditioned) gradient is larger."""
    max_length: int | None = None
    """Most tokens of an example; None: the training method's."""
    precision: Precision = Precision.AUTO
    """Arithmetic of the forward pass; features are stored in float32 and the head is fitted in it, with sums in float64."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = [] if self.l2 else ["l2: empty; name at least one penalty"]
        found += [f"l2: {value}; it must be a finite number above 0" for value in self.l2 if not 0 < value < math.inf]
        if len(set(self.l2)) < len(self.l2):
            found.append(f"l2: {self.l2} repeats a penalty")
        for name in ("max_iterations", "tolerance", "max_length"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                found.append(f"{name}: {value}; it must be above 0")
        return found

    def hyperparameters(self) -> dict[str, object]:
        """Values by name, ready for hashing."""
        return {name: value.value if isinstance(value, Enum) else value for name, value in asdict(self).items()}
