"""A page of targets: for each workload the curves they were derived from, the ladder and the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ..suite.curve import Curve
from ..suite.workload import Budget, Lens, Metric, Reference, TargetLadder
from .page import render
from .plot import trials_plot

__all__ = ["Targets", "targets_page"]


@dataclass(frozen=True)
class Targets:
    """Frozen targets of one workload (``name@version``) with the trials behind them: of the reference, and of tuning by algorithm."""

    workload: str
    summary: str
    metric: Metric
    ladder: TargetLadder
    budget: Budget
    reference: Reference
    reference_curves: Sequence[Curve]
    tuning_curves: Mapping[str, Sequence[Curve]]


def targets_page(targets: Sequence[Targets], title: str) -> str:
    """The page as HTML, nothing fetched; the same targets give the same bytes."""
    views = [_view(one) for one in targets]
    return render("targets.html.j2", title=title, views=views, one_pass=sum(view["whole"] for view in views))


def _view(of: Targets) -> dict[str, Any]:
    label = f"reference: {of.reference.algorithm}, {of.reference.seeds} seeds"
    seconds, reference = of.reference.seconds_to_target, {label: of.reference_curves}
    tuning = {f"{name}, tuning": curves for name, curves in of.tuning_curves.items()}
    # Tuning looks at examples alone and may run on a busy machine: its seconds say nothing.
    drawn = (
        (reference, median(seconds), Lens.CHARGED_SECONDS),
        (reference | tuning, of.reference.examples_to_target, Lens.EXAMPLES),
    )
    plots = [trials_plot(rows, {label: hit}, of.metric, of.ladder, lens) for rows, hit, lens in drawn]
    return {
        "of": of,
        "plots": [plot for plot in plots if plot is not None],
        "seconds": (median(seconds), seconds[0], seconds[-1]),
        "whole": median([curve[-1].charged_seconds for curve in of.reference_curves]),
    }
