"""A small ViT for trying the vision path without any network: pretrained here, with labels, on one image set.

Its task comes from wherever the sweep's tasks come from (mirror or hub); the model goes into the cache, in hub format, with the
classification head it was pretrained with, so that it is a base model like any other.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracking.cells import digest

if TYPE_CHECKING:
    from ray_app.hub.task_data import TaskData
    from ray_app.training.tokens import EncodedTask, Split

RECIPE = "1"
"""Version of this code; raised whenever the same config would make something else."""
_SHIFT = 4
"""Most pixels that a training image is shifted by, in each direction."""
_SMOOTHING = 0.1
"""Share of the target spread over all classes."""


@dataclass(kw_only=True)
class EmbeddedVitConfig:
    """Sizes of the small ViT and of its pretraining. Any change makes a new model."""

    task: str = "cifar10"
    """Image task it is pretrained on."""
    image_size: int = 32
    """Side of its images, pixels."""
    patch_size: int = 4
    """Side of a patch, pixels."""
    layers: int = 4
    """Transformer layers."""
    hidden: int = 96
    """Width of the hidden states; a multiple of ``heads``."""
    heads: int = 3
    """Attention heads."""
    epochs: int = 40
    """Passes over the training rows."""
    batch_rows: int = 64
    """Rows a step."""
    learning_rate: float = 1.0e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    """Decoupled weight decay of matrices."""
    warmup_share: float = 0.1
    """Share of the steps with a rising learning rate."""
    seed: int = 0
    """Seed of weights, order and augmentation."""

    def faults(self) -> list[str]:
        """Everything wrong with these values, one sentence each, led by the field's name."""
        counts = ("image_size", "patch_size", "layers", "hidden", "heads", "epochs", "batch_rows")
        found = [f"{name}: {getattr(self, name)}, expected at least 1" for name in counts if getattr(self, name) < 1]
        if not found and self.image_size % self.patch_size:
            found.append(f"image_size: {self.image_size}, expected a multiple of patch_size = {self.patch_size}")
        if not found and self.hidden % self.heads:
            found.append(f"hidden: {self.hidden}, expected a multiple of heads = {self.heads}")
        if not self.learning_rate > 0:
            found.append(f"learning_rate: {self.learning_rate}, expected a number above 0")
        if not 0 <= self.warmup_share <= 1:
            found.append(f"warmup_share: {self.warmup_share}, expected a share between 0 and 1")
        return found + [
            f"{name}: {getattr(self, name)}, expected 0 or more"
            for name in ("weight_decay", "seed")
            if getattr(self, name) < 0
        ]


def make_vit(folder: Path, config: EmbeddedVitConfig, data: TaskData, progress: Callable[[str], None]) -> Path:
    """Folder of the small ViT under ``folder``: the one there if it was made from the same config and data, else a new one.

    It is made under a temporary name and renamed when whole. Two callers at once: the second waits for the first. Same config, data,
    processor and threads: same weights. Global random state is left as it was.

    Args:
        folder: where such models are kept.
        config: sizes.
        data: rows of ``config.task``.
        progress: gets one line of text now and then.

    Raises:
        TaskDataError: an image that cannot be decoded.

    Cost: linear in rows x epochs; docs/vision.md has the times.
    """
    from filelock import FileLock

    used = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy", "pillow")}
    target = folder / digest([RECIPE, asdict(config), data.revision, used])
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{target.name}.lock"):
        if not (target / "config.json").exists():
            fresh = target.with_name(f".{target.name}.partial")
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(target, ignore_errors=True)
            _make(fresh, config, data, progress)
            fresh.replace(target)
    return target


