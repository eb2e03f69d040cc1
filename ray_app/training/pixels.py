"""Images as a model reads them: decoded and brought to its size once, kept as bytes on disk, turned into numbers batch by batch.

All but the last step of the checkpoint's image processor (resize, crop) runs when a task is encoded; rescaling and normalising run on
the device, in the same arithmetic as transformers' PIL backend, so that the numbers are those of the processor itself, bit for bit.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tracking.errors import CheckpointError, TaskDataError

if TYPE_CHECKING:  # configuration is checked without loading it
    import torch

PIXELS_VERSION = 1
"""Version of decoding and of the files; part of the folder's name, so that an older one is never read."""
PIXEL_VALUES = "pixel_values"
"""Name of a model's input."""
PATCH = 16
"""A square of so many pixels counts as one token where micro-batches are cut and work is estimated, whatever the model's own patch."""
CHANNELS = 3
_ROWS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Last step of an image processor: from bytes to what the model reads, (x * factor - mean) / deviation by channel."""

    factor: float
    """1 / 255, or 1 where the processor does not rescale."""
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """Numbers of a batch.

        Args:
            pixels: (n, height, width, 3) uint8.

        Returns:
            (n, 3, height, width) float32, on the same device. The product is taken in double precision and rounded, as transformers
            does (image_transforms.rescale, normalize): so the numbers are equal bit for bit.
        """
        values = (pixels.permute(0, 3, 1, 2).double() * self.factor).float()
        mean, deviation = (
            values.new_tensor(channels).view(1, CHANNELS, 1, 1) for channels in (self.mean, self.deviation)
        )
        return ((values - mean) / deviation).contiguous()


def read_scaling(processor: Any) -> Scaling:
    """What an image processor of transformers does after it has resized and cropped.

    Raises:
        CheckpointError: a mean or deviation that is not one number a channel, or a deviation of 0.
    """
    mean, deviation = processor.image_mean, processor.image_std
    if not processor.do_normalize:
        mean, deviation = (0.0,) * CHANNELS, (1.0,) * CHANNELS
    by_channel = [
        [value] * CHANNELS if isinstance(value, int | float) else list(value or ()) for value in (mean, deviation)
    ]
    if any(len(values) != CHANNELS for values in by_channel) or 0 in by_channel[1]:
        raise CheckpointError(
            f"preprocessor_config.json has image_mean {mean} and image_std {deviation}, expected one number for each of "
            f"{CHANNELS} channels, no deviation of 0; get the checkpoint again or leave it out"
        )
    return Scaling(
        factor=float(processor.rescale_factor) if processor.do_rescale else 1.0,
        mean=tuple(map(float, by_channel[0])),  # type: ignore[arg-type]
        deviation=tuple(map(float, by_channel[1])),  # type: ignore[arg-type]
    )


def image_size(processor: Any) -> tuple[int, int]:
    """Height and width of what a processor makes of any image.

    Raises:
        CheckpointError: it makes images of unlike shapes, or none.
    """
    from PIL import Image

    shapes = {to_pixels(processor, Image.new("RGB", size)).shape for size in ((64, 48), (48, 64))}
    if len(shapes) != 1:
        raise CheckpointError(
            f"its {type(processor).__name__} makes images of {' and '.join(f'{s[1]}x{s[0]}' for s in sorted(shapes))}, expected one "
            "size for all; set size to a height and a width, or do_center_crop, in preprocessor_config.json"
        )
    height, width, _ = shapes.pop()
    return height, width


def to_pixels(processor: Any, image: Any) -> np.ndarray:
    """One RGB image resized and cropped as the processor says, (height, width, 3) uint8.

    Raises:
        CheckpointError: the processor cannot do that.
    """
    try:
        made = processor(images=image, do_rescale=False, do_normalize=False, return_tensors=None)[PIXEL_VALUES][0]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(
            f"its image processor {type(processor).__name__} cannot resize an image ({str(error).strip().partition(chr(10))[0]}); "
            "check size, crop_size and resample in preprocessor_config.json"
        ) from error
    pixels = np.moveaxis(np.asarray(made), 0, -1)
    if pixels.dtype != np.uint8:
        raise CheckpointError(
            f"its image processor {type(processor).__name__} makes {pixels.dtype} before it rescales, expected bytes; leave it out"
        )
    return np.ascontiguousarray(pixels)


def decode_image(content: bytes) -> Any:
    """An image file as a PIL image in RGB, 8 bits a channel.

    Turned as its EXIF orientation says; the first frame of an animation; transparency on white, as transformers has it; greyscale,
    palette and CMYK converted; grey levels of 16 bits brought to 8 (v * 255 / 65535, rounded; colours of 16 bits Pillow cuts to 8).

    Raises:
        ValueError: the bytes are no image that can be read, or its pixels are of an unstated range.
    """
    from PIL import Image, ImageOps
    from transformers.image_transforms import convert_to_rgb

    try:
        with Image.open(io.BytesIO(content)) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise ValueError(str(error).strip().partition("\n")[0] or type(error).__name__) from error
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of an unstated range")
    if image.mode.startswith("I"):
        deep = np.asarray(image, dtype=np.float64)
        if deep.min() < 0 or deep.max() > 65535:
            raise ValueError("its pixels are 32-bit numbers of an unstated range")
        image = Image.fromarray(np.rint(deep * 255 / 65535).astype(np.uint8))
    return Image.fromarray(np.asarray(convert_to_rgb(image, return_numpy=True)))


class PixelSplit:
    """One encoded split of images, memory-mapped: pixels by row, labels."""

    segments = None

    def __init__(self, path: Path, *, height: int, width: int, scaling: Scaling) -> None:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self.scaling = scaling
        self.labels = table["label"].to_numpy()
        shape = (-1, height, width, CHANNELS)
        self._blocks = [
            chunk.flatten().to_numpy(zero_copy_only=True).reshape(shape) for chunk in table["pixels"].chunks
        ]
        self._starts = np.cumsum([0, *(len(block) for block in self._blocks)])
        self.lengths = np.full(len(self.labels), count_patches(height, width), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Pixels of some rows, (n_rows, height, width, 3) uint8, copied from disk."""
        places = np.searchsorted(self._starts, rows, side="right") - 1
        return np.stack([self._blocks[at][row - self._starts[at]] for at, row in zip(places, rows, strict=True)])


