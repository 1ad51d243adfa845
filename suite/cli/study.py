"""``timetrial study``: run a named grid of trials, only what is missing, and show its board."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config import Plan
from .output import console

HELP = "run a named study: a grid of trials, resumable"
EXAMPLES = ("timetrial study demo", "timetrial study demo --seeds 5", "timetrial study demo --dry-run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``study``."""
    parser.add_argument("name", help="a name from `timetrial list studies`")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="applied to every trial of the study")
    parser.add_argument("--seeds", type=int, help="run this many seeds instead of the study's own number")
    parser.add_argument("--dry-run", action="store_true", help="print what is missing and stop")
    parser.add_argument("--no-mlflow", action="store_true", help="leave the records unmirrored; `timetrial mirror` sends them later")


def execute(arguments: argparse.Namespace) -> int:
    """Run what is missing, mirror it, print and write the board."""
    from ...leaderboards.statistics import MINIMUM_N
    from ..study import load_study, missing, study_plans

    home: Path = arguments.home
    study = load_study(arguments.name, arguments.seeds)
    plans = study_plans(study, arguments.overrides)
    to_do = missing(plans, home)
    print(f"study {study.name}: {len(plans)} trials, {len(to_do)} to run. {study.summary}", file=sys.stderr)
    if arguments.dry_run:
        for plan in to_do:
            print(f"{plan.workload.identity}  {plan.entry_name}  seed {plan.seed}")
        return 0
    if to_do:
        from ..study import run_study
        from .progress import TrialDisplay
        from .single import mirror_quietly

        with TrialDisplay(to_do, quiet=arguments.quiet) as display:
            records = run_study(to_do, home, on_point=display.on_point, on_record=display.on_record)
        if not arguments.no_mlflow:
            mirror_quietly([home / "records" / record.record_id for record in records], home)
        if len(records) < len(to_do) or records[-1].status == "interrupted":
            print("interrupted; the same command resumes it", file=sys.stderr)
            return 130
    show_board(study.name, plans, home)
    if study.seeds < MINIMUM_N:
        print(f"{study.seeds} seeds are too few for intervals: timetrial study {study.name} --seeds {MINIMUM_N}", file=sys.stderr)
    return 0


def show_board(study: str, plans: Sequence[Plan], home: Path) -> None:
    """Print the board of these plans' records and write its page below ``<home>/boards/STUDY``."""
    from ...leaderboards.boards import board, read_folders
    from ...leaderboards.render import terminal, write_board

    wanted = {plan.digest for plan in plans}
    read, rejected = read_folders(path.parent for path in (home / "records").glob("*/record.json"))
    found = [(record, curve) for record, curve in read if record.study == study and record.trial_digest in wanted]
    table = board([record for record, _ in found], rejected)
    folder = home / "boards" / study
    write_board(table, {record.record_id: curve for record, curve in found}, folder)
    console().print(terminal(table))
    print(f"page: {folder / 'index.html'}", file=sys.stderr)
