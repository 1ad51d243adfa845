"""What a headline is made of: the factor on every workload, the headline without each of them, and the runtime profile over all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .cells import Field
from .plot import Plot, lines_plot
from .scores import Headline, LevelFactor, ecdf, leave_one_workload_out, level_factors

__all__ = ["Breakdown", "Part", "breakdown"]

_POINTS = 80
_LONGEST = 2.0
"""Where the profile's axis ends, in medians of the reference: beyond it few curves move, and a late one would squeeze the rest."""


@dataclass(frozen=True)
class Part:
    """An entry on one workload: its factor at the main target, and its headline when this workload is left out (None: it has none)."""

    factor: LevelFactor
    without: Headline | None


@dataclass(frozen=True)
class Breakdown:
    """Parts by entry and workload, in the order of the headlines; a workload that an entry was not measured on is not there.

    ``profile``: share of (level, trial, workload) hit within a cost in medians of the reference.
    """

    workloads: tuple[str, ...]
    parts: Mapping[str, Mapping[str, Part]]
    profile: Plot


def breakdown(of: Field, ranked: tuple[Headline, ...]) -> Breakdown:
    """Take the headlines of a field apart, in their order."""
    workloads = tuple(w.identity for w in of.workloads)
    mains = {identity: of.levels[identity][row] for identity, row in of.main.items()}
    factors = {(f.entry, f.workload): f for f in level_factors(of) if f.level == mains[f.workload]}
    without = {(h.entry, left_out): h for left_out, found in leave_one_workload_out(of).items() for h in found}
    parts = {
        h.entry: {w: Part(factors[h.entry, w], without.get((h.entry, w))) for w in workloads if (h.entry, w) in factors} for h in ranked
    }
    return Breakdown(workloads, parts, _profile(of, [h.entry for h in ranked]))


def _profile(of: Field, entries: list[str]) -> Plot:
    grid = np.linspace(0, _LONGEST, _POINTS)
    lines = {}
    for entry in entries:
        steps = ecdf(of, entry)
        costs, shares = np.array([cost for cost, _ in steps]), np.array([0.0, *(share for _, share in steps)])
        lines[entry] = shares[np.searchsorted(costs, grid, side="right")].tolist()
    return lines_plot("profile", "cost, in medians of the reference to the main target", "share of levels hit", grid.tolist(), lines)
