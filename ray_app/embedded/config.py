"""Sizes of the embedded default: everything that decides what is made, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_LIBRARIES = (
    "scipy",
    "sklearn",
    "pandas",
    "numpy",
    "networkx",
    "sympy",
    "matplotlib",
    "sqlalchemy",
    "python",
)
"""Packages whose docstrings are read; 'python' is the standard library. All are installed with Startline."""


@dataclass(kw_only=True)
class EmbeddedConfig:
    """What the embedded default is made of. Any change makes a new model and new tasks."""

    libraries: list[str] = field(default_factory=lambda: list(DEFAULT_LIBRARIES))
    """Packages to read, by import name; 'python' is the standard library."""
    max_bytes: int = 5_000_000
    """Most bytes of prose kept, shared equally between the libraries."""
    vocab_size: int = 4096
    """Entries of the WordPiece vocabulary."""
    layers: int = 4
    """Transformer layers."""
    hidden: int = 128
    """Width of the hidden states; even, and a multiple of ``heads``."""
    heads: int = 2
    """Attention heads."""
    max_positions: int = 128
    """Longest input of the model, tokens."""
    initializer_range: float = 0.05
    """Standard deviation of new weights; BERT's 0.02 is too little for so small a width and so few steps."""
    row_tokens: int = 32
    """Length of a pretraining row, tokens; rows are full, without padding."""
    steps: int = 3000
    """Optimiser steps of pretraining."""
    batch_rows: int = 32
    """Rows a step."""
    learning_rate: float = 1.5e-3
    """Peak learning rate of pretraining."""
    warmup_share: float = 0.15
    """Share of the steps with a rising learning rate."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices."""
    mask_share: float = 0.2
    """Share of the tokens to be predicted."""
    replace_share: float = 0.12
    """Share of the other tokens replaced by random ones, to be detected."""
    detection_weight: float = 3.0
    """Weight of the detection loss beside the masked-token loss; 0: masked-language modelling alone."""
    seed: int = 0
    """Seed of the split of modules, of pretraining and of the tasks."""
    source_rows: dict[str, int] = field(default_factory=lambda: {"train": 4000, "validation": 200, "test": 500})
    """Rows of each split of a source task."""
    target_rows: dict[str, int] = field(default_factory=lambda: {"train": 600, "validation": 200, "test": 500})
    """Rows of each split of a target task."""

    def faults(self) -> list[str]:
        """Everything wrong with these values, one sentence each, led by the field's name."""
        counts = ("max_bytes", "layers", "hidden", "heads", "steps", "batch_rows")
        faults = [f"{name}: {getattr(self, name)}, expected at least 1" for name in counts if getattr(self, name) < 1]
        for name in ("warmup_share", "mask_share", "replace_share"):
            if not 0 < getattr(self, name) < 1:
                faults.append(f"{name}: {getattr(self, name)}, expected a share between 0 and 1")
        for name in ("learning_rate", "initializer_range"):
            if not getattr(self, name) > 0:
                faults.append(f"{name}: {getattr(self, name)}, expected a number above 0")
        for name in ("weight_decay", "detection_weight", "seed"):
            if not getattr(self, name) >= 0:
                faults.append(f"{name}: {getattr(self, name)}, expected 0 or more")
        return faults + self._shape_faults() + self._row_faults()

    def _shape_faults(self) -> list[str]:
        faults = []
        if self.vocab_size < 200:
            faults.append(f"vocab_size: {self.vocab_size}, expected at least 200 (letters and special tokens)")
        if self.heads >= 1 and (self.hidden % self.heads or self.hidden % 2):
            faults.append(f"hidden: {self.hidden}, expected an even multiple of heads = {self.heads}")
        if not 8 <= self.row_tokens <= self.max_positions:
            faults.append(f"row_tokens: {self.row_tokens}, expected 8 to max_positions = {self.max_positions}")
        return faults

    def _row_faults(self) -> list[str]:
        faults = []
        if not self.libraries or len(set(self.libraries)) != len(self.libraries):
            faults.append(f"libraries: {self.libraries}, expected at least one, each once")
        for name in ("source_rows", "target_rows"):
            rows = getattr(self, name)
            if set(rows) != {"train", "validation", "test"} or any(count < 1 for count in rows.values()):
                faults.append(f"{name}: {rows}, expected train, validation and test, each at least 1 row")
        return faults
