"""The loop on real checkpoints and real fusing, with a worker that hands over ready-made contributions: what it does when they fail."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ray_app.fusion.asynchronous import AsynchronousLoop
from ray_app.fusion.cold_settings import ColdFusionConfig, Mode, Rollback, VariantConfig, Weighting
from ray_app.fusion.feed import Feed
from ray_app.fusion.lineage import Base, Role
from ray_app.fusion.loop import Loop
from ray_app.hub.tasks import SplitCaps, SplitRule
from ray_app.sweeps.materials import TaskVariant
from ray_app.sweeps.plan import PlannedCell
from ray_app.training.settings import FinetuneConfig
from tests.model_factory import copy_model, tiny_model
from tracking.cells import CellIdentity
from tracking.errors import QuorumError, StorageError

TASKS = ["a", "b", "c", "d"]
Outcome = dict[str, Any] | None


class Shop:
    """Cells without data: what a workshop makes, as far as a loop looks at it."""

    def __init__(self, folder: Path) -> None:
        self.models = folder / "models"
        self.session = SimpleNamespace(cache=folder / "cache")
        self.pretrained = Base(revision="pretrained", folder=tiny_model("bert"), pretrained=True)
        self.ran: list[tuple[str, str, int]] = []
        self.probe_score: Callable[[str], float] = lambda revision: 0.5

    def cell(self, revision: str, task: str, seed: int, role: str) -> PlannedCell:
        identity = CellIdentity(
            arch="tiny", base_model="m", base_revision=revision, task=task, data={}, method=role, hyperparameters={}, seed=seed,
            recipe="1",
        )  # fmt: skip
        variant = TaskVariant.of(task, SplitRule.SITE, SplitCaps())
        return PlannedCell(
            identity=identity, role=role, variant=variant, config=FinetuneConfig(), checkpoint=self.pretrained.folder
        )

    def contribution(self, base: Base, task: str, *, seed: int, part: tuple[int, int] | None = None) -> PlannedCell:
        return self.cell(base.revision, task if part is None else f"{task}{part[0]}", seed, "source")

    def probes_of(self, revision: str, folder: Path, *, pretrained: bool = False) -> list[PlannedCell]:
        return [self.cell(revision, "held_out", 0, "held_out")]

    def probes_of_contribution(self, one: Any) -> list[PlannedCell]:
        return self.probes_of(one.key, self.models / one.key)

    def work(self, cell: PlannedCell) -> Outcome:
        """Finetune by copying: every task has weights of its own."""
        self.ran.append((cell.role, cell.identity.task, cell.identity.seed))
        if cell.role == "held_out":
            score = self.probe_score(cell.identity.base_revision)
            return {"state": "complete", "seconds/score": score, "seconds/n_eval": 1000.0}
        copy_model("bert", self.models / cell.key, seed=1 + TASKS.index(cell.identity.task[0]))
        return {"state": "complete", "seconds/score": 0.9, "seconds/examples_seen": 10.0}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def make_loop(shop: Shop, variant: VariantConfig | None = None, *, kind: type[Loop] = Loop, **settings: Any) -> Loop:
    given: dict[str, Any] = {"contributors": 4, "iterations": 1, "probe_tasks": ["x"], **settings}
    return kind(
        name="loop-s0", prefix="startline/tiny-loop", folder=shop.models.parent / "loop", label="loop",
        variant=variant or VariantConfig(), config=ColdFusionConfig(**given), tasks=TASKS, seed=0, workshop=shop,  # type: ignore[arg-type]
    )  # fmt: skip


def drive(loop: Loop, work: Callable[[PlannedCell], Outcome], *, hold: set[str] | None = None) -> Feed:
    """Run a loop to its end; contributions on tasks of ``hold`` never arrive."""
    feed = Feed(programs={loop.name: loop.program()}, known=lambda cell: None)
    for _ in range(500):
        for cell in feed.take():
            if cell.identity.task not in (hold or ()):
                feed.note(cell.key, work(cell))
        if feed.finished:
            break
        feed.wait(0.05)
    feed.close()
    return feed


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Tensors of the backbone without their prefix, float64."""
    found = load_file(folder / "model.safetensors")
    return {
        name.removeprefix("bert."): tensor.astype(np.float64)
        for name, tensor in found.items()
        if tensor.dtype.kind == "f"
    }


def assert_mixture(folder: Path, parts: list[tuple[float, Path]]) -> None:
    made, sources = weights(folder), [(share, weights(path)) for share, path in parts]
    assert len(made) > 20
    for name, tensor in made.items():
        expected = sum(share * source[name] for share, source in sources)
        np.testing.assert_allclose(tensor, expected, rtol=1e-5, atol=1e-7, err_msg=name)


def test_an_iteration_is_the_mean_of_its_contributions_and_the_next_begins_there(shop: Shop) -> None:
    loop = make_loop(shop, iterations=2)
    drive(loop, shop.work)
    first, second = loop.iterations
    assert {one.task for one in first.used} == set(TASKS) and [one.weight for one in first.used] == pytest.approx(
        [0.25] * 4
    )
    assert_mixture(loop.folder / "iter01", [(0.25, tiny_model("bert", seed=place)) for place in (1, 2, 3, 4)])
    assert first.revision.startswith("sha256:") and first.parent_revision == "pretrained"
    assert {one.base_revision for one in second.contributions} == {first.revision}
    assert {one.seed for one in first.contributions} == {0} and {one.seed for one in second.contributions} == {1000}


