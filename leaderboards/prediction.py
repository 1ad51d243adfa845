"""Does a small trial predict a large one? Rank agreement of entries between tiers, between horizons, and between halves of the seeds.

The measure is Kendall's tau-b: 1 is the same order, 0 none, -1 the reverse. Its interval is Fisher's z with the standard error of
Fieller, Hartley and Pearson (Biometrika 44, 1957), sqrt(0.437 / (n - 4)) over n entries, and needs five entries. Agreement between halves
of the seeds is the ceiling: no tier can predict another better than it predicts itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from ..suite.record import Record, Status
from ..suite.workload import Direction, Lens, Tier
from .boards import Board, Section, cost_to_target
from .horizons import horizon_of
from .statistics import CONFIDENCE, MINIMUM_N, Estimate, Interval
from .tracks import FrontBoard, State, Track

__all__ = ["Agreement", "agreement", "predictions", "rank_agreement"]

FEWEST_ENTRIES = 3
_WITHIN = ("seeds", "horizons")


@dataclass(frozen=True)
class Agreement:
    """One cell of the page: ``tau`` is None where it was *not measured* (fewer than three entries on both sides)."""

    kind: str
    what: str
    entries: int
    tau: Estimate | None


def predictions(board: Board, records: Mapping[str, Record], fronts: Sequence[FrontBoard]) -> tuple[Agreement, ...]:
    """Every pair of tiers, then halves of the seeds and pairs of horizons of each workload; empty cells where there are none."""
    found = [_tiers(fronts, one, other) for one, other in combinations(Tier, 2)]
    for section in board.sections:
        found.append(_halves(section, records))
    for section in board.sections:
        found += _horizons(section, records)
    return (*found, *(Agreement(kind, "no workload yet", 0, None) for kind in _WITHIN if not board.sections))


def agreement(kind: str, what: str, one: Mapping[str, float], other: Mapping[str, float]) -> Agreement:
    """Agreement of two scores by entry, over the entries that both have."""
    common = sorted(one.keys() & other.keys())
    if len(common) < FEWEST_ENTRIES:
        return Agreement(kind, what, len(common), None)
    return Agreement(kind, what, len(common), rank_agreement([one[e] for e in common], [other[e] for e in common]))


def rank_agreement(one: Sequence[float], other: Sequence[float]) -> Estimate | None:
    """Kendall's tau-b with its interval; None where one side has no order at all."""
    n = len(one)
    tau = float(stats.kendalltau(np.asarray(one), np.asarray(other)).statistic)
    if math.isnan(tau):
        return None
    if n < MINIMUM_N:
        return Estimate(tau, None, n)
    reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * math.sqrt(0.437 / (n - 4))
    middle = math.atanh(max(-0.999999, min(0.999999, tau)))
    return Estimate(tau, Interval(math.tanh(middle - reach), math.tanh(middle + reach), CONFIDENCE), n)


def _tiers(fronts: Sequence[FrontBoard], one: Tier, other: Tier) -> Agreement:
    """Headline scores of training algorithms: the first front board of each tier."""
    scores = []
    for tier in (one, other):
        front = next((f for f in fronts if f.tier is tier and f.track is Track.TRAINING), None)
        headlines = () if front is None else front.headlines.get(State(Lens.CHARGED_SECONDS), ())
        scores.append({h.entry: h.factor.value for h in headlines if h.factor.value is not None and h.why is None})
    return agreement("tiers", f"{one} and {other}", *scores)


def _halves(section: Section, records: Mapping[str, Record]) -> Agreement:
    """Median cost to the target over even and over odd seeds; a miss is worth more than every hit."""
    halves: list[dict[str, float]] = [{}, {}]
    for row in section.rows:
        costs: list[list[float]] = [[], []]
        for record in (records[i] for i in row.record_ids):
            cost = cost_to_target(record, Lens.CHARGED_SECONDS)
            costs[record.seed % 2].append(math.inf if cost is None else cost)
        if all(costs):
            for half, values in zip(halves, costs, strict=True):
                half[row.label] = _middle(values)
    return agreement("seeds", f"{_name(section)}: even and odd seeds", *halves)


def _horizons(section: Section, records: Mapping[str, Record]) -> list[Agreement]:
    """Median final quality of each algorithm with curation, between every pair of declared horizons."""
    sign = 1 if section.workload.metric.direction is Direction.MAXIMIZE else -1
    by_horizon: dict[float, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in section.rows:
        for record in (records[i] for i in row.record_ids):
            if record.result.final_quality is not None and record.status in (Status.HIT, Status.MISSED):
                by_horizon[horizon_of(record)][row.entry].append(sign * record.result.final_quality)
    scores = {horizon: {e: float(np.median(v)) for e, v in found.items()} for horizon, found in by_horizon.items()}
    return [
        agreement("horizons", f"{_name(section)}: {a:g} and {b:g} of the budget", scores[a], scores[b])
        for a, b in combinations(sorted(scores), 2)
    ] or [Agreement("horizons", _name(section), 0, None)]


def _middle(values: Sequence[float]) -> float:
    """The lower median, which needs no mean with a miss."""
    return sorted(values)[(len(values) - 1) // 2]


def _name(section: Section) -> str:
    return f"{section.workload.identity} on {section.place}"
