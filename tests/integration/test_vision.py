"""Images through the same path as text: sweep, rank, probe, proxies on real images with tiny models; bad input at the front door."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ray_app.__main__ import main
from ray_app.hub.checkpoints import ModelRef, find_checkpoint
from tests.model_factory import build_model, copy_model
from tracking.schema import Kind, Param, Tag
from tracking.table import scored_cells, sync_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT.parent / "shared" / "data" / "images"
KINDS = ("vit", "deit", "beit", "swin")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror with the real beans, cut short, and tiny models of every architecture."""
    if not IMAGES.is_dir():
        pytest.skip(f"no image data at {IMAGES}")
    folder = tmp_path_factory.mktemp("vision")
    for kind in KINDS:
        build_model(kind, folder / "mirror" / "models" / "tiny" / kind)
    copy_model("bert", folder / "mirror" / "models" / "tiny" / "bert")
    target = folder / "mirror" / "images" / "beans"
    target.mkdir(parents=True)
    for split, rows in (("train", 90), ("validation", 30), ("test", 60)):
        pq.write_table(
            pq.read_table(IMAGES / "beans" / f"{split}.parquet").take(_spread(split, rows)), target / f"{split}.parquet"
        )
    return folder


def _spread(split: str, rows: int) -> np.ndarray:
    """Rows from all over the file, which may be sorted by class."""
    n_rows = pq.ParquetFile(IMAGES / "beans" / f"{split}.parquet").metadata.num_rows
    return np.linspace(0, n_rows - 1, rows).astype(int)


def arguments(place: Path, *more: str, kinds: tuple[str, ...] = KINDS[1:]) -> list[str]:
    models = ",".join(f"{{id: tiny/{kind}}}" for kind in kinds)
    return [
        "ARCH=vision", "CANDIDATES=pretrained", f"MIRROR={place / 'mirror'}", f"OUT={place / 'out'}", f"cache='{place / 'cache'}'",
        "arch.name=tiny", "arch.pretrained.id=tiny/vit", f"candidates.models=[{models}]", "candidates.sources=[{tasks: [beans]}]",
        "suite.tasks=[beans]", "method.batch_size=16", "method.max_epochs=2", "method.learning_rate=1e-3", "method.precision=fp32",
        "cluster.cpus=2", "cluster.min_free_gb=0.01", *more,
    ]  # fmt: skip