def test_a_contributor_with_nan_is_left_out_and_named(shop: Shop) -> None:
    def work(cell: PlannedCell) -> Outcome:
        outcome = shop.work(cell)
        if cell.identity.task == "b":
            path = shop.models / cell.key / "model.safetensors"
            tensors = load_file(path)
            tensors[sorted(tensors)[3]].flat[0] = math.nan
            save_file(tensors, path, metadata={"format": "pt"})
        return outcome

    loop = make_loop(shop)
    drive(loop, work)
    (left_out,) = [one for one in loop.iterations[0].contributions if one.role is not Role.USED]
    assert (left_out.task, left_out.role, left_out.weight) == ("b", Role.NOT_FINITE, 0.0) and left_out.reason
    assert_mixture(loop.folder / "iter01", [(1 / 3, tiny_model("bert", seed=place)) for place in (1, 3, 4)])


def test_failed_and_diverged_contributors_are_left_out_down_to_the_quorum(shop: Shop) -> None:
    def work(cell: PlannedCell) -> Outcome:
        if cell.identity.task == "c":
            return {"state": "failed", "failed_stage": "train", "reason": "boom"}
        return {**(shop.work(cell) or {}), "state": "diverged"} if cell.identity.task == "d" else shop.work(cell)

    loop = make_loop(shop, quorum=0.5)
    drive(loop, work)
    roles = {one.task: one.role for one in loop.iterations[0].contributions}
    assert roles == {"a": Role.USED, "b": Role.USED, "c": Role.FAILED, "d": Role.DIVERGED}
    strict = make_loop(Shop(shop.models.parent / "strict"), quorum=0.75)
    feed = drive(strict, lambda cell: None if cell.identity.task in "cd" else strict.workshop.work(cell))  # type: ignore[attr-defined]
    error = feed.failures["loop-s0"]
    assert isinstance(error, QuorumError) and error.exit_code == 1
    assert "2 of 4 contributions came, expected 3" in error.message and "its worker was lost" in error.message
    assert strict.iterations == [] and not (strict.folder / "iter01").exists()


def test_who_is_late_is_not_waited_for_once_there_is_a_quorum(shop: Shop) -> None:
    loop = make_loop(shop, time_limit_s=0.2)
    drive(loop, shop.work, hold={"a"})
    (late,) = [one for one in loop.iterations[0].contributions if one.role is not Role.USED]
    assert (late.task, late.role) == ("a", Role.LATE)
    patient = make_loop(Shop(shop.models.parent / "patient"), time_limit_s=0.2, quorum=1.0)
    feed = Feed(programs={"p": patient.program()}, known=lambda cell: None)
    for cell in feed.take()[1:]:
        feed.note(cell.key, patient.workshop.work(cell))  # type: ignore[attr-defined]
    feed.wait(0.3)
    feed.step()
    assert not feed.finished and patient.iterations == []
    feed.close()


