"""How boards write numbers for people: three significant digits, the same everywhere. Machines get plain numbers."""

from __future__ import annotations

from collections.abc import Callable

from ..suite.record import WorkloadIdentity
from ..suite.workload import Direction
from .statistics import MINIMUM_N, Estimate

__all__ = ["count", "interval", "quality", "rate", "seconds", "target"]

_PREFIXES = ((1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))


def seconds(value: float) -> str:
    """``0.41 s``, ``12.3 s``, ``4.1 min``, ``2.3 h``."""
    if value >= 7200:
        return f"{value / 3600:.1f} h"
    return f"{value / 60:.1f} min" if value >= 600 else f"{_three(value)} s"


def count(value: float) -> str:
    """Examples or FLOPs with an SI prefix: ``36.2 k``, ``1.24 T``."""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{_three(value / size)}{prefix}"
    return _three(value)


def quality(value: float) -> str:
    """A metric's value in four decimals below 10, else in four significant digits."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def rate(hits: int, n: int) -> str:
    """``4/5``: a share of so few trials is clearer as a count."""
    return f"{hits}/{n}"


def interval(estimate: Estimate, write: Callable[[float], str]) -> str:
    """``11.8 – 13.0 s`` (the unit once where both ends share it), ``11.8 s – missed``, or why there is none."""
    if estimate.interval is None:
        return f"no interval below n = {MINIMUM_N}" if estimate.n < MINIMUM_N else ""
    low = write(estimate.interval.low)
    high = "missed" if estimate.interval.high is None else write(estimate.interval.high)
    unit = low.partition(" ")[2]
    return f"{low.partition(' ')[0] if unit and unit == high.partition(' ')[2] else low} – {high}"


def target(workload: WorkloadIdentity) -> str:
    """``accuracy ≥ 0.94``."""
    sign = "≥" if workload.metric.direction is Direction.MAXIMIZE else "≤"
    return f"{workload.metric.name} {sign} {workload.ladder.main:g}"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
