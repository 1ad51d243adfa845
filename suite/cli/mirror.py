"""``timetrial mirror``: send the records that MLflow does not have yet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..record import Record

HELP = "send records to MLflow that are not yet there, and what states.yaml and pins.yaml beside them say"
EXAMPLES = (
    "timetrial mirror",
    "timetrial mirror --uri http://localhost:5000",
    "MLFLOW_TRACKING_URI=https://mlflow.example.org timetrial mirror",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``mirror``."""
    parser.add_argument("--uri", metavar="URI", help="the MLflow store ($MLFLOW_TRACKING_URI, else SQLite below --home)")
    parser.add_argument("--json", action="store_true", help="print how many records there are, were sent and were rejected, as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """Send what is missing; records that cannot be read are named and left out."""
    from ..errors import RecordError
    from ..record import read_record
    from ..tracking import default_uri, mirror
    from .output import print_json

    home: Path = arguments.home
    found, rejected = [], {}
    for path in sorted((home / "records").glob("*/record.json")):
        try:
            found.append((*read_record(path.parent), path.parent))
        except RecordError as problem:
            rejected[path.parent.name] = str(problem)
            print(f"timetrial: left out: {problem}", file=sys.stderr)
    uri = arguments.uri or default_uri(home)
    sent = mirror(found, uri, home=home) if found else 0
    if found:
        _mirror_notes([record for record, _, _ in found], home / "records", uri)
    if arguments.json:
        print_json({"records": len(found), "sent": sent, "rejected": rejected})
    elif not arguments.quiet:
        print(f"{sent} of {len(found)} records sent, {len(found) - sent} were there already" if found else f"no records below {home}")
    return 0


def _mirror_notes(records: list[Record], place: Path, uri: str) -> None:
    """What the files of states and pins beside the records say of them, as tags of their runs; without such a file nothing is touched."""
    from ...leaderboards import notes, pins, states
    from ..tracking import write_notes

    if (place / states.FILE_NAME).is_file() or (place / pins.FILE_NAME).is_file():
        write_notes(notes.notes_of(records, states.read_states(place / states.FILE_NAME), pins.read_pins(place / pins.FILE_NAME)), uri)
