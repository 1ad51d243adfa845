"""The static site: front boards, a page a workload and entry, method notes and what was left out. It opens from a file.

Every number that a switch can show is computed here by the same functions as everything else and written into the page; the script
only chooses among them. The same records give the same bytes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from ..suite.curve import Curve
from ..suite.errors import RecordError, UnknownName
from ..suite.files import object_digest, write_text
from ..suite.record import Record, Status
from ..suite.workload import Lens
from . import formats
from .boards import PROVISIONAL, Board, Row, Section, cost_to_target
from .breakdown import breakdown
from .compare import compare, sentence
from .coverage import Grid, coverage
from .curation import comparisons, report
from .curation_page import curation_page
from .curation_summary import READING, summaries, summary_markdown
from .duels import duel_table
from .exports import latex, section_svg
from .front import FRONT_JSON, FRONT_MARKDOWN, conclusions, front_json, front_markdown, interval_text, shown_rank
from .horizons import HorizonPoint, horizon_of, horizon_points
from .matrix import matrices
from .matrix import sentence as matrix_said
from .mlperf import as_mlperf
from .page import render, section_views
from .pins import Pins
from .plot import Plot, lines_plot
from .prediction import predictions
from .render import csv_text, json_text, markdown, notes
from .scores import MISS_MULTIPLE, Headline
from .sensitivity import Scatter, sensitivity
from .statistics import CONFIDENCE, DRAWS, MINIMUM_N, Estimate, median
from .tracks import USES, FrontBoard, State, amortised, front_boards, states
from .tuning import tuned

__all__ = ["level_table", "record_history", "runtime_ecdf", "write_site"]

ECDF_POINTS = 80
_BUCKETS = ("curate", "setup", "train", "evaluate", "log", "prepare")


@dataclass(frozen=True)
class HistoryStep:
    """A moment when an entry became the fastest: its last needed trial's start, and how many times as fast as the one before."""

    when: str
    label: str
    seconds: float
    factor: float | None


@dataclass(frozen=True)
class _Ledger:
    """Median seconds of an entry's trials by bucket on one workload, and each as a share of all that was charged or free."""

    section: Section
    row: Row
    seconds: Mapping[str, float]
    records: tuple[Record, ...]
    sensitivity: tuple[Scatter, ...]


def write_site(
    board: Board,
    records: Sequence[Record],
    curves: Mapping[str, Curve],
    folder: Path,
    reference: str,
    title: str = "timetrial",
    pins: Pins | None = None,
    grids: Sequence[Grid] = (),
) -> tuple[Path, ...]:
    """Write all pages and forms of a board into a folder and return their paths; ``index.html`` is the front page.

    ``reference`` is the entry that headline scores are relative to, by all of its trials or by those that ``pins`` name; without it on
    two core workloads there are no headlines. ``grids`` are what studies were to run, so that cells without trials are shown as not
    measured. Raises ``RecordError`` when a pinned trial is not there.
    """
    site = _Site(board, records, curves, reference, title, pins, grids)
    pages = {**site.general(), **site.forms(), **site.workloads(), **site.entries()}
    for name, text in pages.items():
        write_text(folder / name, text)
    return tuple(folder / name for name in pages)


