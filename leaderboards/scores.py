"""Scores that do not depend on who else entered: speed-up factors against a pinned reference, with intervals.

For one workload the factor is the reference's median cost to the target over the entry's, 1.39 meaning that the reference takes
1.39 times as long. A missed trial counts as twice the budget (shown also at once the budget). The headline is the geometric
mean over the core workloads. Every factor is computed from the entry's own trials and the pinned ones, and from nothing else: those
of the pinned ones that ran beside the entry's (:func:`~.cells.beside`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..suite.record import WorkloadIdentity
from .cells import Cell, Field, beside
from .statistics import CONFIDENCE, DRAWS, MINIMUM_N, Estimate, Floats, bootstrap_medians, letters, percentile_interval, steady

__all__ = [
    "MISS_MULTIPLE",
    "Headline",
    "LevelFactor",
    "ecdf",
    "headlines",
    "leave_one_entry_out",
    "leave_one_workload_out",
    "level_factors",
    "restricted",
]

MISS_MULTIPLE = 2.0
"""What a missed trial costs in a score, in budgets; scores are shown at once the budget as well."""


@dataclass(frozen=True)
class LevelFactor:
    """Speed-up factor of an entry at one level of one workload; ``at_budget`` with a miss counted once the budget."""

    entry: str
    workload: str
    level: float
    hits: int
    n: int
    factor: Estimate
    at_budget: Estimate


@dataclass(frozen=True)
class Headline:
    """Geometric mean of an entry's factors over the core workloads.

    ``group`` holds letters: entries that share one cannot be told apart. ``rank`` is one more than the number of entries shown
    to be better. Both are relative to the field; the factors are not. Unranked entries have neither, and ``why`` says so.
    """

    entry: str
    factor: Estimate
    at_budget: Estimate
    workloads_hit: int
    workloads_measured: int
    rank: int | None = None
    group: tuple[str, ...] = ()
    why: str | None = None


def level_factors(of: Field, draws: int = DRAWS) -> tuple[LevelFactor, ...]:
    """The factor of every entry at every level of every workload it was measured on."""
    found = []
    for entry, cells in of.entries.items():
        for identity, cell in cells.items():
            twice, once = (_log_factors(of, identity, cell, multiple, draws) for multiple in (MISS_MULTIPLE, 1.0))
            n = min(cell.n, beside(of.reference[identity], cell).n)
            for i, level in enumerate(of.levels[identity]):
                hits = int(np.isfinite(cell.costs[i]).sum())
                estimates = (_estimate(value[i], drawn[i], n) for value, drawn in (twice, once))
                found.append(LevelFactor(entry, identity, level, hits, cell.n, *estimates))
    return tuple(found)


def headlines(of: Field, draws: int = DRAWS, at: Mapping[str, int] | None = None) -> tuple[Headline, ...]:
    """Headline of every entry, best first, unranked last. ``at`` gives another row of costs than the main one by workload."""
    both = [_headline(_at_level(of, at or of.main), entry, draws) for entry in of.entries]
    ranked = sorted(((h, drawn) for h, drawn in both if h.why is None), key=lambda pair: _by_factor(pair[0]))
    better = np.array([[_better(one, other) for other in ranked] for one in ranked], dtype=bool).reshape(len(ranked), len(ranked))
    groups = letters(better | better.T)
    placed = [replace(h, rank=int(1 + better[:, i].sum()), group=groups[i]) for i, (h, _) in enumerate(ranked)]
    return (*placed, *sorted((h for h, _ in both if h.why is not None), key=_by_factor))


def leave_one_workload_out(of: Field, draws: int = DRAWS) -> dict[str, tuple[Headline, ...]]:
    """Headlines without each workload in turn: an order that turns over rests on one workload."""
    found = {}
    for left_out in of.workloads:
        kept = tuple(w for w in of.workloads if w is not left_out)
        if kept:
            found[left_out.identity] = headlines(restricted(of, kept), draws)
    return found


def leave_one_entry_out(of: Field, draws: int = DRAWS) -> dict[str, tuple[Headline, ...]]:
    """Headlines without each entry in turn. Factors and intervals of the others do not move; only ranks and groups may."""
    return {gone: headlines(replace(of, entries={e: c for e, c in of.entries.items() if e != gone}), draws) for gone in of.entries}


def ecdf(of: Field, entry: str) -> tuple[tuple[float, float], ...]:
    """Runtime ECDF over all levels, workloads and trials: steps (cost, share hit within that cost).

    Costs are in units of the reference's median to the main target of the workload, so workloads share one axis; a workload
    without trials, and every miss, only lowers the end of the curve (as in COCO's runtime profiles, Hansen et al., 2021).
    """
    costs: list[float] = []
    total = 0
    for w in of.workloads:
        cell = of.entries[entry].get(w.identity)
        main = of.reference[w.identity].costs[of.main[w.identity]]
        unit = float(np.median(np.where(np.isfinite(main), main, MISS_MULTIPLE * of.budgets[w.identity])))
        levels = len(of.levels[w.identity])
        total += levels * (cell.n if cell else of.reference[w.identity].n)
        if cell is not None:
            costs += (cell.costs[np.isfinite(cell.costs)] / unit).tolist()
    steps: dict[float, float] = {}
    for i, cost in enumerate(sorted(costs), 1):
        steps[cost] = i / total
    return tuple(steps.items())


def _at_level(of: Field, rows: Mapping[str, int]) -> Field:
    """The field with one row of costs a workload."""

    def one(identity: str, cell: Cell) -> Cell:
        return replace(cell, costs=cell.costs[rows[identity]][None, :])

    reference = {identity: one(identity, cell) for identity, cell in of.reference.items()}
    entries = {entry: {i: one(i, cell) for i, cell in cells.items()} for entry, cells in of.entries.items()}
    return replace(of, entries=entries, reference=reference)


def _headline(of: Field, entry: str, draws: int) -> tuple[Headline, Floats]:
    """The headline of an entry in a field of one level, and the draws of its logarithm."""
    cells = [(w.identity, cell) for w in of.workloads if (cell := of.entries[entry].get(w.identity)) is not None]
    n = min(min(cell.n, beside(of.reference[identity], cell).n) for identity, cell in cells)
    estimates, drawn = [], []
    for multiple in (MISS_MULTIPLE, 1.0):
        found = [_log_factors(of, identity, cell, multiple, draws) for identity, cell in cells]
        drawn.append(np.mean([sample[0] for _, sample in found], axis=0))
        estimates.append(_estimate(float(np.mean([value[0] for value, _ in found])), drawn[-1], n))
    hit = sum(bool(np.isfinite(cell.costs).mean() > 0.5) for _, cell in cells)
    total = len(of.workloads)
    why = None
    if len(cells) < total:
        why = f"not measured on {total - len(cells)} of {total} core workloads"
    elif 2 * hit < total:
        why = f"fewer than half of the core workloads hit ({hit} of {total})"
    return Headline(entry, estimates[0], estimates[1], hit, len(cells), why=why), drawn[0]


def _better(one: tuple[Headline, Floats], other: tuple[Headline, Floats]) -> bool:
    """Whether the interval of the ratio of two headlines lies above 1; without intervals nothing is told apart."""
    if one[0].factor.interval is None or other[0].factor.interval is None:
        return False
    return bool(np.quantile(one[1] - other[1], (1 - CONFIDENCE) / 2) > 0)


def _log_factors(of: Field, identity: str, cell: Cell, multiple: float, draws: int) -> tuple[Floats, Floats]:
    """Logarithms of the factor: (levels,), and bootstrap draws (levels, draws). Entries beside the same trials of it share its draws."""
    reference = beside(of.reference[identity], cell)
    filled = [np.where(np.isfinite(c.costs), c.costs, multiple * of.budgets[identity]) for c in (reference, cell)]
    drawn = [np.log(bootstrap_medians(costs, c.key, draws)) for costs, c in zip(filled, (reference, cell), strict=True)]
    values = [np.log(np.median(costs, axis=1)) for costs in filled]
    return values[0] - values[1], drawn[0] - drawn[1]


def _estimate(log_value: float, log_draws: Floats, n: int) -> Estimate:
    interval = percentile_interval(np.exp(log_draws)) if n >= MINIMUM_N else None
    return Estimate(steady(math.exp(log_value)), interval, n)


def _by_factor(headline: Headline) -> tuple[float, str]:
    return (-(headline.factor.value or 0.0), headline.entry)


def restricted(of: Field, kept: tuple[WorkloadIdentity, ...]) -> Field:
    """The field on some of its workloads; entries that were measured on none of them are gone."""
    names = {w.identity for w in kept}
    entries = {entry: {i: c for i, c in cells.items() if i in names} for entry, cells in of.entries.items()}
    entries = {entry: cells for entry, cells in entries.items() if cells}
    return replace(of, workloads=kept, entries=entries, reference={i: c for i, c in of.reference.items() if i in names})
