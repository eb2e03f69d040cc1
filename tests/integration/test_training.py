"""The training core end to end on tiny real models: against a plain loop, and the promise that only the cell counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers

from ray_app.training.batches import collate, cut
from ray_app.training.finetune import Finetuning, finetune
from ray_app.training.models import LoadedModel, ModelPool, load_model
from ray_app.training.progress import CellResult
from ray_app.training.randomness import DropoutPool, RowKeyedDropout, epoch_order
from ray_app.training.settings import ExecutionConfig, FinetuneConfig, Precision
from ray_app.training.tokens import EncodedTask, Family, TaskFacts
from tests.model_factory import tiny_model
from tests.task_factory import COUNT, WORD, make_task

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

THREE = TaskFacts(name="three", label_names=("a", "b", "c"), label_words=("film", "dull", "park"), regression=False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(**given: Any) -> FinetuneConfig:
    plain: dict[str, Any] = {"learning_rate": 3e-3, "batch_size": 16, "max_epochs": 3, "validate_every_examples": 64}
    return FinetuneConfig(**{**plain, "precision": Precision.FP32, **given})


def prepare(kind: str, folder: Path, **given: Any) -> tuple[LoadedModel, EncodedTask]:
    family = Family.TEXT_TO_TEXT if kind == "t5" else Family.ENCODER
    facts = given.get("facts", WORD)
    loaded = load_model(tiny_model(kind), facts, family)
    return loaded, make_task(folder / f"{kind}-{facts.name}", loaded.tokenizer, family=family, **given)


def number(result: CellResult) -> tuple[Any, ...]:
    """All that may depend on the cell only."""
    return (result.test.score, result.test.loss, result.test.predictions.tolist(), result.curve, result.diverged)


def final_weights(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}


# --- against a plain loop ----------------------------------------------------------------------------------------------


def plain_loop(model: Any, task: EncodedTask, config: FinetuneConfig, *, seed: int) -> dict[str, torch.Tensor]:
    """Finetune as a tutorial does: shuffled batches padded to their longest, the model's own loss, AdamW, a schedule."""
    split = task["train"]
    n_steps = -(-len(split) // config.batch_size) * int(config.max_epochs)
    warmup = int(np.ceil(config.warmup_fraction * n_steps))
    no_decay = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    decay = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": config.weight_decay}, {"params": no_decay, "weight_decay": 0.0}],
        lr=config.learning_rate,
        foreach=False,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: (s + 1) / (warmup + 1) if s < warmup else (n_steps - s) / (n_steps - warmup)
    )
    model.train()
    for epoch in range(int(config.max_epochs)):
        order = epoch_order(len(split), seed=seed, epoch=epoch)
        for start in range(0, len(order), config.batch_size):
            rows = order[start : start + config.batch_size]
            ids = [torch.tensor(split.tokens[split.offsets[row] : split.offsets[row + 1]].tolist()) for row in rows]
            padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=task.pad_id)
            labels = torch.from_numpy(split.labels[rows].copy())
            labels = labels.float() if task.facts.regression else labels
            loss = model(input_ids=padded, attention_mask=(padded != task.pad_id).long(), labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("facts", [WORD, COUNT])
def test_without_dropout_it_is_a_plain_loop(tmp_path: Path, facts: TaskFacts) -> None:
    loaded, task = prepare("bert", tmp_path, facts=facts)
    for part in loaded.model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    loaded.model.config.attention_probs_dropout_prob = 0.0
    for layer in loaded.model.bert.encoder.layer:
        layer.attention.self.dropout_prob = 0.0
    config = settings(learning_rate=1e-3, warmup_fraction=0.2, max_epochs=2, validate_every_examples=10_000)
    execution = ExecutionConfig(micro_batch_tokens=96)
    run = Finetuning(loaded, task, config, execution, seed=5)
    start = final_weights(loaded)
    while not run.progress.finished:
        run.advance()
    found = final_weights(loaded)
    loaded.model.load_state_dict(start)
    expected = plain_loop(loaded.model, task, config, seed=5)
    for name, tensor in expected.items():
        if name.endswith("key.bias"):  # softmax does not feel it: its gradient is rounding, which AdamW blows up
            continue
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
        assert not torch.equal(found[name], start[name]) or tensor.equal(start[name])


# --- only the cell counts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5"])
def test_same_seed_same_number_whatever_happened_before(kind: str, tmp_path: Path) -> None:
    loaded, task = prepare(kind, tmp_path)
    first = finetune(loaded, task, settings(), ExecutionConfig(), seed=3)
    weights = final_weights(loaded)
    other = finetune(loaded, task, settings(), ExecutionConfig(), seed=4)
    torch.manual_seed(99)
    np.random.seed(99)
    again = finetune(loaded, task, settings(), ExecutionConfig(), seed=3)
    assert number(first) == number(again) and number(first) != number(other)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.model.state_dict().items())
    fresh = load_model(tiny_model(kind), WORD, loaded.family)
    assert number(finetune(fresh, task, settings(), ExecutionConfig(), seed=3)) == number(first)


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5"])
def test_micro_batches_change_nothing_but_rounding(kind: str, tmp_path: Path) -> None:
    loaded, task = prepare(kind, tmp_path)
    config = settings(learning_rate=1e-3, max_epochs=2)
    results, weights = [], []
    for tokens in (64, 4096):
        execution = ExecutionConfig(micro_batch_tokens=tokens, eval_batch_tokens=2 * tokens)
        results.append(finetune(loaded, task, config, execution, seed=0))
        weights.append(final_weights(loaded))
    assert results[0].test.n_correct == results[1].test.n_correct
    np.testing.assert_array_equal(results[0].test.predictions, results[1].test.predictions)
    for left, right in zip(results[0].curve, results[1].curve, strict=True):
        assert (left.examples_seen, left.score) == (right.examples_seen, right.score)
        assert left.loss == pytest.approx(right.loss, rel=1e-4)
    for name, tensor in weights[0].items():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(tensor, weights[1][name], rtol=1e-3, atol=1e-4)


