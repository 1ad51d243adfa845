"""FLOPs of a training step, counted once per batch shape in a dry run outside the clock."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .algorithm import Batch, Problem, TrainingAlgorithm, mean_loss

__all__ = ["StepFlops", "count_step_flops", "dummy_batch"]


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of one training step at one batch shape.

    ``forward``: one forward pass. ``model``: one forward and backward pass. ``update``: all that the step does beside it.
    """

    forward: float
    model: float
    update: float

    @property
    def total(self) -> float:
        """What a step adds to the curve."""
        return self.model + self.update


def dummy_batch(batch: Batch) -> Batch:
    """A batch with the shapes and value ranges of a real one, in which no input keeps its label.

    Fields are rolled by different amounts along the batch, so a pass over it cannot teach what the data hold.
    """
    fields = {name: torch.roll(tensor, shift, dims=0) for shift, (name, tensor) in enumerate(batch.fields.items())}
    return replace(batch, fields=fields)


def count_step_flops(
    algorithm: TrainingAlgorithm, model: nn.Module, make_problem: Callable[[nn.Module], Problem], batch: Batch
) -> StepFlops:
    """Count a step of ``algorithm`` on a copy of ``model``, compiled code run eagerly so that the counter sees it.

    The second step is counted, since many update rules only initialise on the first. torch's random state is put back.
    """
    with torch.random.fork_rng(devices=[]), torch.compiler.set_stance("force_eager"):
        twin = copy.deepcopy(model)
        problem = make_problem(twin)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            problem.losses(batch)
        forward_flops = float(counter.get_total_flops())
        with FlopCounterMode(display=False) as counter:
            problem.backward(mean_loss(problem.losses(batch), batch))
        model_flops = float(counter.get_total_flops())
        twin.zero_grad(set_to_none=True)
        state: Any = algorithm.setup(twin, problem)
        algorithm.step(state, batch)
        with FlopCounterMode(display=False) as counter:
            algorithm.step(state, batch)
        step_flops = float(counter.get_total_flops())
    return StepFlops(forward_flops, model_flops, max(step_flops - model_flops, 0.0))
