"""Sensitivity of an entry to its hyperparameters: the quality that each of its tuning trials ended with, against each value tried."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..suite.record import TUNING_SUFFIX, Record
from .boards import Section, section_key
from .plot import Tick, axis

__all__ = ["Dot", "Scatter", "sensitivity"]

DECADE = 10.0
"""Values that span at least this factor are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Dot:
    """One trial in percent of the plot area, from its left and lower edge; ``hit``: it reached the main target."""

    x: float
    y: float
    hit: bool
    label: str


@dataclass(frozen=True)
class Scatter:
    """One hyperparameter: a dot a trial, ``goal`` where the main target lies (None outside the area). ``stopped`` early, and so without
    a final quality and a dot, were so many more."""

    hyperparameter: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    goal: Tick | None
    dots: tuple[Dot, ...]
    stopped: int


def sensitivity(section: Section, entry: str, records: Iterable[Record]) -> tuple[Scatter, ...]:
    """A plot for each number that differs between the tuning trials of an entry in a section; none where nothing was tuned."""
    found = {
        record.record_id: record
        for record in records
        if record.entry.name == entry and (record.study or "").endswith(TUNING_SUFFIX) and section_key(record) == section_key(section)
    }
    stopped = sum(record.stopped is not None for record in found.values())
    trials = [found[i] for i in sorted(found) if found[i].result.final_quality is not None]
    names = sorted({name for record in trials for name in record.entry.hyperparameters})
    varied = [name for name in names if len({repr(record.entry.hyperparameters.get(name)) for record in trials}) > 1]
    numbers = [name for name in varied if all(_is_number(r.entry.hyperparameters.get(name)) for r in trials)]
    return tuple(_scatter(section, name, trials, stopped) for name in numbers)


def _scatter(section: Section, name: str, trials: Sequence[Record], stopped: int) -> Scatter:
    metric, ladder = section.workload.metric, section.workload.ladder
    values = [float(record.entry.hyperparameters[name]) for record in trials]
    qualities = [float(record.result.final_quality or 0.0) for record in trials]
    logarithmic = min(values) > 0 and max(values) / min(values) >= DECADE
    x_at, x_ticks = axis([math.log10(v) for v in values] if logarithmic else values, (lambda v: f"{10**v:.2g}") if logarithmic else None)
    # What diverged to a huge loss would press all others into one line: nothing worse than the easiest level is told apart.
    floor = metric.worst([ladder.levels[0], ladder.main])
    clipped = [metric.best([q, floor]) for q in qualities]
    y_at, y_ticks = axis([*clipped, ladder.main])
    dots = [
        Dot(x, y, record.crossing() is not None and bool(getattr(record.crossing(), "hit", False)), f"{name} {value:.4g}: {quality:.4g}")
        for x, y, record, value, quality in zip(x_at, y_at, trials, values, qualities, strict=False)
    ]
    goal = Tick(y_at[-1], f"target {ladder.main:g}")
    return Scatter(name, f"final {metric.name} [{metric.unit}]", x_ticks, y_ticks, goal, tuple(dots), stopped)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
