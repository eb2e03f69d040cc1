"""Learning rate, decay groups, gradient limit and distance penalty, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ray_app.training.optimization import (
    add_distance_penalty,
    count_steps,
    limit_gradients,
    make_optimizer,
    rate_factor,
    stage_end,
)
from ray_app.training.settings import FinetuneConfig


class Small(nn.Module):
    """A matrix, a bias and a norm, under names as some architectures have them."""

    def __init__(self) -> None:
        super().__init__()
        self.roberta_prelayernorm = nn.Linear(2, 3)
        self.layer_norm = nn.LayerNorm(3)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "max_epochs", "expected"),
    [
        (1000, 256, 10, (4, 40)),  # 256 + 256 + 256 + 232
        (256, 256, 1, (1, 1)),
        (257, 256, 1, (2, 2)),
        (10, 256, 3, (1, 3)),  # fewer rows than a batch
        (1000, 100, 0.5, (10, 5)),
        (1000, 100, 0.25, (10, 3)),  # two and a half steps: a step begun is a step done
        (1000, 100, 1.1, (10, 11)),  # in binary 10 x 1.1 lies above 11
        (1000, 100, 0.001, (10, 1)),
    ],
)
def test_steps_by_hand(n_rows: int, batch_size: int, max_epochs: float, expected: tuple[int, int]) -> None:
    assert count_steps(n_rows, FinetuneConfig(batch_size=batch_size, max_epochs=max_epochs)) == expected


def test_stages_end_as_equally_as_steps_allow_and_the_last_with_the_last_step() -> None:
    # 13 steps in 5 stages: 2.6, 5.2, 7.8, 10.4, 13, each rounded up
    assert [stage_end(stage, n_stages=5, total_steps=13) for stage in range(1, 6)] == [3, 6, 8, 11, 13]
    assert [stage_end(stage, n_stages=4, total_steps=4) for stage in range(1, 5)] == [1, 2, 3, 4]


def test_rate_rises_over_the_warmup_and_falls_to_nothing() -> None:
    found = [rate_factor(step, total_steps=10, warmup_fraction=0.3) for step in range(11)]
    assert found == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7, 0])


def test_rate_of_the_protocol() -> None:
    # 1000 steps, 0.6 %: six of warm-up, the seventh at the peak
    found = [rate_factor(step, total_steps=1000, warmup_fraction=0.006) for step in (0, 5, 6, 503, 999)]
    assert found == pytest.approx([1 / 7, 6 / 7, 1.0, 497 / 994, 1 / 994])


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, [1.0, 0.5]), (1.0, [1 / 3, 2 / 3])])
def test_rate_at_the_ends_of_the_range(fraction: float, expected: list[float]) -> None:
    assert [rate_factor(step, total_steps=2, warmup_fraction=fraction) for step in range(2)] == pytest.approx(expected)


def test_matrices_decay_and_vectors_do_not_whatever_their_names() -> None:
    model = Small()
    optimizer = make_optimizer(model, FinetuneConfig(weight_decay=0.02, learning_rate=0.1))
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.02, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(model.roberta_prelayernorm.weight)]
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in spared["params"]} == {
        "roberta_prelayernorm.bias",
        "layer_norm.weight",
        "layer_norm.bias",
    }


def test_a_step_of_adamw_by_hand() -> None:
    # First step: m / (1 - b1) = g and v / (1 - b2) = g^2, so the weight moves by lr * sign(g), after decay by lr * wd.
    model = Small()
    before = model.roberta_prelayernorm.weight.detach().clone()
    optimizer = make_optimizer(model, FinetuneConfig(weight_decay=0.5, learning_rate=0.1))
    model.roberta_prelayernorm.weight.grad = torch.tensor([[3.0, -2.0]] * 3)
    optimizer.step()
    expected = before * (1 - 0.1 * 0.5) - 0.1 * torch.tensor([[1.0, -1.0]] * 3)
    torch.testing.assert_close(model.roberta_prelayernorm.weight.detach(), expected, rtol=1e-5, atol=1e-6)


def with_gradients() -> Small:
    model = Small()
    model.roberta_prelayernorm.weight.grad = torch.full((3, 2), 2.0)
    model.layer_norm.bias.grad = torch.tensor([1.0, 0.0, 0.0])
    return model


def test_gradients_are_scaled_to_the_limit_and_their_norm_is_told() -> None:
    model = with_gradients()  # norm sqrt(6 * 4 + 1) = 5
    assert limit_gradients(model, 1.0) == pytest.approx(5.0)
    torch.testing.assert_close(model.layer_norm.bias.grad, torch.tensor([0.2, 0.0, 0.0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [0.0, 7.0])
def test_gradients_below_the_limit_or_without_one_stay(limit: float) -> None:
    model = with_gradients()
    assert limit_gradients(model, limit) == pytest.approx(5.0)
    assert torch.equal(model.roberta_prelayernorm.weight.grad, torch.full((3, 2), 2.0))


@pytest.mark.parametrize("limit", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradients_that_are_no_numbers_show_in_the_norm(limit: float, value: float) -> None:
    model = with_gradients()
    model.layer_norm.bias.grad[1] = value
    assert not math.isfinite(limit_gradients(model, limit))


def test_penalty_has_the_gradient_that_autograd_finds() -> None:
    model, weight = Small(), 0.3
    anchor = {
        "roberta_prelayernorm.weight": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)),
        "layer_norm.weight": torch.tensor([2.0, 0.0, 1.0]),
        "frozen.weight": torch.zeros(3, 3),
    }
    model.layer_norm.weight.grad = torch.ones(3)  # there already
    found = add_distance_penalty(model, anchor, weight)
    first, second = model.roberta_prelayernorm.weight, model.layer_norm.weight
    by_autograd = [part.detach().clone().requires_grad_() for part in (first, second)]
    value = (weight / 2) * sum(
        (part - anchor[name]).square().sum()
        for part, name in zip(by_autograd, ("roberta_prelayernorm.weight", "layer_norm.weight"), strict=True)
    )
    value.backward()
    torch.testing.assert_close(found, value.detach())
    torch.testing.assert_close(first.grad, by_autograd[0].grad)
    torch.testing.assert_close(second.grad, by_autograd[1].grad + 1)
    assert model.layer_norm.bias.grad is None and model.frozen.weight.grad is None


def test_no_anchor_is_no_penalty() -> None:
    model = Small()
    assert add_distance_penalty(model, {}, 0.5) == 0
    assert all(parameter.grad is None for parameter in model.parameters())
