"""Images as a model reads them: against hand arithmetic, against PIL alone, and against transformers' own processors bit for bit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from ray_app.training.pixels import (
    Scaling,
    decode_image,
    image_size,
    load_processor,
    open_pixels,
    pixel_facts,
    read_scaling,
    to_pixels,
    write_pixels,
)
from ray_app.training.tokens import Family, TaskFacts, encode_task
from tests.model_factory import IMAGE_KINDS, copy_model, tiny_model
from tracking.errors import CheckpointError, TaskDataError

FACTS = TaskFacts(name="shapes", label_names=("a", "b"), label_words=("a", "b"), regression=False)


def encoded(image: Image.Image, kind: str = "PNG", **given: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **given)
    return file.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def table(images: list[bytes], labels: list[int]) -> pa.Table:
    kind = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
    rows = [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)]
    return pa.table({"image": pa.array(rows, kind), "label": labels})


def test_bytes_become_numbers_by_hand() -> None:
    scaling = Scaling(factor=1 / 255, mean=(0.5, 0.0, 0.25), deviation=(0.5, 1.0, 0.25))
    pixels = torch.tensor([[[[0, 255, 51]], [[255, 0, 255]]]], dtype=torch.uint8)  # one image, 2 x 1
    made = scaling.apply(pixels)
    assert made.shape == (1, 3, 2, 1) and made.dtype == torch.float32
    assert made[0, 0, :, 0].tolist() == pytest.approx([-1.0, 1.0])
    assert made[0, 1, :, 0].tolist() == pytest.approx([1.0, 0.0])
    assert made[0, 2, :, 0].tolist() == pytest.approx([-0.2, 3.0])


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_numbers_are_those_of_transformers_bit_for_bit(kind: str) -> None:
    """ViT and Swin resize, DeiT resizes and crops, BEiT resamples bicubically, PoolFormer enlarges by crop_pct and crops."""
    processor = load_processor(tiny_model(kind))
    assert image_size(processor) == (32, 32)
    images = [
        noise(width, height, seed) for seed, (width, height) in enumerate([(88, 66), (28, 28), (31, 90), (32, 32)])
    ]
    theirs = processor(images=images, return_tensors="pt")["pixel_values"]
    ours = read_scaling(processor).apply(torch.from_numpy(np.stack([to_pixels(processor, image) for image in images])))
    assert theirs.dtype == torch.float32 and torch.equal(theirs, ours)


def test_resizing_is_pil_s() -> None:
    image = noise(88, 66)
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(to_pixels(load_processor(tiny_model("vit")), image), expected)


def test_a_processor_that_neither_rescales_nor_normalises_gives_the_bytes(tmp_path: Path) -> None:
    from transformers import ViTImageProcessorPil

    ViTImageProcessorPil(size={"height": 8, "width": 8}, do_rescale=False, do_normalize=False).save_pretrained(tmp_path)
    processor = load_processor(tmp_path)
    pixels = to_pixels(processor, noise(8, 8))
    made = read_scaling(processor).apply(torch.from_numpy(pixels[None]))
    assert np.array_equal(made[0].permute(1, 2, 0).numpy(), pixels.astype(np.float32))


MODES = {
    "greyscale": (Image.fromarray(np.array([[0, 200]], np.uint8)), [[0, 0, 0], [200, 200, 200]]),
    "one bit": (Image.fromarray(np.array([[False, True]])), [[0, 0, 0], [255, 255, 255]]),
    "alpha on white": (
        Image.fromarray(np.array([[[10, 20, 30, 255], [0, 0, 0, 0]]], np.uint8), "RGBA"),
        [[10, 20, 30], [255, 255, 255]],
    ),
    "greyscale with alpha": (Image.fromarray(np.array([[[100, 255], [0, 0]]], np.uint8), "LA"), [[100] * 3, [255] * 3]),
    "16 bits": (Image.fromarray(np.array([[0, 65535]], np.uint16)), [[0, 0, 0], [255, 255, 255]]),
    "16 bits, half": (Image.fromarray(np.array([[257 * 100, 257 * 7]], np.uint16)), [[100] * 3, [7] * 3]),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb(name: str) -> None:
    image, expected = MODES[name]
    found = decode_image(encoded(image))
    assert found.mode == "RGB" and np.asarray(found)[0].tolist() == expected


def test_a_palette_with_a_transparent_colour_stands_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert np.asarray(decode_image(encoded(image)))[0].tolist() == [[10, 20, 30], [40, 50, 60]]
    assert np.asarray(decode_image(encoded(image, transparency=1)))[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_cmyk_is_converted_and_the_first_frame_of_an_animation_taken() -> None:
    assert decode_image(encoded(Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "JPEG")).getpixel((0, 0)) == (0, 0, 0)
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    found = decode_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert found.getpixel((0, 0))[0] > 200


def test_the_orientation_of_a_photograph_is_followed() -> None:
    image = Image.new("RGB", (8, 4), "white")
    image.paste("black", (0, 0, 4, 4))  # dark on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by a quarter to show
    found = decode_image(encoded(image, "PNG", exif=exif))
    assert found.size == (4, 8)
    assert found.getpixel((1, 1)) == (0, 0, 0) and found.getpixel((1, 6)) == (255, 255, 255)


BROKEN = {
    "no image": (b"hello, this is text", "cannot identify image file"),
    "empty": (b"", "cannot identify image file"),
    "cut off": (encoded(noise(64, 64), "JPEG")[:-400], "truncated"),
    "32 bits": (encoded(Image.fromarray(np.array([[70000]], np.int32)), "TIFF"), "32-bit numbers"),
    "floating point": (encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "floating-point"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_decoded_names_split_row_and_file(name: str, tmp_path: Path) -> None:
    content, reason = BROKEN[name]
    processor = load_processor(tiny_model("vit"))
    rows = table([encoded(noise(8, 8)), content], [0, 1])
    with pytest.raises(
        TaskDataError,
        match=rf"task t, split train: image 1 \(1.png\) of {len(content)} bytes cannot be decoded \(.*{reason}",
    ):
        write_pixels(
            tmp_path / "x.arrow",
            processor,
            rows,
            facts=pixel_facts(processor),
            where="task t, split train",
            regression=False,
        )


def test_rows_come_back_from_disk_in_any_order(tmp_path: Path) -> None:
    """150 rows lie in three blocks."""
    processor = load_processor(tiny_model("vit"))
    images = [noise(32, 32, seed) for seed in range(150)]
    rows = table([encoded(image) for image in images], [seed % 2 for seed in range(150)])
    facts = pixel_facts(processor)
    write_pixels(tmp_path / "train.arrow", processor, rows, facts=facts, where="t", regression=False)
    split = open_pixels(tmp_path / "train.arrow", facts)
    assert len(split) == 150 and split.labels.tolist() == [seed % 2 for seed in range(150)]
    assert split.lengths.tolist() == [4] * 150  # 2 x 2 squares of 16 pixels
    chosen = np.array([149, 0, 63, 64, 128, 0])
    assert np.array_equal(split.pixels(chosen), np.stack([np.asarray(images[row]) for row in chosen]))


def test_a_task_with_a_broken_image_leaves_nothing_behind(tmp_path: Path) -> None:
    good = encoded(noise(8, 8))
    tables = {"train": table([good], [0]), "validation": table([good], [0]), "test": table([b"x"], [0])}
    with pytest.raises(TaskDataError, match="split test: image 0"):
        encode_task(
            tmp_path / "task",
            load_processor(tiny_model("vit")),
            tables,
            FACTS,
            text_columns=["image"],
            family=Family.IMAGE,
            max_length=0,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_processor_without_one_size_is_refused(tmp_path: Path) -> None:
    from transformers import ConvNextImageProcessorPil, DeiTImageProcessorPil

    ConvNextImageProcessorPil(size={"shortest_edge": 384}).save_pretrained(tmp_path / "square")
    assert image_size(load_processor(tmp_path / "square")) == (384, 384)
    DeiTImageProcessorPil(size={"shortest_edge": 32}, do_center_crop=False).save_pretrained(tmp_path / "free")
    with pytest.raises(CheckpointError, match="expected one size for all; set size to a height and a width"):
        image_size(load_processor(tmp_path / "free"))


@pytest.mark.parametrize(("mean", "deviation"), [([0.5], [0.5]), ([0.5] * 3, [0.5, 0.0, 0.5]), ([0.5] * 4, [0.5] * 4)])
def test_a_mean_or_deviation_that_cannot_be_is_refused(mean: list[float], deviation: list[float]) -> None:
    processor = load_processor(tiny_model("vit"))
    processor.image_mean, processor.image_std = mean, deviation
    with pytest.raises(CheckpointError, match="expected one number for each of 3 channels"):
        read_scaling(processor)


def test_a_file_that_is_no_processor_is_refused(tmp_path: Path) -> None:
    folder = copy_model("vit", tmp_path / "vit")
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"image processor in .* cannot be loaded"):
        load_processor(folder)
