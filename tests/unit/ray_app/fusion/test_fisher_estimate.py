"""The Fisher estimate against the Jacobian of the logits, an independent way to the same number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from ray_app.fusion.fisher_estimate import estimate_fisher, save_fisher
from ray_app.training.batches import collate
from ray_app.training.tokens import EncodedTask, Family, TaskFacts, encode_task
from tests.model_factory import SENTENCES, tiny_model
from tracking.errors import CheckpointError


@pytest.fixture
def task(tmp_path: Path) -> EncodedTask:
    """Three classes, eight rows."""
    import pyarrow as pa
    from transformers import AutoTokenizer

    rows = pa.table({"text": list(SENTENCES), "label": [row % 3 for row in range(len(SENTENCES))]})
    facts = TaskFacts(name="t", label_names=("x", "y", "z"), label_words=("x", "y", "z"), regression=False)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("bert"))
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    encode_task(
        tmp_path / "tokens", tokenizer, splits, facts, text_columns=("text",), family=Family.ENCODER, max_length=32
    )
    return EncodedTask(tmp_path / "tokens")


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A tiny BERT with a head of three classes."""
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(tiny_model("bert", seed=1), num_labels=3)
        torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(tmp_path / "classifier")
    return tmp_path / "classifier"


def test_the_estimate_is_the_expected_squared_score(task: EncodedTask, classifier: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    found = estimate_fisher(classifier, task, family=Family.ENCODER, rows=4, seed=0)
    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    chosen = np.sort(np.random.default_rng(0).permutation(8)[:4])
    name = "bert.encoder.layer.1.output.dense.bias"
    parameter = dict(model.named_parameters())[name]
    total = np.zeros(parameter.shape)
    for row in chosen:
        inputs = collate(task["train"], np.array([row]), pad_id=task.pad_id).inputs
        logits = model(**inputs).logits[0]
        jacobian = torch.stack([torch.autograd.grad(value, parameter, retain_graph=True)[0] for value in logits])
        probabilities = logits.detach().softmax(-1).double().numpy()
        slopes = jacobian.double().numpy()
        scores = slopes - probabilities @ slopes  # d log p_c = J_c - sum_k p_k J_k
        total += probabilities @ scores**2
    np.testing.assert_allclose(found[name].numpy(), total / 4, rtol=1e-4, atol=1e-12)
    assert not any(key.startswith("classifier") for key in found) and "bert.pooler.dense.bias" in found
    assert all(bool((value >= 0).all()) for value in found.values())


def test_it_is_stored_and_read_back(task: EncodedTask, classifier: Path, tmp_path: Path) -> None:
    found = estimate_fisher(classifier, task, family=Family.ENCODER, rows=1)
    path = save_fisher(found, tmp_path / "deep" / "fisher.safetensors")
    stored = load_file(path)
    assert all(np.array_equal(stored[name], value.numpy()) for name, value in found.items())
    assert [each.name for each in path.parent.iterdir()] == ["fisher.safetensors"]


def test_a_model_without_a_trained_head_is_refused(task: EncodedTask) -> None:
    with pytest.raises(CheckpointError, match=r"no Fisher can be estimated .* no classification head"):
        estimate_fisher(tiny_model("bert"), task, family=Family.ENCODER, rows=1)
