"""A study: the named set of trials that one claim rests on, run one at a time, resumable, only what is missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from . import machine_load
from .config import REFERENCE, Plan, hardware_of, resolve
from .curve import Curve, CurvePoint
from .early_stop import stop_rule
from .errors import ConfigError
from .forecast import Forecast
from .inputs import Inputs, open_inputs
from .protocol import protocol
from .record import DONE, TUNING_SUFFIX, Record, Status, readable_records
from .registry import definition
from .schema import STRICT, build
from .trial import run_trial
from .tuning import best_trial, tuning_points

__all__ = [
    "Arm",
    "Study",
    "chosen_plans",
    "expected_seconds",
    "finished",
    "load_study",
    "missing",
    "on_workloads",
    "run_study",
    "study_plans",
    "tuning_plans",
]

_Key = tuple[str | None, str | None, str | None, bool]


@dataclass(frozen=True)
class Arm:
    """One entry of a study: an algorithm, a curation method and what is set differently from their defaults."""

    __pydantic_config__: ClassVar = STRICT
    algorithm: str
    curation: str = "all"
    keep_fraction: float = 1.0
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """``workloads`` x ``arms`` x ``seeds`` seeds from ``first_seed`` on (by default 0).

    Studies that share entries have seeds of their own: a board counts a seed of an entry once, and holds trials of equal seeds, which
    ran side by side, against each other.
    With ``tuning_trials`` above 0 each arm on each workload first runs that many points of its search space on seed 0, in a study
    of its own, and the chosen point is what runs on the seeds of the study (by default from 1 on): fresh ones, of which none had a say.
    The reference, whose point is frozen, is not tuned again. ``early_stop``: trials on workloads with frozen targets end where they are
    hopeless (:mod:`.early_stop`), those of the reference never.
    """

    __pydantic_config__: ClassVar = STRICT
    name: str
    summary: str
    workloads: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: int
    tuning_trials: int = 0
    early_stop: bool = False
    first_seed: int | None = None

    @property
    def seed_range(self) -> range:
        """The seeds that rank."""
        first = min(self.tuning_trials, 1) if self.first_seed is None else self.first_seed
        return range(first, first + self.seeds)


def load_study(name: str, seeds: int | None = None) -> Study:
    """A study by name, with another number of seeds if given. ``UnknownName`` / ``ConfigError`` otherwise."""
    study = build(Study, definition("study", name), f"study {name}")
    study = study if seeds is None else replace(study, seeds=seeds)
    if study.seeds < 1:
        raise ConfigError(f"study {name}: seeds: expected at least 1, given {study.seeds}")
    if study.tuning_trials < 0:
        raise ConfigError(f"study {name}: tuning_trials: expected 0 or more, given {study.tuning_trials}")
    if study.seed_range[0] < min(study.tuning_trials, 1):
        raise ConfigError(f"study {name}: first_seed: expected {min(study.tuning_trials, 1)} or more, given {study.first_seed}")
    return study


def study_plans(study: Study, overrides: Sequence[str] = ()) -> list[Plan]:
    """All trials of an untuned study as they run: seed by seed, arms interleaved, so that a drift of the machine hits all alike."""
    cells = [_arm_plan(study, workload, arm, overrides) for workload, arm in itertools.product(study.workloads, study.arms)]
    return [replace(plan, seed=seed) for seed in study.seed_range for plan in cells]


def tuning_plans(study: Study, overrides: Sequence[str] = ()) -> list[Plan]:
    """The trials that choose hyperparameters: point by point, arms interleaved, all on seed 0."""
    points: list[list[Plan]] = []
    for workload, arm in itertools.product(study.workloads, study.arms):
        plan = _arm_plan(replace(study, name=study.name + TUNING_SUFFIX), workload, arm, overrides)
        tuned = study.tuning_trials > 0 and arm.algorithm != REFERENCE
        tried = tuning_points(plan.algorithm, study.tuning_trials) if tuned else ()
        points.append([replace(plan, algorithm=replace(plan.algorithm, hyperparameters=point)) for point in tried])
    return [plan for row in itertools.zip_longest(*points) for plan in row if plan is not None]


def chosen_plans(study: Study, home: Path, overrides: Sequence[str] = ()) -> list[Plan]:
    """The trials of a tuned study that rank, at the points that its finished tuning trials chose.

    Raises ``ConfigError`` when tuning trials are missing or none of an arm's says anything.
    """
    plans = tuning_plans(study, overrides)
    arms: dict[str, list[tuple[Plan, Record]]] = {}
    for plan, (record, _) in zip(plans, finished(plans, home), strict=True):
        arms.setdefault(_untuned(plan), []).append((plan, record))
    chosen = []
    for workload, arm in itertools.product(study.workloads, study.arms):
        plan = _arm_plan(study, workload, arm, overrides)
        if arm.algorithm != REFERENCE:
            tried = arms[_untuned(plan)]
            best = best_trial([record for _, record in tried])
            plan = next(plan for plan, record in tried if record is best)
        chosen.append(plan)
    return [replace(plan, seed=seed, study=study.name) for seed in study.seed_range for plan in chosen]


def on_workloads(plans: Sequence[Plan], study: str, moved: Mapping[str, str], overrides: Sequence[str] = ()) -> list[Plan]:
    """The plans on other workloads, ``moved`` by the names of their own, in a study of another name; all else as it was chosen."""
    found = {name: resolve([f"workload={other}", *overrides]).workload for name, other in moved.items()}
    return [replace(plan, workload=found[plan.workload.name], study=study, early_stop=None).checked() for plan in plans]


def expected_seconds(plans: Sequence[Plan], home: Path) -> tuple[float, int]:
    """Wall seconds that the plans will take, by the median of earlier trials on the same workload here, and how many plans have none."""
    forecast = Forecast(record for record, _ in readable_records(home))
    known = [seconds for plan in plans if (seconds := forecast.seconds(plan)) is not None]
    return sum(known), len(plans) - len(known)


def missing(plans: Sequence[Plan], home: Path) -> list[Plan]:
    """The plans without a finished record of the same study. Records that cannot be read or are of another hardware class count as absent,
    and so does one that was stopped early for a plan that is to be followed to its end, and trials that were all disturbed, while the
    protocol allows to repeat them."""
    found = _finished(home)
    return [plan for plan in plans if _to_run(plan, _of_plan(plan, found))]


def finished(plans: Sequence[Plan], home: Path) -> list[tuple[Record, Curve]]:
    """The finished records of the plans with their curves, in the order of the plans; ``ConfigError`` when some are missing."""
    found = _finished(home)
    of_plans = [_of_plan(plan, found) for plan in plans]
    there = [trials[0] for trials in of_plans if trials]
    if len(there) < len(plans):
        raise ConfigError(f"{len(plans) - len(there)} of {len(plans)} trials of study {plans[0].study} are not finished")
    return there


def run_study(
    plans: Sequence[Plan],
    home: Path,
    *,
    on_point: Callable[[Plan, CurvePoint], None] | None = None,
    on_record: Callable[[Plan, Record], None] | None = None,
) -> list[Record]:
    """Run the plans in order in this process, data opened once per workload. Stops after an interrupted trial."""
    opened: dict[str, Inputs] = {}
    records = []
    for plan in plans:
        if plan.workload.digest not in opened:
            opened[plan.workload.digest] = open_inputs(plan.workload, home)
        for record in _trials(plan, home, opened[plan.workload.digest], on_point):
            records.append(record)
            if on_record is not None:
                on_record(plan, record)
        if records[-1].status is Status.INTERRUPTED:
            break
    return records


def _trials(plan: Plan, home: Path, inputs: Inputs, on_point: Callable[[Plan, CurvePoint], None] | None) -> Iterator[Record]:
    """The trial, and its repeats on a calmer machine while it was disturbed."""
    rule = protocol().disturbance
    for _ in range(1 + _repeats(plan)):
        record, _ = run_trial(plan, home, inputs=inputs, on_point=on_point)
        yield record
        if not record.disturbed or record.status is Status.INTERRUPTED:
            return
        machine_load.wait_until_calm(rule.stolen_fraction, rule.patience_seconds)


def _repeats(plan: Plan) -> int:
    """How often a disturbed trial is run again: never where no seconds rank."""
    return protocol().disturbance.repeats if plan.workload.ranked else 0


def _to_run(plan: Plan, trials: Sequence[tuple[Record, Curve]]) -> bool:
    """Whether there is no trial yet, or none but disturbed ones and a repeat is left."""
    return len(trials) <= _repeats(plan) and all(record.disturbed for record, _ in trials)


def _untuned(plan: Plan) -> str:
    """Identity of an arm on a workload, whatever its hyperparameters."""
    return replace(plan, algorithm=replace(plan.algorithm, hyperparameters={})).digest


def _arm_plan(study: Study, workload: str, arm: Arm, overrides: Sequence[str]) -> Plan:
    own = [f"{key}={value}" for key, value in arm.overrides.items()]
    chosen = [f"workload={workload}", f"algorithm={arm.algorithm}", f"curation={arm.curation}", f"keep_fraction={arm.keep_fraction}"]
    plan = resolve([*chosen, *own, "seed=0", f"study={study.name}", *overrides])
    return replace(plan, early_stop=stop_rule(plan)) if study.early_stop else plan


def _of_plan(plan: Plan, found: Mapping[_Key, Sequence[tuple[Record, Curve]]]) -> Sequence[tuple[Record, Curve]]:
    """The plan's trials, the one that counts first; both those stopped early and the whole ones where it may be stopped."""
    whole, stopped = (found.get((plan.study, plan.digest, hardware_of(plan), ended), ()) for ended in (False, True))
    return whole if plan.early_stop is None else sorted([*whole, *stopped], key=lambda trial: trial[0].precedence)


def _finished(home: Path) -> dict[_Key, list[tuple[Record, Curve]]]:
    """Finished records by study, trial, hardware class and whether they were stopped early; the one that counts first."""
    found: dict[_Key, list[tuple[Record, Curve]]] = {}
    for record, curve in readable_records(home):
        if record.status in DONE:
            key = (record.study, record.trial_digest, record.hardware_class, record.stopped is not None)
            found.setdefault(key, []).append((record, curve))
    return {key: sorted(trials, key=lambda trial: trial[0].precedence) for key, trials in found.items()}
