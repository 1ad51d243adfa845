"""Curves as geometry: paths in percent of a plot area, which a page stretches to any width while its text keeps its size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..suite.curve import Curve
from ..suite.workload import Direction, Lens, Metric, TargetLadder
from . import formats
from .boards import Section
from .statistics import MINIMUM_N, median

__all__ = ["Plot", "Series", "Tick", "axis", "curves_plot", "lines_plot", "trials_plot"]

GRID = 60
"""Points of a drawn curve; a line of 60 points is smooth at any screen width."""
_WRITERS: Mapping[Lens, Callable[[float], str]] = {Lens.CHARGED_SECONDS: lambda v: f"{v:g}"}
_TITLES = {Lens.CHARGED_SECONDS: "charged seconds", Lens.EXAMPLES: "examples seen", Lens.FLOPS: "FLOPs (model and update)"}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tick:
    """A labelled position in percent of the plot area, from its left or lower edge."""

    at: float
    label: str


@dataclass(frozen=True)
class Series:
    """One entry's curve: SVG path data in a 100 x 100 area, y down. ``values`` are what a pointer reads at each grid point.

    ``band`` is the interval over seeds (n >= 5), ``seeds`` the single curves (n < 5), ``hit`` where the median crosses the target.
    """

    label: str
    colour: int
    line: str
    band: str
    seeds: tuple[str, ...]
    hit: float | None
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Plot:
    """Lines over a common axis. ``grid`` holds the x that ``Series.values`` belong to, ``goal`` a marked height, ``key`` its name."""

    key: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    goal: Tick | None
    grid: tuple[float, ...]
    series: tuple[Series, ...]
    up: bool = True


def curves_plot(section: Section, curves: Mapping[str, Curve], lens: Lens) -> Plot | None:
    """The curves of a section in a lens, the median over seeds in front; None when no record has a curve in it."""
    rows = {row.label: [curves[i] for i in row.record_ids if i in curves] for row in section.rows}
    targets = {row.label: row.to_target.get(lens) for row in section.rows}
    hits = {label: target.value for label, target in targets.items() if target is not None and target.value is not None}
    return trials_plot(rows, hits, section.workload.metric, section.workload.ladder, lens)


def trials_plot(
    rows: Mapping[str, Sequence[Curve]], hits: Mapping[str, float], metric: Metric, ladder: TargetLadder, lens: Lens
) -> Plot | None:
    """Curves of trials by the name of their row, in the colours of their order; ``hits`` are marked costs to the main target."""
    drawn = {label: _drawable(trials, lens) for label, trials in rows.items()}
    costs = [float(c[0][-1]) for found in drawn.values() for c in found]
    if not costs or max(costs) <= 0:
        return None
    x_end = max(costs)
    y_low, y_high = _quality_range(metric, ladder, [c[1] for found in drawn.values() for c in found])
    grid = np.linspace(0, x_end, GRID)
    area = _Area(0.0, x_end, y_low, y_high)
    series = [_series(area, grid, label, found, i, hits.get(label)) for i, (label, found) in enumerate(drawn.items()) if found]
    return Plot(
        key=lens.value,
        x_title=_TITLES[lens],
        y_title=f"{metric.name}, validation [{metric.unit}]",
        x_ticks=tuple(Tick(float(area.x(v)), _WRITERS.get(lens, _compact)(v)) for v in _nice(0, x_end)),
        y_ticks=tuple(Tick(float(100 - area.y(v)), f"{v:g}") for v in _nice(y_low, y_high)),
        goal=Tick(float(100 - area.y(ladder.main)), f"target {ladder.main:g}"),
        grid=tuple(float(f"{v:.4g}") for v in grid),
        series=tuple(series),
        up=metric.direction is Direction.MAXIMIZE,
    )


def lines_plot(
    key: str, x_title: str, y_title: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], goal: float | None = None
) -> Plot:
    """Plain lines over common x, one colour each in the order given; ``goal`` marks a height."""
    heights = [v for line in lines.values() for v in line] + ([] if goal is None else [goal])
    air = 0.04 * ((max(heights) - min(heights)) or 1.0)
    area = _Area(x[0], x[-1], min(heights) - air, max(heights) + air)
    across = np.asarray(x, dtype=np.float64)
    return Plot(
        key=key,
        x_title=x_title,
        y_title=y_title,
        x_ticks=tuple(Tick(float(area.x(v)), f"{v:g}") for v in _nice(x[0], x[-1])),
        y_ticks=tuple(Tick(float(100 - area.y(v)), f"{v:g}") for v in _nice(area.y_low, area.y_high)),
        goal=None if goal is None else Tick(float(100 - area.y(goal)), f"{goal:g}"),
        grid=tuple(x),
        series=tuple(
            Series(label, i, area.path(across, np.asarray(line)), "", (), None, tuple(float(f"{v:.4g}") for v in line))
            for i, (label, line) in enumerate(lines.items())
        ),
    )


def axis(values: Sequence[float], label: Callable[[float], str] | None = None) -> tuple[list[float], tuple[Tick, ...]]:
    """Values as percent of an axis that holds them with some air, and its ticks at round values."""
    low, high = min(values), max(values)
    air = 0.06 * ((high - low) or abs(high) or 1.0)
    low, high = low - air, high + air
    ticks = tuple(Tick(100 * (v - low) / (high - low), (label or "{:g}".format)(v)) for v in _nice(low, high))
    return [100 * (v - low) / (high - low) for v in values], ticks


@dataclass(frozen=True)
class _Area:
    x_start: float
    x_end: float
    y_low: float
    y_high: float

    def x(self, value: float | Floats) -> float | Floats:
        return (value - self.x_start) / (self.x_end - self.x_start) * 100

    def y(self, value: float | Floats) -> float | Floats:
        return 100 - (value - self.y_low) / (self.y_high - self.y_low) * 100

    def path(self, x: Floats, y: Floats) -> str:
        """Path data; values far outside the area are held near it, so that clipping has short lines to cut."""
        heights = np.clip(self.y(y), -50, 150)
        return "M" + "L".join(f"{a:.2f} {b:.2f}" for a, b in zip(np.atleast_1d(self.x(x)), np.atleast_1d(heights), strict=True))


def _drawable(curves: Sequence[Curve], lens: Lens) -> list[tuple[Floats, Floats]]:
    """Costs and qualities of the trials that have a curve in this lens."""
    found = []
    for curve in curves:
        costs = [cost for point in curve if (cost := point.cost(lens)) is not None]
        if curve and len(costs) == len(curve):
            found.append((np.array(costs), np.array([point.quality for point in curve])))
    return found


def _series(area: _Area, grid: Floats, label: str, found: Sequence[tuple[Floats, Floats]], position: int, hit: float | None) -> Series:
    """Seeds are read at common costs, as far as all of them have been measured."""
    start, end = max(c[0][0] for c in found), min(c[0][-1] for c in found)
    inside = np.union1d(grid[(grid >= start) & (grid <= end)], [start, end])
    values = np.stack([np.interp(inside, *c) for c in found])
    middle = np.median(values, axis=0)
    band = ""
    if len(found) >= MINIMUM_N:
        bounds = [median(column.tolist()).interval for column in values.T]
        low = np.array([b.low if b else math.nan for b in bounds])
        high = np.array([b.high if b and b.high is not None else math.nan for b in bounds])
        band = area.path(np.concatenate([inside, inside[::-1]]), np.concatenate([low, high[::-1]])) + "Z"
    at_grid = np.interp(grid, inside, middle)
    known = (grid >= start) & (grid <= end)
    return Series(
        label=label,
        colour=position,
        line=area.path(inside, middle),
        band=band,
        seeds=() if band or len(found) == 1 else tuple(area.path(*c) for c in found),
        hit=None if hit is None else float(area.x(hit)),
        values=tuple(float(f"{v:.4g}") if k else None for v, k in zip(at_grid, known, strict=True)),
    )


def _quality_range(metric: Metric, ladder: TargetLadder, qualities: Sequence[Floats]) -> tuple[float, float]:
    """From the easiest level to the best quality seen, with some air: what lies below the easiest level says little."""
    levels = ladder.levels
    seen = np.concatenate([*qualities, np.array(levels)])
    best = float(seen.max() if metric.direction is Direction.MAXIMIZE else seen.min())
    low, high = min(levels[0], best), max(levels[0], best)
    air = 0.04 * (high - low)
    return low - air, high + air


def _nice(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) between two ends."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * f for f in (1, 2, 5, 10) if power * f >= raw)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _compact(value: float) -> str:
    return formats.count(value).replace(".00", "").replace(".0 ", " ") if value else "0"
