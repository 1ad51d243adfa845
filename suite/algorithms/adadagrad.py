"""AdAdaGrad: the batch grows when the scatter of the gradients drowns their mean.

Norm test (Lau, Liu and Kolar, AdAdaGrad, arXiv 2402.11215): a batch of b examples is large enough while
Var(g_i) <= eta^2 b |g|^2. The variance of single gradients is estimated from those of ``chunks`` parts of the batch. When the test
fails, the next batch has ceil(Var / (eta^2 |g|^2)) examples, rounded up to a multiple of the first batch size and at most
``largest`` times it. Batches never shrink. The update is the inner algorithm's (AdaGrad in the paper).
Expect  small batches while the gradient is large, large ones near the end; fewer updates than a fixed small batch at equal examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, Problem, StepReport, TrainingAlgorithm
from .gradient_chunks import ChunkGradients, chunk_gradients
from .inner import make_inner, own_hyperparameters, trainable

__all__ = ["GrowingBatch", "wanted_batch_size"]


@dataclass
class State:
    inner: Any
    problem: Problem
    eta: float
    batch_size: int
    parts: ChunkGradients | None = None  # of the batch in work, on a step with a test
    steps: int = 0


@final
class GrowingBatch(TrainingAlgorithm):
    """Hyperparameter ``eta``: how much scatter is borne. ``every``: steps from test to test, each of which waits for the device."""

    def __init__(self, *, inner: Mapping[str, Any], chunks: int = 8, every: int = 10, largest: int = 16) -> None:
        self.inner, self.chunks, self.every, self.largest = make_inner(inner), chunks, every, largest

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The inner algorithm's state, over a problem that splits the batch on the steps with a test."""
        (eta,), rest = own_hyperparameters(problem, ["eta"])
        parameters = trainable(model)
        state = State(None, problem, eta, problem.batch_size)

        def losses(batch: Batch) -> Tensor:
            if (state.steps + 1) % self.every:
                return problem.losses(batch)
            state.parts = chunk_gradients(problem, parameters, batch, self.chunks)
            return state.parts.losses

        def backward(loss: Tensor) -> None:
            if state.parts is None:
                problem.backward(loss)
                return
            self._grow(state, state.parts)
            for name, mean in state.parts.mean.items():
                parameters[name].grad = mean
            state.parts = None

        state.inner = self.inner.setup(model, replace(rest, losses=losses, backward=backward))
        return state

    def step(self, state: State, batch: Batch) -> StepReport:
        """A step of the inner algorithm, and the next batch size."""
        report = self.inner.step(state.inner, batch)
        state.steps += 1
        return replace(report, next_batch_size=state.batch_size)

    def _grow(self, state: State, parts: ChunkGradients) -> None:
        first = state.problem.batch_size
        wanted = min(wanted_batch_size(parts, state.eta), first * self.largest)
        if math.isfinite(wanted):
            state.batch_size = max(state.batch_size, first * math.ceil(wanted / first))

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """The inner algorithm's choice."""
        return self.inner.weights_for_evaluation(state.inner)

    def state_dict(self, state: State) -> dict[str, Any]:
        """The batch size and the inner algorithm's state."""
        return {"inner": self.inner.state_dict(state.inner), "batch_size": state.batch_size, "steps": state.steps}

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore both."""
        self.inner.load_state_dict(state.inner, payload["inner"])
        state.batch_size, state.steps = payload["batch_size"], payload["steps"]


def wanted_batch_size(parts: ChunkGradients, eta: float) -> float:
    """The smallest batch that passes the norm test, Var(g_i) / (eta^2 |g|^2), from the gradients of the parts of a batch.

    The variance of a mean of n gradients is 1/n of theirs, and k parts give it with k - 1 degrees of freedom. ``inf`` at a
    stationary point, 0 without scatter or parts.
    """
    if parts.count < 2:
        return 0.0
    scatter = torch.stack([variance.sum() for variance in parts.variance.values()]).sum()
    norm = torch.stack([mean.square().sum() for mean in parts.mean.values()]).sum()
    variance = float(scatter) * len(parts.losses) / (parts.count - 1)
    if float(norm) > 0:
        return variance / (eta**2 * float(norm))
    return math.inf if variance > 0 else 0.0
