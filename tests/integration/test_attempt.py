"""One attempt at a cell: what it leaves behind when it succeeds, is interrupted, or fails at any stage."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers

from ray_app.sweeps.attempt import Attempt, run_attempt
from ray_app.sweeps.orders import Order, Storage
from ray_app.training import checkpointing
from ray_app.training.batches import collate
from ray_app.training.finetune import Finetuning
from ray_app.training.learners import EncoderLearner
from ray_app.training.models import ModelPool, load_model
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import EncodedTask, Family, TaskFacts
from tests.model_factory import copy_model, tiny_model
from tests.task_factory import COUNT, WORD, make_task
from tracking.errors import StorageError
from tracking.records import CellRecord, pending_records, read_record
from tracking.schema import Metric, Param, State, Tag

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_order(folder: Path, *, facts: TaskFacts = WORD, kind: str = "bert", **given: Any) -> Order:
    """An order for a cell of a tiny model on a tiny task; everything it writes lies under ``folder``."""
    family = Family.TEXT_TO_TEXT if kind == "t5" else Family.ENCODER
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model(kind))
    make_task(folder / "encoded", tokenizer, facts=facts, family=family, sizes=(40, 16, 24))
    config = FinetuneConfig(
        learning_rate=3e-3, batch_size=8, max_epochs=2, validate_every_examples=24, precision=Precision.FP32
    )
    plain: dict[str, Any] = {
        "key": KEY,
        "attempt": "sweep.1",
        "arch": kind,
        "family": family,
        "base": tiny_model(kind),
        "base_name": "tiny/base",
        "encoded": folder / "encoded",
        "config": config,
        "execution": ExecutionConfig(),
        "seed": 1,
        "keep_model": False,
        "storage": Storage(root=folder / "storage"),
        "params": {Param.BASE_MODEL: "tiny/base", Param.TASK: facts.name, Param.METHOD: "finetune"},
        "tags": {Tag.SWEEP: "sweep", Tag.ROLE: "target"},
        "features": folder / "features",
    }
    return Order(**{**plain, **given})


def run(order: Order) -> CellRecord:
    return run_attempt(order, ModelPool())


def stored_record(order: Order) -> CellRecord:
    """The one record on storage."""
    (path,) = pending_records(order.storage.records)
    return read_record(path)


def predictions(order: Order, record: CellRecord) -> tuple[np.ndarray, np.ndarray]:
    (name,) = record.artifacts
    table = pq.read_table(order.storage.records / name)
    assert table.column_names == ["label", "prediction"]
    return table["label"].to_numpy(), table["prediction"].to_numpy()


def failure(record: CellRecord) -> tuple[State, str, str]:
    return record.state, record.tags[Tag.FAILED_STAGE], record.tags[Tag.REASON]


# --- success -----------------------------------------------------------------------------------------------------------


def test_a_finished_cell_leaves_its_record_and_its_predictions(tmp_path: Path) -> None:
    order = make_order(tmp_path)
    points = []
    record = run_attempt(order, ModelPool(), each=points.append)
    assert stored_record(order) == record
    assert (record.state, record.key, record.attempt, record.arch) == (State.COMPLETE, KEY, "sweep.1", "bert")
    assert record.params == order.params and order.tags.items() <= dict(record.tags).items()
    labels, answers = predictions(order, record)
    task = EncodedTask(order.encoded)
    np.testing.assert_array_equal(labels, task["test"].labels)
    assert record.metrics[Metric.N_EVAL] == 24 == len(answers)
    assert record.metrics[Metric.N_TRAIN] == 40
    assert record.metrics[Metric.N_CORRECT] == (labels == answers).sum()
    assert record.metrics[Metric.SCORE] == (labels == answers).mean()
    assert json.loads(record.tags[Tag.CLASS_COUNTS]) == {
        name: [int((labels == k).sum()), int((answers == k).sum()), int(((labels == k) & (answers == k)).sum())]
        for k, name in enumerate(WORD.label_names)
    }
    # 40 rows in batches of 8, twice; every 24 examples, and at the end
    assert [seen for seen, _, _ in record.curve] == [24, 48, 72, 80]
    assert record.curve == tuple((point.examples_seen, point.score, point.loss) for point in points)
    assert record.metrics[Metric.BEST_VALIDATION_SCORE] == max(score for _, score, _ in record.curve)
    assert record.metrics[Metric.EXAMPLES_SEEN] == 80
    assert not order.storage.checkpoints.joinpath(KEY).exists() and not order.storage.models.exists()


def test_seconds_and_memory_add_up(tmp_path: Path) -> None:
    record = run(make_order(tmp_path))
    parts = [record.metrics[name] for name in (Metric.LOAD_S, Metric.TRAIN_S, Metric.VALIDATE_S, Metric.TEST_S)]
    assert all(part > 0 for part in parts) and sum(parts) <= record.metrics[Metric.WALL_S]
    assert record.metrics[Metric.TRAIN_EXAMPLES_PER_S] == pytest.approx(80 / record.metrics[Metric.TRAIN_S])
    assert record.metrics[Metric.PEAK_MEM_BYTES] > 50e6
    assert record.started_ms <= record.ended_ms


def test_a_regression_has_no_counts_and_its_numbers_as_predictions(tmp_path: Path) -> None:
    order = make_order(tmp_path, facts=COUNT)
    record = run(order)
    assert Metric.N_CORRECT not in record.metrics and record.metrics[Metric.N_EVAL] == 24
    labels, answers = predictions(order, record)
    assert answers.dtype == np.float64
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (answers,)]
    assert len(set(ranks[0])) == 24  # so that rho by ranks needs a tie rule for the labels only
    mean_rank = np.array([(labels < label).sum() + ((labels == label).sum() - 1) / 2 for label in labels])
    assert record.metrics[Metric.SCORE] == pytest.approx(np.corrcoef(ranks[0], mean_rank)[0, 1])


def test_a_text_model_counts_what_is_no_label(tmp_path: Path) -> None:
    order = make_order(tmp_path, kind="t5")
    record = run(order)
    labels, answers = predictions(order, record)
    assert record.state is State.COMPLETE
    assert record.metrics[Metric.N_INVALID] == (answers == -1).sum()
    assert record.metrics[Metric.N_CORRECT] == (answers == labels).sum()


def test_an_order_survives_its_way_to_a_worker(tmp_path: Path) -> None:
    order = make_order(tmp_path)
    assert Order.from_plain(json.loads(json.dumps(order.plain()))) == order


def test_the_same_cell_has_the_same_number_in_any_worker(tmp_path: Path) -> None:
    order = make_order(tmp_path)
    pool = ModelPool()
    first = run_attempt(order, pool)
    again = run_attempt(replace(order, attempt="sweep.2"), pool)
    fresh = run_attempt(replace(order, attempt="sweep.3"), ModelPool())
    for other in (again, fresh):
        assert other.curve == first.curve and other.metrics[Metric.SCORE] == first.metrics[Metric.SCORE]
    assert pool.hits == 1


# --- the kept model ----------------------------------------------------------------------------------------------------


def test_a_kept_model_holds_the_tested_weights_in_hub_format(tmp_path: Path) -> None:
    order = make_order(tmp_path, keep_model=True)
    record = run(order)
    kept = Path(record.tags[Tag.CHECKPOINT])
    assert kept == order.storage.models / KEY
    assert [path.name for path in order.storage.models.iterdir()] == [KEY]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(kept).eval()
    assert transformers.AutoTokenizer.from_pretrained(kept).get_vocab()
    assert model.config.id2label == {0: "absent", 1: "present"}
    _, answers = predictions(order, record)
    task = EncodedTask(order.encoded)
    batch = collate(task["test"], np.arange(24), pad_id=task.pad_id)
    with torch.no_grad():
        np.testing.assert_array_equal(model(**batch.inputs).logits.argmax(-1).numpy(), answers)
    assert KEY in (kept / "README.md").read_text() and not list(kept.glob("*.bin"))


def test_a_kept_model_is_a_base_model(tmp_path: Path) -> None:
    source = run(make_order(tmp_path / "source", keep_model=True))
    target = make_order(
        tmp_path / "target", key="f" * 16, base=Path(source.tags[Tag.CHECKPOINT]), facts=COUNT, keep_model=True
    )
    assert run(target).state is State.COMPLETE
    config = transformers.AutoConfig.from_pretrained(target.storage.models / target.key)
    assert (config.problem_type, config.num_labels) == ("regression", 1)


def test_a_kept_text_model_loads_again(tmp_path: Path) -> None:
    order = make_order(tmp_path, kind="t5", keep_model=True)
    record = run(order)
    loaded = load_model(Path(record.tags[Tag.CHECKPOINT]), WORD, Family.TEXT_TO_TEXT)
    assert loaded.model.lm_head.weight is loaded.model.shared.weight


# --- interruption ------------------------------------------------------------------------------------------------------


def test_an_interrupted_cell_goes_on_where_it_was_stored(tmp_path: Path) -> None:
    whole = run(make_order(tmp_path / "whole"))
    order = make_order(tmp_path / "cut")
    first = Attempt(order, ModelPool())
    point, record = first.step()
    assert point is not None and record is None
    first.store()
    del first  # the worker is gone
    second = Attempt(order, ModelPool())
    assert second.open().progress.step == 3
    while record is None:
        _, record = second.step()
    assert record.curve == whole.curve and record.metrics[Metric.SCORE] == whole.metrics[Metric.SCORE]
    assert not order.storage.checkpoints.joinpath(KEY).exists()


def test_checkpoints_are_stored_between_validations_and_time_is_summed(tmp_path: Path) -> None:
    order = make_order(tmp_path, execution=ExecutionConfig(checkpoint_every_s=1e-9))
    first = Attempt(order, ModelPool())
    first.step()
    stored = list(order.storage.checkpoints.joinpath(KEY).iterdir())
    assert [path.name for path in stored] == ["step-00000003-00000"]  # after the step, before the validation
    seconds = json.loads((stored[0] / "state.json").read_text())["progress"]["seconds"]
    again = Attempt(order, ModelPool())
    assert again.open().progress.seconds.load > seconds["load"] > 0
    record = None
    while record is None:
        _, record = again.step()
    assert record.metrics[Metric.WALL_S] > seconds["wall"] + record.metrics[Metric.TEST_S]
    assert record.metrics[Metric.TRAIN_S] > seconds["train"]


def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpointing, "save_file", full)
    record = run(make_order(tmp_path, execution=ExecutionConfig(checkpoint_every_s=1e-9)))
    assert record.state is State.COMPLETE


# --- stages -------------------------------------------------------------------------------------------------------------

# 40 rows in batches of 8, twice: 10 steps; in 3 stages they end after 4, 7 and 10 steps
STAGED = FinetuneConfig(
    learning_rate=3e-3,
    batch_size=8,
    max_epochs=2,
    validate_every_examples=8,
    patience_examples=8,
    precision=Precision.FP32,
    stages=3,
)


def test_stages_are_validated_whatever_the_other_rules_say(tmp_path: Path) -> None:
    record = run(make_order(tmp_path, config=STAGED))
    assert [seen for seen, _, _ in record.curve] == [32, 56, 80]
    assert record.metrics[Metric.EXAMPLES_SEEN] == 80


def test_validating_at_stages_trains_the_same_weights(tmp_path: Path) -> None:
    unstaged = replace(STAGED, stages=0, validate_every_examples=8, patience_examples=1000)
    every_step = run(make_order(tmp_path / "every", config=unstaged))
    staged = run(make_order(tmp_path / "staged", config=STAGED))
    assert set(staged.curve) <= set(every_step.curve)


def test_a_stopped_cell_tells_where_it_stands_and_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole = run(make_order(tmp_path / "whole", config=STAGED))
    order = make_order(tmp_path / "cut", config=STAGED)
    record, seen = None, []
    while record is None:  # a worker a stage
        attempt = Attempt(order, ModelPool())
        if seen:
            assert attempt.step() == (seen[-1], None)  # nothing is trained before it may go on
            assert len(attempt.curve()) == len(seen)
        point, record = attempt.step()
        assert point is not None
        seen.append(point)
        attempt.store()
    assert record.curve == whole.curve and record.metrics[Metric.SCORE] == whole.metrics[Metric.SCORE]


def test_more_stages_than_steps_are_refused(tmp_path: Path) -> None:
    state, stage, reason = failure(run(make_order(tmp_path, config=replace(STAGED, stages=11))))
    assert (state, stage) == (State.FAILED, "load model")
    assert "11 stages came for a training of 10 steps" in reason


# --- failure -----------------------------------------------------------------------------------------------------------


def test_a_missing_task_is_recorded(tmp_path: Path) -> None:
    record = run(make_order(tmp_path, encoded=tmp_path / "nowhere"))
    state, stage, reason = failure(record)
    assert (state, stage) == (State.FAILED, "load data")
    assert reason.startswith("TaskDataError: the encoded task") and "nowhere" in reason
    assert record.curve == () and record.metrics[Metric.WALL_S] > 0 and Metric.SCORE not in record.metrics


@pytest.mark.parametrize("damage", ["truncated", "missing", "not numbers", "another architecture"])
def test_an_unusable_checkpoint_is_recorded(tmp_path: Path, damage: str) -> None:
    base = copy_model("bert", tmp_path / "base")
    file = base / "model.safetensors"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:5000])
    elif damage == "missing":
        file.unlink()
    elif damage == "another architecture":
        file.write_bytes((tiny_model("roberta") / "model.safetensors").read_bytes())
    else:
        model = transformers.AutoModel.from_pretrained(base)
        with torch.no_grad():
            model.embeddings.word_embeddings.weight[3] = math.nan
        model.save_pretrained(base)
    state, stage, reason = failure(run(make_order(tmp_path, base=base)))
    assert (state, stage) == (State.FAILED, "load model")
    assert "CheckpointError: the checkpoint in" in reason and len(reason) <= 500


@pytest.mark.parametrize(
    ("stage", "where", "name"),
    [
        ("train", EncoderLearner, "loss"),
        ("train", EncoderLearner, "answer"),
        ("test", Finetuning, "result"),
        ("keep model", transformers.BertForSequenceClassification, "save_pretrained"),
    ],
)
def test_an_error_at_any_stage_is_recorded_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, where: Any, name: str
) -> None:
    order = make_order(tmp_path, keep_model=True)

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the first line\nand a second")

    monkeypatch.setattr(where, name, fail)
    record = run(order)
    assert failure(record) == (State.FAILED, stage, "RuntimeError: the first line")
    (trace,) = record.artifacts
    text = (order.storage.records / trace).read_text()
    assert "Traceback" in text and "and a second" in text
    assert stored_record(order) == record
    assert not order.storage.models.exists() or not list(order.storage.models.iterdir())


def test_an_error_in_the_middle_keeps_the_curve_and_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = make_order(tmp_path, execution=ExecutionConfig(checkpoint_every_s=1e-9))
    loss = EncoderLearner.loss
    calls = iter(range(100))

    def fail_later(learner: EncoderLearner, batch: Any) -> torch.Tensor:
        if next(calls) == 4:
            raise RuntimeError("in the middle")
        return loss(learner, batch)

    with monkeypatch.context() as patch:
        patch.setattr(EncoderLearner, "loss", fail_later)
        record = run(order)
    assert failure(record)[1:] == ("train", "RuntimeError: in the middle")
    assert [seen for seen, _, _ in record.curve] == [24]
    whole = run(make_order(tmp_path / "whole"))
    retried = run(replace(order, attempt="sweep.2"))  # goes on from the checkpoint
    assert retried.curve == whole.curve and retried.metrics[Metric.SCORE] == whole.metrics[Metric.SCORE]


def test_a_failed_cell_leaves_the_pool_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order, pool = make_order(tmp_path), ModelPool()
    expected = run(order)
    with monkeypatch.context() as patch:
        patch.setattr(Finetuning, "result", lambda _: 1 / 0)
        assert run_attempt(replace(order, attempt="sweep.2"), pool).state is State.FAILED
    again = run_attempt(replace(order, attempt="sweep.3"), pool)
    assert pool.hits == 1 and again.curve == expected.curve


def test_a_diverged_cell_is_a_result(tmp_path: Path) -> None:
    order = make_order(tmp_path)
    record = run(replace(order, config=replace(order.config, learning_rate=1e30)))  # type: ignore[type-var]
    assert record.state is State.DIVERGED
    assert 0.0 <= record.metrics[Metric.SCORE] <= 1.0 and record.metrics[Metric.N_EVAL] == 24
    assert stored_record(order).metrics[Metric.SCORE] == record.metrics[Metric.SCORE]


@pytest.mark.parametrize("ends_in", ["success", "failure"])
def test_a_record_that_cannot_be_written_is_raised(tmp_path: Path, ends_in: str) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    (storage / "records").write_text("in the way")
    given = {"encoded": tmp_path / "nowhere"} if ends_in == "failure" else {}
    with pytest.raises(StorageError, match="cannot write"):
        run(make_order(tmp_path, **given))


def test_interrupts_are_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EncoderLearner, "loss", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(make_order(tmp_path))


def test_an_empty_order_does_nothing(tmp_path: Path) -> None:
    record = run(make_order(tmp_path, empty=True, base=tmp_path / "nowhere", encoded=tmp_path / "nowhere"))
    assert record.state is State.FAILED and record.tags[Tag.REASON] == "empty cell"
