"""Two processes train one cell: the number is that of one process, within float rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ray_app.training.finetune import Finetuning
from ray_app.training.models import load_model
from ray_app.training.progress import CellResult
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.team import Team, TeamFinetuning
from ray_app.training.tokens import EncodedTask, Family
from tests.model_factory import copy_model
from tests.task_factory import COUNT, WORD, make_task
from tests.tiny_study import TinyStudy, make_mirror

pytestmark = pytest.mark.slow

KINDS = {"bert": (Family.ENCODER, WORD), "t5": (Family.TEXT_TO_TEXT, WORD), "number": (Family.ENCODER, COUNT)}
"""Model and task: classes, words, a number."""


def settings(**given: Any) -> FinetuneConfig:
    plain: dict[str, Any] = {"learning_rate": 3e-3, "batch_size": 15, "max_epochs": 2, "validate_every_examples": 45}
    return FinetuneConfig(**{**plain, "precision": Precision.FP32, "distance_penalty": 0.01, **given})


def begin(kind: str, folder: Path, team: Team | None) -> Finetuning:
    family, facts = KINDS[kind]
    loaded = load_model(folder / f"model-{kind}", facts, family)
    # a share of every batch goes through in several micro-batches, and the last batch of an epoch has one row: the second
    # process has nothing to do then
    execution = ExecutionConfig(micro_batch_tokens=64, eval_batch_tokens=128)
    given = (loaded, EncodedTask(folder / kind), settings(), execution)
    return TeamFinetuning(*given, team=team, seed=3) if team else Finetuning(*given, seed=3)


def run_all(run: Finetuning) -> tuple[CellResult, dict[str, torch.Tensor]]:
    while not run.progress.finished:
        run.advance()
    result = run.result()
    return result, {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def member(rank: int, folder: Path) -> None:
    """One process of a team of two."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    done = {kind: run_all(begin(kind, folder, Team())) for kind in KINDS}
    torch.save(done, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team")
    for kind, (family, facts) in KINDS.items():
        loaded = load_model(copy_model("t5" if kind == "t5" else "bert", folder / f"model-{kind}"), facts, family)
        make_task(folder / kind, loaded.tokenizer, family=family, facts=facts, sizes=(46, 21, 31))
    torch.multiprocessing.spawn(member, args=(folder,), nprocs=2)
    return folder


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_team_of_two_gives_the_number_of_one(kind: str, folder: Path) -> None:
    torch.set_num_threads(1)
    alone, weights = run_all(begin(kind, folder, None))
    both = [torch.load(folder / f"rank{rank}.pt", weights_only=False)[kind] for rank in range(2)]
    for result, after in both:
        assert result.test.predictions.tolist() == pytest.approx(alone.test.predictions.tolist(), abs=1e-4)
        assert result.test.score == pytest.approx(alone.test.score, abs=1e-6)
        assert result.test.loss == pytest.approx(alone.test.loss, rel=1e-4)
        assert [point.examples_seen for point in result.curve] == [point.examples_seen for point in alone.curve]
        assert [p.loss for p in result.curve] == pytest.approx([p.loss for p in alone.curve], rel=1e-4)
        assert result.examples_seen == alone.examples_seen
        for name, tensor in weights.items():
            if name.endswith("key.bias"):
                continue  # softmax is blind to it: its true gradient is 0, and AdamW makes steps of the rounding
            np.testing.assert_allclose(after[name], tensor, rtol=1e-3, atol=1e-5, err_msg=name)
    assert all(torch.equal(both[0][1][name], both[1][1][name]) for name in weights), "the two went apart"


def test_a_sweep_by_teams_of_two_gives_the_scores_of_one(tmp_path: Path) -> None:
    """Through the front door: Ray Train starts two gloo processes for a cell (they take most of the time)."""
    mirror = make_mirror(tmp_path / "mirror")
    alone = TinyStudy(mirror, tmp_path / "alone", tmp_path / "cache")
    small = ("candidates.models=[]", "candidates.sources=[]", "suite.tasks=[rte]", "method.max_epochs=1")
    code, text = alone.run("sweep", *small)
    assert code == 0, text
    team = TinyStudy(mirror, tmp_path / "team", tmp_path / "cache")
    code, text = team.run("sweep", *small, "cluster.workers_per_cell=2", "cluster.cpus_per_cell=2")
    assert code == 0, text
    one, two = alone.cells(), team.cells()
    assert one.keys() == two.keys() and len(one) == 1
    for key, row in one.items():
        assert two[key]["score"] == pytest.approx(row["score"], abs=1e-6)
        assert two[key]["best_validation_score"] == pytest.approx(row["best_validation_score"], abs=1e-6)
