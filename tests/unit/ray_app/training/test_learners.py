"""Losses and answers of both families, against plain torch and transformers' own losses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from transformers import T5Tokenizer

from ray_app.training.batches import MicroBatch
from ray_app.training.learners import INVALID, EncoderLearner, TextLearner
from ray_app.training.models import load_model
from ray_app.training.tokens import Family, TaskFacts
from tests.model_factory import SENTENCES, tiny_model
from tracking.errors import InputError, TaskDataError

NUMBER = TaskFacts(name="likeness", label_names=(), label_words=(), regression=True)


def classes(*words: str) -> TaskFacts:
    return TaskFacts(name="task", label_names=words, label_words=words, regression=False)


def batch_of(tokenizer: Any, texts: list[str], labels: list[float], *, number: bool = False) -> MicroBatch:
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    held = torch.tensor(labels, dtype=torch.float32 if number else torch.int64)
    return MicroBatch(rows=np.arange(len(texts)), inputs=dict(inputs), labels=held, n_tokens=0)


class Fixed(torch.nn.Module):
    """A model that answers with given logits."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, **inputs: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits)


def answers(logits: list[list[float]], labels: list[float], facts: TaskFacts) -> tuple[list[float], float]:
    held = torch.tensor(labels, dtype=torch.float32 if facts.regression else torch.int64)
    batch = MicroBatch(rows=np.arange(len(labels)), inputs={}, labels=held, n_tokens=0)
    found = EncoderLearner(Fixed(logits), facts).answer(batch)
    return found.values.tolist(), found.loss


def test_cross_entropy_by_hand() -> None:
    # two rows, logits (0, log 3) and (log 4, 0): probabilities of the labels 3/4 and 1/5
    values, loss = answers([[0.0, np.log(3)], [np.log(4), 0.0]], [1, 1], classes("a", "b"))
    assert values == [1, 0]
    assert loss == pytest.approx(-np.log(3 / 4) - np.log(1 / 5), rel=1e-6)


def test_squared_error_by_hand() -> None:
    values, loss = answers([[1.5], [-2.0]], [1.0, 1.0], NUMBER)
    assert values == [1.5, -2.0]
    assert loss == pytest.approx(0.25 + 9.0)


def test_logits_that_are_no_numbers_count_as_lowest() -> None:
    nan, inf = float("nan"), float("inf")
    values, _ = answers([[nan, -3.0], [inf, 0.0], [nan, nan], [-inf, -9.0]], [0, 0, 0, 0], classes("a", "b"))
    assert values == [1, 1, 0, 1]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_loss_of_an_encoder_is_that_of_transformers_times_the_rows(kind: str) -> None:
    facts = classes("a", "b", "c")
    loaded = load_model(tiny_model(kind), facts, Family.ENCODER)
    loaded.reset(0)
    model = loaded.model.eval()
    batch = batch_of(loaded.tokenizer, list(SENTENCES[:5]), [0, 2, 1, 1, 0])
    learner = EncoderLearner(model, facts)
    theirs = model(**batch.inputs, labels=batch.labels).loss * 5
    torch.testing.assert_close(learner.loss(batch), theirs)
    found = learner.answer(batch)
    assert found.loss == pytest.approx(theirs.item(), rel=1e-6)
    np.testing.assert_array_equal(found.values, model(**batch.inputs).logits.argmax(-1).numpy())
    assert learner.weight(batch.labels.numpy()) == 5.0


def test_loss_of_a_regression_is_that_of_transformers_times_the_rows() -> None:
    loaded = load_model(tiny_model("bert"), NUMBER, Family.ENCODER)
    loaded.reset(0)
    model = loaded.model.eval()
    batch = batch_of(loaded.tokenizer, list(SENTENCES[:4]), [0.2, 4.0, 2.5, 1.0], number=True)
    theirs = model(**batch.inputs, labels=batch.labels).loss * 4
    torch.testing.assert_close(EncoderLearner(model, NUMBER).loss(batch), theirs)


