"""Large minibatches: ``factor`` times the batch, ``factor`` times the learning rate, reached by gradual warm-up, over any optimizer.

Linear scaling rule and gradual warm-up of Goyal et al., Accurate, Large Minibatch SGD (arXiv 1706.02677, sections 2.1 and 2.2): from the
first step on the batch is large, and the rate rises from that of the small batch to ``factor`` times it over ``warmup`` of the
budget. (The harness gives the first step its batch before it can be asked for another; that one step has the small batch and rate.)
Expect  the small batch's curve over examples up to a knee, at 1/factor of the updates; without warm-up the knee comes sooner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from torch import Tensor, nn

from ..algorithm import Batch, Problem, StepReport, TrainingAlgorithm
from ..errors import ConfigError
from .optimizer import OptimizerAlgorithm

__all__ = ["LargeMinibatch"]


@dataclass
class State:
    inner: Any
    problem: Problem


@final
class LargeMinibatch(TrainingAlgorithm):
    """``factor``: how many times the problem's batch. ``warmup``: fraction of the budget. Other options are the optimizer's."""

    def __init__(self, *, factor: int = 4, warmup: float = 0.1, **optimizer: Any) -> None:
        if factor < 1 or not 0 <= warmup <= 1:
            raise ConfigError(f"large_minibatch: expected factor of at least 1 and warmup from 0 to 1, given {factor} and {warmup}")
        self.factor, self.warmup = factor, warmup
        self.inner = OptimizerAlgorithm(**optimizer)

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The optimizer's state, at the learning rate of the small batch."""
        return State(self.inner.setup(model, replace(problem, step_count=max(1, problem.step_count // self.factor))), problem)

    def rate_factor(self, progress: float) -> float:
        """What multiplies the small batch's learning rate: 1 at the start, ``factor`` after the warm-up."""
        return 1 + (self.factor - 1) * (min(1.0, progress / self.warmup) if self.warmup else 1.0)

    def step(self, state: State, batch: Batch) -> StepReport:
        """A step of the optimizer at the rate that belongs to the batch."""
        large = len(batch) > state.problem.batch_size
        scale = self.rate_factor(state.problem.progress()) if large else 1.0
        small_rates = state.inner.base_rates
        state.inner.base_rates = [rate * scale for rate in small_rates]
        report = self.inner.step(state.inner, batch)
        state.inner.base_rates = small_rates
        return replace(report, next_batch_size=self.factor * state.problem.batch_size)

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """The model's own."""
        return None

    def state_dict(self, state: State) -> dict[str, Any]:
        """The optimizer's."""
        return self.inner.state_dict(state.inner)

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore the optimizer."""
        self.inner.load_state_dict(state.inner, payload)
