"""AlgoPerf's published evaluation logs: read, checked against a round's row, and turned into records.

A log is a CSV file (plain, .xz or .gz) with the columns submission, workload, framework, study, trial, step, seconds, metric: one
row an evaluation, ``seconds`` the submission's own time so far, ``metric`` on the validation split, empty where it was not a number.
"""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
import yaml

from ..suite.curve import CurvePoint, crossings
from ..suite.errors import ConfigError, DataError, DataMissing, UserError, unknown_name
from ..suite.files import object_digest
from ..suite.record import SCHEMA_VERSION, Entry, Origin, Record, Result, Ruleset, Status, TimeLedger, WorkloadIdentity
from ..suite.schema import STRICT, build, plain
from ..suite.workload import Budget, Direction, Lens, Metric, ResultRule, TargetLadder, TargetStatus, Tier
from .cells import relaxed
from .statistics import Floats

__all__ = ["ROUNDS", "LoggedTrial", "Logs", "Round", "Target", "load_rounds", "read_logs", "to_records"]

ROUNDS = Path(__file__).with_name("algoperf_rounds.yaml")
COLUMNS = ("submission", "workload", "framework", "study", "trial", "step", "seconds", "metric")
_EASIER = (0.2, 0.15, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01, 0.005, 0.0)


@dataclass(frozen=True)
class Round:
    """What a round's logs do not say: rules, repeats, budgets, which variants are held out for which workload."""

    __pydantic_config__: ClassVar = STRICT
    title: str
    benchmark_version: str
    ruleset: Ruleset
    studies: int
    trials: int
    budget_factor: float
    hardware: str
    reference: str
    workloads: tuple[str, ...]
    held_out: Mapping[str, str] = field(default_factory=dict)
    budgets_seconds: Mapping[str, float] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Target:
    """Validation target of a workload or variant; ``budget_seconds`` is what one trial may take, None where not published."""

    metric: Metric
    level: float
    budget_seconds: float | None


@dataclass(frozen=True)
class LoggedTrial:
    """One trial as logged, evaluations in order of steps; ``quality`` is NaN where the log has no number."""

    submission: str
    workload: str
    framework: str
    study: int
    trial: int
    steps: tuple[int, ...]
    seconds: Floats
    quality: Floats

    def first_hit(self, target: Target) -> int | None:
        """Index of the first evaluation that reaches the target (equality counts, as in AlgoPerf's scorer)."""
        with np.errstate(invalid="ignore"):
            better = self.quality >= target.level if target.metric.direction is Direction.MAXIMIZE else self.quality <= target.level
        return int(np.argmax(better)) if better.any() else None


@dataclass(frozen=True)
class Logs:
    """A round's trials and targets, targets by workload or variant."""

    round: Round
    targets: Mapping[str, Target]
    trials: tuple[LoggedTrial, ...]

    @property
    def submissions(self) -> tuple[str, ...]:
        """Names of all submissions, sorted."""
        return tuple(sorted({t.submission for t in self.trials}))

    def without(self, submission: str) -> Logs:
        """The same logs as if a submission had not entered."""
        return replace(self, trials=tuple(t for t in self.trials if t.submission != submission))


def load_rounds(path: Path = ROUNDS) -> tuple[dict[str, Round], dict[str, Metric]]:
    """Rounds by name, and metrics by name. ``ConfigError`` for rows that the schema refuses."""
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict) or set(value) != {"metrics", "rounds"}:
        raise ConfigError(f"{path.name}: expected the keys metrics and rounds")
    rounds = {name: build(Round, {**row, "name": name}, f"{path.name}: {name}") for name, row in value["rounds"].items()}
    metrics = {name: build(Metric, {**row, "name": name}, f"{path.name}: {name}") for name, row in value["metrics"].items()}
    return rounds, metrics


