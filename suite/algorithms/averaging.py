"""Averaged weights for evaluation, over any training algorithm, which itself goes on undisturbed.

exponential   running mean over the last ``window`` of the budget: plain mean until the window is full, then exponential with weight 1/n for
              n = ``window`` x steps (Polyak and Juditsky 1992; as in Tarvainen and Valpola, arXiv 1703.01780)
latest        LAWA: mean of the last ``count`` snapshots, one every ``window`` of the budget (Kaddour, arXiv 2209.14981)

Expect  what a decaying learning rate gives, from a constant one: good weights at every moment, not only at the end. Averages of batch-norm
        statistics are averaged like weights; they are exact for neither, and better than those of the last step.
Costs   one copy of the weights (exponential) or ``count`` of them (latest); one pass over them a step or a snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, Problem, StepReport, TrainingAlgorithm
from ..errors import ConfigError
from .inner import averageable, make_inner, own_hyperparameters

__all__ = ["Averaged"]


@dataclass
class State:
    inner: Any
    live: dict[str, Tensor]  # parameters and floating-point buffers of the model that trains
    kept: list[dict[str, Tensor]]  # the running mean, or the snapshots, oldest first
    steps_each: float  # steps in a window
    steps: int = 0


@final
class Averaged(TrainingAlgorithm):
    """Hyperparameter ``window``: fraction of the budget. ``count``: snapshots that ``latest`` averages."""

    def __init__(self, *, inner: Mapping[str, Any], average: Literal["exponential", "latest"], count: int = 6) -> None:
        if average not in ("exponential", "latest"):
            raise ConfigError(f"average: expected exponential or latest, given {average!r}")
        self.inner, self.average, self.count = make_inner(inner), average, count

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The inner algorithm's state; averages begin with the first step."""
        (window,), rest = own_hyperparameters(problem, ["window"])
        return State(self.inner.setup(model, rest), averageable(model), [], max(1.0, window * problem.step_count))

    def step(self, state: State, batch: Batch) -> StepReport:
        """One step of the inner algorithm, then the average."""
        report = self.inner.step(state.inner, batch)
        state.steps += 1
        if self.average == "exponential":
            if not state.kept:
                state.kept = [_clone(state.live)]
            with torch.no_grad():
                torch._foreach_lerp_(list(state.kept[0].values()), list(state.live.values()), max(1 / state.steps, 1 / state.steps_each))
        elif int(state.steps / state.steps_each) > int((state.steps - 1) / state.steps_each):
            state.kept = [*state.kept, _clone(state.live)][-self.count :]
        return report

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """The mean of what is kept; the inner algorithm's choice while nothing is."""
        if not state.kept:
            return self.inner.weights_for_evaluation(state.inner)
        return {name: torch.stack([kept[name] for kept in state.kept]).mean(dim=0) for name in state.live}

    def state_dict(self, state: State) -> dict[str, Any]:
        """Averages and the inner algorithm's state."""
        return {"inner": self.inner.state_dict(state.inner), "kept": state.kept, "steps": state.steps}

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore both."""
        self.inner.load_state_dict(state.inner, payload["inner"])
        state.kept = [{name: kept[name].to(live.device) for name, live in state.live.items()} for kept in payload["kept"]]
        state.steps = payload["steps"]


def _clone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
