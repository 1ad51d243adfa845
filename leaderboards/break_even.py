"""When a selection pays: for how many trainings it must serve, and whether the seconds that it saves are more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median as middle

from ..suite.record import Record
from ..suite.workload import Lens
from .boards import cost_to_target
from .compare import effect
from .statistics import median

__all__ = ["NOISE", "BreakEven", "break_even", "break_even_uses", "selection_seconds"]

NOISE = 0.05
"""p-value of a one-sided test below which a difference is no noise."""
SHORTEST_SECONDS = 1e-3
"""Of a training, so that it has a logarithm where a method charged its choosing all along."""


@dataclass(frozen=True)
class BreakEven:
    """``uses``: for how many trainings a selection must serve until choosing and training together reach the main level as soon as training
    on all data does, by medians; 1 means at once, None never (or one of the two missed the main level in half of its trials).

    ``shown``: whether training alone is shown to be faster, or where it never pays to be slower, by a one-sided test over seeds.
    """

    uses: int | None
    shown: bool

    @property
    def said(self) -> str:
        """``at once``, ``4 uses`` or ``never``, with a question mark where noise may have made it."""
        words = "never" if self.uses is None else "at once" if self.uses == 1 else f"{self.uses} uses"
        return words if self.shown else f"{words}?"


def break_even_uses(selection_seconds: float, training_seconds: float, reference_seconds: float) -> int | None:
    """The smallest m with ``selection / m + training <= reference``; None when training alone is not faster.

    ``ValueError`` for a negative or infinite number of seconds.
    """
    if not all(0 <= value < math.inf for value in (selection_seconds, training_seconds, reference_seconds)):
        raise ValueError(f"expected seconds, given {selection_seconds}, {training_seconds} and {reference_seconds}")
    saved = reference_seconds - training_seconds
    if selection_seconds == 0 and saved == 0:
        return 1
    return max(1, math.ceil(selection_seconds / saved)) if saved > 0 else None


def break_even(chosen: Mapping[int, Record], full: Mapping[int, Record]) -> BreakEven:
    """When the selection of ``chosen`` pays against training on all data; both are trials by seed, on one workload and class of machine."""
    selection = selection_seconds(chosen.values())
    to_main, reference = _median_cost(chosen), _median_cost(full)
    uses = None
    if to_main is not None and reference is not None:
        uses = break_even_uses(selection, max(0.0, to_main - selection), reference)
    budget = next(iter(chosen.values())).workload.budget.charged_seconds
    found = effect(_training_seconds(chosen), _training_seconds(full), budget)
    agrees = ((found.factor.value or 1.0) > 1) == (uses is not None)
    return BreakEven(uses, agrees and found.p is not None and found.p / 2 < NOISE)


def selection_seconds(trials: Iterable[Record]) -> float:
    """Median of the bucket ``curate``."""
    return middle([record.time.wall_seconds.get("curate", 0.0) for record in trials])


def _training_seconds(trials: Mapping[int, Record]) -> dict[int, float]:
    """Charged seconds to the main level without choosing, by seed; NaN where it was missed."""
    found = {}
    for seed, record in trials.items():
        cost = cost_to_target(record, Lens.CHARGED_SECONDS)
        found[seed] = math.nan if cost is None else max(SHORTEST_SECONDS, cost - record.time.wall_seconds.get("curate", 0.0))
    return found


def _median_cost(trials: Mapping[int, Record]) -> float | None:
    """Median charged seconds to the main level; None when half of the trials or more missed it."""
    costs = [cost for record in trials.values() if (cost := cost_to_target(record, Lens.CHARGED_SECONDS)) is not None]
    return median(costs, misses=len(trials) - len(costs)).value
