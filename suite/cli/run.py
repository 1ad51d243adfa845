"""``timetrial run``: one trial by name, or a Hydra multirun of them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    from ..config import Plan

HELP = "run a workload by name"
EXAMPLES = (
    "timetrial run digits_mlp",
    "timetrial run cifar10_cnn algorithm=nesterov lr=0.5 seed=3",
    "timetrial run cifar10_cnn curation=random keep_fraction=0.5",
    "timetrial run digits_mlp -m algorithm=adamw,lion seed=0,1,2",
    "timetrial run shakespeare_gpt --dry-run",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``run``; overrides may stand anywhere between them."""
    parser.add_argument("workload", help="a name from `timetrial list workloads`")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="algorithm=, curation=, keep_fraction=, seed=, lr=, …")
    parser.add_argument("-m", "--multirun", action="store_true", help="run every combination of comma-separated values (Hydra multirun)")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved plan and what it will cost; train nothing")
    parser.add_argument("--smoke", action="store_true", help="a few steps to catch errors; the record is never ranked")
    parser.add_argument("--fresh", action="store_true", help="discard the checkpoint of an interrupted run instead of resuming it")
    parser.add_argument("--json", action="store_true", help="print the record (or the dry run's plan) as JSON")
    parser.add_argument("--no-mlflow", action="store_true", help="leave the record unmirrored; `timetrial mirror` sends it later")


def execute(arguments: argparse.Namespace) -> int:
    """Run and report; 3 when a single trial missed its target."""
    home: Path = arguments.home
    overrides = [f"workload={arguments.workload}", *arguments.overrides]
    if arguments.multirun:
        from .multirun import run_all

        return run_all(overrides, home, arguments)
    from ..config import resolve

    return run_one(resolve(overrides), home, arguments)


def run_one(plan: Plan, home: Path, arguments: argparse.Namespace) -> int:
    """One trial from its plan to its exit code."""
    if arguments.dry_run:
        from .plan import describe

        print(json.dumps(describe(plan, home), indent=1) if arguments.json else describe_text(plan, home))
        return 0
    from ..inputs import open_inputs
    from ..record import Status
    from ..trial import run_trial
    from .output import progress_bars
    from .progress import TrialDisplay, summary

    with progress_bars(quiet=arguments.quiet) as on_progress:
        inputs = open_inputs(plan.workload, home, on_progress)
    with TrialDisplay([plan], quiet=arguments.quiet or arguments.json) as display:
        record, folder = run_trial(plan, home, inputs=inputs, on_point=display.on_point, smoke=arguments.smoke, fresh=arguments.fresh)
        display.on_record(plan, record)
    if not arguments.no_mlflow:
        mirror_quietly(folder, home)
    if arguments.json:
        print((folder / "record.json").read_text(encoding="utf-8"), end="")
    elif not arguments.quiet:
        print(summary(record))
        print(f"record: {folder}")
    if record.status is Status.FAILED:
        reason = (record.status_reason or "").strip().splitlines()[-1]
        raise UserError(f"the trial failed: {reason} (traceback in {folder / 'record.json'})")
    if record.status is Status.INTERRUPTED:
        return 130
    return 0 if record.status in (Status.HIT, Status.SMOKE) else 3


def describe_text(plan: Plan, home: Path) -> str:
    """The dry run's answer for people."""
    from .plan import describe

    lines = [f"{key:<22} {value}" for key, value in describe(plan, home).items()]
    return "\n".join(lines)


def mirror_quietly(folder: Path, home: Path) -> None:
    """Mirror one record in MLflow; a store that cannot be reached costs a line on stderr, never the record."""
    from ..errors import TrackingError
    from ..record import read_record
    from ..tracking import default_uri, mirror

    record, curve = read_record(folder)
    try:
        mirror([(record, curve, folder)], default_uri(home))
    except TrackingError as problem:
        print(f"timetrial: not mirrored in MLflow: {problem}; `timetrial mirror` sends it later", file=sys.stderr)
