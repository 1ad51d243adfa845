"""A matrix of two things that are combined (model x algorithm, algorithm x curation) and how far they are coupled.

Without coupling, costs multiply: the logarithm of a cell is a row effect plus a column effect, and the best row is the best
everywhere. Coupling is what remains (the interaction of a two-way analysis of variance on logarithms); BOCB (arXiv 2410.06373)
shows that it decides which optimizer suits which backbone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from .statistics import CONFIDENCE, MINIMUM_N, Floats, Interval

__all__ = ["Coupling", "Pair", "coupling"]


@dataclass(frozen=True)
class Pair:
    """One cell: geometric mean cost, and how many times as costly it is as row and column alone would make it (below 1: it suits)."""

    row: str
    column: str
    cost: float
    surprise: float
    interval: Interval | None


@dataclass(frozen=True)
class Coupling:
    """``typical``: the factor by which a cell typically departs from row times column, seed noise taken out; 1 is none.

    ``share`` is the interaction's part of the variance between rows within a column (0: one row ranking for all columns).
    ``p`` tests the interaction against the seeds' noise (F-test). ``worst`` per row is its largest surprise.
    """

    pairs: tuple[Pair, ...]
    typical: float
    typical_interval: Interval | None
    share: float
    p: float | None
    worst: Mapping[str, float]


def coupling(costs: Mapping[tuple[str, str], Sequence[float]]) -> Coupling:
    """Decompose costs by (row, column), one value a seed, misses already counted at their price.

    Every cell needs a value (``ValueError`` otherwise: an empty cell is *not measured*, and the decomposition would invent it).
    Unequal numbers of seeds are handled by the analysis of unweighted means. Intervals rest on seed noise being normal and
    equal in logarithms: t for a surprise, the noncentral F inverted for ``typical`` (Steiger, Psychological Methods 9, 2004).
    """
    rows, columns = (tuple(sorted({pair[i] for pair in costs})) for i in (0, 1))
    absent = [f"{r} x {c}" for r in rows for c in columns if not len(costs.get((r, c), ()))]
    if absent or min(len(rows), len(columns)) < 2:
        raise ValueError(f"a coupling needs every cell of at least 2 x 2; not measured: {', '.join(absent) or 'rows or columns'}")
    found = _decompose([[np.log(np.asarray(costs[r, c], dtype=np.float64)) for c in columns] for r in rows])
    pairs = tuple(
        Pair(r, c, math.exp(found.means[i, j]), math.exp(found.interaction[i, j]), found.surprise_interval(i, j))
        for i, r in enumerate(rows)
        for j, c in enumerate(columns)
    )
    return Coupling(
        pairs=pairs,
        typical=math.exp(math.sqrt(found.variance)),
        typical_interval=found.typical_interval(),
        share=found.variance / (found.variance + found.row_variance) if found.variance + found.row_variance else 0.0,
        p=found.p,
        worst={r: math.exp(found.interaction[i].max()) for i, r in enumerate(rows)},
    )


@dataclass(frozen=True)
class _Decomposition:
    """Two-way analysis on log costs: cell means and sizes, interaction, and the seeds' pooled variance (NaN without repeats)."""

    means: Floats
    sizes: Floats
    interaction: Floats
    row_variance: float
    seed_variance: float
    seed_freedom: int

    @property
    def freedom(self) -> int:
        return (self.means.shape[0] - 1) * (self.means.shape[1] - 1)

    @property
    def between(self) -> float:
        """Mean square of the interaction of cell means."""
        return float((self.interaction**2).sum() / self.freedom)

    @property
    def noise(self) -> float:
        """What seeds alone would make of ``between``."""
        return self.seed_variance * float((1 / self.sizes).mean()) if self.seed_freedom else 0.0

    @property
    def variance(self) -> float:
        """Variance of the interaction without the seeds' part, never below zero."""
        return max(0.0, self.between - self.noise)

    @property
    def p(self) -> float | None:
        if not self.seed_freedom:
            return None
        if not self.noise:
            return 0.0 if self.between > 0 else 1.0
        return float(stats.f.sf(self.between / self.noise, self.freedom, self.seed_freedom))

    def surprise_interval(self, i: int, j: int) -> Interval | None:
        if self.sizes.min() < MINIMUM_N:
            return None
        rows, columns = self.means.shape
        weights = np.outer(np.eye(rows)[i] - 1 / rows, np.eye(columns)[j] - 1 / columns)
        error = math.sqrt(self.seed_variance * float((weights**2 / self.sizes).sum()))
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.seed_freedom)) * error
        middle = float(self.interaction[i, j])
        return Interval(math.exp(middle - reach), math.exp(middle + reach), CONFIDENCE)

    def typical_interval(self) -> Interval | None:
        if self.sizes.min() < MINIMUM_N or not self.noise:
            return None
        ends = [self._typical_at(share) for share in ((1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2)]
        return Interval(ends[0], ends[1], CONFIDENCE)

    def _typical_at(self, share: float) -> float:
        """The typical factor under which a share of F values would lie below the one seen."""
        seen = self.between / self.noise

        def excess(noncentrality: float) -> float:
            return float(stats.ncf.cdf(seen, self.freedom, self.seed_freedom, noncentrality)) - share

        if excess(0.0) <= 0:
            return 1.0
        high = self.freedom * seen + 10.0
        while excess(high) > 0:
            high *= 2
        found = optimize.brentq(excess, 0.0, high)
        return math.exp(math.sqrt(found * self.noise / self.freedom))


def _decompose(cells: Sequence[Sequence[Floats]]) -> _Decomposition:
    means = np.array([[cell.mean() for cell in line] for line in cells])
    sizes = np.array([[float(len(cell)) for cell in line] for line in cells])
    effects = means - means.mean(axis=0)  # of rows within each column
    interaction = effects - effects.mean(axis=1, keepdims=True)
    seed_freedom = int((sizes - 1).sum())
    squares = sum(float(((cell - cell.mean()) ** 2).sum()) for line in cells for cell in line)
    between = float((interaction**2).sum() / ((means.shape[0] - 1) * (means.shape[1] - 1)))
    row_variance = max(0.0, float(effects.mean(axis=1).var(ddof=1)) - between / means.shape[1])
    return _Decomposition(means, sizes, interaction, row_variance, squares / seed_freedom if seed_freedom else math.nan, seed_freedom)