def read_logs(path: Path, round_name: str | None = None, rounds_path: Path = ROUNDS, targets_path: Path | None = None) -> Logs:
    """Read a log and the targets beside it.

    The round is the part of the file's name after ``algoperf_`` unless given; targets are ``targets_<first part of the round>.json``
    beside the log unless given. Raises ``DataMissing``, ``DataError`` or ``UserError`` naming file and row.
    """
    file = _log_file(path)
    name = round_name or file.name.partition(".")[0].removeprefix("algoperf_")
    rounds, metrics = load_rounds(rounds_path)
    if name not in rounds:
        needed = (
            "title, benchmark_version, ruleset, studies, trials, budget_factor, hardware, reference, workloads, held_out, budgets_seconds"
        )
        raise UserError(f"{unknown_name('round', name, rounds)}. For a new round give --rounds FILE with a row of its own: {needed}")
    found = rounds[name]
    targets_file = targets_path or file.with_name(f"targets_{name.partition('_')[0]}.json")
    targets = _read_targets(targets_file, found, metrics)
    trials = _read_trials(file)
    unknown = sorted({t.workload for t in trials} - set(targets))
    if unknown:
        raise DataError(f"{targets_file.name}: no target for {', '.join(unknown)}, which {file.name} has trials of")
    _check_repeats(found, trials, file.name)
    return Logs(found, targets, trials)


def to_records(logs: Logs) -> list[tuple[Record, tuple[CurvePoint, ...]]]:
    """One record a trial, of origin ``algoperf``: what the logs do not hold (examples, FLOPs, machine) is absent, never invented.

    The ladder is the published target and eleven easier ones, down to 20 % relaxed. A held-out variant's budget is that of its base.
    """
    digest = object_digest({name: plain(target.metric) | {"level": target.level} for name, target in logs.targets.items()})
    workloads = {name: _workload(logs, name, digest) for name in {t.workload for t in logs.trials}}
    return [_record(logs.round, trial, workloads[trial.workload]) for trial in logs.trials]


def _log_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataMissing(f"{path}: no such file or folder; expected AlgoPerf's evaluation logs as algoperf_<round>.csv[.xz|.gz]")
    found = sorted(p for p in path.iterdir() if p.name.startswith("algoperf_") and ".csv" in p.suffixes)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise UserError(f"{path}: expected one file algoperf_<round>.csv[.xz|.gz], found {names}; name the file")
    return found[0]


def _read_targets(path: Path, found: Round, metrics: Mapping[str, Metric]) -> dict[str, Target]:
    if not path.is_file():
        raise DataMissing(f"{path}: no such file; it holds the targets of the round, give it with --targets")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        version, rows = value["benchmark_version"], value["workloads"]
    except (ValueError, KeyError, TypeError) as problem:
        raise DataError(f"{path.name}: expected an object with benchmark_version and workloads: {problem!r}") from None
    if version != found.benchmark_version:
        raise DataError(f"{path.name}: benchmark_version: expected {found.benchmark_version!r} for round {found.name}, given {version!r}")
    base_of = {variant: base for base, variant in found.held_out.items()}
    targets = {}
    for name, row in rows.items():
        metric = metrics.get(str(row.get("target_metric_name")))
        if metric is None:
            raise DataError(f"{path.name}: {name}: {unknown_name('metric', str(row.get('target_metric_name')), metrics)}")
        base = base_of.get(name, name)
        budget = found.budgets_seconds.get(base) or rows.get(base, {}).get("max_runtime_seconds")
        targets[name] = Target(metric, float(row["validation_target_value"]), budget and float(budget) * found.budget_factor)
    for name in found.workloads:
        if name not in targets or targets[name].budget_seconds is None:
            raise DataError(
                f"{path.name}: workload {name} of round {found.name} has no target or no budget; add budgets_seconds to its row"
            )
    return targets


def _read_trials(path: Path) -> tuple[LoggedTrial, ...]:
    rows: dict[tuple[str, str, str, int, int], list[tuple[int, float, float]]] = defaultdict(list)
    try:
        with _opened(path) as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise DataError(f"{path.name}: expected columns {', '.join(COLUMNS)}; given {', '.join(header) or 'an empty file'}")
            for number, row in enumerate(reader, 2):
                try:
                    submission, workload, framework, study, trial, step, seconds, metric = row
                    point = (int(step), float(seconds), float(metric) if metric else math.nan)
                    rows[submission, workload, framework, int(study), int(trial)].append(point)
                except ValueError as problem:
                    raise DataError(f"{path.name}: row {number}: {problem}; given {','.join(row)!r}") from None
    except (lzma.LZMAError, EOFError, UnicodeDecodeError, gzip.BadGzipFile) as problem:
        raise DataError(f"{path.name}: truncated or altered: {problem}") from None
    if not rows:
        raise DataError(f"{path.name}: holds no evaluation")
    return tuple(_logged(key, points, path.name) for key, points in sorted(rows.items()))


