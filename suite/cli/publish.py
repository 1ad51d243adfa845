"""``timetrial leaderboard publish``: the records of studies as packs in a folder to commit, with the site that is built from them alone."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import RecordError, UserError
from .pack import of_study
from .places import Gathered, gather, planned
from .site import reference_of, write_pages

__all__ = ["SITE", "publish"]

SITE = "site"


def publish(arguments: argparse.Namespace) -> int:
    """Pack, pin, build. What was published before stays: packs grow, and pins move on only by ``leaderboard pin``."""
    from ...leaderboards.coverage import FILE_NAME, read_grids, write_grids
    from ..files import write_text

    if not arguments.study or arguments.out is None or arguments.source != "records":
        raise UserError("publish: expected the studies and where to: --study NAME (may be repeated) --out FOLDER, from records")
    out: Path = arguments.out.absolute()
    place = (arguments.records or [arguments.home / "records"])[0]
    grids = {grid.study: grid for grid in read_grids(out / FILE_NAME)}
    folders = {study: of_study(place, study) for study in arguments.study}  # before anything is written
    for study, own in folders.items():
        _pack(own, out / f"{study.replace('/', '-')}.zip")
        if (grid := planned(study)) is not None:
            grids[study] = grid
    write_text(out / FILE_NAME, write_grids(list(grids.values())))
    found = gather(argparse.Namespace(records=[out], source="records", study=None, home=arguments.home))
    _pin(found, out, arguments.reference)
    part = out / f".{SITE}.part"
    shutil.rmtree(part, ignore_errors=True)
    write_pages(found, found.board(), part, arguments.reference, arguments.readme)
    shutil.rmtree(out / SITE, ignore_errors=True)
    part.rename(out / SITE)
    size = sum(path.stat().st_size for path in out.glob("*.zip"))
    print(f"written: {len(found.records)} records in {size / 1e6:.1f} MB, {out / SITE / 'index.html'}", file=sys.stderr)
    return 0


def _pack(folders: Sequence[Path], target: Path) -> None:
    """Pack these records with those that the pack holds already. ``RecordError`` for one that is not what was published under its name."""
    from ..pack import pack, unpack

    with TemporaryDirectory() as scratch:
        before = unpack(target, Path(scratch) / "before") if target.exists() else []
        known = {folder.name: folder for folder in before}
        for folder in folders:
            old = known.get(folder.name)
            if old is not None and (old / "record.json").read_bytes() != (folder / "record.json").read_bytes():
                raise RecordError(f"{folder.name}: differs from what {target.name} holds under this name; records are written once")
            known[folder.name] = folder
        pack(list(known.values()), target)


def _pin(found: Gathered, out: Path, reference: str | None) -> None:
    """The first version of the pins, as soon as the reference ran on a workload with frozen targets; the next one when it ran on more."""
    from ...leaderboards.pins import FILE_NAME, extended_pins, next_pins, write_pins
    from ..files import write_text

    board = found.board()
    try:
        found.pins = next_pins(board, reference_of(found, reference), None) if found.pins is None else extended_pins(board, found.pins)
    except RecordError:
        return  # nothing to pin yet
    write_text(out / FILE_NAME, write_pins(found.pins))
