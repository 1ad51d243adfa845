"""Setting the targets of a workload: classical baselines tuned alike, the best of them on many seeds, frozen by rule with its logs.

Everything that is chosen here is chosen by quality at equal examples seen, so that a slow or busy machine chooses the same. Only the
reference's seconds, and the budget made of them, belong to the hardware class that they were measured on.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import yaml

from .clock import TEST
from .config import Plan
from .curve import Curve, write_curve
from .errors import ConfigError
from .files import atomic_path, write_text
from .protocol import TargetProtocol
from .record import TUNING_SUFFIX, Record, Status
from .registry import targets_path
from .schema import STRICT, build, plain
from .study import Arm, Study, tuning_plans
from .target_logs import LoggedTrial, Purpose, logged_trials, logs_path, read_logs
from .targets import TargetRules, confirmed_quality, derive_targets
from .workload import Direction, Metric, Reference, Workload

__all__ = [
    "baseline_plans",
    "derive",
    "freeze",
    "logged_curves",
    "logs_path",
    "rederive",
    "reference_plans",
    "target_rules",
    "too_costly",
    "write_logs",
]

STUDY = "targets/"


@dataclass(frozen=True)
class Heading:
    """First line of the logs: what the procedure needs to know beside the trials."""

    __pydantic_config__: ClassVar = STRICT
    workload: str
    version: int
    metric: Metric
    rules: TargetRules


def baseline_plans(workload: str, protocol: TargetProtocol, overrides: Sequence[str] = ()) -> list[Plan]:
    """The tuning trials: as many points of its search space for each classical baseline, on seed 0.

    Raises ``ConfigError`` for a workload whose targets are frozen: they never change, a changed workload is a new version.
    """
    path = targets_path(workload)
    if path.is_file():
        raise ConfigError(f"the targets of {workload} are frozen in {path}; a changed workload is a new version with targets of its own")
    arms = tuple(Arm(name) for name in protocol.baselines)
    study = Study(STUDY + workload, "target setting", (workload,), arms, protocol.reference_seeds, protocol.tuning_trials)
    return tuning_plans(study, overrides)


def reference_plans(plans: Sequence[Plan], tuned: Sequence[tuple[Record, Curve]], seeds: int) -> list[Plan]:
    """The best of the tuned points on the fresh seeds 1 to ``seeds``. ``plans`` and their finished trials are in the same order."""
    _refuse_cut_off(plans[0].workload, tuned)
    best = plans[_best([(record.status, curve) for record, curve in tuned], plans[0].workload.metric)]
    return [replace(best, seed=seed, study=str(best.study).removesuffix(TUNING_SUFFIX)) for seed in range(1, seeds + 1)]


def too_costly(tuned: Sequence[Record], most: float) -> str | None:
    """Why evaluations cost too much of a trial's time to freeze anything, or None."""
    share = median(_evaluation_share(record) for record in tuned)
    if share <= most:
        return None
    return f"evaluations take {share:.0%} of the charged time, at most {most:.0%} is allowed: evaluate less often, or on fewer examples"


def target_rules(protocol: TargetProtocol) -> TargetRules:
    """What the protocol says of deriving."""
    return TargetRules(protocol.hit_share, protocol.budget_factor)


def write_logs(
    workload: Workload, rules: TargetRules, tuning: Sequence[tuple[Record, Curve]], reference: Sequence[tuple[Record, Curve]]
) -> str:
    """The logs as JSON lines: heading, tuning trials, reference trials. ``ConfigError`` when the budget in seconds cut a trial off."""
    _refuse_cut_off(workload, [*tuning, *reference])
    lines: list[Any] = [Heading(workload.name, workload.version, workload.metric, rules)]
    for purpose, trials in ((Purpose.TUNING, tuning), (Purpose.REFERENCE, reference)):
        lines += [_logged(purpose, record, curve) for record, curve in trials]
    return "".join(json.dumps(plain(line), ensure_ascii=False, allow_nan=False) + "\n" for line in lines)