def test_a_disk_that_fills_while_saving_leaves_the_iterations_before(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(shop)
    drive(loop, shop.work)
    before = {path.name: path.read_bytes() for path in loop.folder.rglob("*") if path.is_file()}

    def full(*_: Any, **__: Any) -> None:
        raise StorageError("cannot write (No space left on device); free space")

    monkeypatch.setattr("ray_app.fusion.draft.fuse_checkpoints", full)
    longer = make_loop(shop, iterations=2)
    feed = drive(longer, shop.work)
    assert isinstance(feed.failures["loop-s0"], StorageError)
    assert {path.name: path.read_bytes() for path in loop.folder.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    again = make_loop(shop, iterations=2)
    assert len(again.iterations) == 1
    drive(again, shop.work)
    assert len(again.iterations) == 2


def test_whoever_goes_on_gets_the_very_same(shop: Shop) -> None:
    whole = make_loop(shop, iterations=3)
    drive(whole, shop.work)
    other = Shop(shop.models.parent / "other")
    for n in (1, 2, 3):
        part = make_loop(other, iterations=n)
        assert len(part.iterations) == n - 1
        drive(part, other.work)
    assert [one.revision for one in part.iterations] == [one.revision for one in whole.iterations]
    assert sorted(other.ran) == sorted(shop.ran)


def test_an_update_that_harms_is_refused(shop: Shop) -> None:
    shop.probe_score = lambda revision: 0.8 if revision == "pretrained" else 0.7
    loop = make_loop(shop, VariantConfig(rollback=Rollback.REFUSE), iterations=2)
    drive(loop, shop.work)
    first, second = loop.iterations
    assert (
        not first.accepted and first.revision == "pretrained" and first.folder == "" and "-10.00 points" in first.reason
    )
    assert not (loop.folder / "iter01").exists() and loop.base.pretrained
    assert {one.base_revision for one in second.contributions} == {"pretrained"}
    assert {one.seed for one in second.contributions} == {1000}
    assert (first.probe_before, first.probe_after) == (0.8, 0.7)
    assert first.probe_se == pytest.approx(math.hypot(math.sqrt(0.16 / 1000), math.sqrt(0.21 / 1000)), rel=0.01)


def test_who_harms_is_left_out_and_the_rest_is_fused(shop: Shop) -> None:
    harmful: set[str] = set()
    fused: list[str] = []

    def score(revision: str) -> float:
        if revision == "pretrained":
            return 0.8
        if revision.startswith("sha256:"):
            fused.append(revision)
            return 0.6 if len(fused) == 1 else 0.81  # with the harmful one, then without
        return 0.6 if revision in harmful else 0.81

    def work(cell: PlannedCell) -> Outcome:
        outcome = shop.work(cell)
        if cell.role == "source" and cell.identity.task == "d":
            harmful.add(cell.key)
        return outcome

    shop.probe_score = score
    loop = make_loop(shop, VariantConfig(rollback=Rollback.LEAVE_OUT))
    drive(loop, work)
    (made,) = loop.iterations
    roles = {one.task: one.role for one in made.contributions}
    assert roles == {"a": Role.USED, "b": Role.USED, "c": Role.USED, "d": Role.HARMFUL}
    assert made.accepted and made.probe_after == 0.81 and "1 harmful" in made.reason
    assert_mixture(loop.folder / "iter01", [(1 / 3, tiny_model("bert", seed=place)) for place in (1, 2, 3)])


def test_weights_follow_the_probes(shop: Shop) -> None:
    order: list[str] = []

    def work(cell: PlannedCell) -> Outcome:
        if cell.role == "source" and cell.identity.task == "a":
            order.append(cell.key)
        return shop.work(cell)

    shop.probe_score = lambda revision: 0.65 if revision in order else 0.60
    loop = make_loop(shop, VariantConfig(weighting=Weighting.PROBE), temperature=0.05)
    drive(loop, work)
    share = {one.task: one.weight for one in loop.iterations[0].contributions}
    assert share["a"] == pytest.approx(math.e / (math.e + 3)) and share["b"] == pytest.approx(1 / (math.e + 3))
    parts = [(share[task], tiny_model("bert", seed=place)) for place, task in enumerate(TASKS, start=1)]
    assert_mixture(loop.folder / "iter01", parts)


def test_an_asynchronous_loop_mixes_whoever_has_arrived(shop: Shop) -> None:
    """Two of four arrive at once; the other two, begun from the pretrained model, come one fusion late."""
    variant = VariantConfig(mode=Mode.ASYNCHRONOUS, arrivals=2)
    loop = make_loop(shop, variant, kind=AsynchronousLoop)
    feed = Feed(programs={"loop": loop.program()}, known=lambda cell: None)
    begun = feed.take()
    for cell in begun[:2]:
        feed.note(cell.key, shop.work(cell))
    while len(loop.iterations) < 1:
        feed.step()
        feed.wait(0.05)
    first = loop.iterations[0]
    assert [one.weight for one in first.used] == pytest.approx([0.5, 0.5]) and first.base_weight == 0.0
    assert [one.key for one in first.in_flight] == [cell.key for cell in begun[2:]]
    feed.close()

    again = make_loop(shop, variant, kind=AsynchronousLoop)  # the driver was killed here
    feed = Feed(programs={"loop": again.program()}, known=lambda cell: None)
    taken = feed.take()
    assert [cell.key for cell in taken[:2]] == [cell.key for cell in begun[2:]], "contributions under way are taken up"
    for cell in taken[:2]:
        feed.note(cell.key, shop.work(cell))
    while not feed.finished:
        feed.step()
        feed.wait(0.05)
    second = again.iterations[1]
    share = 2**-0.5 / 2
    assert [one.weight for one in second.used] == pytest.approx([share, share]) and second.base_weight == pytest.approx(
        1 - 2 * share
    )
    late = [(share, shop.models / one.key) for one in second.used]
    assert_mixture(again.folder / "iter02", [*late, (1 - 2 * share, again.folder / "iter01")])
    feed.close()


def test_one_dataset_in_parts(shop: Shop) -> None:
    loop = make_loop(shop, VariantConfig(single_task="a", contributors=2, parts=4), iterations=2)
    drive(loop, shop.work)
    drawn = [[one.part for one in iteration.contributions] for iteration in loop.iterations]
    assert all(len(set(parts)) == 2 and set(parts) <= {0, 1, 2, 3} for parts in drawn)
    assert {one.task for iteration in loop.iterations for one in iteration.contributions} == {"a"}


def test_a_base_model_that_is_gone_is_made_again(shop: Shop) -> None:
    loop = make_loop(shop, iterations=2)
    drive(loop, shop.work)
    shutil.rmtree(loop.folder / "iter02")
    again = make_loop(shop, iterations=2)
    assert len(again.iterations) == 1
    drive(again, shop.work)
    assert again.iterations[1].revision == loop.iterations[1].revision
