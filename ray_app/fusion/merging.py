"""All sources read once, tensor by tensor and piece by piece, fused and handed on; memory does not grow with their number."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ray_app.fusion import rules
from ray_app.fusion.bodies import Body
from ray_app.fusion.settings import FusionConfig, Rule
from tracking.errors import CheckpointError

PIECE = 1 << 17
"""Most elements fused at a time: the piece of a source and the sums stay in the processor's cache."""
ROOM_BYTES = 64 << 20
"""Most memory for the pieces of all sources, of one thread: of more than 64 sources the pieces are smaller."""

Write = Callable[[str, int, np.ndarray], None]
"""Takes a tensor's name, the place of the first element in it, and elements in float32; called from several threads."""


@dataclass(kw_only=True)
class Merging:
    """What is fused, and how."""

    config: FusionConfig
    bodies: Sequence[Body]
    weights: Mapping[str, float]
    """Weight by source name; those of a mean sum to 1."""
    shapes: Mapping[str, tuple[int, ...]]
    """Tensors to fuse."""
    pretrained: Body | None = None
    fishers: Mapping[str, Body] = field(default_factory=dict)
    norms: Mapping[str, float] = field(default_factory=dict)
    """L2 norm of each source's whole Fisher."""
    not_finite: dict[str, set[str]] = field(default_factory=dict)
    """Source -> tensors with values that are no numbers, found on the way."""
    _room: threading.local = field(default_factory=threading.local, repr=False)

    def run(self, write: Write) -> None:
        """Fuse every tensor; what was written holds only if ``not_finite`` is empty afterwards.

        Raises:
            CheckpointError: a source cannot be read, or the pretrained model or a Fisher holds values that are no numbers.
        """
        sizes = {name: int(np.prod(shape)) for name, shape in self.shapes.items()}
        largest_first = sorted(sizes, key=lambda name: (-sizes[name], name))
        with ThreadPoolExecutor(max_workers=self.config.threads) as pool:
            jobs = [pool.submit(self._tensor, name, sizes[name], write) for name in largest_first]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def bytes_read(self) -> int:
        """Bytes of the tensors that one pass reads, from sources and the pretrained model."""
        passes = 2 if self.config.rule is Rule.TIES else 1
        bodies = [*self.bodies] + ([self.pretrained] if self._over_task_vectors and self.pretrained else [])
        return passes * sum(
            body.stored.tensors[body.names[tensor]].size_bytes for body in bodies for tensor in self.shapes
        )

    @property
    def piece(self) -> int:
        """Elements fused at a time. Sums are taken in an order that is settled piece by piece, so nothing but the number of sources
        may change it."""
        return min(PIECE, max(1024, ROOM_BYTES // (8 * len(self.bodies))))

    @property
    def _over_task_vectors(self) -> bool:
        return self.config.rule in (Rule.TASK_ARITHMETIC, Rule.TIES, Rule.DARE)

    def _tensor(self, name: str, size: int, write: Write) -> None:
        blend = self._blend(name, size)
        buffers = self._buffers()
        hides = self.config.rule in (Rule.TIES, Rule.DARE)  # what they drop is not in the result
        for start in range(0, size, self.piece):
            stop = min(start + self.piece, size)
            values = [
                body.floats(name, start, stop, into=buffer) for body, buffer in zip(self.bodies, buffers, strict=True)
            ]
            with np.errstate(invalid="ignore", over="ignore"):  # what is no number is looked for below
                fused = blend(values, start, stop).astype(np.float32)
            good = _finite(fused)
            if hides or not good:
                self._note(values, name)
            if not good and not self.not_finite:
                raise CheckpointError(
                    f"the fused values of {name} exceed float32, expected moderate ones; lower the weights or the scaling",
                    tensor=name,
                )
            write(name, start, fused)

    def _buffers(self) -> list[np.ndarray]:
        """Room for a piece of every source, this thread's own: taking it anew for each piece costs more than reading."""
        if not hasattr(self._room, "buffers"):
            self._room.buffers = [np.empty(8 * self.piece, np.uint8) for _ in self.bodies]
        return list(self._room.buffers)

    def _note(self, values: Sequence[np.ndarray], name: str) -> None:
        """Note the sources whose piece is not all numbers."""
        for body, piece in zip(self.bodies, values, strict=True):
            if not _finite(piece):
                self.not_finite.setdefault(body.name, set()).add(name)

    def _blend(self, name: str, size: int) -> Callable[[list[np.ndarray], int, int], np.ndarray]:
        """How the pieces of one tensor become one, asked from its first piece to its last."""
        rule = self.config.rule
        weights = [self.weights[body.name] for body in self.bodies]
        if rule is Rule.FISHER:
            shares = [self.weights[body.name] / self.norms[body.name] for body in self.bodies]
            return lambda values, start, stop: rules.fisher_mean(values, self._fishers(name, start, stop), shares)
        if self._over_task_vectors:
            return self._task_vectors(name, size, weights)
        if rule is Rule.WEIGHTED_MEAN:
            return lambda values, start, stop: rules.weighted_mean(values, weights)
        return lambda values, start, stop: rules.mean(values)

    def _task_vectors(
        self, name: str, size: int, weights: list[float]
    ) -> Callable[[list[np.ndarray], int, int], np.ndarray]:
        scaling, density = self.config.scaling, self.config.density
        if self.config.rule is Rule.TASK_ARITHMETIC:
            return lambda values, start, stop: rules.task_arithmetic(
                self._base(name, start, stop), values, weights, scaling
            )
        if self.config.rule is Rule.DARE:
            chance = [drawing(self.config.seed, body.name, name) for body in self.bodies]

            def dropped(values: list[np.ndarray], start: int, stop: int) -> np.ndarray:
                kept = [rng.random(stop - start, np.float32) < density for rng in chance]
                base = self._base(name, start, stop)
                return rules.dare(base, values, kept, weights, density=density, scaling=scaling)

            return dropped
        trims = [rules.trim(self._magnitudes(body, name, size), density) for body in self.bodies]

        def trimmed(values: list[np.ndarray], start: int, stop: int) -> np.ndarray:
            base = self._base(name, start, stop)
            kept = [part.keep(_magnitude(value, base)) for part, value in zip(trims, values, strict=True)]
            return rules.ties(base, values, kept, weights, scaling)

        return trimmed

    def _magnitudes(self, body: Body, name: str, size: int) -> np.ndarray:
        """Absolute task vector of a whole tensor, float32: the most that is in memory at once."""
        whole = np.empty(size, np.float32)
        for start in range(0, size, PIECE):
            stop = min(start + PIECE, size)
            whole[start:stop] = _magnitude(body.floats(name, start, stop), self._base(name, start, stop))
        return whole

    def _base(self, name: str, start: int, stop: int) -> np.ndarray:
        assert self.pretrained is not None
        values = self.pretrained.floats(name, start, stop)
        if not _finite(values):
            raise CheckpointError(
                f"the pretrained model in {self.pretrained.stored.folder} holds values that are no numbers in {name}, expected numbers; "
                "get it again",
                tensor=name,
            )
        return values

    def _fishers(self, name: str, start: int, stop: int) -> list[np.ndarray]:
        return [self.fishers[body.name].floats(name, start, stop) for body in self.bodies]  # checked with their norms


def drawing(seed: int, source: str, tensor: str) -> np.random.Generator:
    """What DARE draws for one parameter of one source: from the seed and the two names, whatever else is fused."""
    digest = hashlib.sha256(f"{seed}\0{source}\0{tensor}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _magnitude(value: np.ndarray, base: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.abs(value - base).astype(np.float32, copy=False)


def _finite(values: np.ndarray) -> bool:
    """Whether all are numbers; their sum tells at once, unless it overflows."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())
