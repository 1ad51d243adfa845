"""One trial from its plan to its exit code: run, show, mirror."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from ..config import Plan
from ..errors import TrackingError, UserError

__all__ = ["mirror_quietly", "run_one"]


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
    if arguments.json:
        print((folder / "record.json").read_text(encoding="utf-8"), end="")
    elif not arguments.quiet:
        print(f"{summary(record)}\nrecord: {folder}", flush=True)
    if not arguments.no_mlflow:
        mirror_quietly([folder], home)
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


def mirror_quietly(folders: Iterable[Path], home: Path) -> None:
    """Mirror records in MLflow; a store that cannot be reached costs a line on stderr, never a record."""
    from ..record import read_record
    from ..tracking import default_uri, mirror

    try:
        mirror([(*read_record(folder), folder) for folder in folders], default_uri(home), home=home)
    except TrackingError as problem:
        print(f"timetrial: not mirrored in MLflow: {problem}; `timetrial mirror` sends it later", file=sys.stderr)
