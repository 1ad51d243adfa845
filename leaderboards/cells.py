"""Cells: the costs of each entry on each workload, gathered from a board's records for scoring against a pinned reference."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..suite.curve import Curve, crossings
from ..suite.errors import RecordError
from ..suite.record import Record, Status, WorkloadIdentity
from ..suite.workload import Direction, Lens
from .boards import Board, Rejected, Section
from .statistics import MINIMUM_N, Floats

__all__ = ["Cell", "Field", "Pin", "beside", "budget_in", "field", "pin", "relaxed"]


@dataclass(frozen=True)
class Pin:
    """The reference trials that a board's version rests on: record ids by workload (``name@version``) in one hardware class."""

    version: str
    hardware_class: str
    record_ids: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Cell:
    """One entry on one workload: costs (levels, units), NaN where missed; a unit is a seed, or a study of tuning trials.

    ``key`` is made of the record ids and seeds the bootstrap. ``units`` names the columns, each with its record ids joined; columns
    behind them are units that are not there.
    """

    costs: Floats
    key: str
    units: Mapping[Hashable, str] = dataclasses.field(default_factory=dict)

    @property
    def n(self) -> int:
        """Units, hits and misses."""
        return int(self.costs.shape[1])


@dataclass(frozen=True)
class Field:
    """All that scores need: cells of entries and of the pinned reference on the workloads of one hardware class, in one lens.

    ``levels`` are the targets that the rows of costs belong to, ``main`` the row of the main one.
    """

    lens: Lens
    workloads: tuple[WorkloadIdentity, ...]
    levels: Mapping[str, tuple[float, ...]]
    main: Mapping[str, int]
    budgets: Mapping[str, float]
    entries: Mapping[str, Mapping[str, Cell]]
    reference: Mapping[str, Cell]
    set_aside: tuple[Rejected, ...] = ()


def pin(board: Board, entry: str, hardware_class: str, version: str) -> Pin:
    """Pin the counted trials of an entry on every workload of a hardware class. ``RecordError`` when it has none."""
    found = {
        section.workload.identity: row.record_ids
        for section in board.sections
        if section.hardware_class == hardware_class
        for row in section.rows
        if row.entry == entry
    }
    if not found:
        raise RecordError(f"reference {entry!r} has no counted trial in hardware class {hardware_class!r}")
    return Pin(version, hardware_class, found)


def field(
    board: Board,
    records: Sequence[Record],
    pinned: Pin,
    *,
    core: Sequence[str] | None = None,
    lens: Lens = Lens.CHARGED_SECONDS,
    unit_of: Callable[[Record], Hashable] = lambda record: record.seed,
    required_units: int | None = None,
    curves: Mapping[str, Curve] | None = None,
    relaxations: Sequence[float] | None = None,
) -> Field:
    """Gather the cells of a board's entries in the pin's hardware class.

    ``core`` are workload identities (all pinned ones by default). ``unit_of`` groups trials: the best of a unit counts (best of
    a study of tuning trials). With ``required_units`` an entry missed every unit that is not there, on absent workloads too
    (AlgoPerf's rule), instead of being *not measured* there. With ``relaxations`` (fractions of the main target) the levels are
    the relaxed targets, read off ``curves``. Raises ``RecordError`` for a pinned record that is not there.
    """
    by_id = {record.record_id: record for record in records}
    sections = [_pinned_section(board, pinned, identity) for identity in (core or sorted(pinned.record_ids))]
    read = _Reader(by_id, lens, unit_of, required_units, curves or {}, tuple(relaxations or ()))
    chosen, set_aside = {}, []
    for section in sections:
        chosen[section.workload.identity], others = _chosen_rows(section, by_id)
        set_aside += others
    workloads = tuple(section.workload for section in sections)
    entries: dict[str, dict[str, Cell]] = defaultdict(dict)
    for entry in sorted({entry for rows in chosen.values() for entry in rows}):
        for w in workloads:
            if entry in chosen[w.identity] or required_units is not None:
                entries[entry][w.identity] = read.cell(w, _own(chosen[w.identity].get(entry, ()), pinned.record_ids[w.identity]))
    return Field(
        lens=lens,
        workloads=workloads,
        levels={w.identity: read.levels(w) for w in workloads},
        main={w.identity: 0 if relaxations else w.ladder.levels.index(w.ladder.main) for w in workloads},
        budgets={w.identity: budget_in(w, lens, [by_id[i] for i in pinned.record_ids[w.identity]]) for w in workloads},
        entries=dict(entries),
        reference={w.identity: read.cell(w, pinned.record_ids[w.identity]) for w in workloads},
        set_aside=tuple(set_aside),
    )


def beside(reference: Cell, cell: Cell) -> Cell:
    """The reference's trials that an entry is held against: those with seeds in common, where there are enough for an interval, else all.

    A study runs its arms seed by seed, so equal seeds ran side by side: what the machine did in another sitting moves no factor.
    """
    shared = [column for column, unit in enumerate(reference.units) if unit in cell.units]
    if not MINIMUM_N <= len(shared) < reference.n:
        return reference
    members = list(reference.units.values())
    return Cell(reference.costs[:, shared], "\n".join(members[column] for column in shared))


