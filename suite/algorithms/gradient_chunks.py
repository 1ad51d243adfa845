"""Gradients of the parts of a batch: their mean and their scatter, as k data-parallel workers would see them.

Each part has a forward and a backward pass of its own, so together they cost what one large batch costs; batch norm uses the
statistics of a part, as it does on unsynchronised workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..algorithm import Batch, Problem, mean_loss

__all__ = ["ChunkGradients", "chunk_gradients"]


@dataclass(frozen=True)
class ChunkGradients:
    """Of ``count`` chunks: mean gradients, and mean squared deviations from them (divided by ``count``), by parameter name.

    ``loss``: mean loss, scalar. ``losses``: per example ``[B]``. All detached. Parameters without a gradient are left out.
    """

    mean: dict[str, Tensor]
    variance: dict[str, Tensor]
    loss: Tensor
    losses: Tensor
    count: int


def chunk_gradients(problem: Problem, parameters: Mapping[str, Tensor], batch: Batch, count: int) -> ChunkGradients:
    """Split ``batch`` into ``count`` equal chunks (fewer when it is smaller; a remainder goes to the first ones) and backpropagate each.

    Leaves no gradients behind. The variance is accumulated by Welford's method, so equal gradients give exactly zero.
    """
    count = min(count, len(batch))
    means: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    losses = []
    for index, rows in enumerate(torch.arange(len(batch)).tensor_split(count), start=1):
        chunk = _rows(batch, slice(int(rows[0]), int(rows[-1]) + 1))
        each = problem.losses(chunk)
        problem.backward(mean_loss(each, chunk))
        losses.append(each.detach())
        with torch.no_grad():
            for name, parameter in parameters.items():
                gradient, parameter.grad = parameter.grad, None
                if gradient is None:
                    continue
                if index == 1:
                    means[name], squares[name] = gradient, torch.zeros_like(gradient)
                else:
                    deviation = gradient - means[name]
                    means[name].add_(deviation, alpha=1 / index)
                    squares[name].addcmul_(deviation, gradient - means[name])
    together = torch.cat(losses)
    variance = {name: square.div_(count) for name, square in squares.items()}
    return ChunkGradients(means, variance, mean_loss(together, batch), together, count)


def _rows(batch: Batch, rows: slice) -> Batch:
    weights = None if batch.weights is None else batch.weights[rows]
    return Batch(batch.ids[rows], {name: value[rows] for name, value in batch.fields.items()}, weights)