def _check_repeats(found: Round, trials: Sequence[LoggedTrial], file: str) -> None:
    """Fewer studies or trials than the round's are misses; more are another round's."""
    studies: dict[tuple[str, str], set[int]] = defaultdict(set)
    repeats: Counter[tuple[str, str, int]] = Counter()
    for trial in trials:
        studies[trial.submission, trial.workload].add(trial.study)
        repeats[trial.submission, trial.workload, trial.study] += 1
    most_studies, most_trials = max(map(len, studies.values())), max(repeats.values())
    if most_studies > found.studies or most_trials > found.trials:
        given = f"{most_studies} studies of {most_trials} trials"
        raise DataError(f"{file}: round {found.name} has {found.studies} studies of {found.trials} trials, given {given}")


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8", newline="")
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _logged(key: tuple[str, str, str, int, int], points: Sequence[tuple[int, float, float]], file: str) -> LoggedTrial:
    steps, seconds, quality = zip(*sorted(points), strict=True)  # logs need not be sorted, and steps are integers, not text
    if len(set(steps)) < len(steps) or np.any(np.diff(seconds) < 0) or not np.all(np.isfinite(seconds)):
        submission, workload, _, study, trial = key
        where = f"{submission}, {workload}, study {study}, trial {trial}"
        raise DataError(f"{file}: {where}: steps repeat or seconds run backwards; the log cannot be scored")
    return LoggedTrial(*key, steps, np.array(seconds), np.array(quality))


def _workload(logs: Logs, name: str, digest: str) -> WorkloadIdentity:
    target, found = logs.targets[name], logs.round
    levels = tuple(relaxed(target.level, target.metric.direction, amount) for amount in _EASIER)
    ladder = TargetLadder(levels, target.level, TargetStatus.FROZEN, 0, digest)
    budget = Budget(0, target.budget_seconds or 0.0)  # in examples none is published
    version = int(found.benchmark_version.rpartition(".")[2])
    identity = WorkloadIdentity(name, version, Tier.FULL, "algoperf", target.metric, ladder, budget, ResultRule.FIRST_CROSSING, "", True)
    return replace(identity, digest=object_digest([plain(identity), found.name]), ranked=name in found.workloads)


def _record(found: Round, trial: LoggedTrial, workload: WorkloadIdentity) -> tuple[Record, tuple[CurvePoint, ...]]:
    measured = np.isfinite(trial.quality)
    curve = tuple(
        _point(step, seconds, quality)
        for step, seconds, quality, there in zip(trial.steps, trial.seconds.tolist(), trial.quality.tolist(), measured, strict=True)
        if there
    )
    read = crossings(curve, workload.metric, workload.ladder)
    hit = next(c.hit for c in read if c.level == workload.ladder.main)
    spent = float(trial.seconds[-1])
    record = Record(
        schema_version=SCHEMA_VERSION,
        record_id=f"{found.name}-{trial.submission}-{trial.workload}-study{trial.study}-trial{trial.trial}",
        origin=Origin.ALGOPERF,
        workload=workload,
        entry=Entry(trial.submission, trial.submission, "all", {"framework": trial.framework}),
        seed=trial.study * 1000 + trial.trial,  # a number of its own for every trial; the logs do not tell seeds
        status=Status.HIT if hit else Status.MISSED if measured[-1] else Status.DIVERGED,
        crossings=read,
        result=Result(final_quality=curve[-1].quality if curve else None),
        time=TimeLedger({"train": spent}, {}, {}, spent),
        study=f"{found.name} study {trial.study}",
        hardware_class=found.hardware,
        ruleset=found.ruleset,
    )
    return record, curve


def _point(step: int, seconds: float, quality: float) -> CurvePoint:
    """An evaluation with the lenses that the log has; the others are None, which ``CurvePoint.cost`` gives as absent."""
    absent = {lens.value: None for lens in Lens} | {"train_loss": None, "loss": None}
    return CurvePoint(**absent | {"steps": step, "charged_seconds": seconds, "quality": quality})  # type: ignore[arg-type]