def sweep(place: Path) -> str:
    """What a sweep in a process of its own prints: Ray sets this one's up for good."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "ray_app", "sweep", *arguments(place)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["base_model"]: row for row in csv.DictReader(file)}


def test_a_sweep_over_images_ranks_and_is_done_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = sweep(place)
    assert "5 cells complete, 0 failed" in text
    table, _ = sync_table(f"sqlite:///{place}/out/mlflow.db", "tiny", place / "check.parquet", rebuild=True)
    scored = {row["base_model"]: row for row in scored_cells(table).to_pylist()}
    assert set(scored) == {"startline/tiny-beans", *(f"tiny/{kind}" for kind in KINDS)}
    for row in scored.values():
        assert row["n_eval"] == 60 and row["score"] == row["n_correct"] / 60 and row["task"] == "beans"
    ranked = rows(place / "out" / "rank" / "tiny.csv")
    assert len(ranked) >= 4 and "tiny/vit" in ranked
    assert main(["sweep", *arguments(place)]) == 0
    assert "nothing to run: every cell is complete" in capsys.readouterr().out


def test_the_intermediate_model_is_a_checkpoint_with_its_image_processor(place: Path) -> None:
    (folder,) = (place / "out" / "storage" / "models").iterdir()
    found = find_checkpoint(
        ModelRef(id="m", path=str(folder)), mirror=None, cache_dir=place / "cache", expected_model_types=["vit"]
    )
    assert found.model_type == "vit"
    stated = json.loads((folder / "config.json").read_text())
    assert stated["id2label"] == {"0": "angular_leaf_spot", "1": "bean_rust", "2": "healthy"}
    assert json.loads((folder / "preprocessor_config.json").read_text())["size"] == {"height": 32, "width": 32}


def test_probes_and_proxies_read_the_same_images(place: Path) -> None:
    assert main(["probe", *arguments(place, "TASKS=beans")]) == 0
    probed = rows(place / "out" / "probe" / "tiny.csv")
    assert set(probed) == {"startline/tiny-beans", *(f"tiny/{kind}" for kind in KINDS)}
    assert all(0 < float(row["score"]) <= 100 and row["n_eval"] == "60" for row in probed.values())
    assert main(["proxies", *arguments(place, "TASK=beans")]) == 0
    scores = rows(place / "out" / "proxies" / "beans.csv")
    assert set(scores) == set(probed)
    for row in scores.values():  # every tiny model carries a head of its own, so LEEP is among them
        assert all(row[name] != "" for name in ("leep", "nleep", "logme", "h_score", "knn", "probe_cv", "ensemble")), (
            row
        )


def test_what_a_cell_is_made_of_is_in_its_run(place: Path) -> None:
    from tracking.store import TrackingStore

    store = TrackingStore(f"sqlite:///{place}/out/mlflow.db", "tiny")
    cells = f"tags.`{Tag.KIND}` = '{Kind.CELL}' and params.base_model = 'tiny/swin'"
    found = store.client.search_runs([store.experiment_id], filter_string=cells)
    for cell in found:
        assert cell.data.params[Param.BASE_REVISION].startswith("sha256:")
        assert cell.data.params[Param.TASK_REVISION].startswith("sha256:")
        assert cell.data.tags[Tag.TASK_LICENCE] == "MIT"
    assert len(found) == 2  # a finetune and a probe


def refused(place: Path, capsys: pytest.CaptureFixture[str], *more: str, kinds: tuple[str, ...] = ()) -> str:
    """What a dry sweep says that ends with an error."""
    assert main(["sweep", *arguments(place, "DRY=1", *more, kinds=kinds)]) == 2
    text = capsys.readouterr().err.replace("\r", "\n")
    return text[text.index("error: ") :]


def test_text_and_images_are_not_mixed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(place, capsys, kinds=("bert",))
    assert "tiny/bert: architecture is 'bert', expected beit, deit" in said
    assert "cola: a task of text, and ARCH=tiny reads images" in refused(place, capsys, "suite.tasks=[beans,cola]")
    assert (
        main(["sweep", "ARCH=minilm", "TASKS=beans", f"MIRROR={place / 'mirror'}", f"OUT={place / 'o'}", "DRY=1"]) == 2
    )
    assert "beans: a task of images, and ARCH=minilm reads text" in capsys.readouterr().err
    assert "model_types: bert; family image is of models that read images" in refused(
        place, capsys, "arch.model_types=[vit,bert]"
    )
    assert "probe.pooling: first; a model of family image has mean, head" in _pooling(place, capsys)


def _pooling(place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["probe", *arguments(place, "DRY=1", "TASKS=beans", "probe.pooling=first")]) == 2
    return capsys.readouterr().err


def _damaged(place: Path, folder: Path, change: pa.Table) -> str:
    """MIRROR= of a copy whose training set is another table."""
    target = folder / "mirror" / "images" / "beans"
    target.mkdir(parents=True)
    (folder / "mirror" / "models").symlink_to(place / "mirror" / "models")
    for split in ("validation", "test"):
        (target / f"{split}.parquet").write_bytes(
            (place / "mirror" / "images" / "beans" / f"{split}.parquet").read_bytes()
        )
    pq.write_table(change, target / "train.parquet")
    return f"MIRROR={folder / 'mirror'}"


def test_a_damaged_image_and_a_missing_column_are_named(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = pq.read_table(place / "mirror" / "images" / "beans" / "train.parquet")
    images = whole.column("image").to_pylist()
    cut = [*images[:5], {"bytes": images[5]["bytes"][:200], "path": "cut.jpg"}, *images[6:]]
    said = refused(place, capsys, _damaged(place, tmp_path / "cut", whole.set_column(0, "image", pa.array(cut))))
    assert "task beans, split train: image 5 (cut.jpg) of 200 bytes cannot be decoded" in said
    said = refused(place, capsys, _damaged(place, tmp_path / "no", whole.drop_columns(["image"])))
    assert "task beans, split train: no column 'image'; the columns are 'label'" in said


def test_greyscale_alpha_palette_and_deep_images_are_taken(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = pq.read_table(place / "mirror" / "images" / "beans" / "train.parquet")
    chance = np.random.default_rng(0)
    noise = chance.integers(0, 256, size=(40, 30, 4), dtype=np.uint8)
    deep = Image.fromarray(chance.integers(0, 65536, size=(40, 30), dtype=np.uint16))
    rgba = Image.fromarray(noise)
    odd = [rgba, rgba.convert("L"), rgba.convert("LA"), rgba.convert("RGB").quantize(16), deep, rgba.convert("1")]
    files = []
    for row, image in enumerate([*odd] * 15):
        file = io.BytesIO()
        image.save(file, "PNG")
        files.append({"bytes": file.getvalue(), "path": f"{row}.png"})
    mirror = _damaged(place, tmp_path / "odd", whole.set_column(0, "image", pa.array(files)))
    assert main(["sweep", *arguments(place, "DRY=1", mirror, kinds=())]) == 0
    assert "to run" in capsys.readouterr().out
