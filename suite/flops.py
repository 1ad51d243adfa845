"""FLOPs of a training step, counted once per batch shape in a dry run outside the clock."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .algorithm import Batch, Problem, TrainingAlgorithm, mean_loss

__all__ = ["FORMULAS", "StepFlops", "count_step_flops", "dummy_batch"]


def _rnn_layer(x: Sequence[int], input_weights: Sequence[int], hidden_weights: Sequence[int], *rest: Any, **options: Any) -> int:
    """Two products for every step and example: gates from the input ``[gates, in]`` and from the hidden state ``[gates, hidden]``."""
    steps, examples, _ = x
    return 2 * steps * examples * (input_weights[0] * input_weights[1] + hidden_weights[0] * hidden_weights[1])


def _rnn_layer_backward(*shapes: Any, **options: Any) -> int:
    """Twice the forward pass: gradients of inputs and of weights."""
    return 2 * _rnn_layer(*shapes)


#: What torch's counter does not know, by operation: recurrent layers on the CPU, which run as one operation each.
FORMULAS: Mapping[Any, Callable[..., int]] = MappingProxyType(
    {
        torch.ops.aten.mkldnn_rnn_layer: _rnn_layer,
        torch.ops.aten.mkldnn_rnn_layer_backward: _rnn_layer_backward,
    }
)


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


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=dict(FORMULAS))


def count_step_flops(
    algorithm: TrainingAlgorithm, model: nn.Module, make_problem: Callable[[nn.Module], Problem], batch: Batch
) -> StepFlops:
    """Count a step of ``algorithm`` on a copy of ``model``, compiled code run eagerly so that the counter sees it.

    The second step is counted, since many update rules only initialise on the first. torch's random state is put back.
    """
    with torch.random.fork_rng(devices=[]), torch.compiler.set_stance("force_eager"):
        twin = copy.deepcopy(model)
        problem = make_problem(twin)
        with _counter() as counter, torch.no_grad():
            problem.losses(batch)
        forward_flops = float(counter.get_total_flops())
        with _counter() as counter:
            problem.backward(mean_loss(problem.losses(batch), batch))
        model_flops = float(counter.get_total_flops())
        twin.zero_grad(set_to_none=True)
        state: Any = algorithm.setup(twin, problem)
        algorithm.step(state, batch)
        with _counter() as counter:
            algorithm.step(state, batch)
        step_flops = float(counter.get_total_flops())
    return StepFlops(forward_flops, model_flops, max(step_flops - model_flops, 0.0))
