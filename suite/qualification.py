"""Trials of an entry, each in a process of its own, ending in ordinary records; also when the entry crashes, hangs or eats the memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from ..data_pipelines.threads import prepare_environment
from .config import Plan
from .entry import EntryFolder
from .errors import RecordError
from .isolation import MEMORY_WORDS, Ending, Limits, network_prefix, refuse_network, run_isolated
from .record import Record, Status, read_record
from .trial_record import write_failed

__all__ = ["EntryTrial", "answer", "expected_seconds", "finished", "run_entry_trial", "unmet"]

SLACK_SECONDS = 300.0
"""Of a process beside its charged seconds: imports, opening data, evaluations."""
EVALUATION_FACTOR = 2.0
_RULES = {Ending.TIMED_OUT: "time_limit", Ending.OUT_OF_MEMORY: "memory_limit", Ending.CRASHED: "runs"}


@dataclass(frozen=True)
class EntryTrial:
    """What one trial came to: the record's status, if it failed the rule and why, and the record's folder."""

    status: Status
    reason: str | None
    folder: Path


def unmet(plan: Plan) -> list[str]:
    """Declared needs that the plan's workload does not provide."""
    return sorted({*plan.algorithm.needs, *plan.curation.needs} - set(plan.workload.provides))


def expected_seconds(plan: Plan, records: list[Record]) -> tuple[float | None, float]:
    """Median of earlier trials on this workload, None without any, and the most that a trial may take."""
    known = [r.time.outer_seconds for r in records if r.workload.digest == plan.workload.digest and r.time.outer_seconds is not None]
    return (median(known) if known else None), _limit(plan)


def finished(plan: Plan, records: list[Record]) -> Record | None:
    """The finished record of this very trial, if there is one: a submission that is repeated does not train again."""
    done = (Status.HIT, Status.MISSED, Status.DIVERGED, Status.FAILED)
    return next((record for record in records if record.trial_digest == plan.digest and record.status in done), None)


def run_entry_trial(
    entry: EntryFolder,
    workload: str,
    seed: int,
    home: Path,
    *,
    study: str | None = None,
    smoke: bool = False,
    memory_bytes: int = 16 * 2**30,
) -> EntryTrial:
    """Run one trial of an entry's snapshot in a process with limits and without network (taken away, or else refused).

    Data are opened here before, since the process may not fetch them. A process that ends without an answer leaves a record with status
    ``failed`` and the rule in its reason. Raises what opening the data raises, and ``NeedsUnmet`` never: ask :func:`unmet` before.
    """
    from .inputs import open_inputs

    prepare_environment(home)
    plan = entry.plan(workload, seed, study)
    open_inputs(plan.workload, home)
    began = datetime.now(UTC)
    request: dict[str, Any] = {
        "folder": str(entry.folder),
        "workload": workload,
        "seed": seed,
        "home": str(home),
        "study": study,
        "smoke": smoke,
    }
    request["network"] = not network_prefix()
    outcome = run_isolated(__name__, request, Limits(seconds=_limit(plan), memory_bytes=memory_bytes), cwd=entry.folder)
    if outcome.ending is Ending.ANSWERED:
        return _trial(home / "records" / outcome.answer["record_id"])
    folder = write_failed(plan, home, f"{_RULES[outcome.ending]}: {outcome.detail}\n{outcome.output}".rstrip(), began)
    return _trial(folder)


def answer(request: Mapping[str, Any]) -> dict[str, str]:
    """The child's side: read the entry, run the trial, name its record."""
    from .entry import read_entry
    from .trial import run_trial

    if request["network"]:
        refuse_network()
    plan = read_entry(Path(request["folder"])).plan(request["workload"], request["seed"], request["study"])
    record, _ = run_trial(plan, Path(request["home"]), smoke=request["smoke"])
    return {"record_id": record.record_id}


def _limit(plan: Plan) -> float:
    return EVALUATION_FACTOR * plan.workload.budget.charged_seconds + SLACK_SECONDS


def _trial(folder: Path) -> EntryTrial:
    try:
        record, _ = read_record(folder)
    except RecordError as problem:  # foreign code ran beside it: what it left is looked at with distrust
        return EntryTrial(Status.FAILED, str(problem), folder)
    reason = record.status_reason
    if record.status is Status.FAILED and reason is not None and not reason.startswith(tuple(f"{rule}: " for rule in _RULES.values())):
        *_, last = reason.strip().splitlines()  # a traceback that the trial recorded
        memory = any(word in last for word in MEMORY_WORDS)
        reason = f"{_RULES[Ending.OUT_OF_MEMORY if memory else Ending.CRASHED]}: {last}"
    return EntryTrial(record.status, reason, folder)
