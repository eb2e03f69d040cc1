"""One finetune in several processes, each with its share of every batch (data parallel), with the result of one process.

Every process holds the whole model. Which rows a process gets does not change what is computed for a row: dropout is keyed by
row, and the sum of the shares' gradients is the gradient of the batch. So the result differs from that of one process by float
rounding only. Gradients are summed once a step, after the last micro-batch, in a few large pieces; they do not overlap with the
backward pass as torch's DistributedDataParallel does, for here processes may hold different numbers of micro-batches, or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from ray_app.training.batches import cut
from ray_app.training.finetune import Finetuning
from tracking.errors import InfrastructureError

PIECE = 2**24
"""Most gradient elements that are summed in one go (64 MiB in float32)."""


class TeamLostError(InfrastructureError):
    """Another process of the team is gone, or its connection is."""


class Team:
    """The processes that train one cell together; torch's process group must be up.

    Args:
        device: where tensors must lie to be exchanged: the process's GPU with NCCL, the CPU with gloo.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()

    def share(self, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """This process's rows: every ``size``-th in order of length, so that all have about as much to do.

        Args:
            rows: row numbers, shape (n,).
            lengths: length of every row of the split.
        """
        return rows[np.argsort(lengths[rows], kind="stable")][self.rank :: self.size]

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over the team, in place on the team's device; the same bits in every process.

        Raises:
            TeamLostError: another process is gone.
        """
        held = tensor.to(self.device)
        try:
            distributed.all_reduce(held)
        except RuntimeError as error:
            raise TeamLostError(
                f"process {self.rank} of {self.size} lost the others ({str(error).splitlines()[0]}); the cell is tried again"
            ) from error
        return held

    def sum_array(self, values: np.ndarray) -> np.ndarray:
        """Sum of arrays over the team."""
        return np.asarray(self.sum(torch.from_numpy(values)).cpu())

    def sum_gradients(self, model: nn.Module, *, weight: float, loss: float) -> float:
        """Replace the gradients by sum_i w_i g_i over the processes, and return sum_i w_i loss_i.

        A parameter that has a gradient in no process keeps none, so that the optimiser leaves it alone as it would with one.
        """
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        held = [loss * weight if weight else 0.0, *(float(parameter.grad is not None) for parameter in trained)]
        summed = self.sum(torch.tensor(held, dtype=torch.float64)).tolist()
        used = [parameter for parameter, count in zip(trained, summed[1:], strict=True) if count]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            else:
                parameter.grad.mul_(weight)
        for piece in _pieces(used):
            joined = self.sum(torch.cat([parameter.grad.flatten() for parameter in piece]))  # type: ignore[union-attr]
            for parameter, part in zip(piece, joined.split([each.numel() for each in piece]), strict=True):
                parameter.grad.copy_(part.view_as(parameter))  # type: ignore[union-attr]
        return float(summed[0])

    def agree(self, value: int) -> bool:
        """Whether all processes hold the same number."""
        total, squares = self.sum_array(np.array([value, value * value], dtype=np.float64))
        return bool(self.size * squares == total * total)


def _pieces(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in groups of at most ``PIECE`` elements (a larger one stands alone)."""
    group: list[nn.Parameter] = []
    for parameter in parameters:
        if group and sum(each.numel() for each in group) + parameter.numel() > PIECE:
            yield group
            group = []
        group.append(parameter)
    if group:
        yield group


class TeamFinetuning(Finetuning):
    """A finetune by a team: each process calls the same methods in the same order.

    Args:
        given: as for ``Finetuning``.
        team: the processes.
        more: as for ``Finetuning``.
    """

    def __init__(self, *given: Any, team: Team, **more: Any) -> None:
        super().__init__(*given, **more)
        self.team = team

    def _accumulate(self, split: Any, rows: np.ndarray) -> float:
        mine = self.team.share(rows, split.lengths)
        loss, weight = 0.0, 0.0
        if len(mine):
            loss = super()._accumulate(split, mine)
            weight = self.learner.weight(split.labels[mine]) / self.learner.weight(split.labels[rows])
        return self.team.sum_gradients(self.model, weight=weight, loss=loss)

    def _batches_of(self, split: Any) -> Iterator[np.ndarray]:
        mine = self.team.share(np.arange(len(split)), split.lengths)
        yield from cut(mine, split.lengths, max_tokens=self.eval_tokens) if len(mine) else ()

    def _joined(self, answers: np.ndarray, loss: float) -> tuple[np.ndarray, float]:
        return self.team.sum_array(answers), float(self.team.sum_array(np.array([loss]))[0])
