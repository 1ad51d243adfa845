"""What the wrappers here share: an algorithm inside another one, and whose hyperparameter is whose.

A wrapper changes what its inner algorithm sees (the problem, the batch) or adds to what it leaves (averaged weights), so it composes
with every optimizer, and with other wrappers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..algorithm import Problem, TrainingAlgorithm
from ..config import instantiate
from ..errors import ConfigError

__all__ = ["averageable", "make_inner", "own_hyperparameters", "trainable"]


def make_inner(definition: Mapping[str, Any]) -> TrainingAlgorithm:
    """The algorithm of ``{target: dotted path, options: {…}}``. ``ConfigError`` when that names none."""
    unknown = sorted(set(definition) - {"target", "options"})
    if unknown or "target" not in definition:
        raise ConfigError(f"inner: expected the keys target and options, given {', '.join(definition) or 'none'}")
    found: TrainingAlgorithm = instantiate(definition["target"], definition.get("options") or {}, TrainingAlgorithm)
    return found


def own_hyperparameters(problem: Problem, names: Sequence[str]) -> tuple[list[Any], Problem]:
    """The values of a wrapper's own hyperparameters, in the order of ``names``, and the problem without them for the inner algorithm."""
    missing = [name for name in names if name not in problem.hyperparameters]
    if missing:
        raise ConfigError(f"hyperparameter {missing[0]!r} is missing; given: {', '.join(problem.hyperparameters) or 'none'}")
    others = {name: value for name, value in problem.hyperparameters.items() if name not in names}
    return [problem.hyperparameters[name] for name in names], replace(problem, hyperparameters=others)


def averageable(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and floating-point buffers by name: what averages of weights are made of, statistics of batch norm included."""
    return {name: tensor for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_floating_point()}


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that training may change, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