def count_patches(height: int, width: int) -> int:
    """Squares of `PATCH` pixels that cover an image."""
    return -(-height // PATCH) * -(-width // PATCH)


def pixel_facts(processor: Any) -> dict[str, Any]:
    """What the folder of an encoded task says of its images, beside their bytes."""
    height, width = image_size(processor)
    return {"version": PIXELS_VERSION, "height": height, "width": width, "scaling": asdict(read_scaling(processor))}


def open_pixels(path: Path, facts: dict[str, Any]) -> PixelSplit:
    """A split as ``write_pixels`` left it."""
    stated = facts["scaling"]
    scaling = Scaling(factor=stated["factor"], mean=tuple(stated["mean"]), deviation=tuple(stated["deviation"]))
    return PixelSplit(path, height=facts["height"], width=facts["width"], scaling=scaling)


def write_pixels(
    path: Path, processor: Any, table: pa.Table, *, facts: dict[str, Any], where: str, regression: bool
) -> None:
    """Decode, resize and write a split, some rows at a time.

    Args:
        path: file to write.
        processor: image processor of the checkpoint.
        table: an image column (struct of bytes and path), then 'label'.
        facts: from ``pixel_facts``.
        where: the words by which an error names the split.
        regression: labels are numbers.

    Raises:
        TaskDataError: an image that cannot be decoded.
    """
    size = facts["height"] * facts["width"] * CHANNELS
    kind = pa.list_(pa.uint8(), size)
    schema = pa.schema([("pixels", kind), ("label", pa.float64() if regression else pa.int64())])
    images = table.column(0)
    labels = table.column("label").cast(schema.field("label").type).combine_chunks()
    contents, names = pc.struct_field(images, "bytes"), pc.struct_field(images, "path")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            rows = range(start, min(start + _ROWS_AT_ONCE, table.num_rows))
            made = [
                _pixels_of(processor, contents[row].as_py(), f"{where}: image {row} ({names[row].as_py()})")
                for row in rows
            ]
            flat = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(made).reshape(-1)), type=kind)
            writer.write_batch(pa.record_batch([flat, labels[rows.start : rows.stop]], schema=schema))


def _pixels_of(processor: Any, content: bytes, what: str) -> np.ndarray:
    try:
        image = decode_image(content)
    except ValueError as error:
        raise TaskDataError(
            f"{what} of {len(content)} bytes cannot be decoded ({error}); expected a whole image file of 8 or 16 bits a channel; "
            "repair or remove that row"
        ) from error
    return to_pixels(processor, image)


def load_processor(folder: Path) -> Any:
    """Image processor of a checkpoint folder, on PIL and numpy, without code from it and without the network.

    Raises:
        CheckpointError: its preprocessor_config.json cannot be read as one.
    """
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise CheckpointError(
            f"the image processor in {folder} cannot be loaded ({type(error).__name__}: "
            f"{str(error).strip().partition(chr(10))[0][:200]}), expected a preprocessor_config.json that transformers reads; get the "
            "checkpoint again or leave it out",
            path=str(folder),
        ) from error
