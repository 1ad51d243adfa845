"""``timetrial import``: turn another benchmark's published logs into records, and compare its ranking with ours."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import UserError
from .output import console

HELP = "import another benchmark's logs and compare rankings"
EXAMPLES = (
    "timetrial import algoperf logs/algoperf_v05_external_tuning.csv.xz",
    "timetrial import algoperf logs --out comparison",
    "timetrial import algoperf mylogs.csv --round v06_external_tuning --targets targets_v06.json",
    "timetrial import algoperf mylogs.csv --round my_round --rounds my_rounds.yaml",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("algoperf",), help="whose logs they are")
    parser.add_argument("path", type=Path, help="the log, algoperf_<round>.csv[.xz|.gz], or a folder with one")
    parser.add_argument("--round", metavar="NAME", help="the round, when the file's name does not tell it")
    parser.add_argument("--rounds", type=Path, metavar="FILE", help="a YAML file of rounds instead of the known ones")
    parser.add_argument("--targets", type=Path, metavar="FILE", help="the round's targets (targets_<version>.json beside the log)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where pages are written (boards/algoperf_<round> below --home)")
    parser.add_argument("--draws", type=int, default=2000, help="bootstrap draws behind every interval")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")


def execute(arguments: argparse.Namespace) -> int:
    from ...leaderboards.algoperf import best_of_study, compare
    from ...leaderboards.algoperf_logs import ROUNDS, read_logs, to_records
    from ...leaderboards.algoperf_page import comparison_json, comparison_table, write_comparison
    from ...leaderboards.boards import board
    from ...leaderboards.render import write_board

    if arguments.draws < 100:
        raise UserError(f"--draws: expected at least 100, given {arguments.draws}")
    logs = read_logs(arguments.path, arguments.round, arguments.rounds or ROUNDS, arguments.targets)
    comparison = compare(logs, arguments.draws)
    folder = (arguments.out or arguments.home / "boards" / f"algoperf_{logs.round.name}").absolute()
    paths = write_comparison(comparison, folder)
    found = to_records(logs)
    counted = board(best_of_study([record for record, _ in found]))
    write_board(counted, {record.record_id: curve for record, curve in found}, folder / "board", logs.round.title)
    if arguments.json:
        print(comparison_json(comparison), end="")
    elif not arguments.quiet:
        console().print(comparison_table(comparison))
    print(f"written: {', '.join(path.name for path in paths)} and board/ in {folder}", file=sys.stderr)
    return 0
