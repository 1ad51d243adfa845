"""``timetrial submit``: check an entry, tune it, run it on fresh seeds, and show its place beside the records that are here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EntryRefused, UserError
from .output import print_json, print_table

if TYPE_CHECKING:
    from ...leaderboards.boards import Row, Section
    from ..config import Plan
    from ..entry import EntryFolder
    from ..qualification import Submission
    from ..record import Record

HELP = "check an entry, run its tuning and qualification trials, show its place"
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
    parser.add_argument("--seeds", type=int, metavar="N", help="another number of fresh seeds than the protocol's: a rehearsal")
    parser.add_argument("--tuning", type=int, metavar="K", help="fewer tuning trials than the protocol's; 0: at its defaults")
    parser.add_argument("--dry-run", action="store_true", help="check, show what would run and how long, train nothing")
    parser.add_argument("--no-mlflow", action="store_true", help="leave the records unmirrored; `timetrial mirror` sends them later")
    parser.add_argument("--json", action="store_true", help="trials, chosen hyperparameters and places as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """Check, tune, run, show. Exit 1 when a rule is broken or a trial failed; a missed target is a result, not an error."""
    say = _sayer(arguments)
    submission = _submission(_checked_entry(arguments, say), arguments, say)
    tuning = submission.tuning()
    say(_expected(submission, tuning, _records(arguments.home)))
    if arguments.dry_run:
        return 0
    failed = _run(submission.entry, tuning, "tuning", arguments, say)
    points = submission.chosen(_finished(tuning, arguments.home))
    for workload, point in points.items():
        if point is None:
            tried = sum(plan.workload.name == workload for plan in tuning)
            say(f"{workload}: none of its {tried} tuning trials came to its end, so nothing runs on fresh seeds")
        elif tuning:
            say(f"{workload}: chosen {dict(point)}")
    ranking = submission.ranking(points)
    failed += _run(submission.entry, ranking, "fresh", arguments, say)
    found = _finished(ranking, arguments.home)
    _show(submission, points, [record for _, record in found], failed, arguments)
    if not arguments.no_mlflow:
        from .single import mirror_quietly

        both = [*_finished(tuning, arguments.home), *found]
        mirror_quietly([arguments.home / "records" / record.record_id for _, record in both], arguments.home)
    return 1 if failed else 0


def _sayer(arguments: argparse.Namespace) -> Callable[[str], None]:
    """Progress goes to stderr, so that stdout holds the result alone."""
    return lambda text: None if arguments.quiet else print(text, file=sys.stderr, flush=True)


def _checked_entry(arguments: argparse.Namespace, say: Callable[[str], None]) -> EntryFolder:
    """The entry, a snapshot of it unless nothing will run. ``EntryRefused`` with every rule that it breaks."""
    from ..checks import check_entry
    from ..entry import read_entry

    report = check_entry(arguments.entry)
    if not report.accepted:
        raise EntryRefused("; ".join(map(str, report.violations)))
    entry = read_entry(arguments.entry.resolve())
    say(f"{entry.manifest.name}: {len(report.passed)} rules kept, {len(report.undecided)} undecided ({report.seconds:.0f} s)")
    if report.network:
        say("network: it cannot be taken away on this machine; connections are refused inside the process, which is weaker")
    return entry if arguments.dry_run else entry.snapshot(arguments.home)


def _submission(entry: EntryFolder, arguments: argparse.Namespace, say: Callable[[str], None]) -> Submission:
    """What runs: the protocol's numbers unless a rehearsal was asked for, without the workloads whose lack the entry declares."""
    from ..protocol import protocol, protocol_round
    from ..qualification import Submission, unmet

    chosen, most = protocol_round("full" if arguments.full else "qualification"), protocol().tuning.trials
    seeds = chosen.seeds if arguments.seeds is None else arguments.seeds
    trials = most if arguments.tuning is None else arguments.tuning
    if seeds < 1:
        raise UserError(f"--seeds: expected at least 1, given {seeds}")
    if not 0 <= trials <= most:
        raise UserError(f"--tuning: expected 0 to {most}, as many as the protocol allows, given {trials}")
    wanted = arguments.workloads.split(",") if arguments.workloads else list(chosen.workloads)
    lacking = {workload: unmet(entry.plan(workload, 0)) for workload in wanted}
    left_out = [f"{name}: left out, it does not provide {', '.join(needs)}" for name, needs in lacking.items() if needs]
    if len(left_out) == len(lacking):
        raise UserError(f"{entry.manifest.name}: none of the workloads meets its needs: {'; '.join(left_out)}")
    for line in left_out:
        say(line)
    return Submission(entry, tuple(name for name, needs in lacking.items() if not needs), trials, seeds)


