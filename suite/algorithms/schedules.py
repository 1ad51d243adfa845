"""Learning-rate schedules: pure functions of the fraction of the budget spent, so they compose with any optimizer.

Each returns the factor that multiplies the learning rate, 0 to 1. ``warmup`` is the fraction of the budget in which the
factor rises linearly from 0; the named shape covers the rest.

constant                  1
linear                    1 -> final on a straight line
cosine                    1 -> final on half a cosine (Loshchilov and Hutter, arXiv 1608.03983, without restarts)
trapezoidal               1, then a straight line to final over the last ``cooldown`` (WSD; Haegele et al., arXiv 2405.18392)
one_cycle                 linear up over ``warmup``, cosine down to final (Smith and Topin, arXiv 1708.07120, learning rate part)
cyclic                    ``cycles`` triangles between final and 1 (Smith, arXiv 1506.01186)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import unknown_name
from ..schema import STRICT, build

__all__ = ["Schedule", "schedule"]


@dataclass(frozen=True)
class Shape:
    """Options of a schedule; all fractions are of the budget."""

    __pydantic_config__: ClassVar = STRICT
    name: str = "constant"
    warmup: float = 0.0
    cooldown: float = 0.2
    final: float = 0.0
    cycles: int = 1


Schedule = Callable[[float], float]


def _cyclic(t: float, shape: Shape) -> float:
    phase = (t * shape.cycles) % 1.0
    return shape.final + (1 - shape.final) * (1 - abs(2 * phase - 1))


_SHAPES: Mapping[str, Callable[[float, Shape], float]] = {
    "constant": lambda t, shape: 1.0,
    "linear": lambda t, shape: 1 + (shape.final - 1) * t,
    "cosine": lambda t, shape: shape.final + (1 - shape.final) * 0.5 * (1 + math.cos(math.pi * t)),
    "trapezoidal": lambda t, shape: 1.0 if t < 1 - shape.cooldown else 1 + (shape.final - 1) * (t - 1 + shape.cooldown) / shape.cooldown,
    "one_cycle": lambda t, shape: shape.final + (1 - shape.final) * 0.5 * (1 + math.cos(math.pi * t)),
    "cyclic": _cyclic,
}


def schedule(options: Mapping[str, Any], where: str = "schedule") -> Schedule:
    """Make the function ``progress -> factor`` of a named shape. ``UnknownName`` / ``ConfigError`` for options it does not know."""
    shape = build(Shape, options, where)
    if shape.name not in _SHAPES:
        raise unknown_name("schedule", shape.name, _SHAPES)
    body = _SHAPES[shape.name]

    def factor(progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        if progress < shape.warmup:
            return progress / shape.warmup
        if shape.name == "trapezoidal":
            return body(progress, shape)
        return body((progress - shape.warmup) / (1 - shape.warmup) if shape.warmup < 1 else 1.0, shape)

    return factor
