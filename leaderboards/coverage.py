"""What was to be measured and what was: the grids of studies, with *not measured* in every cell that has no trial yet.

A published board keeps the grids of its studies in one YAML file beside the records, so that a cell which nobody ran is told from one that
nobody wants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import yaml

from ..suite.errors import RecordError
from ..suite.record import Record
from ..suite.schema import STRICT, build, plain
from ..suite.workload import Lens
from .boards import Board
from .statistics import Estimate, median

__all__ = ["FILE_NAME", "Cell", "Coverage", "Grid", "coverage", "read_grids", "write_grids"]

FILE_NAME = "studies.yaml"


@dataclass(frozen=True)
class Grid:
    """A study: every one of ``entries`` on every one of ``workloads`` (names) with so many ``seeds``."""

    __pydantic_config__: ClassVar = STRICT
    study: str
    workloads: tuple[str, ...]
    entries: tuple[str, ...]
    seeds: int

    @property
    def command(self) -> str:
        """Runs what is missing, and nothing else."""
        return f"timetrial study {self.study}"


@dataclass(frozen=True)
class Cell:
    """One entry on one workload: ``n`` counted trials of the study, ``hits`` of them, and their median charged seconds to the target."""

    n: int
    hits: int
    seconds: Estimate

    @property
    def measured(self) -> bool:
        """Whether there is any trial."""
        return self.n > 0


@dataclass(frozen=True)
class Coverage:
    """A grid at one :attr:`~.boards.Section.place`: cells by entry, in the order of its workloads."""

    grid: Grid
    place: str
    cells: Mapping[str, tuple[Cell, ...]]

    @property
    def missing(self) -> int:
        """Cells with fewer trials than the study has seeds."""
        return sum(cell.n < self.grid.seeds for row in self.cells.values() for cell in row)

    @property
    def total(self) -> int:
        """All cells."""
        return sum(len(row) for row in self.cells.values())

    @property
    def said(self) -> str:
        """How much of it there is, in a sentence."""
        if not self.missing:
            return f"All {self.total} cells are measured."
        return f"{self.total - self.missing} of {self.total} cells are measured with {self.grid.seeds} seeds."


def coverage(board: Board, records: Mapping[str, Record], grids: Sequence[Grid]) -> tuple[Coverage, ...]:
    """Every grid at every place where one of its trials counts; a grid without any stands once, at no place.

    A trial that several studies ran counts once on the board and for each of them here.
    """
    found = []
    for grid in grids:
        own = {record.trial_digest for record in records.values() if record.study == grid.study} - {None}
        counted: dict[str, dict[tuple[str, str], list[tuple[Record, float | None]]]] = {}
        for section in board.sections:
            for record in (records[i] for row in section.rows for i in row.record_ids):
                if record.study == grid.study or record.trial_digest in own:
                    crossing = record.crossing()
                    hit = crossing is not None and crossing.hit
                    cost = crossing.cost.get(Lens.CHARGED_SECONDS) if crossing is not None and hit else None
                    at = counted.setdefault(section.place, {})
                    at.setdefault((record.entry.name, section.workload.name), []).append((record, cost))
        for place in sorted(counted) or [""]:
            at = counted.get(place, {})
            cells = {entry: tuple(_cell(at.get((entry, name), [])) for name in grid.workloads) for entry in grid.entries}
            found.append(Coverage(grid, place, cells))
    return tuple(found)


def read_grids(path: Path) -> tuple[Grid, ...]:
    """The grids in a file; none when there is no file. ``RecordError`` names a key that the schema refuses."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise RecordError(f"{path}: not valid YAML: {' '.join(str(problem).split())}") from None
    if not isinstance(value, list):
        raise RecordError(f"{path}: expected a list of studies, given {type(value).__name__}")
    return tuple(build(Grid, item, str(path), RecordError) for item in value)


def write_grids(grids: Sequence[Grid]) -> str:
    """The file's text."""
    text = str(yaml.safe_dump([plain(grid) for grid in grids], sort_keys=False, width=140))
    return f"# What the studies of this board are to run.\n{text}"


def _cell(trials: Sequence[tuple[Record, float | None]]) -> Cell:
    hits = [cost for _, cost in trials if cost is not None]
    return Cell(len(trials), len(hits), median(hits, len(trials) - len(hits)))
