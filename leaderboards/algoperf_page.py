"""The comparison of AlgoPerf's ranking with ours as a page, as CSV, as JSON and in the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..suite.files import write_text
from ..suite.schema import plain
from .algoperf import RELAXATIONS, Comparison, Standing
from .page import Whisker, render
from .plot import Plot, lines_plot
from .scores import LevelFactor
from .statistics import Estimate

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["comparison_csv", "comparison_json", "comparison_page", "comparison_table", "write_comparison"]


@dataclass(frozen=True)
class _Row:
    standing: Standing
    published: Whisker
    ours: Whisker
    our_place: int
    cells: tuple[LevelFactor | None, ...]


def comparison_page(comparison: Comparison) -> str:
    """One self-contained page; the same logs give the same bytes."""
    c = comparison
    order = sorted(c.standings, key=_our_order)
    ends = [e for s in c.standings for e in (s.ours.factor.value, *_bounds(s.ours.factor)) if e]
    low, high = math.log(min([*ends, 1.0])), math.log(max([*ends, 1.0]))
    by_cell = {(f.entry, f.workload): f for f in c.factors}
    workloads = list(dict.fromkeys(f.workload for f in c.factors))
    rows = [
        _Row(
            s,
            _whisker(s.published, lambda v: 100 * v),
            _whisker(s.ours.factor, lambda v: 100 * (math.log(v) - low) / ((high - low) or 1.0)),
            1 + order.index(s),
            tuple(by_cell.get((s.submission, w)) for w in workloads),
        )
        for s in c.standings
    ]
    return render(
        "algoperf.html.j2",
        title=f"{c.round.title}: their ranking and ours",
        c=c,
        rows=rows,
        our_order=order,
        one_at=100 * (0 - low) / ((high - low) or 1.0),
        workloads=[w.partition("@")[0] for w in workloads],
        findings=findings(c),
        plots=_plots(c),
    )


def findings(c: Comparison) -> tuple[str, ...]:
    """What the numbers of a round say, in plain sentences; nothing is said that they do not."""
    names = {s.submission: s for s in c.standings}
    first, our_first = c.standings[0], min(c.standings, key=_our_order)
    said = []
    for d in c.dropped:
        rest = [s for s in c.standings if s.submission != d.submission]
        if d.submission != first.submission and d.published_first != rest[0].submission:
            new, old = d.published_first, rest[0].submission
            said.append(
                f"Without {d.submission}, which stands {_ordinal(names[d.submission].published_rank)}, the published score puts {new} "
                f"({d.published_scores[new]:.4f}) before {old} ({d.published_scores[old]:.4f}): the winner depends on who else entered."
            )
    if all(d.our_move == 0 for d in c.dropped):
        said.append("Leaving out any submission, one at a time, moves no other submission's factor by a single bit.")
    own = our_first.ours.factor
    said.append(
        f"The published headline of {first.submission}, {first.saving:.1%}, is a time saving; as a factor it is "
        f"{first.published_factor:.2f}x. Ours for {our_first.submission} is {own.value:.2f}x{_interval(own)}."
    )
    tied = [s.submission for s in c.standings if set(s.ours.group) & set(our_first.ours.group) and s is not our_first]
    if tied:
        said.append(f"{our_first.submission} cannot be told apart from {' and '.join(tied)} with {c.round.studies} studies.")
    return tuple(said)


def comparison_json(c: Comparison) -> str:
    """The whole comparison, ``schema_version`` first level; ``relaxations`` name the columns of the relaxed scores."""
    value = {"schema_version": 1, "relaxations": RELAXATIONS, **plain(c)}
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def comparison_csv(c: Comparison) -> str:
    """One line a submission, plain numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ("submission", "framework", "published rank", "published score", "published low", "published high", "exact score", "time saving")
    ours = ("rank", "group", "factor", "factor low", "factor high", "factor at once the budget", "workloads hit", "unranked because")
    writer.writerow((*head, *ours))
    for s in c.standings:
        bounds, own = _bounds(s.published), _bounds(s.ours.factor)
        theirs = (s.submission, s.framework, s.published_rank, s.published.value, *bounds, s.exact, s.saving)
        h = s.ours
        writer.writerow((*theirs, h.rank, " ".join(h.group), h.factor.value, *own, h.at_budget.value, h.workloads_hit, h.why))
    return text.getvalue()


def comparison_table(c: Comparison) -> RenderableType:
    """The comparison for a terminal of 80 columns, with what it says below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("submission", "theirs", "interval", "ours", "interval", "group"):
        table.add_column(name, justify="right" if name in ("theirs", "ours") else "left", no_wrap=True)
    for s in c.standings:
        theirs, ours = _interval(s.published, 2).strip(" ()"), _interval(s.ours.factor).strip(" ()")
        group = " ".join(s.ours.group) or "unranked"
        cells = (s.submission, f"{s.published.value:.4f}", theirs or "–", f"{s.ours.factor.value:.2f}x", ours or "–", group)
        table.add_row(*(Text(cell) for cell in cells))
    title = Text.assemble((c.round.title, "bold"), (f"  {c.trials} trials", "dim"))
    return Group(title, table, *(Text(f"· {line}", "dim") for line in findings(c)))


def write_comparison(c: Comparison, folder: Path) -> tuple[Path, ...]:
    """Write page, CSV and JSON into a folder."""
    forms = {"index.html": comparison_page(c), "comparison.csv": comparison_csv(c), "comparison.json": comparison_json(c)}
    for name, text in forms.items():
        write_text(folder / name, text)
    return tuple(folder / name for name in forms)


def _plots(c: Comparison) -> tuple[Plot, Plot]:
    percent = [100 * amount for amount in RELAXATIONS]
    x_title = "targets made easier by [%]"
    theirs = {s.submission: c.published_by_relaxation[s.submission] for s in c.standings}
    ours = {s.submission: c.ours_by_relaxation[s.submission] for s in c.standings}
    return (
        lines_plot("published", x_title, "AlgoPerf score", percent, theirs),
        lines_plot("ours", x_title, "speed-up factor", percent, ours, 1.0),
    )


def _whisker(estimate: Estimate, place: Callable[[float], float]) -> Whisker:
    at = place(estimate.value or 0.0)
    low, high = (at if bound is None else place(bound) for bound in _bounds(estimate))
    return Whisker(low, at, high, False)


def _bounds(estimate: Estimate) -> tuple[float | None, float | None]:
    return (None, None) if estimate.interval is None else (estimate.interval.low, estimate.interval.high)


def _interval(estimate: Estimate, digits: int = 2) -> str:
    if estimate.interval is None or estimate.interval.high is None:
        return ""
    return f" ({estimate.interval.low:.{digits}f} – {estimate.interval.high:.{digits}f})"


def _our_order(s: Standing) -> tuple[bool, float, str]:
    return (s.ours.why is not None, -(s.ours.factor.value or 0.0), s.submission)


def _ordinal(n: int) -> str:
    return f"{n}{'th' if 10 <= n % 100 <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"
