"""``timetrial submit``: check an entry, run its qualification, and show its place beside the records that are here."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EntryRefused, RecordError, UserError
from .output import print_json, print_table

if TYPE_CHECKING:
    from ...leaderboards.boards import Row, Section
    from ..config import Plan
    from ..entry import EntryFolder
    from ..record import Record

HELP = "check an entry, run its qualification trials, show its place"
EXAMPLES = (
    "timetrial submit my_entry/",
    "timetrial submit my_entry/ --workloads digits_mlp --seeds 1",
    "timetrial submit my_entry/ --full",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``submit``."""
    parser.add_argument("entry", type=Path, metavar="PATH", help="the entry's folder, with entry.yaml")
    parser.add_argument("--full", action="store_true", help="the whole core instead of the qualification set")
    parser.add_argument("--workloads", metavar="A,B", help="other workloads than the protocol's: a rehearsal")
    parser.add_argument("--seeds", type=int, metavar="N", help="another number of seeds than the protocol's: a rehearsal")
    parser.add_argument("--dry-run", action="store_true", help="check, show what would run and how long, train nothing")
    parser.add_argument("--no-mlflow", action="store_true", help="leave the records unmirrored; `timetrial mirror` sends them later")
    parser.add_argument("--json", action="store_true", help="trials and places as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """Check, run, show. Exit 1 when a rule is broken or a trial failed; a missed target is a result, not an error."""
    from ..checks import check_entry
    from ..entry import read_entry
    from ..qualification import finished, run_entry_trial

    say = _sayer(arguments)
    report = check_entry(arguments.entry)
    if not report.accepted:
        raise EntryRefused("; ".join(map(str, report.violations)))
    entry = read_entry(arguments.entry.resolve())
    if not arguments.dry_run:
        entry = entry.snapshot(arguments.home)
    say(f"{entry.manifest.name}: {len(report.passed)} rules kept, {len(report.undecided)} undecided ({report.seconds:.0f} s)")
    if report.network:
        say("network: it cannot be taken away on this machine; connections are refused inside the process, which is weaker")
    plans, left_out = _plans(entry, arguments)
    known = _records(arguments.home)
    for line in [*left_out, *_expected(plans, known)]:
        say(line)
    if arguments.dry_run:
        return 0
    folders, failed = [], 0
    for number, plan in enumerate(plans, 1):
        earlier = finished(plan, known)
        if earlier is not None:
            folders.append(arguments.home / "records" / earlier.record_id)
            say(f"[{number}/{len(plans)}] {plan.workload.name} seed {plan.seed}: {earlier.status}, from its record")
            continue
        trial = run_entry_trial(entry, plan.workload.name, plan.seed, arguments.home, study=plan.study)
        folders.append(trial.folder)
        failed += trial.status == "failed"
        why = f": {(trial.reason or '').splitlines()[0]}" if trial.status == "failed" and trial.reason else ""
        say(f"[{number}/{len(plans)}] {plan.workload.name} seed {plan.seed}: {trial.status}{why}")
    _show(entry, plans, arguments)
    if not arguments.no_mlflow:
        from .single import mirror_quietly

        mirror_quietly(folders, arguments.home)
    return 1 if failed else 0


def _sayer(arguments: argparse.Namespace):  # type: ignore[no-untyped-def]
    """Progress goes to stderr, so that stdout holds the result alone."""
    return lambda text: None if arguments.quiet else print(text, file=sys.stderr, flush=True)


def _plans(entry: EntryFolder, arguments: argparse.Namespace) -> tuple[list[Plan], list[str]]:
    """The trials, seed by seed over all workloads, and the workloads whose lack the entry declares."""
    from ..protocol import protocol_round
    from ..qualification import unmet

    chosen = protocol_round("full" if arguments.full else "qualification")
    workloads = arguments.workloads.split(",") if arguments.workloads else list(chosen.workloads)
    seeds = chosen.seeds if arguments.seeds is None else arguments.seeds
    if seeds < 1:
        raise UserError(f"--seeds: expected at least 1, given {seeds}")
    plans = [entry.plan(workload, seed, f"submit-{entry.manifest.name}") for seed in range(seeds) for workload in workloads]
    lacking = {plan.workload.name: unmet(plan) for plan in plans}
    left_out = [f"{name}: left out, it does not provide {', '.join(needs)}" for name, needs in lacking.items() if needs]
    plans = [plan for plan in plans if not lacking[plan.workload.name]]
    if not plans:
        raise UserError(f"{entry.manifest.name}: none of the workloads meets its needs: {'; '.join(left_out)}")
    return plans, left_out


def _expected(plans: list[Plan], known: list[Record]) -> list[str]:
    """How long it will take, from the records that are here."""
    from ..qualification import expected_seconds, finished

    todo = [plan for plan in plans if finished(plan, known) is None]
    if not todo:
        return ["all trials have their records"]
    found = [expected_seconds(plan, known) for plan in todo]
    most = sum(limit for _, limit in found)
    medians = [median for median, _ in found if median is not None]
    if len(medians) < len(found):
        return [f"{len(todo)} trials; how long they take is not known here yet, at most {_span(most)}"]
    return [f"{len(todo)} trials, about {_span(sum(medians))} by earlier ones on this machine, at most {_span(most)}"]


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _records(home: Path) -> list[Record]:
    from ..record import read_record

    found = []
    for path in sorted((home / "records").glob("*/record.json")):
        try:
            found.append(read_record(path.parent)[0])
        except RecordError:
            continue  # the board names it
    return found


def _show(entry: EntryFolder, plans: list[Plan], arguments: argparse.Namespace) -> None:
    """The entry's row in every section that has it, with its neighbours."""
    from ...leaderboards.boards import board

    names = {plan.entry_name for plan in plans}
    digests = {plan.workload.digest for plan in plans}
    sections = [section for section in board(_records(arguments.home)).sections if section.workload.digest in digests]
    places = [_place(section, names) for section in sections if any(row.entry in names for row in section.rows)]
    if arguments.json:
        print_json({"schema_version": 1, "entry": entry.manifest.name, "digest": entry.digest, "places": places})
        return
    for section in sections:
        if not any(row.entry in names for row in section.rows):
            continue
        claim = "ranked" if section.ranked else "targets are provisional: a measurement, no rank"
        print(f"\n{section.workload.identity} ({section.hardware_class}; {claim})")
        lines = [_line(number, row, names) for number, row in enumerate(section.rows, 1)]
        print_table(
            ["", "place", "entry", "trials", "hits", "seconds to target"], lines, numeric=["place", "trials", "hits", "seconds to target"]
        )


def _place(section: Section, names: set[str]) -> dict[str, object]:
    number = next(n for n, row in enumerate(section.rows, 1) if row.entry in names)
    row = section.rows[number - 1]
    return {
        "workload": section.workload.identity,
        "ranked": section.ranked,
        "place": number,
        "of": len(section.rows),
        "trials": row.n,
        "hits": row.hits,
        "seconds": _seconds(row),
    }


def _line(number: int, row: Row, names: set[str]) -> list[object]:
    seconds = _seconds(row)
    return ["->" if row.entry in names else "", number, row.label, row.n, row.hits, "missed" if seconds is None else f"{seconds:.2f}"]


def _seconds(row: Row) -> float | None:
    from ..workload import Lens

    found = row.to_target.get(Lens.CHARGED_SECONDS)
    return None if found is None else found.value