def test_a_worker_s_pool_gives_the_number_of_a_fresh_process(tmp_path: Path) -> None:
    """Cells of four tasks in one order, in another, and each on a model of its own."""
    tasks = {
        facts.name: make_task(
            tmp_path / facts.name,
            load_model(tiny_model("bert"), facts, Family.ENCODER).tokenizer,
            facts=facts,
            sizes=(32, 16, 16),
        )
        for facts in (WORD, COUNT, THREE)
    }
    second = TaskFacts(name="again", label_names=("no", "yes"), label_words=("no", "yes"), regression=False)
    tasks["again"] = make_task(
        tmp_path / "again", load_model(tiny_model("bert"), second, Family.ENCODER).tokenizer, facts=second, seed=7
    )

    def run(pool: ModelPool, name: str) -> tuple[Any, ...]:
        loaded = pool.get(tiny_model("bert"), tasks[name].facts, Family.ENCODER)
        return number(finetune(loaded, tasks[name], settings(max_epochs=1), ExecutionConfig(), seed=0))

    alone = {name: run(ModelPool(), name) for name in tasks}
    for order in (["sign", "again", "signs", "three", "sign"], ["three", "signs", "again", "sign", "again"]):
        pool = ModelPool(capacity=4)
        assert all(run(pool, name) == alone[name] for name in order)
        assert pool.hits == 2  # two classes come three times in each order, in one model


def test_a_text_model_s_number_does_not_depend_on_the_task_before(tmp_path: Path) -> None:
    loaded, task = prepare("t5", tmp_path, sizes=(32, 16, 16))
    other = make_task(tmp_path / "three", loaded.tokenizer, facts=THREE, family=Family.TEXT_TO_TEXT, sizes=(32, 16, 16))
    pool = ModelPool()
    reused = pool.get(tiny_model("t5"), WORD, Family.TEXT_TO_TEXT)
    finetune(pool.get(tiny_model("t5"), THREE, Family.TEXT_TO_TEXT), other, settings(), ExecutionConfig(), seed=0)
    config = settings(max_epochs=1)
    first = finetune(reused, task, config, ExecutionConfig(), seed=0)
    assert number(first) == number(finetune(loaded, task, config, ExecutionConfig(), seed=0))


# --- dropout by row, over architectures --------------------------------------------------------------------------------

