"""``timetrial leaderboard``: build the board from records or from MLflow, show it, publish it, or serve the page."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .output import console
from .places import gather
from .site import reference_of, write_pages

if TYPE_CHECKING:
    from ..curve import Curve
    from ..record import Record

HELP = "build, show, publish or serve the leaderboard of your records"
ACTIONS = (
    "show (default) writes nothing; pin makes the reference trials that are there the next version of what scores are relative to; publish "
    "packs the records of studies into --out, beside what was published there before, with the site that is built from them"
)
EXAMPLES = (
    "timetrial leaderboard",
    "timetrial leaderboard build --out site",
    "timetrial leaderboard show --json",
    "timetrial leaderboard build --records /shared/records --records pack.zip --study demo",
    "timetrial leaderboard --study nano_curation --budgets",
    "timetrial leaderboard build --from mlflow",
    "timetrial leaderboard serve --port 8000",
    "timetrial leaderboard pin --records leaderboards/published/nano",
    "timetrial leaderboard publish --study nano_algorithms --study nano_matrix --out leaderboards/published/nano --readme README.md",
)
_ACTIONS = ("build", "show", "serve", "pin", "publish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="show", help=ACTIONS)
    parser.add_argument(
        "--records", action="append", type=Path, metavar="FOLDER", help="record folders, packs, or a folder of them; may be repeated"
    )
    parser.add_argument("--from", dest="source", choices=("records", "mlflow"), default="records", help="where records are read from")
    parser.add_argument("--tracking-uri", metavar="URI", help="the MLflow store for --from mlflow (the one below --home)")
    parser.add_argument("--study", action="append", metavar="NAME", help="only this study and the trials that tuned it; may be repeated")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where build writes (boards/all or boards/STUDY below --home)")
    parser.add_argument("--reference", metavar="ENTRY", help="what headline scores are relative to (the frozen reference, else adamw)")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="also rewrite the generated region of this Markdown file")
    parser.add_argument("--budgets", action="store_true", help="curation at equal examples and at equal seconds, as Markdown tables")
    parser.add_argument("--port", type=int, default=8000, help="of serve, on this machine only")
    parser.add_argument("--json", action="store_true", help="print the board as JSON")


def execute(arguments: argparse.Namespace) -> int:
    from ...leaderboards.pins import FILE_NAME, next_pins, write_pins
    from ...leaderboards.render import json_text, terminal
    from ..files import write_text
    from .publish import publish

    if arguments.action == "publish":
        return publish(arguments)
    found = gather(arguments)
    if arguments.budgets:
        return _budgets(found.records, found.curves)
    board = found.board()
    if arguments.json:
        print(json_text(board), end="")
    elif not (arguments.quiet and arguments.action != "show"):
        console().print(terminal(board))
    if arguments.action == "show":
        return 0
    if arguments.action == "pin":
        place = (arguments.records or [arguments.home / "records"])[0] / FILE_NAME
        write_text(place, write_pins(next_pins(board, reference_of(found, arguments.reference), found.pins)))
        print(f"written: {place}", file=sys.stderr)
        return 0
    name = "+".join(arguments.study or ["all"])
    folder = (arguments.out or arguments.home / "boards" / name).absolute()
    count = write_pages(found, board, folder, arguments.reference, arguments.readme)
    print(f"written: {count} files, {folder / 'index.html'}", file=sys.stderr)
    return serve(folder, arguments.port) if arguments.action == "serve" else 0


def _budgets(records: list[Record], curves: dict[str, Curve]) -> int:
    from ...leaderboards.curation import comparisons, report

    print(report(comparisons([(record, curves[record.record_id]) for record in records])), end="")
    return 0


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