def relaxed(target: float, direction: Direction, amount: float) -> float:
    """A target made easier by a fraction of its value: 0.9 accuracy relaxed by 0.1 is 0.81, a loss of 2.0 is 2.2."""
    sign = -1 if direction is Direction.MAXIMIZE else 1
    return target + sign * amount * abs(target)


@dataclass(frozen=True)
class _Reader:
    """Reads cells off records, or off curves where targets are relaxed."""

    records: Mapping[str, Record]
    lens: Lens
    unit_of: Callable[[Record], Hashable]
    required_units: int | None
    curves: Mapping[str, Curve]
    relaxations: tuple[float, ...]

    def levels(self, workload: WorkloadIdentity) -> tuple[float, ...]:
        main, direction = workload.ladder.main, workload.metric.direction
        return tuple(relaxed(main, direction, amount) for amount in self.relaxations) or workload.ladder.levels

    def cell(self, workload: WorkloadIdentity, record_ids: Sequence[str]) -> Cell:
        units: dict[Hashable, list[list[float]]] = defaultdict(list)
        members: dict[Hashable, list[str]] = defaultdict(list)
        for record_id in record_ids:
            if record_id not in self.records:
                raise RecordError(f"the board rests on record {record_id!r}, which is not there")
            record = self.records[record_id]
            units[self.unit_of(record)].append(self._costs(record))
            members[self.unit_of(record)].append(record_id)
        best = [np.fmin.reduce(np.array(trials)) for trials in units.values()]  # fmin passes over NaN
        absent = max(0, (self.required_units or 0) - len(best))
        best += [np.full(len(self.levels(workload)), math.nan)] * absent
        return Cell(np.array(best).T, "\n".join(record_ids), {unit: "\n".join(ids) for unit, ids in members.items()})

    def _costs(self, record: Record) -> list[float]:
        found = record.crossings
        if self.relaxations:
            w = record.workload
            found = crossings(self.curves[record.record_id], w.metric, replace(w.ladder, levels=self.levels(w)))
        if record.status is Status.DIVERGED:
            return [math.nan] * len(found)
        return [c.cost.get(self.lens, math.nan) if c.hit else math.nan for c in found]


def _pinned_section(board: Board, pinned: Pin, identity: str) -> Section:
    """The section that holds the pinned records of a workload: its constants and targets are those that are scored."""
    wanted = set(pinned.record_ids.get(identity, ()))
    for section in board.sections:
        if section.workload.identity == identity and section.hardware_class == pinned.hardware_class:
            counted = {record_id for row in section.rows for record_id in row.record_ids}
            if wanted and wanted <= counted:
                return section
    raise RecordError(f"workload {identity}: the reference trials pinned by board version {pinned.version!r} are not all among the records")


def _chosen_rows(section: Section, records: Mapping[str, Record]) -> tuple[dict[str, tuple[str, ...]], list[Rejected]]:
    """One row an entry: the settings with most trials, then those started first; never chosen by result. The others by name."""
    by_entry = defaultdict(list)
    for row in section.rows:
        by_entry[row.entry].append(row)
    chosen, others = {}, []
    for entry, rows in by_entry.items():
        best, *rest = sorted(rows, key=lambda row: (-row.n, min(records[i].started_at or "" for i in row.record_ids), row.record_ids))
        chosen[entry] = best.record_ids
        reason = f"other settings of {entry} with more trials are scored"
        others += [Rejected(record_id, reason) for row in rest for record_id in row.record_ids]
    return chosen, others


def _own(ids: tuple[str, ...], pinned: tuple[str, ...]) -> tuple[str, ...]:
    """The reference, which holds the pinned trials, stands by these alone: later ones count with the next pin."""
    return pinned if set(pinned) <= set(ids) else ids


def budget_in(workload: WorkloadIdentity, lens: Lens, reference: Sequence[Record], otherwise: float | None = None) -> float:
    """The budget in a lens. Where the workload states none, as many times the median cost of an example as it allows examples: up to the
    main target, or where no trial came so far up to every level that one did. Where none carries the lens, ``otherwise`` or
    ``RecordError``."""
    if (stated := workload.budget.amount(lens)) is not None:
        return stated
    found = [c.cost for record in reference if (c := record.crossing()) is not None and c.hit]
    found = found or [c.cost for record in reference for c in record.crossings if c.hit]
    known = [(cost[lens], cost[Lens.EXAMPLES]) for cost in found if lens in cost and cost.get(Lens.EXAMPLES)]
    if not known and otherwise is not None:
        return otherwise
    if not known:
        raise RecordError(f"workload {workload.identity}: the reference trials carry no {lens}, so nothing can be scored in it")
    return float(np.median([a / b for a, b in known])) * workload.budget.examples
