"""What one trial may spend, in every lens: the fraction that its algorithm sees, and when it is over."""

from __future__ import annotations

import math
import time
from typing import Protocol, final

from .clock import Reading
from .curve import CurvePoint
from .workload import DETERMINISTIC_LENSES, Budget, Lens

__all__ = ["Allowance"]


class Spending(Protocol):
    """What a trial counts as it goes; the deterministic lenses by name."""

    examples: int
    steps: int
    flops: float
    gradient_depth: int


@final
class Allowance:
    """A workload's budget for one trial. ``horizon`` multiplies the amount of the lens that the algorithm sees, and no cut-off.

    ``batch_size`` and ``step_flops`` are those of the trial's first step: what its number of steps is told from.
    """

    def __init__(self, budget: Budget, horizon: float, batch_size: int, step_flops: float) -> None:
        amount = horizon * (budget.amount(budget.lens) or 0.0)
        self._name = budget.lens.value
        self._amount = amount if budget.lens is Lens.FLOPS else math.ceil(amount)
        self._amounts = {**budget.limits, Lens.CHARGED_SECONDS: budget.charged_seconds, budget.lens: self._amount}
        self._counted = [(lens.value, amount) for lens, amount in self._amounts.items() if lens in DETERMINISTIC_LENSES - {Lens.EXAMPLES}]
        self._deadline = self._cpu_deadline = math.inf
        step = {Lens.EXAMPLES: batch_size, Lens.FLOPS: max(step_flops, 1.0)}.get(budget.lens, 1)
        self.examples = math.ceil(amount) if budget.lens is Lens.EXAMPLES else batch_size * math.ceil(amount / step)
        """The examples that the budget holds at the first batch size."""

    def fraction(self, spending: Spending) -> float:
        """Spent share of the budget in its deterministic lens, 0 to 1 during training."""
        return float(getattr(spending, self._name)) / self._amount

    def boundary(self, next_evaluation: int) -> int:
        """Examples to train up to: the next evaluation, or the end of the budget if that comes first."""
        return min(next_evaluation, int(self._amounts.get(Lens.EXAMPLES, next_evaluation)))

    def watch(self, reading: Reading) -> None:
        """Start counting down from what the clock has charged so far; called where a charged bucket opens."""
        self._deadline = time.perf_counter() + self._amounts[Lens.CHARGED_SECONDS] - reading.charged_seconds
        if Lens.CPU_SECONDS in self._amounts:
            self._cpu_deadline = time.process_time() + self._amounts[Lens.CPU_SECONDS] - reading.charged_cpu_seconds

    def spent(self, spending: Spending) -> bool:
        """Whether a limit is reached between two evaluations: a few comparisons, asked after every step."""
        if time.perf_counter() > self._deadline:
            return True
        if self._cpu_deadline != math.inf and time.process_time() > self._cpu_deadline:
            return True
        return any(getattr(spending, name) >= amount for name, amount in self._counted)

    def over(self, point: CurvePoint) -> bool:
        """Whether an evaluation stands at or beyond a limit in any lens."""
        return any((cost := point.cost(lens)) is not None and cost >= amount for lens, amount in self._amounts.items())