def _expected(submission: Submission, tuning: Sequence[Plan], known: Sequence[Record]) -> str:
    """How many trials and how long they will take, from the records that are here; before any of them runs."""
    from ..forecast import Forecast
    from ..qualification import expected_seconds, finished

    ranking = submission.ranking(dict.fromkeys(submission.workloads, submission.entry.algorithm.hyperparameters))
    # Which point will rank is not known before it was chosen; without tuning it is, and what has its record does not run again.
    todo = [plan for plan in (*tuning, *([] if tuning else ranking)) if finished(plan, known) is None] + (ranking if tuning else [])
    if not todo:
        return "all trials have their records"
    forecast = Forecast(known)
    found = [expected_seconds(plan, forecast) for plan in todo]
    parts = f" ({len(tuning)} to tune on seed 0, {len(ranking)} on fresh seeds)" if tuning else ""
    seconds = sum(estimate for estimate, _ in found)
    if all(measured for _, measured in found):
        return f"{len(todo)} trials{parts}, about {_span(seconds)} by earlier ones on this machine"
    return f"{len(todo)} trials{parts}; how long they take is not known here yet, about {_span(seconds)} if each spends its whole budget"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _run(entry: EntryFolder, plans: Sequence[Plan], what: str, arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Run what has no record yet, each trial in a process of its own; how many failed."""
    from ..qualification import finished, run_entry_trial

    known, failed = _records(arguments.home), 0
    for number, plan in enumerate(plans, 1):
        head = f"[{what} {number}/{len(plans)}] {plan.workload.name} seed {plan.seed}"
        earlier = finished(plan, known)
        if earlier is not None:
            failed += earlier.status == "failed"
            say(f"{head}: {earlier.status}, from its record")
            continue
        point = plan.algorithm.hyperparameters
        trial = run_entry_trial(entry, plan.workload.name, plan.seed, arguments.home, study=plan.study, point=point)
        failed += trial.status == "failed"
        why = f": {(trial.reason or '').splitlines()[0]}" if trial.status == "failed" and trial.reason else ""
        say(f"{head}: {trial.status}{why}")
    return failed


def _finished(plans: Sequence[Plan], home: Path) -> list[tuple[Plan, Record]]:
    from ..qualification import finished

    known = _records(home)
    return [(plan, record) for plan in plans if (record := finished(plan, known)) is not None]


def _records(home: Path) -> list[Record]:
    from ..record import readable_records

    return [record for record, _ in readable_records(home)]


def _show(
    submission: Submission,
    points: Mapping[str, Mapping[str, Any] | None],
    own: Sequence[Record],
    failed: int,
    arguments: argparse.Namespace,
) -> None:
    """The entry's row in every section that has it, with its neighbours."""
    from ...leaderboards.boards import board

    ids = {record.record_id for record in own}
    sections = [s for s in board(_records(arguments.home)).sections if any(ids & set(row.record_ids) for row in s.rows)]
    if arguments.json:
        entry = submission.entry
        print_json(
            {
                "schema_version": 1,
                "entry": entry.manifest.name,
                "digest": entry.digest,
                "ruleset": entry.manifest.ruleset.value,
                "failed": failed,
                "chosen": {workload: point if point is None else dict(point) for workload, point in points.items()},
                "places": [_place(section, ids) for section in sections],
            }
        )
        return
    for section in sections:
        claim = "ranked" if section.ranked else "targets are provisional: a measurement, no rank"
        print(f"\n{section.workload.identity} ({section.place}; {claim})")
        lines = [_line(number, row, ids) for number, row in enumerate(section.rows, 1)]
        print_table(
            ["", "place", "entry", "trials", "hits", "seconds to target"], lines, numeric=["place", "trials", "hits", "seconds to target"]
        )


def _place(section: Section, own: set[str]) -> dict[str, object]:
    number = next(n for n, row in enumerate(section.rows, 1) if own & set(row.record_ids))
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


def _line(number: int, row: Row, own: set[str]) -> list[object]:
    seconds = _seconds(row)
    return [
        "->" if own & set(row.record_ids) else "",
        number,
        row.label,
        row.n,
        row.hits,
        "missed" if seconds is None else f"{seconds:.2f}",
    ]


def _seconds(row: Row) -> float | None:
    from ..workload import Lens

    found = row.to_target.get(Lens.CHARGED_SECONDS)
    return None if found is None else found.value
