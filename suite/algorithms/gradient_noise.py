"""Annealed Gaussian noise on the gradients of any training algorithm.

Every gradient gets independent noise of variance eta / (1 + t) ** gamma at step t (Neelakantan et al., arXiv 1511.06807, equation 1).
Expect  rescue of deep plain networks from poor initial weights; where the initial weights are good, nothing or harm. eta is
        not scale free: 0.3 suits summed losses of the paper, much less is needed for mean losses of small networks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, Problem, StepReport, TrainingAlgorithm
from .inner import make_inner, own_hyperparameters, trainable

__all__ = ["GradientNoise"]


@dataclass
class State:
    inner: Any
    steps: int = 0


@final
class GradientNoise(TrainingAlgorithm):
    """Hyperparameters ``eta`` (variance of the noise at the first step) and ``gamma`` (how fast it falls; 0.55 in the paper)."""

    def __init__(self, *, inner: Mapping[str, Any]) -> None:
        self.inner = make_inner(inner)

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The inner algorithm's state, over a problem whose backward pass ends with noise."""
        (eta, gamma), rest = own_hyperparameters(problem, ["eta", "gamma"])
        parameters = trainable(model)
        state = State(None)

        def backward(loss: Tensor) -> None:
            problem.backward(loss)
            deviation = math.sqrt(eta / (1 + state.steps) ** gamma)
            for name in sorted(parameters):  # the order of the draws must not depend on the order of the parameters
                gradient = parameters[name].grad
                if gradient is not None:
                    noise = torch.randn(gradient.shape, generator=problem.generator, device=gradient.device, dtype=gradient.dtype)
                    gradient.add_(noise, alpha=deviation)

        state.inner = self.inner.setup(model, replace(rest, backward=backward))
        return state

    def step(self, state: State, batch: Batch) -> StepReport:
        """A step of the inner algorithm on noisy gradients."""
        report = self.inner.step(state.inner, batch)
        state.steps += 1
        return report

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """The inner algorithm's choice."""
        return self.inner.weights_for_evaluation(state.inner)

    def state_dict(self, state: State) -> dict[str, Any]:
        """The number of steps and the inner algorithm's state; the harness keeps the generator."""
        return {"inner": self.inner.state_dict(state.inner), "steps": state.steps}

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore both."""
        self.inner.load_state_dict(state.inner, payload["inner"])
        state.steps = payload["steps"]
