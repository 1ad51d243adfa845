"""``timetrial pack``: the records of a study in one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import RecordError, UserError

HELP = "bundle the records of a study into one file to send to others"
EXAMPLES = ("timetrial pack demo", "timetrial pack demo --out demo.zip")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``pack``."""
    parser.add_argument("study", help="the study whose trials are bundled, all of them, with those that tuned it")
    parser.add_argument("--records", type=Path, metavar="FOLDER", help="where the record folders are (below --home)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file (packs/STUDY.zip below --home)")


def execute(arguments: argparse.Namespace) -> int:
    """Pack every record of the study and say where."""
    from ..pack import pack

    chosen = of_study(arguments.records or arguments.home / "records", arguments.study)
    target = arguments.out or arguments.home / "packs" / f"{arguments.study}.zip"
    count = pack(chosen, target)
    print(target)
    print(f"{count} records, {target.stat().st_size} bytes", file=sys.stderr)
    return 0


def of_study(place: Path, study: str) -> list[Path]:
    """The record folders of a study and of its tuning trials; one that cannot be read is named and stops it, so that none is dropped
    silently. ``UserError`` where there is none."""
    from ..record import read_record

    chosen, studies = [], set()
    for path in sorted(place.glob("*/record.json")):
        try:
            record, _ = read_record(path.parent)
        except RecordError as problem:
            raise RecordError(f"{problem}; move it away or mend it, a pack leaves nothing out") from None
        studies.add(record.base_study)
        if record.base_study == study:
            chosen.append(path.parent)
    if not chosen:
        known = ", ".join(sorted(filter(None, studies))) or "none"
        raise UserError(f"no record of study {study!r} in {place}; studies there: {known}")
    return chosen
