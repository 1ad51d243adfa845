"""Targets as a procedure: from the reference's curves on many seeds to a ladder, a main target and a budget.

The main target is the hardest level that the reference reaches and confirms in at least a given share of its seeds. Easier levels
are what its median curve shows at equal steps of the way there, so that they are spread over time and not over quality; harder
ones lie between the main target and the best that any of its seeds reached. All are rounded towards the easier side. The budget is some
times the reference's median seconds to the main target, and never less than its whole run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from .curve import Curve, crossings
from .errors import ConfigError
from .schema import STRICT
from .workload import Direction, Lens, Metric, TargetLadder, TargetStatus

__all__ = ["Derived", "TargetRules", "confirmed_quality", "derive_targets"]


@dataclass(frozen=True)
class TargetRules:
    """Constants of target setting. ``digits``: significant digits of a level; ``easier`` levels below the main one."""

    __pydantic_config__: ClassVar = STRICT
    hit_share: float
    budget_factor: float
    easier: int = 10
    harder: int = 2
    digits: int = 3
    confirmations: int = 1


@dataclass(frozen=True)
class Derived:
    """What the procedure derives: the ladder, the budget in charged seconds, and the reference's own costs to the main target.

    ``seconds_to_target`` are those of every seed that hit it, sorted; ``examples_to_target`` is the median over the same seeds.
    """

    ladder: TargetLadder
    budget_seconds: float
    seconds_to_target: tuple[float, ...]
    examples_to_target: float


def confirmed_quality(curve: Curve, metric: Metric, confirmations: int) -> float:
    """The hardest level that a curve reaches and confirms: :func:`~.curve.crossings` finds it, and nothing harder."""
    return metric.best(metric.worst(p.quality for p in curve[i : i + 1 + confirmations]) for i in range(len(curve)))


def derive_targets(curves: Sequence[Curve], metric: Metric, rules: TargetRules, evidence_digest: str) -> Derived:
    """Targets from the reference's curves, one a seed, all evaluated at the same examples.

    Raises ``ConfigError`` when curves are missing, were evaluated at different examples, or do not learn enough for ten levels.
    """
    if not curves or any(len(curve) < 3 for curve in curves):
        raise ConfigError(f"targets: expected curves of at least 3 evaluations, given lengths {[len(curve) for curve in curves]}")
    if len({tuple(p.examples for p in curve[: min(map(len, curves))]) for curve in curves}) > 1:
        raise ConfigError("targets: the reference's seeds were evaluated at different examples")
    up = metric.direction is Direction.MAXIMIZE
    reached = sorted((confirmed_quality(curve, metric, rules.confirmations) for curve in curves), reverse=up)
    main = _rounded(reached[math.ceil(rules.hit_share * len(reached)) - 1], rules.digits, up)
    levels = sorted({*_easier(curves, main, rules, up), main, *_harder(main, reached[0], rules, up)}, reverse=not up)
    if len(levels) < 10:
        raise ConfigError(f"targets: {len(levels)} levels can be told apart with {rules.digits} digits; evaluate more often")
    ladder = TargetLadder(tuple(levels), main, TargetStatus.FROZEN, rules.confirmations, evidence_digest)
    found = [next(c for c in crossings(curve, metric, ladder) if c.level == main) for curve in curves]
    hits = [c.cost for c in found if c.hit]
    seconds = tuple(sorted(cost[Lens.CHARGED_SECONDS] for cost in hits))
    whole = median(curve[-1].charged_seconds for curve in curves)  # where the target is hit early, schedules still come to their end
    budget = math.ceil(10 * max(rules.budget_factor * median(seconds), whole)) / 10
    return Derived(ladder, budget, seconds, median(cost[Lens.EXAMPLES] for cost in hits))


def _easier(curves: Sequence[Curve], main: float, rules: TargetRules, up: bool) -> list[float]:
    """Levels at equal steps along the best-so-far of the median curve, from its first evaluation to the main target."""
    shortest = min(len(curve) for curve in curves)
    best: list[float] = []
    for i in range(shortest):
        quality = median(curve[i].quality for curve in curves)
        best.append(quality if not best else max(best[-1], quality) if up else min(best[-1], quality))
    before = [q for q in best[1:] if (q < main if up else q > main)] or best[:1]
    places = [(k + 0.5) * len(before) / rules.easier for k in range(rules.easier)]
    found = {_rounded(_between(best, place), rules.digits, up) for place in places}
    return [level for level in found if (level < main if up else level > main)]


def _between(values: Sequence[float], place: float) -> float:
    first = min(int(place), len(values) - 2)
    return values[first] + (place - first) * (values[first + 1] - values[first])


def _harder(main: float, best: float, rules: TargetRules, up: bool) -> list[float]:
    found = {_rounded(main + (best - main) * k / rules.harder, rules.digits, up) for k in range(1, rules.harder + 1)}
    return [level for level in found if (level > main if up else level < main)]


def _rounded(value: float, digits: int, up: bool) -> float:
    """To so many significant digits, towards the side that is easier to reach."""
    if value == 0:
        return 0.0
    places = digits - 1 - math.floor(math.log10(abs(value)))
    scaled = round(value * 10.0**places, 6)  # what is a round number already stays
    return round((math.floor if up else math.ceil)(scaled) / 10.0**places, max(0, places))
