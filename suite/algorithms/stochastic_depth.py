"""Stochastic depth: residual blocks are skipped at random while training, over any training algorithm.

Huang et al., Deep Networks with Stochastic Depth (arXiv 1603.09382): in every step block l of L is kept with probability
p_l = 1 - l / L (1 - ``survival``), the same for the whole mini-batch, so that a skipped block costs nothing. The paper shrinks a block's
branch to p_l when it evaluates; here a kept branch is enlarged by 1 / p_l while training, which has the same expectation and leaves the
model that is evaluated alone.
A residual block is a module with a true attribute ``residual_block``: given x first, it returns x plus something of x's shape.
Expect  steps at about 3/4 of the cost at a survival of one half; better generalisation of deep models that are trained for long. FLOPs on
        the curve are those of the full depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, Need, Problem, StepReport, TrainingAlgorithm
from ..errors import ConfigError, NeedsUnmet
from .inner import make_inner, own_hyperparameters

__all__ = ["StochasticDepth", "survival_probabilities"]


@dataclass
class State:
    inner: Any


@final
class StochasticDepth(TrainingAlgorithm):
    """Hyperparameter ``survival``: probability that the last residual block is kept in a step."""

    needs = frozenset({Need.RESIDUAL_BLOCKS})

    def __init__(self, *, inner: Mapping[str, Any]) -> None:
        self.inner = make_inner(inner)

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The inner algorithm's state, over a problem whose forward pass skips blocks. ``NeedsUnmet`` for a model without any."""
        (survival,), rest = own_hyperparameters(problem, ["survival"])
        if not 0 < survival <= 1:
            raise ConfigError(f"survival: expected a probability above 0 and up to 1, given {survival}")
        blocks = [module for module in model.modules() if getattr(module, "residual_block", False)]
        if not blocks:
            raise NeedsUnmet("stochastic depth needs residual_blocks; this model has none that can be skipped")
        chances = survival_probabilities(len(blocks), survival)

        def losses(batch: Batch) -> Tensor:
            drawn = torch.rand(len(blocks), generator=problem.generator, device=problem.generator.device).tolist()
            with _skipping(blocks, chances, [number < chance for number, chance in zip(drawn, chances, strict=True)]):
                return problem.losses(batch)

        return State(self.inner.setup(model, replace(rest, losses=losses)))

    def step(self, state: State, batch: Batch) -> StepReport:
        """A step of the inner algorithm on the blocks that are kept."""
        return self.inner.step(state.inner, batch)

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """The inner algorithm's choice."""
        return self.inner.weights_for_evaluation(state.inner)

    def state_dict(self, state: State) -> dict[str, Any]:
        """The inner algorithm's; the harness keeps the generator."""
        return self.inner.state_dict(state.inner)

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore the inner algorithm."""
        self.inner.load_state_dict(state.inner, payload)


def survival_probabilities(count: int, last: float) -> list[float]:
    """Of ``count`` blocks from input to output: on a straight line from 1 (the input) to ``last``."""
    return [1 - (index / count) * (1 - last) for index in range(1, count + 1)]


@contextmanager
def _skipping(blocks: Sequence[nn.Module], chances: Sequence[float], kept: Sequence[bool]) -> Iterator[None]:
    """Within it, blocks that are not kept are the identity, and the branches of the others are enlarged by 1 / chance."""
    for block, chance, keep in zip(blocks, chances, kept, strict=True):
        block.forward = _enlarged(block.forward, chance) if keep else _identity
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _identity(x: Tensor, *others: Any, **named: Any) -> Tensor:
    return x


def _enlarged(forward: Callable[..., Tensor], chance: float) -> Callable[..., Tensor]:
    if chance == 1:
        return forward
    return lambda x, *others, **named: torch.lerp(x, forward(x, *others, **named), 1 / chance)