@final
class _Site:
    """The pages of one site as texts by path."""

    def __init__(
        self,
        board: Board,
        records: Sequence[Record],
        curves: Mapping[str, Curve],
        reference: str,
        title: str,
        pins: Pins | None,
        grids: Sequence[Grid],
    ) -> None:
        self.board, self.records, self.curves, self.reference, self.title = board, records, curves, reference, title
        self.by_id = {record.record_id: record for record in records}
        tuning = {one.record_id for one in board.tuning}
        self.standing = [*_counted(board, self.by_id), *(record for i, record in self.by_id.items() if i in tuning)]
        entries = sorted({row.entry for section in board.sections for row in section.rows})
        self.entry_pages = {entry: f"entry/{_slug(entry)}.html" for entry in entries}
        self.fronts = front_boards(board, list(self.by_id.values()), reference, pins)
        self.covered, self.marks = coverage(board, self.by_id, grids), _marks(board)
        self.superseded, self.matrices = _superseded(board), matrices(board, self.by_id)
        counted = [(record, curves[record.record_id]) for record in _counted(board, self.by_id) if record.record_id in curves]
        self.curated = comparisons(counted)
        self.chosen = summaries(self.curated)

    def general(self) -> dict[str, str]:
        """Front, method, comparisons, what was left out, prediction, and choosing data where a record did."""
        cells = predictions(self.board, self.by_id, self.fronts)
        duels = duel_table(self.board, list(self.by_id.values()))
        pages = {
            "index.html": self._page(
                "front",
                self.title,
                fronts=self.fronts,
                covered=self.covered,
                marks=self.marks,
                chosen=self.chosen,
                reading=READING,
                matrices=self.matrices,
                matrix_said=matrix_said,
                views=[_front(f) for f in self.fronts],
                conclusions=conclusions,
            ),
            "method.html": self._page("method", f"How every number is made – {self.title}", constants=_constants()),
            "compare.html": self._page("compare", f"Comparisons – {self.title}", table=duels),
            "rejected.html": self._page("rejected", f"Left out – {self.title}"),
            "prediction.html": self._page("prediction", f"Does nano predict? – {self.title}", cells=cells),
        }
        if self.fronts:
            taken = [(front, breakdown(front.field, next(iter(front.headlines.values())))) for front in self.fronts]
            title = f"What the headlines are made of – {self.title}"
            pages["headlines.html"] = self._page("headlines", title, broken_down=taken, confidence=CONFIDENCE, times="{:.2f}x".format)
        if self.curated:
            pages["curation.html"] = curation_page(self.curated, f"Choosing data – {self.title}", site=self.title)
        return pages

    def forms(self) -> dict[str, str]:
        """The front and the board as Markdown, CSV, JSON and LaTeX."""
        front = front_markdown(self.fronts, self.covered, self.marks, self.matrices)
        board = "" if self.fronts or self.curated else markdown(replace(self.board, rejected=()))
        curation = {"curation.md": report(self.curated)} if self.curated else {}
        return {
            FRONT_MARKDOWN: front + board + summary_markdown(self.chosen),
            FRONT_JSON: front_json(self.fronts, self.covered, self.matrices, self.chosen),
            "board.md": markdown(self.board),
            "board.csv": csv_text(self.board),
            "board.json": json_text(self.board),
            "board.tex": latex(self.board),
            **curation,
        }

    def workloads(self) -> dict[str, str]:
        """A page and a picture a workload."""
        pages = {}
        for view in section_views(self.board, self.curves):
            section = view.section
            pages[f"svg/{section.key}.svg"] = section_svg(section)
            pages[f"workload/{section.key}.html"] = self._page(
                "workload",
                f"{view.label} – {self.title}",
                root="../",
                view=view,
                table=_level_json(section, self.by_id),
                states=states(),
                ecdf=runtime_ecdf(section, self.by_id),
                history=record_history(section, self.by_id),
                horizons=_horizons(section, self.by_id, self.curves),
                tuning=tuned(section, self.standing),
                mlperf=as_mlperf(section, self.by_id, self.reference),
                reference=self.reference,
                miss_multiple=MISS_MULTIPLE,
                notes=notes(section),
            )
        return pages

    def entries(self) -> dict[str, str]:
        """A page an entry."""
        ledgers = _ledgers(self.board, self.by_id, self.standing)
        return {
            name: self._page(
                "entry",
                f"{entry} – {self.title}",
                root="../",
                entry=entry,
                ledgers=ledgers[entry],
                claims=_claims(self.board, self.records, entry, self.reference),
                reference=self.reference,
            )
            for entry, name in self.entry_pages.items()
        }

    def _page(self, template: str, title: str, *, root: str = "", **content: Any) -> str:
        shared = {
            "site": self.title,
            "board": self.board,
            "entry_pages": self.entry_pages,
            "superseded": self.superseded,
            "provisional": PROVISIONAL,
        }
        return render(f"{template}.html.j2", **shared, lenses=Lens, root=root, title=title, **content)


def level_table(section: Section, records: Mapping[str, Record], state: State) -> dict[float, tuple[Estimate | None, ...]]:
    """Median cost to every level of the ladder, one estimate a row of the section; None where the lens is not known."""
    found: dict[float, tuple[Estimate | None, ...]] = {}
    read = {i: amortised(records[i], state.uses) for row in section.rows for i in row.record_ids}
    for level in section.workload.ladder.levels:
        found[level] = tuple(_to_level([read[i] for i in row.record_ids], level, state.lens) for row in section.rows)
    return found


def runtime_ecdf(section: Section, records: Mapping[str, Record]) -> Plot | None:
    """Share of (level, trial) pairs hit within so many charged seconds, one line a row (Hansen et al., 2021, runtime profiles)."""
    costs = {
        row.label: [
            cost_to_target(records[i], Lens.CHARGED_SECONDS, level) for i in row.record_ids for level in section.workload.ladder.levels
        ]
        for row in section.rows
    }
    seen = [cost for found in costs.values() for cost in found if cost is not None]
    if not seen or max(seen) <= 0:
        return None
    grid = np.linspace(0, max(seen), ECDF_POINTS)
    lines = {
        label: (np.searchsorted(np.sort([c for c in found if c is not None]), grid, side="right") / len(found)).tolist()
        for label, found in costs.items()
    }
    return lines_plot("ecdf", "charged seconds", "share of levels hit, all trials", grid.tolist(), lines)


def record_history(section: Section, records: Mapping[str, Record]) -> tuple[HistoryStep, ...]:
    """The fastest entries in the order of their dates: an entry counts from the start of its last trial, with five trials or more."""
    dated = []
    for row in section.rows:
        seconds = row.to_target.get(Lens.CHARGED_SECONDS)
        if row.n >= MINIMUM_N and seconds is not None and seconds.value is not None:
            dated.append((max(records[i].started_at or "" for i in row.record_ids), row.label, seconds.value))
    steps: list[HistoryStep] = []
    for when, label, value in sorted(dated):
        if not steps or value < steps[-1].seconds:
            steps.append(HistoryStep(when, label, value, steps[-1].seconds / value if steps else None))
    return tuple(steps)


