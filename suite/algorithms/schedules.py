"""Learning-rate schedules: pure functions of the fraction of the budget spent, so they compose with any optimizer.

Each returns the factor that multiplies the learning rate, 0 to 1. ``warmup`` is the fraction of the budget in which the
factor rises, on a straight line from ``start`` unless said otherwise; the named shape covers the rest.

constant                  1
linear                    1 -> final on a straight line
cosine                    1 -> final on half a cosine (Loshchilov and Hutter, arXiv 1608.03983, without restarts)
trapezoidal               1, then a straight line to final over the last ``cooldown`` (WSD; Haegele et al., arXiv 2405.18392)
one_cycle                 half a cosine up from 1/25 over ``warmup``, half a cosine down to final (Smith and Topin, arXiv 1708.07120,
                          learning-rate part, in the form of fastai and ``torch.optim.lr_scheduler.OneCycleLR``)
cyclic                    ``cycles`` triangles between final and 1 (Smith, arXiv 1506.01186)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import ConfigError, unknown_name
from ..schema import STRICT, build

__all__ = ["Schedule", "schedule"]

ONE_CYCLE_START = 1 / 25


@dataclass(frozen=True)
class Shape:
    """Options of a schedule; all fractions are of the budget."""

    __pydantic_config__: ClassVar = STRICT
    name: str = "constant"
    warmup: float = 0.0
    start: float = 0.0
    cooldown: float = 0.2
    final: float = 0.0
    cycles: int = 1


Schedule = Callable[[float], float]


def _half_cosine(start: float, end: float, t: float) -> float:
    """From ``start`` at t = 0 to ``end`` at t = 1, flat at both."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * t))


def _linear_warmup(progress: float, shape: Shape) -> float:
    return shape.start + (1 - shape.start) * progress / shape.warmup


def _one_cycle_warmup(progress: float, shape: Shape) -> float:
    return _half_cosine(ONE_CYCLE_START, 1.0, progress / shape.warmup)


def _rest(progress: float, shape: Shape) -> float:
    """Progress in what the warm-up leaves of the budget."""
    return (progress - shape.warmup) / (1 - shape.warmup) if shape.warmup < 1 else 1.0


def _constant(progress: float, shape: Shape) -> float:
    return 1.0


def _linear(progress: float, shape: Shape) -> float:
    return 1 + (shape.final - 1) * _rest(progress, shape)


def _cosine(progress: float, shape: Shape) -> float:
    return _half_cosine(1.0, shape.final, _rest(progress, shape))


def _trapezoidal(progress: float, shape: Shape) -> float:
    left = 1 - progress
    return 1.0 if left >= shape.cooldown else shape.final + (1 - shape.final) * left / shape.cooldown


def _cyclic(progress: float, shape: Shape) -> float:
    phase = (_rest(progress, shape) * shape.cycles) % 1.0
    return shape.final + (1 - shape.final) * (1 - abs(2 * phase - 1))


_SHAPES: Mapping[str, Callable[[float, Shape], float]] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "trapezoidal": _trapezoidal,
    "one_cycle": _cosine,
    "cyclic": _cyclic,
}


def schedule(options: Mapping[str, Any], where: str = "schedule") -> Schedule:
    """Make the function ``progress -> factor`` of a named shape.

    Raises ``UnknownName`` for a shape and ``ConfigError`` for options that do not exist or contradict each other.
    """
    shape = build(Shape, options, where)
    if shape.name not in _SHAPES:
        raise unknown_name("schedule", shape.name, _SHAPES)
    for name, fraction in (("warmup", shape.warmup), ("start", shape.start), ("cooldown", shape.cooldown), ("final", shape.final)):
        if not 0 <= fraction <= 1:
            raise ConfigError(f"{where}: {name}: expected a fraction from 0 to 1, given {fraction}")
    if shape.name == "trapezoidal" and shape.warmup + shape.cooldown > 1:
        raise ConfigError(f"{where}: warmup {shape.warmup} and cooldown {shape.cooldown} are more than the whole budget")
    if shape.cycles < 1:
        raise ConfigError(f"{where}: cycles: expected at least 1, given {shape.cycles}")
    body = _SHAPES[shape.name]
    warmup = _one_cycle_warmup if shape.name == "one_cycle" else _linear_warmup

    def factor(progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        return warmup(progress, shape) if progress < shape.warmup else body(progress, shape)

    return factor
