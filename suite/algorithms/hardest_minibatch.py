"""Of ``candidates`` mini-batches, train on the one of highest mean loss, with any training algorithm.

Sahayam et al., Can we learn better with hard samples? (arXiv 2304.03486): update on the share delta = 1/``candidates`` of the
mini-batches with the highest loss; here among consecutive mini-batches instead of those of a whole epoch, so losses are never old.
The curation method ``hardest_batches`` picks single examples; this one picks whole mini-batches.
Expect  fewer updates, not less time: every candidate is a drawn, decoded and charged mini-batch and a forward pass. On digits the
        paper's gain did not appear: about twice the examples of plain training to the same accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, Problem, StepReport, TrainingAlgorithm, mean_loss
from ..errors import ConfigError
from .inner import make_inner

__all__ = ["HardestMinibatch"]


@dataclass
class State:
    inner: Any
    problem: Problem


@final
class HardestMinibatch(TrainingAlgorithm):
    """``candidates``: mini-batches looked at for one update."""

    def __init__(self, *, inner: Mapping[str, Any], candidates: int = 2) -> None:
        if candidates < 1:
            raise ConfigError(f"candidates: expected at least 1, given {candidates}")
        self.inner, self.candidates = make_inner(inner), candidates

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The inner algorithm's state."""
        return State(self.inner.setup(model, problem), problem)

    def step(self, state: State, batch: Batch) -> StepReport:
        """Draw, compare, train on the hardest. Comparing waits for the device."""
        if self.candidates == 1:
            return self.inner.step(state.inner, batch)
        drawn = [_copy(batch), *(_copy(state.problem.next_batch()) for _ in range(self.candidates - 1))]
        with torch.no_grad():
            losses = torch.stack([mean_loss(state.problem.losses(candidate), candidate) for candidate in drawn])
        return self.inner.step(state.inner, drawn[int(losses.argmax())])

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """The inner algorithm's choice."""
        return self.inner.weights_for_evaluation(state.inner)

    def state_dict(self, state: State) -> dict[str, Any]:
        """The inner algorithm's."""
        return self.inner.state_dict(state.inner)

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore the inner algorithm."""
        self.inner.load_state_dict(state.inner, payload)


def _copy(batch: Batch) -> Batch:
    """A batch is valid until the next one is asked for."""
    weights = None if batch.weights is None else batch.weights.clone()
    return Batch(batch.ids.clone(), {name: value.clone() for name, value in batch.fields.items()}, weights)
