"""Trials of an entry, each in a process of its own, ending in ordinary records; also when the entry crashes, hangs or eats the memory."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from ..data_pipelines.threads import prepare_environment
from .config import Plan, hardware_of
from .entry import EntryFolder
from .errors import ConfigError, RecordError
from .forecast import Forecast
from .isolation import MEMORY_WORDS, Ending, Limits, network_prefix, refuse_network, run_isolated
from .record import DONE, TUNING_SUFFIX, Record, Status, read_record
from .trial_record import write_failed
from .tuning import best_trial

__all__ = ["EntryTrial", "Submission", "answer", "expected_seconds", "finished", "run_entry_trial", "unmet"]

SLACK_SECONDS = 300.0
"""Of a process beside its charged seconds: imports, opening data, evaluations."""
EVALUATION_FACTOR = 2.0
START_SECONDS = 6.0
"""Of a process before its trial begins, as a guess: imports."""
_RULES = {Ending.TIMED_OUT: "time_limit", Ending.OUT_OF_MEMORY: "memory_limit", Ending.CRASHED: "runs"}


class RuleBroken(Exception):
    """What a trial of an entry was ended for, as ``rule: what it did``. Not the harness' own errors: it is recorded as a failure."""


@dataclass(frozen=True)
class EntryTrial:
    """What one trial came to: the record's status, if it failed the rule and why, and the record's folder."""

    status: Status
    reason: str | None
    folder: Path


@dataclass(frozen=True)
class Submission:
    """What an entry runs: on every workload its tuning trials on seed 0, then the point they chose on the fresh seeds 1 to ``seeds``.

    ``trials`` bounds the tuning trials; an entry that lists nothing to tune runs at its defaults.
    """

    entry: EntryFolder
    workloads: tuple[str, ...]
    trials: int
    seeds: int

    @property
    def study(self) -> str:
        """The study that its ranking trials belong to."""
        return f"submit-{self.entry.manifest.name}"

    def tuning(self) -> list[Plan]:
        """The trials that choose hyperparameters, point by point over all workloads; none where nothing is tuned."""
        study = self.study + TUNING_SUFFIX
        return [self.entry.plan(workload, 0, study, point) for point in self._points() for workload in self.workloads]

    def chosen(self, tuned: Sequence[tuple[Plan, Record]]) -> dict[str, Mapping[str, Any] | None]:
        """The point by workload: what its tuning trials chose, the defaults where nothing is tuned, None where no trial came to its end."""
        if not self._points():
            return dict.fromkeys(self.workloads, self.entry.algorithm.hyperparameters)
        found: dict[str, Mapping[str, Any] | None] = {}
        for workload in self.workloads:
            tried = [(plan, record) for plan, record in tuned if plan.workload.name == workload]
            try:
                best = best_trial([record for _, record in tried])
            except ConfigError:
                found[workload] = None
            else:
                found[workload] = next(plan for plan, record in tried if record is best).algorithm.hyperparameters
        return found

    def ranking(self, points: Mapping[str, Mapping[str, Any] | None]) -> list[Plan]:
        """The trials that rank, seed by seed over the workloads that have a point."""
        having = [(workload, point) for workload, point in points.items() if point is not None]
        return [self.entry.plan(workload, seed, self.study, point) for seed in range(1, self.seeds + 1) for workload, point in having]

    def _points(self) -> tuple[Mapping[str, Any], ...]:
        return self.entry.points(self.trials) if self.trials else ()


def unmet(plan: Plan) -> list[str]:
    """Declared needs that the plan's workload does not provide."""
    return sorted({*plan.algorithm.needs, *plan.curation.needs} - set(plan.workload.provides))


def expected_seconds(plan: Plan, forecast: Forecast) -> tuple[float, bool]:
    """How long a trial takes in seconds in a process of its own, and whether that is known: else it is the workload's budget."""
    seconds = forecast.seconds(plan)
    return START_SECONDS + (plan.workload.budget.charged_seconds if seconds is None else seconds), seconds is not None


def finished(plan: Plan, records: Sequence[Record]) -> Record | None:
    """The finished record of this very trial, if there is one: a submission that is repeated on such a machine does not train again."""
    wanted = (plan.digest, plan.study, hardware_of(plan))
    return next((r for r in records if (r.trial_digest, r.study, r.hardware_class) == wanted and r.status in DONE), None)


def run_entry_trial(
    entry: EntryFolder,
    workload: str,
    seed: int,
    home: Path,
    *,
    study: str | None = None,
    point: Mapping[str, Any] | None = None,
    smoke: bool = False,
    memory_bytes: int = 16 * 2**30,
) -> EntryTrial:
    """Run one trial of an entry's snapshot in a process with limits and without network (taken away, or else refused).

    ``point`` are its hyperparameters, the defaults without one.
    Data are opened here before, since the process may not fetch them. A process that ends without an answer leaves a record with status
    ``failed`` and the rule in its reason. Raises what opening the data raises, and ``NeedsUnmet`` never: ask :func:`unmet` before.
    """
    from .inputs import open_inputs

    prepare_environment(home)
    plan = entry.plan(workload, seed, study, point)
    open_inputs(plan.workload, home)
    began = datetime.now(UTC)
    request: dict[str, Any] = {
        "folder": str(entry.folder),
        "workload": workload,
        "seed": seed,
        "home": str(home),
        "study": study,
        "point": None if point is None else dict(point),
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
    folder = Path(request["folder"])
    plan = read_entry(folder).plan(request["workload"], request["seed"], request["study"], request["point"])
    record, _ = run_trial(plan, Path(request["home"]), smoke=request["smoke"], on_point=lambda plan, point: _refuse_threads(folder))
    return {"record_id": record.record_id}


def _refuse_threads(folder: Path) -> None:
    """``RuleBroken`` when a thread other than this one is in code below ``folder``: it would work while an evaluation is free."""
    for thread, top in sys._current_frames().items():
        frame: FrameType | None = top
        while frame is not None and thread != threading.get_ident():
            if Path(frame.f_code.co_filename).is_relative_to(folder):
                raise RuleBroken(f"no_thread_left: a thread runs {frame.f_code.co_name} during an evaluation")
            frame = frame.f_back


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
        _, named, said = last.partition(f"{RuleBroken.__name__}: ")
        reason = said if named else f"{_RULES[Ending.OUT_OF_MEMORY if memory else Ending.CRASHED]}: {last}"
    return EntryTrial(record.status, reason, folder)