def _make(folder: Path, config: EmbeddedVitConfig, data: TaskData, progress: Callable[[str], None]) -> None:
    import torch
    from transformers import ViTImageProcessorPil

    from ray_app.training.tokens import Family, TaskFacts, encode_task

    names = tuple(data.config.label_names)
    side = {"height": config.image_size, "width": config.image_size}
    processor = ViTImageProcessorPil(size=side)
    processor.save_pretrained(folder)
    facts = TaskFacts(name=data.config.name, label_names=names, label_words=names, regression=False)
    task = encode_task(
        folder / "rows",
        processor,
        data.splits,
        facts,
        text_columns=data.text_columns,
        family=Family.IMAGE,
        max_length=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = _new_model(config, names)
        started = time.perf_counter()
        _train(model, task, config, progress)
        seconds = time.perf_counter() - started
    accuracy = _accuracy(model, task["validation"])
    progress(f"pretrained on {data.config.name} in {seconds:.0f} s: validation accuracy {100 * accuracy:.1f}")
    model.save_pretrained(folder)
    shutil.rmtree(folder / "rows")
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    (folder / "README.md").write_text(
        _card(config, data, n_parameters=n_parameters, accuracy=accuracy), encoding="utf-8"
    )


def _new_model(config: EmbeddedVitConfig, names: tuple[str, ...]) -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    shape = ViTConfig(
        image_size=config.image_size,
        patch_size=config.patch_size,
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.hidden,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    return ViTForImageClassification(shape)


def _train(model: Any, task: EncodedTask, config: EmbeddedVitConfig, progress: Callable[[str], None]) -> None:
    """AdamW with linear warm-up and decay; every image shifted and mirrored at random each time it is seen."""
    import torch
    from torch.nn import functional

    from ray_app.embedded.pretrain import multiplies_bf16
    from ray_app.training.optimization import make_optimizer, rate_factor
    from ray_app.training.settings import FinetuneConfig

    split, bf16 = task["train"], multiplies_bf16()
    optimizer = make_optimizer(
        model, FinetuneConfig(learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    )
    total = config.epochs * -(-len(split) // config.batch_rows)
    model.train()
    losses: list[float] = []
    for step, (pixels, labels) in enumerate(_batches(split, config)):
        factor = rate_factor(step, total_steps=total, warmup_fraction=config.warmup_share)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(pixel_values=split.scaling.apply(torch.from_numpy(pixels))).logits  # type: ignore[union-attr]
        loss = functional.cross_entropy(logits.float(), torch.from_numpy(labels), label_smoothing=_SMOOTHING)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % max(1, total // 10) == 0:
            progress(f"pretraining: step {step + 1} of {total}, loss {np.mean(losses[-50:]):.2f}")


def _batches(split: Split, config: EmbeddedVitConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pixels (n, height, width, 3) uint8 and labels of every step."""
    rng = np.random.default_rng(config.seed)
    pixels = split.pixels(np.arange(len(split)))  # type: ignore[union-attr]
    labels = np.asarray(split.labels)
    for _ in range(config.epochs):
        order = rng.permutation(len(labels))
        for start in range(0, len(order), config.batch_rows):
            rows = order[start : start + config.batch_rows]
            yield augment(pixels[rows], rng), labels[rows]


def augment(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images shifted by up to 4 pixels each way (edges repeated), half of them mirrored.

    Args:
        pixels: (n, height, width, 3) uint8.
        rng: source of chance.
    """
    height, width = pixels.shape[1:3]
    padded = np.pad(pixels, ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), mode="edge")
    made = np.empty_like(pixels)
    for row, (down, right) in enumerate(rng.integers(0, 2 * _SHIFT + 1, size=(len(pixels), 2))):
        made[row] = padded[row, down : down + height, right : right + width]
    mirrored = rng.random(len(pixels)) < 0.5
    made[mirrored] = made[mirrored, :, ::-1]
    return made


def _accuracy(model: Any, split: Split) -> float:
    import torch

    model.eval()
    right = 0
    with torch.inference_mode():
        for rows in np.array_split(np.arange(len(split)), max(1, len(split) // 256)):
            inputs = split.scaling.apply(torch.from_numpy(split.pixels(rows)))  # type: ignore[union-attr]
            right += int((model(pixel_values=inputs).logits.argmax(-1).numpy() == split.labels[rows]).sum())
    return right / len(split)


def _card(config: EmbeddedVitConfig, data: TaskData, *, n_parameters: int, accuracy: float) -> str:
    return (
        "# startline/embedded-vit\n\n"
        "A small ViT that Startline pretrained on this machine, so that a sweep over image tasks can be tried without downloading a\n"
        "model. It is no general-purpose model.\n\n"
        f"- shape: {json.dumps(asdict(config))}; {n_parameters:,} parameters\n"
        f"- data: {data.splits['train'].num_rows} training images of {data.config.name} ({data.revision}), shifted and mirrored\n"
        f"- validation accuracy: {100 * accuracy:.1f} %\n"
        f"- licence of the data: {data.config.license or 'not stated'}; the model is not redistributed\n"
    )