def derive(logs: str) -> dict[str, Any]:
    """The content of a workload's frozen file, from its logs and nothing else.

    Raises ``ConfigError`` when the reference is not what the tuning trials choose, or :func:`.targets.derive_targets` cannot go on.
    """
    heading = build(Heading, json.loads(logs.split("\n", 1)[0]), "logs")
    trials = logged_trials(logs)
    tuning, reference = ([t for t in trials if t.purpose is purpose] for purpose in Purpose)
    best = tuning[_best([(t.status, t.points()) for t in tuning], heading.metric)]
    settings = {(t.algorithm, json.dumps(t.hyperparameters, sort_keys=True)) for t in reference}
    if settings != {(best.algorithm, json.dumps(best.hyperparameters, sort_keys=True))}:
        raise ConfigError(f"logs of {heading.workload}: the reference trials are not {best.algorithm} at the point that tuning chose")
    if len({(t.hardware_class, t.seed) for t in reference}) < len(reference) or len({t.hardware_class for t in reference}) > 1:
        raise ConfigError(f"logs of {heading.workload}: expected reference trials of distinct seeds on one hardware class")
    found = derive_targets([t.points() for t in reference], heading.metric, heading.rules, sha256(logs.encode()).hexdigest())
    frozen = Reference(
        best.algorithm,
        best.hyperparameters,
        found.examples_to_target,
        found.seconds_to_target,
        str(reference[0].hardware_class),
        len(found.seconds_to_target),
        len(reference),
    )
    return {"ladder": plain(found.ladder), "budget": {"charged_seconds": found.budget_seconds}, "reference": plain(frozen)}


def freeze(workload: str, logs: str) -> Path:
    """Derive the targets and write them with their logs beside them; the frozen file comes last. Returns its path."""
    path, content = targets_path(workload), derive(logs)
    with atomic_path(logs_path(path)) as part:
        part.write_bytes(lzma.compress(logs.encode(), preset=9))
    best = content["reference"]["algorithm"]
    title = f"# Frozen targets of {workload}: {best} on {content['reference']['seeds']} seeds. From the logs beside this file: "
    write_text(path, f"{title}timetrial targets {workload} --check\n{yaml.safe_dump(content, sort_keys=False, width=140)}")
    return path


def logged_curves(workload: str) -> tuple[list[Curve], dict[str, list[Curve]]]:
    """The curves that frozen targets derive from: of the reference, and of the tuning trials by algorithm."""
    trials = logged_trials(read_logs(targets_path(workload)))
    tuning: dict[str, list[Curve]] = {}
    for trial in trials:
        if trial.purpose is Purpose.TUNING:
            tuning.setdefault(trial.algorithm, []).append(trial.points())
    return [trial.points() for trial in trials if trial.purpose is Purpose.REFERENCE], tuning


def rederive(workload: str) -> list[str]:
    """Derive frozen targets again from their logs: what differs from the frozen file, by key; empty when all is the same.

    Raises ``ConfigError`` when there is nothing to derive from.
    """
    path = targets_path(workload)
    if not path.is_file():
        raise ConfigError(f"the targets of {workload} are not frozen: there is no {path}")
    again = derive(read_logs(path))
    frozen = yaml.safe_load(path.read_text(encoding="utf-8"))
    return sorted(key for key in {*again, *frozen} if again.get(key) != frozen.get(key))


def _refuse_cut_off(workload: Workload, trials: Sequence[tuple[Record, Curve]]) -> None:
    """Only whole curves say what an algorithm reaches: a slow or busy machine must not choose the reference."""
    short = [r for r, curve in trials if r.status is not Status.DIVERGED and (not curve or curve[-1].examples < workload.budget.examples)]
    if short:
        seconds = workload.budget.charged_seconds
        cut = f"{len(short)} of {len(trials)} trials ended before {workload.budget.examples} examples"
        raise ConfigError(f"{workload.name}: {cut}: raise budget.charged_seconds above {seconds:g} until the targets are set")


def _best(trials: Sequence[tuple[Status, Curve]], metric: Metric) -> int:
    """The position of the trial with the best confirmed quality; of equal ones the first. ``ConfigError`` when none came to its end."""
    sign = -1.0 if metric.direction is Direction.MAXIMIZE else 1.0
    whole = [i for i, (status, _) in enumerate(trials) if status in (Status.HIT, Status.MISSED)]
    if not whole:
        raise ConfigError(f"target setting: none of {len(trials)} tuning trials came to its end")
    return min(whole, key=lambda i: sign * confirmed_quality(trials[i][1], metric, TargetRules.confirmations))


def _logged(purpose: Purpose, record: Record, curve: Curve) -> LoggedTrial:
    entry = record.entry
    return LoggedTrial(
        purpose,
        entry.algorithm,
        dict(entry.hyperparameters),
        record.seed,
        record.status,
        record.record_id,
        record.hardware_class,
        record.numerics_key,
        record.started_at,
        _evaluation_share(record),
        write_curve(tuple(curve)),
    )


def _evaluation_share(record: Record) -> float:
    seconds = record.time.charged_seconds
    on_validation = record.time.wall_seconds.get("evaluate", 0.0) - record.time.span_seconds.get(f"evaluate/{TEST}", 0.0)
    return round(on_validation / seconds, 4) if seconds else 0.0
