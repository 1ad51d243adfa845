"""``timetrial study``: run a named grid of trials, only what is missing, and show its board."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "run a named study: a grid of trials, resumable"
EXAMPLES = """examples:
  timetrial study demo
  timetrial study demo --seeds 5
  timetrial study demo --dry-run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``study``."""
    parser.add_argument("name", help="a name from `timetrial list studies`")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="applied to every trial of the study")
    parser.add_argument("--seeds", type=int, help="run this many seeds instead of the study's own number")
    parser.add_argument("--dry-run", action="store_true", help="print what is missing and stop")
    parser.add_argument("--no-mlflow", action="store_true", help="leave the records unmirrored; `timetrial mirror` sends them later")


def execute(arguments: argparse.Namespace) -> int:
    """Run what is missing, mirror it, print and write the board."""
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

        with TrialDisplay(to_do, quiet=arguments.quiet) as display:
            records = run_study(to_do, home, on_point=display.on_point, on_record=display.on_record)
        if not arguments.no_mlflow:
            mirror_all(home)
        if len(records) < len(to_do) or records[-1].status == "interrupted":
            print("interrupted; the same command resumes it", file=sys.stderr)
            return 130
    return show_board(study.name, {plan.digest for plan in plans}, home, study.seeds)


def mirror_all(home: Path) -> None:
    """Send what MLflow does not have yet; an unreachable store costs one line."""
    from ..errors import TrackingError
    from ..record import read_record
    from ..tracking import default_uri, mirror

    folders = sorted(path.parent for path in (home / "records").glob("*/record.json"))
    try:
        mirror([(*read_record(folder), folder) for folder in folders], default_uri(home))
    except TrackingError as problem:
        print(f"timetrial: not mirrored in MLflow: {problem}; `timetrial mirror` sends it later", file=sys.stderr)


def show_board(name: str, digests: set[str], home: Path, seeds: int) -> int:
    """Print the study's board and write it below ``<home>/boards/NAME``."""
    raise NotImplementedError
