"""The horizon ladder: one algorithm, told different horizons, gives quality against cost without choosing a target first.

Time to a target measures the schedule's horizon as much as the algorithm (AlgoPerf's fastMRI baseline reached the same target
2.3 times sooner when only its horizon was halved). Here every horizon is one point, and the points nobody beats are the frontier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..suite.curve import Curve
from ..suite.record import Record, Status
from ..suite.workload import Direction, Lens
from .statistics import Estimate, median

__all__ = ["HorizonPoint", "frontier", "horizon_of", "horizon_points"]


@dataclass(frozen=True)
class HorizonPoint:
    """An entry run to the end of a declared horizon (a fraction of the budget): median cost and final quality over seeds.

    ``on_frontier``: no other point has at least its quality at less cost, or better quality at no more cost.
    """

    entry: str
    horizon: float
    cost: Estimate
    quality: Estimate
    on_frontier: bool = False


def horizon_points(records: Sequence[Record], curves: Mapping[str, Curve], lens: Lens = Lens.CHARGED_SECONDS) -> tuple[HorizonPoint, ...]:
    """Points of all entries and horizons on one workload, the frontier marked, cheapest first.

    The horizon is the algorithm option ``horizon`` (1 when not given). Trials that ended otherwise than by finishing their
    schedule (stopped early among them), and those whose curve lacks the lens, have no point.
    """
    groups: dict[tuple[str, float], list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        last = curves[record.record_id][-1] if curves.get(record.record_id) else None
        cost = None if last is None else last.cost(lens)
        if last is None or cost is None or record.status not in (Status.HIT, Status.MISSED) or record.stopped:
            continue
        groups[record.entry.name, horizon_of(record)].append((cost, last.quality))
    points = [HorizonPoint(e, h, median([c for c, _ in found]), median([q for _, q in found])) for (e, h), found in groups.items()]
    return frontier(points, records[0].workload.metric.direction) if points else ()


def horizon_of(record: Record) -> float:
    """The fraction of the budget that a trial's algorithm was told to stretch over."""
    return float(record.entry.algorithm_options.get("horizon") or 1.0)


def frontier(points: Sequence[HorizonPoint], direction: Direction) -> tuple[HorizonPoint, ...]:
    """Mark the points that no other dominates in (cost, quality); cheapest first."""
    sign = 1 if direction is Direction.MAXIMIZE else -1
    placed = [(p.cost.value or 0.0, -sign * (p.quality.value or 0.0), p) for p in points]

    def dominated(cost: float, badness: float) -> bool:
        return any(c <= cost and b <= badness and (c, b) != (cost, badness) for c, b, _ in placed)

    marked = [(cost, bad, replace(p, on_frontier=not dominated(cost, bad))) for cost, bad, p in placed]
    return tuple(p for _, _, p in sorted(marked, key=lambda m: (m[0], m[1], m[2].entry, m[2].horizon)))
