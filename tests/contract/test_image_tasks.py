"""Every image task: Table IX of the two-phase paper, and the mirror's image sets read as they are."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from ray_app.hub.task_data import read_mirror_task
from ray_app.hub.task_yaml import read_suite_config, read_task_configs
from ray_app.hub.tasks import ROLES, SplitCaps, SplitRule
from ray_app.training.pixels import decode_image

ROOT = Path(__file__).resolve().parents[2]
MIRROR = ROOT.parent / "shared" / "data"
PAPER = ROOT.parent / "shared" / "seeds" / "two-phase-recall-and-select.md"

TASKS = {name: task for name, task in read_task_configs(ROOT / "conf" / "task").items() if task.is_image}
IN_MIRROR = read_suite_config(ROOT / "conf" / "suite" / "images.yaml").tasks
OWNERS = {
    "food101": "ethz",
    "beans": "AI-Lab-Makerere",
    "cats_vs_dogs": "microsoft",
    "cifar10": "uoft-cs",
    "mnist": "ylecun",
}
"""Where the bare names of Table IX live now."""

needs_mirror = pytest.mark.skipif(not (MIRROR / "images").is_dir(), reason="no mirror with images at ../shared/data")


def test_there_are_eleven_image_tasks() -> None:
    assert len(TASKS) == 11 and set(IN_MIRROR) <= set(TASKS) and len(IN_MIRROR) == 6
    assert all(task.groups == ["vision"] and task.faults() == [] for task in TASKS.values())
    sizes = {name: len(task.label_names) for name, task in TASKS.items()}
    assert (sizes["food101"], sizes["oxford_flowers"], sizes["snacks"], sizes["cub_birds"], sizes["medmnist"]) == (
        101, 102, 20, 200, 9,
    )  # fmt: skip


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper is not at ../shared/seeds")
def test_the_vision_suite_is_table_ix() -> None:
    text = PAPER.read_text(encoding="utf-8")
    rows = re.findall(
        r"^\S+\t(\S+)$", text[text.index("NLP dataset name\tCV") : text.index("for CV clustering evaluation")], re.M
    )
    printed = list(dict.fromkeys(name.lower() for name in rows if name != "-"))
    assert len(printed) == 10 and {"cifar10", "mnist", "beans"} <= set(printed)
    suite = read_suite_config(ROOT / "conf" / "suite" / "two_phase_vision.yaml").tasks
    listed = [str(TASKS[name].hub_id).lower() for name in suite]
    assert listed == [name if "/" in name else f"{OWNERS[name]}/{name}".lower() for name in printed]


@needs_mirror
@pytest.mark.parametrize("name", IN_MIRROR)
def test_the_mirror_s_images_are_read_with_their_labels_by_name(name: str) -> None:
    stated = json.loads((MIRROR / "images" / "MANIFEST.json").read_text(encoding="utf-8"))["tasks"][name]
    data = read_mirror_task(TASKS[name], mirror=MIRROR, split_rule=SplitRule.SITE, caps=SplitCaps())
    assert TASKS[name].label_names == stated["label_names"]
    for role in ROLES:
        table = data.splits[role]
        assert table.num_rows == stated["rows"][role] and data.facts[f"{role}.from"] == f"{role} split"
        counted = Counter(table.column("label").to_pylist())
        assert [counted[label] for label in range(len(stated["label_names"]))] == stated["label_counts"][role]
    assert data.facts["test.rows_shared_with_train"] == 0
    sizes = Counter()
    for image in data.splits["validation"].column("image").slice(0, 20).to_pylist():
        decoded = decode_image(image["bytes"])
        assert decoded.mode == "RGB"
        sizes[decoded.size] += 1
    assert max(max(size) for size in sizes) <= 88
