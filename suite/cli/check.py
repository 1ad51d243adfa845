"""``timetrial check``: an entry's folder against the rules, without ranking anything."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .output import print_json

if TYPE_CHECKING:
    from ..checks import Report

__all__ = ["add_arguments", "execute", "print_report"]

HELP = "check an entry's folder against the rules"
EXAMPLES = ("timetrial check my_entry/", "timetrial check my_entry/ --run", "timetrial check my_entry/ --json")
SMOKE_WORKLOAD = "digits_mlp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``check``."""
    parser.add_argument("entry", type=Path, metavar="PATH", help="the entry's folder, with entry.yaml")
    parser.add_argument("--run", action="store_true", help=f"also run a few steps on {SMOKE_WORKLOAD}, in a process of its own")
    parser.add_argument("--seconds", type=float, default=90.0, help="time limit of the contract suite (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="the report as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """Print the report; exit 1 when a rule is broken."""
    from ..checks import check_entry
    from ..isolation import Limits
    from ..schema import plain

    report = check_entry(arguments.entry, Limits(seconds=arguments.seconds))
    smoke = _smoke(arguments) if arguments.run and report.accepted else None
    if arguments.json:
        print_json({"schema_version": 1, "accepted": report.accepted, **plain(report), "smoke": smoke})
    else:
        print_report(report, quiet=arguments.quiet)
        if smoke is not None:
            print(f"{SMOKE_WORKLOAD}: {smoke}")
    return 0 if report.accepted and smoke in (None, "smoke") else 1


def print_report(report: Report, *, quiet: bool) -> None:
    """Violations with file and line; then what was kept and what stays open."""
    from ..checks import RULES, Judge

    for violation in report.violations:
        print(f"BROKEN  {violation}")
    if quiet:
        return
    for name, why in report.undecided.items():
        print(f"open    {name}: {why}")
    people = ", ".join(rule.name for rule in RULES if rule.judge is Judge.HUMAN)
    counts = f"{len(report.passed)} rules kept, {len(report.violations)} broken, {len(report.undecided)} undecided"
    print(f"{report.entry}: {counts}, {report.seconds:.0f} s")
    network = "could not be taken away here; attempts were recorded" if report.network else "taken away"
    print(f"network: {network}. For people: {people} (RULES.md)")


def _smoke(arguments: argparse.Namespace) -> str:
    """Status of a few steps on a real workload, or what went wrong."""
    from ..entry import read_entry
    from ..qualification import run_entry_trial

    trial = run_entry_trial(read_entry(arguments.entry).snapshot(arguments.home), SMOKE_WORKLOAD, 0, arguments.home, smoke=True)
    return trial.status if trial.status == "smoke" else f"{trial.status}: {trial.reason}"