def test_losses_of_micro_batches_add_up_to_that_of_the_batch() -> None:
    facts = classes("a", "b")
    loaded = load_model(tiny_model("bert"), facts, Family.ENCODER)
    loaded.reset(0)
    learner = EncoderLearner(loaded.model.eval(), facts)
    texts, labels = list(SENTENCES[:6]), [0, 1, 1, 0, 1, 0]
    whole = learner.loss(batch_of(loaded.tokenizer, texts, labels))
    parts = [
        learner.loss(batch_of(loaded.tokenizer, texts[at:to], labels[at:to])) for at, to in ((0, 1), (1, 4), (4, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)


@pytest.fixture
def t5() -> Any:
    loaded = load_model(tiny_model("t5"), classes("a", "b"), Family.TEXT_TO_TEXT)
    loaded.reset(0)
    loaded.model.eval()
    return loaded


def test_loss_of_a_text_model_is_that_of_transformers_times_the_tokens(t5: Any) -> None:
    words = ("delight", "dull and lifeless")
    learner = TextLearner(t5.model, t5.tokenizer, classes(*words))
    labels = [1, 0, 0, 1]
    batch = batch_of(t5.tokenizer, list(SENTENCES[:4]), labels)
    targets = t5.tokenizer([words[label] for label in labels], padding=True, return_tensors="pt").input_ids
    n_tokens = int((targets != t5.tokenizer.pad_token_id).sum())
    theirs = t5.model(**batch.inputs, labels=targets.masked_fill(targets == t5.tokenizer.pad_token_id, -100)).loss
    assert n_tokens == 2 * (1 + 1) + 2 * (3 + 1)
    assert learner.weight(batch.labels.numpy()) == n_tokens
    torch.testing.assert_close(learner.loss(batch), theirs * n_tokens, rtol=1e-5, atol=1e-5)
    assert learner.answer(batch).loss == pytest.approx(theirs.item() * n_tokens, rel=1e-5)


def test_text_losses_of_micro_batches_add_up_though_targets_differ_in_length(t5: Any) -> None:
    learner = TextLearner(t5.model, t5.tokenizer, classes("film", "a dull story"))
    texts = list(SENTENCES[:4])
    whole = learner.loss(batch_of(t5.tokenizer, texts, [0, 1, 0, 1]))
    parts = [
        learner.loss(batch_of(t5.tokenizer, [text], [label])) for text, label in zip(texts, [0, 1, 0, 1], strict=True)
    ]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-5, atol=1e-5)


def written(learner: TextLearner, t5: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the learner makes of texts that the model is made to write."""
    ids = t5.tokenizer(texts, padding=True, return_tensors="pt").input_ids
    start = torch.full((len(texts), 1), t5.model.config.decoder_start_token_id)
    monkeypatch.setattr(t5.model, "generate", lambda **given: torch.cat([start, ids], 1))
    batch = batch_of(t5.tokenizer, [SENTENCES[0]] * len(texts), [0.0] * len(texts), number=learner.regression)
    return learner.answer(batch).values.tolist()


def test_answers_are_exact_matches_and_the_rest_is_invalid(t5: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = TextLearner(t5.model, t5.tokenizer, classes("good", "good film", "Bad"))
    texts = ["good", "good film", " Good ", "bad", "good film good", "goo", "", "BAD"]
    assert written(learner, t5, texts, monkeypatch) == [0, 1, 0, 2, INVALID, INVALID, INVALID, 2]


def test_labels_of_several_tokens_that_share_a_beginning_can_be_written_in_full(t5: Any) -> None:
    words = ("film", "film and story")
    learner = TextLearner(t5.model, t5.tokenizer, classes(*words))
    assert learner.max_new_tokens == 4  # three words and the end


def test_the_model_s_own_greedy_answer_is_what_transformers_generates(t5: Any) -> None:
    facts = classes("delight", "dull")
    learner = TextLearner(t5.model, t5.tokenizer, facts)
    for seed in range(2):  # make some tiny model write one of the words
        with torch.no_grad():
            t5.model.lm_head.weight.normal_(generator=torch.Generator().manual_seed(seed))
        batch = batch_of(t5.tokenizer, list(SENTENCES), [0] * len(SENTENCES))
        theirs = t5.model.generate(**batch.inputs, max_new_tokens=learner.max_new_tokens, do_sample=False)
        texts = [t5.tokenizer.decode(row, skip_special_tokens=True).strip().lower() for row in theirs]
        expected = [facts.label_words.index(text) if text in facts.label_words else INVALID for text in texts]
        assert learner.answer(batch).values.tolist() == expected


@pytest.fixture
def t5_of_numbers(t5: Any) -> Any:
    """The tiny model with a tokenizer that knows digits, which its own does not."""
    pieces = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, "▁": -5.0} | dict.fromkeys("0123456789.-film", -8.0)
    core = tokenizers.Tokenizer(tokenizers.models.Unigram(list(pieces.items()), unk_id=2))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    core.decoder = tokenizers.decoders.Metaspace()
    core.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    t5.tokenizer = T5Tokenizer(tokenizer_object=core, extra_ids=0, model_max_length=64)
    return t5


def test_numbers_are_written_in_steps_of_a_fifth(t5_of_numbers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    t5 = t5_of_numbers
    learner = TextLearner(t5.model, t5.tokenizer, NUMBER)
    # T5's rule: round(5 x) / 5 with halves to even, one decimal
    expected = {
        0.0: "0.0",
        0.09: "0.0",
        0.1: "0.0",
        0.11: "0.2",
        2.5: "2.4",
        2.57: "2.6",
        3.75: "3.8",
        4.95: "5.0",
        5.0: "5.0",
    }
    for label, text in expected.items():
        assert learner._target(label).tolist() == t5.tokenizer(text).input_ids
    assert learner._target(float(np.float32(3.1))).tolist() == learner._target(3.1).tolist()
    texts = ["3.4", "4", "film", "nan", "5.0 5.0", "-1.0"]
    found = written(learner, t5, texts, monkeypatch)
    np.testing.assert_array_equal(found, [3.4, 4.0, np.nan, np.nan, np.nan, -1.0])


@pytest.mark.parametrize("label", [-0.5, 5.1, 37.0, float("nan")])
def test_numbers_a_text_model_cannot_write_are_refused(t5_of_numbers: Any, label: float) -> None:
    with pytest.raises(TaskDataError, match="expected a number from 0 to 5"):
        TextLearner(t5_of_numbers.model, t5_of_numbers.tokenizer, NUMBER).weight(np.array([1.0, label]))


@pytest.mark.parametrize("words", [("Yes", "yes"), ("yes ", "yes"), ("good", "good")])
def test_labels_that_are_written_alike_are_refused(t5: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="are both written"):
        TextLearner(t5.model, t5.tokenizer, classes(*words))


@pytest.mark.parametrize("word", ["", "\u4e2d", "</s>"])
def test_a_label_that_the_tokenizer_cannot_write_is_refused(t5: Any, word: str) -> None:
    with pytest.raises(InputError, match="has no text in this tokenizer"):
        TextLearner(t5.model, t5.tokenizer, classes("good", word))


def test_a_label_counts_as_the_tokenizer_writes_it(t5: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = TextLearner(t5.model, t5.tokenizer, classes("fil~m", "bad"))  # it has no '~', so that reads 'film'
    assert t5.tokenizer.unk_token_id in t5.tokenizer("fil~m").input_ids
    assert written(learner, t5, ["fil~m", "film", "bad"], monkeypatch) == [0, 0, 1]


def test_numbers_need_a_tokenizer_with_digits(t5: Any) -> None:
    with pytest.raises(InputError, match="are both written"):
        TextLearner(t5.model, t5.tokenizer, NUMBER)
