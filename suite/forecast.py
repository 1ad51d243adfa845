"""How long trials take on this machine: the median of what earlier ones took on the same workload and hardware class."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from .config import Plan, hardware_of
from .record import TRAINED, Record

__all__ = ["Forecast"]


class Forecast:
    """Wall seconds, from start to record, that earlier trials took. Those that failed and smoke tests say nothing of the next."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._taken: dict[tuple[str, str | None], list[float]] = {}
        for record in records:
            if record.status in TRAINED and record.time.outer_seconds is not None:
                self._taken.setdefault((record.workload.digest, record.hardware_class), []).append(record.time.outer_seconds)

    def taken(self, plan: Plan) -> list[float]:
        """What trials on the plan's workload took on such a machine, one number each; none where none ran."""
        return self._taken.get((plan.workload.digest, hardware_of(plan)), [])

    def seconds(self, plan: Plan) -> float | None:
        """Their median; None where none ran."""
        taken = self.taken(plan)
        return median(taken) if taken else None