SMALL = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
}
DROPS = {"attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1, "classifier_dropout": 0.1}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "albert": {**SMALL, "embedding_size": 16, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "bert": SMALL,
    "deberta-v2": {**SMALL, **RELATIVE, "share_att_key": True, "type_vocab_size": 0, "position_biased_input": False},
    "distilbert": {"vocab_size": 100, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "electra": {**SMALL, "embedding_size": 16},
    "modernbert": {**SMALL, **DROPS, "local_attention": 8, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2},
    "mpnet": SMALL,
    "roberta": {**SMALL, "pad_token_id": 1},
    "t5": {"vocab_size": 100, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
}


def build(kind: str) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **ARCHITECTURES[kind], num_labels=2)
    if kind == "t5":
        config.decoder_start_token_id = 0
        return transformers.AutoModelForSeq2SeqLM.from_config(config)
    return transformers.AutoModelForSequenceClassification.from_config(config)


def total_loss(model: Any, kind: str, pieces: list[tuple[list[int], int]]) -> tuple[float, torch.Tensor]:
    """Loss and gradient over six rows of 5 to 16 tokens, in micro-batches of (rows, padded length)."""
    lengths = np.array([5, 6, 7, 12, 15, 16])
    ids = np.random.default_rng(0).integers(4, 100, size=(6, 24))
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    pool = DropoutPool(seed=0, device="cpu")
    pad = model.config.pad_token_id or 0
    model.zero_grad()
    total = 0.0
    for rows, width in pieces:
        mask = torch.from_numpy(np.arange(width)[None] < lengths[rows][:, None])
        inputs = {
            "input_ids": torch.from_numpy(ids[rows][:, :width]).masked_fill(~mask, pad),
            "attention_mask": mask.long(),
        }
        with RowKeyedDropout(pool, step=0, rows=np.array(rows), stride=32):
            if kind == "t5":
                targets = torch.stack([labels[rows] + 5, torch.ones(len(rows), dtype=torch.long)], 1)
                loss = model(**inputs, labels=targets).loss * targets.numel()
            else:
                loss = F.cross_entropy(model(**inputs).logits, labels[rows], reduction="sum")
        loss.backward()
        total += loss.item()
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_dropout_of_a_row_is_its_own_in_every_architecture(kind: str) -> None:
    model = build(kind).train()
    state = torch.random.get_rng_state()
    whole, gradient = total_loss(model, kind, [([0, 1, 2, 3, 4, 5], 16)])
    assert torch.isfinite(gradient).all()
    for pieces in ([([0, 1, 2], 8), ([3, 4, 5], 16)], [([5, 3, 1, 0, 2, 4], 24)], [([row], 16) for row in range(6)]):
        loss, other = total_loss(model, kind, pieces)
        assert loss == pytest.approx(whole, rel=1e-5)
        assert (other - gradient).norm() < 1e-4 * gradient.norm()
    assert torch.equal(state, torch.random.get_rng_state())
    undropped, _ = total_loss(model.eval(), kind, [([0, 1, 2, 3, 4, 5], 16)])
    assert abs(undropped - whole) > 1e-3  # so dropout did something


# --- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5"])
def test_it_learns_whether_a_word_is_there(kind: str, tmp_path: Path) -> None:
    loaded, task = prepare(kind, tmp_path, sizes=(256, 64, 64))
    rate = 1e-2 if kind == "t5" else 3e-3
    result = finetune(
        loaded, task, settings(learning_rate=rate, max_epochs=3, validate_every_examples=256), ExecutionConfig(), seed=0
    )
    # chance is 32 of 64; 48 or more by chance has a probability of 4e-5
    assert result.test.n_correct is not None and result.test.n_correct >= 48
    assert result.test.n_eval == 64 and result.test.n_invalid == 0 and not result.diverged
    counts = result.test.class_counts
    assert [counts[name][0] for name in ("absent", "present")] == [32, 32]
    assert sum(count[2] for count in counts.values()) == result.test.n_correct
    assert result.seconds.train > 0 and result.peak_mem_bytes > 0


def test_it_learns_a_number(tmp_path: Path) -> None:
    loaded, task = prepare("bert", tmp_path, facts=COUNT, sizes=(256, 64, 64))
    result = finetune(loaded, task, settings(max_epochs=4, validate_every_examples=256), ExecutionConfig(), seed=0)
    assert result.test.score > 0.7 and result.test.n_correct is None and result.test.class_counts == {}


def test_bfloat16_learns_too_and_keeps_float32_weights(tmp_path: Path) -> None:
    loaded, task = prepare("bert", tmp_path, sizes=(256, 64, 64))
    config = settings(precision=Precision.BF16, validate_every_examples=256)
    result = finetune(loaded, task, config, ExecutionConfig(), seed=0)
    assert result.test.n_correct is not None and result.test.n_correct >= 48
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_rows_of_one_length_train(tmp_path: Path) -> None:
    loaded, task = prepare("roberta", tmp_path, words=(10, 12), max_length=8)
    assert set(task["train"].lengths.tolist()) == {8}
    assert (
        finetune(loaded, task, settings(max_epochs=1), ExecutionConfig(micro_batch_tokens=40), seed=0).test.n_eval == 24
    )


def test_the_distance_penalty_keeps_weights_close_to_the_base_model(tmp_path: Path) -> None:
    loaded, task = prepare("bert", tmp_path)

    def distance(penalty: float) -> float:
        finetune(loaded, task, settings(distance_penalty=penalty, max_grad_norm=0.0), ExecutionConfig(), seed=0)
        now = loaded.model.state_dict()
        return sum(float((now[name] - tensor).square().sum()) for name, tensor in loaded.pristine.items()) ** 0.5

    apart = [distance(penalty) for penalty in (0.0, 1.0, 100.0)]
    assert apart[0] > 1.5 * apart[1] > 0 and apart[1] > apart[2] > 0


def test_gradients_of_a_batch_are_those_of_its_mean_loss(tmp_path: Path) -> None:
    """One step's gradient, taken over micro-batches of unequal size, against autograd over the whole batch at once."""
    loaded, task = prepare("bert", tmp_path)
    run = Finetuning(loaded, task, settings(), ExecutionConfig(micro_batch_tokens=64), seed=0)
    rows = np.arange(13)
    assert len(cut(rows, task["train"].lengths, max_tokens=64)) > 3
    run.model.eval()  # without dropout
    loss = run._accumulate(task["train"], rows)
    found = [p.grad.clone() for p in run.model.parameters() if p.grad is not None]
    run.model.zero_grad()
    batch = collate(task["train"], rows, pad_id=task.pad_id)
    whole = run.model(**batch.inputs, labels=batch.labels).loss
    whole.backward()
    expected = [p.grad for p in run.model.parameters() if p.grad is not None]
    assert loss == pytest.approx(whole.item(), rel=1e-5)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)
