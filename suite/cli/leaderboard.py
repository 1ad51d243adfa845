"""``timetrial leaderboard``: build the board from records or from MLflow, show it, or serve the page."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .output import console

if TYPE_CHECKING:
    from ...leaderboards.boards import Board
    from ..curve import Curve
    from ..record import Record

HELP = "build, show or serve the leaderboard of your records"
ACTIONS = "show (default) writes nothing; pin makes the reference trials that are there the next version of what scores are relative to"
EXAMPLES = (
    "timetrial leaderboard",
    "timetrial leaderboard build --out site",
    "timetrial leaderboard show --json",
    "timetrial leaderboard build --records /shared/records --study demo",
    "timetrial leaderboard --study nano_curation --budgets",
    "timetrial leaderboard build --from mlflow",
    "timetrial leaderboard serve --port 8000",
    "timetrial leaderboard pin --records leaderboards/published/nano",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("build", "show", "serve", "pin"), default="show", help=ACTIONS)
    parser.add_argument(
        "--records", action="append", type=Path, metavar="FOLDER", help="record folders, or a folder of them; may be repeated"
    )
    parser.add_argument("--from", dest="source", choices=("records", "mlflow"), default="records", help="where records are read from")
    parser.add_argument("--tracking-uri", metavar="URI", help="the MLflow store for --from mlflow (the one below --home)")
    parser.add_argument("--study", metavar="NAME", help="only the trials of this study and those that tuned it")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where build writes (boards/all or boards/STUDY below --home)")
    parser.add_argument("--reference", metavar="ENTRY", help="what headline scores are relative to (the frozen reference, else adamw)")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="also rewrite the generated region of this Markdown file")
    parser.add_argument("--budgets", action="store_true", help="curation at equal examples and at equal seconds, as Markdown tables")
    parser.add_argument("--port", type=int, default=8000, help="of serve, on this machine only")
    parser.add_argument("--json", action="store_true", help="print the board as JSON")


def execute(arguments: argparse.Namespace) -> int:
    from ...leaderboards.exports import with_region
    from ...leaderboards.pages import write_site
    from ...leaderboards.pins import FILE_NAME, next_pins, read_pins, write_pins
    from ...leaderboards.render import json_text, terminal
    from ..config import REFERENCE
    from ..files import write_text

    board, records, curves = gather(arguments)
    if arguments.budgets:
        return _budgets(records, curves)
    if arguments.json:
        print(json_text(board), end="")
    elif not (arguments.quiet and arguments.action != "show"):
        console().print(terminal(board))
    if arguments.action == "show":
        return 0
    frozen = any(record.entry.name == REFERENCE for record in records)
    reference = arguments.reference or (REFERENCE if frozen else "adamw")
    place = (arguments.records or [arguments.home / "records"])[0] / FILE_NAME
    pins = read_pins(place)
    if arguments.action == "pin":
        write_text(place, write_pins(next_pins(board, reference, pins)))
        print(f"written: {place}", file=sys.stderr)
        return 0
    folder = (arguments.out or arguments.home / "boards" / (arguments.study or "all")).absolute()
    paths = write_site(board, records, curves, folder, reference, pins=pins)
    print(f"written: {len(paths)} files, {folder / 'index.html'}", file=sys.stderr)
    if arguments.readme is not None:
        write_text(arguments.readme, with_region(_text(arguments.readme), board))
    return serve(folder, arguments.port) if arguments.action == "serve" else 0


def _budgets(records: list[Record], curves: dict[str, Curve]) -> int:
    from ...leaderboards.curation import report

    print(report([(record, curves[record.record_id]) for record in records]), end="")
    return 0


def gather(arguments: argparse.Namespace) -> tuple[Board, list[Record], dict[str, Curve]]:
    """The board that the flags ask for, its records, and their curves by id."""
    from ...leaderboards.boards import Rejected, board, read_folders
    from ...leaderboards.states import FILE_NAME, Verdict, read_states

    states: dict[str, Verdict] = {}
    rejected: list[Rejected] = []
    if arguments.source == "mlflow":
        if arguments.records:
            raise UserError("--records names folders, --from mlflow a store; give one of the two")
        from ..tracking import default_uri, read_records

        uri = arguments.tracking_uri or default_uri(arguments.home)
        found = read_records(uri, on_rejected=lambda record_id, reason: rejected.append(Rejected(record_id, reason)))
    else:
        places = arguments.records or [arguments.home / "records"]
        found, rejected = read_folders(record_folders(places, arguments.records is not None))
        for place in places:
            states |= read_states(place / FILE_NAME)
    if arguments.study is not None:
        found = [(record, curve) for record, curve in found if record.base_study == arguments.study]
    records = [record for record, _ in found]
    return board(records, rejected, states), records, {record.record_id: curve for record, curve in found}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        raise UserError(f"--readme {path}: {problem.strerror}") from None


def record_folders(places: list[Path], must_exist: bool) -> list[Path]:
    """Record folders in and at the given places; ``UserError`` for a place that is not there."""
    folders = []
    for place in places:
        if must_exist and not place.is_dir():
            raise UserError(f"--records: no such folder: {place}")
        if (place / "record.json").exists():
            folders.append(place)
        elif place.is_dir():
            folders += [folder for folder in place.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    return folders


def serve(folder: Path, port: int) -> int:
    """Serve the built page on this machine until Ctrl-C."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    except OSError as problem:
        raise UserError(f"--port {port}: {problem.strerror}") from None
    with server:
        print(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends)", file=sys.stderr)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0
