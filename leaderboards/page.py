"""A board as one self-contained HTML page: style, script and plots inside, nothing fetched, text escaped by the template."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ..suite.curve import Curve
from ..suite.workload import Lens
from . import formats
from .boards import LENSES, Board, Row, Section
from .plot import Plot, curves_plot
from .statistics import MINIMUM_N

__all__ = ["SectionView", "Whisker", "page", "render", "section_views"]

COLOURS = 10
_FULL_HEAT = math.log(3)
"""Factors of 3 and more, or a third and less, have the full colour."""


@dataclass(frozen=True)
class Whisker:
    """A value and its interval in percent of an axis; ``open`` when the upper end is not known."""

    low: float
    at: float
    high: float
    open: bool


@dataclass(frozen=True)
class SectionView:
    """A section as a page shows it: its short name, a whisker a row, and its curves by lens."""

    section: Section
    label: str
    whiskers: tuple[Whisker | None, ...]
    plots: tuple[Plot, ...]


def page(board: Board, curves: Mapping[str, Curve], title: str) -> str:
    """The whole page; the same board and curves give the same bytes."""
    return render("board.html.j2", title=title, board=board, views=section_views(board, curves), lenses=Lens)


def render(template: str, **values: Any) -> str:
    """A template of ``site/`` with what every page has: style, script and the formats of numbers."""
    shared = {"style": _asset("style.css"), "script": _asset("board.js"), "formats": formats, "minimum_n": MINIMUM_N}
    return _environment().get_template(template).render(**shared, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__ or "", "site"),
        autoescape=select_autoescape(("j2",), default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"hue": hue, "heat": heat}
    return environment


def hue(position: int) -> str:
    """The classes of the row and lines at a position: ten colours, ten more with dashes and rings, the rest grey until pointed at."""
    if position >= 2 * COLOURS:
        return "rest"
    return f"c{position % COLOURS}" + " d" * (position >= COLOURS)


def heat(factor: float | None) -> str:
    """Background of a factor's cell: green above 1, red below, by logarithm."""
    strength = max(-1.0, min(1.0, math.log(factor or 1.0) / _FULL_HEAT))
    return f"color-mix(in srgb, var({'--c2' if strength > 0 else '--c9'}) {55 * abs(strength):.0f}%, transparent)"


def _asset(name: str) -> Markup:
    """A file of our own that is put into the page as it is; it contains no text of a record."""
    return Markup(resources.files(__package__ or "").joinpath("site", name).read_text(encoding="utf-8"))


def section_views(board: Board, curves: Mapping[str, Curve]) -> list[SectionView]:
    """All sections of a board with their plots; curves are by record id."""
    names = Counter(section.workload.identity for section in board.sections)
    views = []
    for section in board.sections:
        name = section.workload.identity
        plots = [curves_plot(section, curves, lens) for lens in LENSES]
        label = name if names[name] == 1 else f"{name} {section.place}"
        views.append(SectionView(section, label, _whiskers(section.rows), tuple(plot for plot in plots if plot is not None)))
    return views


def _whiskers(rows: tuple[Row, ...]) -> tuple[Whisker | None, ...]:
    found = [row.to_target.get(Lens.CHARGED_SECONDS) for row in rows]
    ends = [end for e in found if e is not None for end in (e.value, e.interval and e.interval.high, e.interval and e.interval.low) if end]
    scale = 100 / max(ends, default=1.0)
    whiskers: list[Whisker | None] = []
    for estimate in found:
        if estimate is None or estimate.value is None:
            whiskers.append(None)
            continue
        bounds, at = estimate.interval, estimate.value * scale
        low = at if bounds is None else bounds.low * scale
        high = at if bounds is None else 100.0 if bounds.high is None else bounds.high * scale
        whiskers.append(Whisker(low, at, high, bounds is not None and bounds.high is None))
    return tuple(whiskers)
