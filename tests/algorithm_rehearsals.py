"""Shipped algorithms on the synthetic problems that the contract suite uses, with some of their settings replaced."""

from __future__ import annotations

from dataclasses import replace

import torch

from timetrial.suite.algorithm import Batch, mean_loss
from timetrial.suite.algorithms.inner import trainable
from timetrial.suite.config import resolve_definition
from timetrial.suite.rehearsal import Rehearsal

SGD = "timetrial.suite.algorithms.optimizer.OptimizerAlgorithm"
BY_SGD = {"target": SGD, "options": {"optimizer": "torch.optim.SGD"}}


def rehearsal(name, scene="dense", *, hyperparameters=None, steps_in_budget=40, batch_size=32, **options):
    """A shipped algorithm by name; ``hyperparameters`` replaces the whole table, ``options`` single entries."""
    definition = resolve_definition("algorithm", name)
    table = definition.hyperparameters if hyperparameters is None else hyperparameters
    changed = replace(definition, options=dict(definition.options) | options, hyperparameters=table)
    return Rehearsal(changed, scene, steps_in_budget=steps_in_budget, batch_size=batch_size)


def sgd(scene="dense", **changes):
    """Plain SGD at a constant rate on the same problem: what wrappers are compared with."""
    return rehearsal("heavy_ball", scene, schedule={"name": "constant"}, **changes)


def copied(batch):
    """A batch that outlives the next one."""
    return Batch(batch.ids.clone(), {name: value.clone() for name, value in batch.fields.items()}, batch.weights)


def gradients(found, batch):
    """Gradients of the mean loss at the model's weights, by name: the oracle, which leaves no trace."""
    parameters = trainable(found.model)
    with torch.random.fork_rng():
        loss = mean_loss(found.problem.losses(batch), batch)
        values = torch.autograd.grad(loss, list(parameters.values()))
    return dict(zip(parameters, values, strict=True))


def part(batch, rows):
    """Some rows of a batch."""
    return Batch(batch.ids[rows], {name: value[rows] for name, value in batch.fields.items()})


def same(left, right, **tolerance):
    """Whether two trainings stand at the same weights; bit for bit without a tolerance."""
    pairs = zip(left.weights().values(), right.weights().values(), strict=True)
    return all(torch.allclose(a, b, **tolerance) if tolerance else torch.equal(a, b) for a, b in pairs)
