"""The page of a curation study: two budgets, published claims and scaling, from the same objects as the Markdown. It fetches nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..suite.workload import Metric
from . import formats
from .claims import Verdict, note, tally
from .curation import Comparison
from .curation_scaling import Scaling, TimeScaling, better, time_scaling
from .curation_trials import arms_of, drift, full_seconds
from .page import Whisker, render
from .plot import Tick
from .scaling import Decay

__all__ = ["Law", "LawPlot", "curation_page"]

FIT_POINTS = 60


@dataclass(frozen=True)
class Law:
    """One method in a plot: its points and the two fitted forms as SVG path data in a 100 x 100 area, y down; ``best`` is drawn full."""

    label: str
    colour: int
    dots: tuple[tuple[float, float, str], ...]
    best: str
    other: str


@dataclass(frozen=True)
class LawPlot:
    """Error against a cost, both axes logarithmic."""

    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    laws: tuple[Law, ...]


def curation_page(compared: Sequence[Comparison], title: str, seeds: int | None = None, site: str | None = None) -> str:
    """The page as HTML, a part for every place. The same trials give the same bytes.

    ``seeds``: how many were planned; ``site``: the name of the site that it is a page of.
    """
    views = [_view(one) for one in compared]
    return render("curation_study.html.j2", title=title, views=views, seeds=seeds, note=note(), site=site, root="")


def _view(compared: Comparison) -> dict[str, Any]:
    arms, kept, timed = arms_of(compared.trials), compared.scaling, time_scaling(compared.trials)
    of = compared.trials[0][0].workload
    names = sorted({one.curation for one in kept} | {one.curation for one in timed})
    colours = {name: i for i, name in enumerate(names)}
    return {
        "name": compared.where.identity,
        "rest": compared.heading.partition(", ")[2],
        "metric": of.metric,
        "budget": of.budget,
        "seconds": full_seconds(arms),
        "drift": drift(arms),
        "arms": compared.arms,
        "verdicts": list(zip(compared.verdicts, _whiskers(compared.verdicts), strict=True)),
        "tally": tally(compared.verdicts),
        "plots": [
            plot
            for plot in (
                _plot("kept examples", of.metric, kept, colours, lambda v: f"{v / 1000:g} k" if v >= 1000 else f"{v:g}"),
                _plot("charged seconds, choosing included", of.metric, timed, colours, lambda v: f"{v:.4g}"),
            )
            if plot is not None
        ],
        "fits": [(name, colours[name], _one(kept, name), _one(timed, name)) for name in names],
    }


def _one(found: Sequence[Any], name: str) -> dict[str, str]:
    """What the table of fits says of a method: both residuals, the better form and what it says."""
    one: Scaling | TimeScaling | None = next((one for one in found if one.curation == name), None)
    if one is None:
        return {"form": "not measured", "says": "", "power": "–", "exponential": "–"}
    chosen = better(one)
    says = f"exponent {chosen.rate:.3f}" if chosen.form == "power" else "error does not fall"
    if chosen.form != "power" and chosen.rate > 0:
        says = f"a decade per {formats.count(math.log(10) / chosen.rate)}"
    return {"form": chosen.form, "says": says, "power": f"{one.power.residual:.3f}", "exponential": f"{one.exponential.residual:.3f}"}


def _plot(
    x_title: str, metric: Metric, found: Sequence[Scaling] | Sequence[TimeScaling], colours: dict[str, int], write: Callable[[float], str]
) -> LawPlot | None:
    if not found:
        return None
    x_axis = _LogAxis([x for one in found for x, _ in one.points], write)
    y_axis = _LogAxis([y for one in found for _, y in one.points], lambda v: f"{v:g}")
    laws = []
    for one in found:
        first, last = min(x for x, _ in one.points), max(x for x, _ in one.points)
        forms = (one.power, one.exponential) if better(one) is one.power else (one.exponential, one.power)
        paths = [_path(form, first, last, x_axis, y_axis) for form in forms]
        dots = tuple((x_axis.at(x), y_axis.at(y), f"{one.curation}: {write(x)}, error {y:.4f}") for x, y in one.points)
        laws.append(Law(one.curation, colours[one.curation], dots, *paths))
    error = f"1 − {metric.name}" if metric.unit == "fraction" else metric.name
    return LawPlot(x_title, f"{error}, validation", x_axis.ticks(), y_axis.ticks(), tuple(laws))


def _path(form: Decay, first: float, last: float, x_axis: _LogAxis, y_axis: _LogAxis) -> str:
    steps = [first * (last / first) ** (i / (FIT_POINTS - 1)) for i in range(FIT_POINTS)]
    heights = [form.scale * (x**-form.rate if form.form == "power" else math.exp(-form.rate * x)) for x in steps]
    return "M" + "L".join(
        f"{x_axis.at(x):.2f} {min(150.0, max(-50.0, 100 - y_axis.at(y))):.2f}" for x, y in zip(steps, heights, strict=True)
    )


class _LogAxis:
    """Positive values as percent of a logarithmic axis with some air; ticks at 1, 2 and 5 times powers of ten."""

    def __init__(self, values: Sequence[float], write: Callable[[float], str]) -> None:
        low, high = math.log10(min(values)), math.log10(max(values))
        air = 0.06 * ((high - low) or 1.0)
        self.low, self.high, self.write = low - air, high + air, write

    def at(self, value: float) -> float:
        """Percent from the lower end."""
        return 100 * (math.log10(max(value, 1e-300)) - self.low) / (self.high - self.low)

    def ticks(self) -> tuple[Tick, ...]:
        """As many round values as do not stand in each other's way."""
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [s * 10.0**d for d in decades for s in steps if self.low <= math.log10(s * 10.0**d) <= self.high]
            if len(found) <= 7:
                break
        if len(found) < 2:
            span = self.high - self.low
            found = [float(f"{10 ** (self.low + share * span):.2g}") for share in (0.1, 0.5, 0.9)]
        return tuple(Tick(self.at(value), self.write(value)) for value in found)


def _whiskers(decided: Sequence[Verdict]) -> list[tuple[Whisker | None, float]]:
    """Every effect with its interval on one axis for differences and one, logarithmic, for factors; and where its margin lies."""
    scales = {
        is_cost: max([abs(v) for one in decided if one.claim.measure.is_cost is is_cost for v in _numbers(one)], default=1.0) or 1.0
        for is_cost in (False, True)
    }
    found = []
    for one in decided:
        at = [50 + 46 * value / scales[one.claim.measure.is_cost] for value in _numbers(one)]
        whisker = None if len(at) < 2 else Whisker(at[2] if len(at) > 2 else at[1], at[1], at[3] if len(at) > 2 else at[1], False)
        found.append((whisker, at[0]))
    return found


def _numbers(one: Verdict) -> list[float]:
    """Margin, effect and the ends of the interval, as far as there are any, 0 being no difference."""
    values = [one.claim.threshold]
    values += [] if one.effect is None else [one.effect]
    values += [] if one.interval is None or one.interval.high is None else [one.interval.low, one.interval.high]
    return [math.log(max(v, 1e-9)) for v in values] if one.claim.measure.is_cost else values
