"""A problem whose gradients are dictated: the loss is linear in the weights, so that a rule can be followed step by step."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from timetrial.suite.algorithm import Batch, ParameterKind, Problem, TrainingAlgorithm
from timetrial.suite.config import instantiate, resolve_definition

KINDS = {"matrix": ParameterKind.MATRIX, "square": ParameterKind.MATRIX, "conv": ParameterKind.CONVOLUTION, "vector": ParameterKind.BIAS}
SHAPES = {"matrix": (6, 4), "square": (4, 4), "conv": (4, 3, 2, 2), "vector": (5,)}


class Weights(nn.Module):
    """One parameter of each of some kinds."""

    def __init__(self, names=tuple(SHAPES), seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.randn(SHAPES[name], generator=generator)))


def random_gradients(seed=1):
    """``gradient(step, name, weights)``: the same normal numbers at every call."""

    def gradient(step, name, weights):
        return torch.randn(weights.shape, generator=torch.Generator().manual_seed(1000 * seed + 10 * step + len(name)))

    return gradient


def tangential_gradients(seed=1):
    """Gradients of a loss that does not depend on the weights' norm: orthogonal to them."""
    plain = random_gradients(seed)

    def gradient(step, name, weights):
        g = plain(step, name, weights).to(weights.dtype)
        return g - (g * weights).sum() / weights.square().sum() * weights

    return gradient


def problem(model, gradient, hyperparameters, steps, **changes):
    """A :class:`Problem` whose loss at step t has the gradients that ``gradient`` dictates; ``clock["step"]`` is t."""
    clock = {"step": 0}

    def losses(batch):
        total = sum((p * gradient(clock["step"], name, p.detach())).sum() for name, p in model.named_parameters())
        return total.expand(len(batch))

    found = Problem(
        losses=losses,
        backward=lambda loss: loss.backward(),
        next_batch=lambda: one_batch(),
        dummy_batch=one_batch(),
        progress=lambda: clock["step"] / steps,
        kinds={name: KINDS[name] for name, _ in model.named_parameters()},
        hyperparameters=hyperparameters,
        generator=torch.Generator().manual_seed(0),
        batch_size=1,
        step_count=steps,
    )
    return replace(found, **changes), clock


def one_batch(size=1):
    return Batch(torch.arange(size), {"x": torch.zeros(size, 1)})


def configured(name, **options):
    """The shipped definition of a name at a constant learning rate, with some options replaced."""
    definition = resolve_definition("algorithm", name)
    chosen = dict(definition.options) | options
    if "schedule" in chosen:
        chosen["schedule"] = {"name": "constant"}
    if "inner" in chosen:
        inner = chosen["inner"]
        chosen["inner"] = {**inner, "options": {**inner["options"], "schedule": {"name": "constant"}}}
    return instantiate(definition.target, chosen, TrainingAlgorithm), dict(definition.hyperparameters)


def drive(algorithm, hyperparameters, gradient, steps, names=tuple(SHAPES), model=None, **changes):
    """Run ``steps`` steps; yields (step, {name: weights before}, state, algorithm's model)."""
    model = model or Weights(names)
    dictated, clock = problem(model, gradient, hyperparameters, steps, **changes)
    state = algorithm.setup(model, dictated)
    for step in range(steps):
        clock["step"] = step
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        algorithm.step(state, one_batch())
        yield step, before, state, model