def _horizons(section: Section, records: Mapping[str, Record], curves: Mapping[str, Curve]) -> tuple[HorizonPoint, ...]:
    """Quality against cost, where entries were run to more than one horizon."""
    found = horizon_points([records[i] for row in section.rows for i in row.record_ids], curves)
    return found if len({point.horizon for point in found}) > 1 else ()


def _to_level(records: Sequence[Record], level: float, lens: Lens) -> Estimate | None:
    crossings = [None if record.status is Status.DIVERGED else record.crossing(level) for record in records]
    costs = [cost_to_target(record, lens, level) for record in records]
    hits = sum(c is not None and c.hit for c in crossings)
    known = [cost for cost in costs if cost is not None]
    return median(known, len(records) - hits) if len(known) == hits else None


def _level_json(section: Section, records: Mapping[str, Record]) -> dict[str, Any]:
    """What the switches of a workload's page choose among: by state and level, for each row its text, interval, value and hits."""
    cells: dict[str, Any] = {}
    for state in states():
        write = formats.seconds if state.lens is Lens.CHARGED_SECONDS else formats.count
        table = level_table(section, records, state)
        cells[state.key] = [[_cell(estimate, write) for estimate in table[level]] for level in section.workload.ladder.levels]
    ladder = section.workload.ladder
    horizons = [horizon_of(records[row.record_ids[0]]) for row in section.rows]
    return {
        "horizons": horizons,
        "levels": [f"{level:g}" for level in ladder.levels],
        "main": ladder.levels.index(ladder.main),
        "cells": cells,
    }


def _cell(estimate: Estimate | None, write: Any) -> list[Any]:
    if estimate is None:
        return ["–", "", None]
    return ["missed" if estimate.value is None else write(estimate.value), formats.interval(estimate, write), estimate.value]


def _front(front: FrontBoard) -> list[dict[str, Any]]:
    """Headlines by state with the text of their intervals."""

    def row(h: Headline) -> dict[str, Any]:
        return {"headline": h, "interval": interval_text(h), "rank": shown_rank(front, h)}

    return [{"state": state, "rows": [row(h) for h in found]} for state, found in front.headlines.items()]


def _ledgers(board: Board, records: Mapping[str, Record], standing: Sequence[Record]) -> dict[str, list[_Ledger]]:
    """Costs of every entry; ``standing`` are the trials that were not left out, tuning trials among them."""
    found = defaultdict(list)
    for section in board.sections:
        for row in section.rows:
            mine = tuple(records[i] for i in row.record_ids)
            seconds = {b: float(np.median([r.time.wall_seconds.get(b, 0.0) for r in mine])) for b in _BUCKETS}
            spent = {b: s for b, s in seconds.items() if s > 0}
            found[row.entry].append(_Ledger(section, row, spent, mine, sensitivity(section, row.entry, standing)))
    return found


def _claims(board: Board, records: Sequence[Record], entry: str, reference: str) -> list[str]:
    """What may be said of an entry against the reference, per workload and over all; empty where the two never met."""
    if entry == reference:
        return []
    try:
        duels = compare(board, records, entry, reference)
    except (RecordError, UnknownName):
        return []
    lens, said = Lens.CHARGED_SECONDS, []
    for duel in duels:
        found = {name: by_lens[lens] for name, by_lens in duel.workloads.items() if lens in by_lens}
        if len(duel.workloads) > 1 and lens in duel.overall:
            found["overall"] = duel.overall[lens]
        place = f" ({duel.hardware_class})" if len(duels) > 1 else ""
        said += [sentence(duel, f"{name}{place}", effect, lens) for name, effect in found.items()]
    return said


def _counted(board: Board, records: Mapping[str, Record]) -> list[Record]:
    return [records[i] for section in board.sections for row in section.rows for i in row.record_ids]


def _marks(board: Board) -> dict[str, tuple[str, ...]]:
    """States of entries, wherever one of their trials has one."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in (row for section in board.sections for row in section.rows):
        found[row.entry].update(row.states)
    return {entry: tuple(sorted(states)) for entry, states in found.items()}


def _superseded(board: Board) -> dict[str, str]:
    """Keys of sections whose workload has a newer version on the same hardware, and that version."""
    newest: dict[tuple[str, str], Section] = {}
    for section in board.sections:
        place = (section.workload.name, section.place)
        if place not in newest or section.workload.version > newest[place].workload.version:
            newest[place] = section
    latest = {s.key: newest[s.workload.name, s.place].workload for s in board.sections}
    return {s.key: latest[s.key].identity for s in board.sections if latest[s.key].version > s.workload.version}


def _constants() -> dict[str, float | int]:
    return {"confidence": CONFIDENCE, "draws": DRAWS, "minimum_n": MINIMUM_N, "miss_multiple": MISS_MULTIPLE, "uses": USES}


def _slug(entry: str) -> str:
    """A file name for an entry: readable, and no two entries share one."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', entry).strip('-.')[:60]}-{object_digest(entry)[:6]}"
