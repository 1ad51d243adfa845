"""Statistics of a few seeds: medians with missed trials above every hit, exact intervals, none below five values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["CONFIDENCE", "MINIMUM_N", "Estimate", "Interval", "median", "proportion"]

CONFIDENCE = 0.95
MINIMUM_N = 5
"""Below this many values no interval is given: of three values even the widest one, minimum to maximum, covers only 75 %."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval. ``high`` is None when it reaches into missed trials: the data give no upper end.

    ``confidence`` is the coverage reached; at n = 5 the widest interval for a median, minimum to maximum, has 93.75 %.
    """

    low: float
    high: float | None
    confidence: float


@dataclass(frozen=True)
class Estimate:
    """A number over ``n`` trials with its interval. ``value`` is None when missed trials hide it; ``interval`` below n = 5."""

    value: float | None
    interval: Interval | None
    n: int


def median(values: Sequence[float], misses: int = 0) -> Estimate:
    """Median of ``values`` and of ``misses`` trials known only to be worse (larger) than every value.

    The interval is the distribution-free one between two order statistics, interpolated to the nominal confidence where
    n allows (Hettmansperger and Sheather, Statistics & Probability Letters 4, 1986, section 2). It needs no shape of the
    distribution and no imputed number for a miss.
    """
    ordered = [*sorted(values), *[math.inf] * misses]
    n = len(ordered)
    if not n:
        return Estimate(None, None, 0)
    value = _between(ordered[(n - 1) // 2], ordered[n // 2], 0.5)
    return Estimate(value if math.isfinite(value) else None, _median_interval(ordered) if n >= MINIMUM_N else None, n)


def proportion(hits: int, n: int) -> Estimate:
    """A rate with its Wilson score interval (Wilson, JASA 22, 1927), which stays inside [0, 1] at 0 and n hits."""
    if not n:
        return Estimate(None, None, 0)
    if n < MINIMUM_N:
        return Estimate(hits / n, None, n)
    found = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(hits / n, Interval(float(found.low), float(found.high), CONFIDENCE), n)


def _median_interval(ordered: Sequence[float]) -> Interval | None:
    n = len(ordered)
    depths = np.arange(1, (n + 1) // 2 + 1)
    coverage = 1 - 2 * stats.binom.cdf(depths - 1, n, 0.5)  # of the interval from the d-th smallest to the d-th largest
    wide = int(np.flatnonzero(coverage >= CONFIDENCE)[-1]) if coverage[0] >= CONFIDENCE else 0
    confidence, share, d = float(coverage[0]), 0.0, int(depths[wide])
    if coverage[0] >= CONFIDENCE and wide + 1 < len(depths):
        excess = (coverage[wide] - CONFIDENCE) / (coverage[wide] - coverage[wide + 1])
        share = float((n - d) * excess / (d + (n - 2 * d) * excess))
        confidence = CONFIDENCE
    low = _between(ordered[d - 1], ordered[min(d, n - 1)], share)
    high = _between(ordered[n - d], ordered[max(n - d - 1, 0)], share)
    if not math.isfinite(low):
        return None
    return Interval(low, high if math.isfinite(high) else None, confidence)


def _between(start: float, end: float, share: float) -> float:
    """Linear interpolation that a miss (infinity) at a used end makes infinite."""
    return start if share == 0 or start == end else (1 - share) * start + share * end
