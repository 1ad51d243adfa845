"""Statistics of a few seeds: medians with missed trials above every hit, intervals none below five values, tests and groups.

Arrays of costs hold NaN where a trial missed; what a miss is worth is the caller's business.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "CONFIDENCE",
    "DRAWS",
    "MINIMUM_N",
    "Estimate",
    "Faster",
    "Floats",
    "Interval",
    "bootstrap_medians",
    "expected_best",
    "faster",
    "letters",
    "median",
    "olympic_mean",
    "percentile_interval",
    "proportion",
    "rcp_allowed_speedup",
    "steady",
]

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
DRAWS = 2000
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
    return Estimate(hits / n, Interval(steady(float(found.low)), steady(float(found.high)), CONFIDENCE), n)


def _median_interval(ordered: Sequence[float]) -> Interval | None:
    n = len(ordered)
    depth, share, confidence = _median_depth(n)
    low = _between(ordered[depth - 1], ordered[min(depth, n - 1)], share)
    high = _between(ordered[n - depth], ordered[max(n - depth - 1, 0)], share)
    if not math.isfinite(low):
        return None
    return Interval(low, high if math.isfinite(high) else None, confidence)


@cache
def _median_depth(n: int) -> tuple[int, float, float]:
    """Which order statistic begins the interval, how far to go towards the next one, and the confidence that this gives."""
    depths = np.arange(1, (n + 1) // 2 + 1)
    coverage = 1 - 2 * stats.binom.cdf(depths - 1, n, 0.5)  # of the interval from the d-th smallest to the d-th largest
    if coverage[0] < CONFIDENCE:
        return 1, 0.0, steady(float(coverage[0]))
    wide = int(np.flatnonzero(coverage >= CONFIDENCE)[-1])
    depth = int(depths[wide])
    if wide + 1 == len(depths):
        return depth, 0.0, steady(float(coverage[wide]))
    excess = (coverage[wide] - CONFIDENCE) / (coverage[wide] - coverage[wide + 1])
    return depth, steady(float((n - depth) * excess / (depth + (n - 2 * depth) * excess))), CONFIDENCE


def _between(start: float, end: float, share: float) -> float:
    """Linear interpolation that a miss (infinity) at a used end makes infinite."""
    return start if share == 0 or start == end else (1 - share) * start + share * end


def bootstrap_medians(values: Floats, key: str, draws: int = DRAWS) -> Floats:
    """Medians of resamples with replacement: ``values`` (levels, n) -> (levels, draws).

    ``key`` seeds the draws, so they depend on nothing but the trials themselves: who else is on a board cannot move them, and
    the same trials under two names give the same draws. For medians of five and more seeds the plain percentile interval of
    these draws covers what it says (tests/test_scores.py measures it); below that it does not, and none is shown.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16])
    picks = np.random.Generator(np.random.Philox(key=seed)).integers(0, values.shape[1], (draws, values.shape[1]))
    medians: Floats = np.median(values[:, picks], axis=2)
    return medians


def percentile_interval(draws: Floats) -> Interval:
    """The central interval of bootstrap draws (Efron, Annals of Statistics 7, 1979)."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(steady(float(low)), steady(float(high)), CONFIDENCE)


def steady(value: float) -> float:
    """A number to twelve digits: what lies beyond depends on vector units and versions of libraries, and a board is the same everywhere."""
    return float(f"{value:.12g}")


def letters(different: NDArray[np.bool_]) -> tuple[tuple[str, ...], ...]:
    """Rank groups as letters: two entries share a letter exactly when they cannot be told apart.

    ``different`` is symmetric, (entries, entries), entries from best to worst. "Cannot be told apart" is not transitive, so
    groups overlap; this is the compact letter display of Piepho (J. Comput. Graph. Stat. 13, 2004), one letter a maximal
    group, by insertion and absorption.
    """
    n = len(different)
    groups = [frozenset(range(n))] if n else []
    for i, j in zip(*np.nonzero(np.triu(different)), strict=True):
        split = [g - {k} for g in groups if {i, j} <= g for k in (i, j)]
        groups = [g for g in groups if not {i, j} <= g]
        for g in split:
            if not any(g <= other for other in groups):
                groups = [other for other in groups if not other <= g] + [g]
    ordered = sorted(groups, key=sorted)
    names = [chr(ord("a") + k % 26) * (1 + k // 26) for k in range(len(ordered))]
    return tuple(tuple(name for name, g in zip(names, ordered, strict=True) if i in g) for i in range(n))


def olympic_mean(costs: Sequence[float]) -> float | None:
    """MLPerf Training's result: mean without the fastest and the slowest; costs hold NaN for misses.

    One miss may be the slowest that is dropped; with more, or fewer than three trials, there is no result (MLPerf Training
    rules, "Run results").
    """
    values = np.asarray(costs, dtype=np.float64)
    if len(values) < 3 or np.isnan(values).sum() > 1:
        return None
    return float(np.mean(np.sort(values)[1:-1]))  # NaN sorts last


@dataclass(frozen=True)
class Faster:
    """One-sided test that ``entry`` needs less than ``reference``: mean ratio reference / entry, p, and n of each."""

    ratio: float
    p: float
    n_entry: int
    n_reference: int


def faster(entry: Sequence[float], reference: Sequence[float]) -> Faster | None:
    """Welch's one-sided t-test on logarithms of costs; None below two hits a side, or with any miss: a mean of hits alone lies."""
    a, b = (np.asarray(x, dtype=np.float64) for x in (entry, reference))
    if min(len(a), len(b)) < 2 or np.isnan(a).any() or np.isnan(b).any():
        return None
    a, b = np.log(a), np.log(b)
    ratio = float(np.exp(b.mean() - a.mean()))
    if a.std() == 0 and b.std() == 0:
        return Faster(ratio, 0.0 if ratio > 1 else 1.0, len(a), len(b))
    return Faster(ratio, float(stats.ttest_ind(a, b, equal_var=False, alternative="less").pvalue), len(a), len(b))


def rcp_allowed_speedup(mean: float, deviation: float, n_reference: int, n_entry: int, p: float = 0.05) -> float:
    """How much faster than the reference's mean a submission may converge by chance, as a fraction.

    mean / (mean - t * deviation * sqrt(1/n_reference + 1/n_entry)) - 1 with t of n_reference + n_entry - 2 degrees of freedom
    (MLPerf Training rules, Reference Convergence Points). ``mean`` and ``deviation`` are the reference's, in one unit.
    """
    t = float(stats.t.ppf(1 - p, n_reference + n_entry - 2))
    slack = t * deviation * math.sqrt(1 / n_reference + 1 / n_entry)
    if slack >= mean:
        return math.inf
    return mean / (mean - slack) - 1


def expected_best(values: Sequence[float]) -> tuple[float, ...]:
    """Expected smallest value after k = 1 … n tries drawn without replacement from the n tuning trials.

    Exact, from order statistics: the i-th smallest is the best of k with probability C(n - i, k - 1) / C(n, k) (the idea of
    Dodge et al., EMNLP 2019, section 3, without its replacement).
    """
    ordered = sorted(values)
    n = len(ordered)
    return tuple(sum(math.comb(n - i, k - 1) * v for i, v in enumerate(ordered, 1)) / math.comb(n, k) for k in range(1, n + 1))
