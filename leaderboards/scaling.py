"""How error falls with data: power law against exponential, and what repeating the same examples is still worth.

Repetition  Goyal et al. 2024, Scaling laws for data filtering (arXiv 2404.07177): loss falls as a power of the examples seen, whose
            exponent halves every ``half_life`` passes over the same examples. Their published fit draws from an unseeded grid; this one is
            deterministic least squares on the logarithm of the loss.
Pruning     Sorscher et al. 2022 (2206.14486): random data give a power law in the number of kept examples; a good pruning score bends it
            towards an exponential. Both are straight lines of the logarithm of the error, so equally many parameters are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from ..suite.errors import UserError
from .statistics import CONFIDENCE, Interval

__all__ = ["UNIT", "Decay", "Repetition", "fit_decay", "fit_repetition", "repetition_loss"]

UNIT = 1e5
"""Examples in which data are counted, as in the source (1.10): a scale of 1 means that 100,000 examples give a loss of 1."""
_HALF_LIVES = np.geomspace(0.05, 200, 80)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decay:
    """``error = scale * n ** -rate`` (power) or ``scale * exp(-rate * n)`` (exponential); ``residual``: of log error, root mean square."""

    form: str
    scale: float
    rate: float
    rate_interval: Interval | None
    residual: float


def fit_decay(examples: Sequence[float], errors: Sequence[float]) -> tuple[Decay, Decay]:
    """The power law and the exponential through error against number of examples, by least squares on the logarithm of the error.

    ``UserError`` unless there are three different numbers of examples and all values are positive.
    """
    n, error = _positive(examples, "examples"), _positive(errors, "errors")
    if len(n) != len(error) or len(np.unique(n)) < 3:
        raise UserError(f"expected as many errors as examples, at three different sizes at least; given {len(error)} and {sorted(set(n))}")
    power, exponential = _line("power", np.log(n), np.log(error)), _line("exponential", n, np.log(error))
    return power, exponential


@dataclass(frozen=True)
class Repetition:
    """The law of :func:`repetition_loss`; ``utility`` is negative where data help, ``half_life`` is in repetitions.

    Intervals are None where there are no more points than parameters. ``residual``: of log loss, root mean square.
    """

    scale: float
    utility: float
    half_life: float
    scale_interval: Interval | None
    utility_interval: Interval | None
    half_life_interval: Interval | None
    residual: float


def repetition_loss(
    unique: Sequence[float] | Floats, seen: Sequence[float] | Floats, scale: float, utility: float, half_life: float, floor: float = 0.0
) -> Floats:
    """Loss after ``seen`` examples of which ``unique`` are different: ``(s₁^b + d) · Π_{k>=1} (s_{k+1} / s_k)^{b · 2^(-k / τ)}``.

    ``s_k = scale * (examples seen after k passes) / UNIT``, the last pass counted in part; b utility, τ half-life, d floor.
    """
    pool, total = np.asarray(unique, np.float64), np.asarray(seen, np.float64)
    first = scale * np.minimum(pool, total) / UNIT
    return np.asarray((first**utility + floor) * np.exp(utility * _later(pool, total, half_life)))


def fit_repetition(unique: Sequence[float], seen: Sequence[float], losses: Sequence[float], floor: float = 0.0) -> Repetition:
    """Scale, utility and half-life of the repetition law: the half-life by a grid over closed-form fits, then all three together.

    ``UserError`` for values that are not positive, fewer than three points, or none that repeats examples (nothing to measure).
    """
    pool, total, loss = _positive(unique, "unique"), _positive(seen, "seen"), _positive(losses, "losses")
    if not len(pool) == len(total) == len(loss) or len(loss) < 3:
        raise UserError(f"expected three points at least, given {len(pool)}, {len(total)} and {len(loss)}")
    if not (total > pool).any():
        raise UserError("no point repeats its examples: the half-life of repetition cannot be measured")
    if floor < 0:
        raise UserError(f"floor: expected 0 or more, given {floor:g}")
    target = np.log(loss)

    def residuals(point: Floats) -> Floats:
        found = repetition_loss(pool, total, math.exp(point[0]), float(point[1]), math.exp(point[2]), floor)
        return np.asarray(np.log(found) - target)

    starts = sorted((_closed_form(pool, total, target, half_life) for half_life in _HALF_LIVES), key=lambda start: start[0])[:2]
    runs = [
        optimize.least_squares(
            residuals, point, bounds=([-60, -10, -8], [60, 10, 12]), x_scale="jac", xtol=1e-13, ftol=1e-15, gtol=1e-13, max_nfev=300
        )
        for _, point in starts
    ]
    best = min(runs, key=lambda run: float(run.cost))
    spread = _standard_errors(best.jac, float(2 * best.cost))
    reach = None if spread is None else float(stats.t.ppf((1 + CONFIDENCE) / 2, len(loss) - 3)) * spread
    ends = [
        None if reach is None else (float(x - r), float(x + r))
        for x, r in zip(best.x, np.zeros(3) if reach is None else reach, strict=True)
    ]
    scale, utility, half_life = math.exp(best.x[0]), float(best.x[1]), math.exp(best.x[2])
    residual = math.sqrt(2 * float(best.cost) / len(loss))
    return Repetition(scale, utility, half_life, _interval(ends[0], log=True), _interval(ends[1]), _interval(ends[2], log=True), residual)


def _later(pool: Floats, total: Floats, half_life: float) -> Floats:
    """``Σ_{k>=1} 2^(-k / τ) · log(s_{k+1} / s_k)`` over the passes after the first, the last one in part."""
    out = np.zeros(len(pool))
    for k in range(1, math.ceil(float((total / pool).max()))):
        begin, end = k * pool, np.minimum((k + 1) * pool, total)
        out += np.where(end > begin, 2.0 ** (-k / half_life) * np.log(np.maximum(end, begin) / begin), 0.0)
    return out


def _closed_form(pool: Floats, total: Floats, target: Floats, half_life: float) -> tuple[float, Floats]:
    """Squared residual and (log scale, utility, log half-life) without a floor, where the law is linear in the two former."""
    x = np.log(np.minimum(pool, total) / UNIT) + _later(pool, total, half_life)
    design = np.stack([np.ones_like(x), x], axis=1)
    (offset, utility), *_ = np.linalg.lstsq(design, target, rcond=None)
    left = float(np.square(design @ [offset, utility] - target).sum())
    point = [offset / utility if abs(utility) > 1e-9 else 0.0, utility, math.log(half_life)]
    return left, np.clip(point, [-59, -9, -7], [59, 9, 11])


def _line(form: str, x: Floats, y: Floats) -> Decay:
    found = stats.linregress(x, y)
    left = y - (found.intercept + found.slope * x)
    interval = None
    if len(x) > 2 and found.stderr > 0:
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 2)) * float(found.stderr)
        interval = Interval(-float(found.slope) - reach, -float(found.slope) + reach, CONFIDENCE)
    return Decay(form, math.exp(float(found.intercept)), -float(found.slope), interval, float(np.sqrt(np.mean(np.square(left)))))


def _standard_errors(jacobian: Floats, squares: float) -> Floats | None:
    """Of the parameters, from the curvature at the optimum; None without spare points."""
    points, parameters = jacobian.shape
    if points <= parameters:
        return None
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * squares / (points - parameters)
    return np.asarray(np.sqrt(np.maximum(np.diag(covariance), 0.0)))


def _interval(ends: tuple[float, float] | None, *, log: bool = False) -> Interval | None:
    if ends is None:
        return None
    low, high = (math.exp(min(end, 700.0)) for end in ends) if log else ends
    return Interval(low, high, CONFIDENCE)


def _positive(values: Sequence[float], name: str) -> Floats:
    found = np.asarray(values, np.float64)
    if not (np.isfinite(found) & (found > 0)).all():
        raise UserError(f"{name}: expected positive numbers, given {found[~(np.isfinite(found) & (found > 0))][0]}")
    return found
