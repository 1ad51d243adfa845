"""Where records are read from for a board: folders, packs, published boards, an MLflow store; with what was said about them since."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    from ...leaderboards.boards import Board, Rejected
    from ...leaderboards.coverage import Grid
    from ...leaderboards.pins import Pins
    from ...leaderboards.states import Verdict
    from ..curve import Curve
    from ..record import Record

__all__ = ["Gathered", "gather", "record_folders"]


@dataclass
class Gathered:
    """Records with their curves by id, those that could not be read, and what stands beside them: states, pins and what was to be run."""

    records: list[Record]
    curves: dict[str, Curve]
    rejected: list[Rejected]
    states: dict[str, Verdict] = field(default_factory=dict)
    pins: Pins | None = None
    grids: tuple[Grid, ...] = ()

    def board(self) -> Board:
        """The board of all of it."""
        from ...leaderboards.boards import board

        return board(self.records, self.rejected, self.states)


def gather(arguments: argparse.Namespace) -> Gathered:
    """What the flags ``records``, ``source``, ``tracking_uri`` and ``study`` ask for. ``UserError`` where they contradict each other."""
    found = _from_mlflow(arguments) if arguments.source == "mlflow" else _from_folders(arguments)
    studies: Sequence[str] = arguments.study or ()
    if studies:
        found.records = [record for record in found.records if record.base_study in studies]
        found.curves = {record.record_id: found.curves[record.record_id] for record in found.records}
        known = {grid.study: grid for grid in found.grids}
        found.grids = tuple(grid for name in studies if (grid := known.get(name) or planned(name)) is not None)
    return found


@contextmanager
def record_folders(places: Sequence[Path], must_exist: bool) -> Iterator[list[Path]]:
    """Record folders in and at the given places, as long as the block lasts: packs, given or in a place, are unpacked for it.

    ``UserError`` for a place that is not there, unless it need not be.
    """
    from tempfile import TemporaryDirectory

    from ..pack import unpack

    with TemporaryDirectory() as scratch:
        folders: list[Path] = []
        packs: list[Path] = []
        for place in places:
            if place.is_file() and place.suffix == ".zip":
                packs.append(place)
            elif not place.is_dir():
                if must_exist:
                    raise UserError(f"--records: no such folder or pack: {place}")
            elif (place / "record.json").exists():
                folders.append(place)
            else:
                packs += sorted(place.glob("*.zip"))
                inside = [folder for folder in place.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
                folders += [folder for folder in inside if not (folder / "index.html").exists()]  # a site beside its records
        for number, pack in enumerate(packs):
            folders += unpack(pack, Path(scratch) / str(number))
        yield sorted(folders)


def planned(study: str) -> Grid | None:
    """What a study by name is to run; None for one that no configuration names."""
    from ...leaderboards.coverage import Grid
    from ..config import REFERENCE, entry_name
    from ..errors import UnknownName
    from ..study import load_study

    try:
        found = load_study(study)
    except UnknownName:
        return None
    entries = tuple(dict.fromkeys(entry_name(arm.algorithm, arm.curation, arm.keep_fraction) for arm in found.arms))
    first = sorted(entries, key=lambda entry: entry != REFERENCE)
    return Grid(study, found.workloads, tuple(first), found.seeds)


def _from_folders(arguments: argparse.Namespace) -> Gathered:
    from ...leaderboards import coverage, pins, states
    from ...leaderboards.boards import read_folders

    places: list[Path] = arguments.records or [arguments.home / "records"]
    with record_folders(places, arguments.records is not None) as folders:
        read, rejected = read_folders(folders)
    found = Gathered([record for record, _ in read], {record.record_id: curve for record, curve in read}, rejected)
    for place in places:
        found.states |= states.read_states(place / states.FILE_NAME)
        found.grids += coverage.read_grids(place / coverage.FILE_NAME)
    found.pins = pins.read_pins(places[0] / pins.FILE_NAME)
    return found


def _from_mlflow(arguments: argparse.Namespace) -> Gathered:
    from ...leaderboards.boards import Rejected
    from ...leaderboards.notes import read_notes
    from ..tracking import default_uri, read_records
    from ..tracking import read_notes as tags_of

    if arguments.records:
        raise UserError("--records names folders, --from mlflow a store; give one of the two")
    uri = arguments.tracking_uri or default_uri(arguments.home)
    rejected: list[Rejected] = []
    read = read_records(uri, on_rejected=lambda record_id, reason: rejected.append(Rejected(record_id, reason)))
    records = [record for record, _ in read]
    states, pins = read_notes(tags_of(uri), records)
    return Gathered(records, {record.record_id: curve for record, curve in read}, rejected, states, pins)
