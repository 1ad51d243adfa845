"""VRGD: gradients scaled by their signal-to-noise ratio among the parts of a large batch, over any optimizer (VR-SGD, VR-Adam, …).

For every weight r = g^2 / s^2, with mean g and variance s^2 of the gradients of ``chunks`` parts; r is divided by its mean over
the parameter and cut to [``floor``, 1] (Jiang et al., Accelerating Large Batch Training via Gradient Signal to Noise Ratio,
arXiv 2309.13681; ``chunks`` stand for its devices). The inner optimizer sees r g; for Adam and LAMB the ratio is averaged
over steps with ``momentum`` beta3 and its bias corrected, for SGD and LARS momentum is 0.
Expect  gains at batches so large that some directions are certain and others noise; the plain optimizer where all are alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, Problem, StepReport, TrainingAlgorithm
from .gradient_chunks import ChunkGradients, chunk_gradients
from .inner import make_inner, trainable

__all__ = ["SignalToNoise", "signal_to_noise"]


@dataclass
class State:
    inner: Any
    parameters: dict[str, Tensor]
    ratios: dict[str, Tensor]  # running averages; empty without momentum
    steps: int = 0


@final
class SignalToNoise(TrainingAlgorithm):
    """``chunks``: parts of a batch. ``floor``: smallest ratio. ``momentum``: decay of the ratios' running average."""

    def __init__(self, *, inner: Mapping[str, Any], chunks: int = 8, floor: float = 0.1, momentum: float = 0.0) -> None:
        self.inner, self.chunks, self.floor, self.momentum = make_inner(inner), chunks, floor, momentum

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The inner algorithm's state, over a problem whose loss and gradients are those of the chunks."""
        state = State(None, trainable(model), {})
        found: list[ChunkGradients] = []

        def losses(batch: Batch) -> Tensor:
            found[:] = [chunk_gradients(problem, state.parameters, batch, self.chunks)]
            return found[0].losses

        def backward(loss: Tensor) -> None:
            self._scale(state, found.pop())

        state.inner = self.inner.setup(model, replace(problem, losses=losses, backward=backward))
        return state

    def _scale(self, state: State, chunks: ChunkGradients) -> None:
        """Put the scaled mean gradients where the inner optimizer looks for them."""
        state.steps += 1
        for name, mean in chunks.mean.items():
            ratio = signal_to_noise(mean, chunks.variance[name], self.floor)
            if self.momentum:
                running = state.ratios.setdefault(name, torch.zeros_like(ratio)).lerp_(ratio, 1 - self.momentum)
                ratio = running / (1 - self.momentum**state.steps)
            state.parameters[name].grad = mean.mul_(ratio)

    def step(self, state: State, batch: Batch) -> StepReport:
        """A step of the inner algorithm on scaled gradients."""
        return self.inner.step(state.inner, batch)

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """The inner algorithm's choice."""
        return self.inner.weights_for_evaluation(state.inner)

    def state_dict(self, state: State) -> dict[str, Any]:
        """Running ratios and the inner algorithm's state."""
        return {"inner": self.inner.state_dict(state.inner), "ratios": state.ratios, "steps": state.steps}

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore both."""
        self.inner.load_state_dict(state.inner, payload["inner"])
        state.ratios = {name: ratio.to(state.parameters[name].device) for name, ratio in payload["ratios"].items()}
        state.steps = payload["steps"]


@torch.no_grad()
def signal_to_noise(mean: Tensor, variance: Tensor, floor: float) -> Tensor:
    """mean^2 / variance, over its mean in the tensor, cut to [floor, 1]; 1 everywhere where there is neither signal nor noise.

    Written as a ratio of finite numbers, so a variance of zero gives the largest ratio and never an infinity.
    """
    signal = mean.square()
    tiny = torch.finfo(mean.dtype).tiny
    ratio = signal / (variance + signal * 1e-12).clamp_min(tiny)
    average = ratio.mean()
    return torch.where(average > 0, ratio / average.clamp_min(tiny), 1.0).clamp_(floor, 1.0)
