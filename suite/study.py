"""A study: the named set of trials that one claim rests on, run one at a time, resumable, only what is missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from .config import Plan, resolve
from .curve import CurvePoint
from .errors import ConfigError, RecordError
from .inputs import Inputs, open_inputs
from .record import Record, Status, read_record
from .registry import definition
from .schema import STRICT, build
from .trial import run_trial

__all__ = ["Arm", "Study", "load_study", "missing", "run_study", "study_plans"]

DONE = frozenset({Status.HIT, Status.MISSED, Status.DIVERGED, Status.FAILED})


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
    """``workloads`` x ``arms`` x ``seeds`` (0 to seeds - 1)."""

    __pydantic_config__: ClassVar = STRICT
    name: str
    summary: str
    workloads: tuple[str, ...]
    arms: tuple[Arm, ...]
    seeds: int


def load_study(name: str, seeds: int | None = None) -> Study:
    """A study by name, with another number of seeds if given. ``UnknownName`` / ``ConfigError`` otherwise."""
    study = build(Study, definition("study", name), f"study {name}")
    study = study if seeds is None else replace(study, seeds=seeds)
    if study.seeds < 1:
        raise ConfigError(f"study {name}: seeds: expected at least 1, given {study.seeds}")
    return study


def study_plans(study: Study, overrides: Sequence[str] = ()) -> list[Plan]:
    """All trials in the order they run: seed by seed, arms interleaved, so that a drift of the machine hits all arms alike."""
    plans = []
    for seed, workload, arm in itertools.product(range(study.seeds), study.workloads, study.arms):
        own = [f"{key}={value}" for key, value in arm.overrides.items()]
        chosen = [f"workload={workload}", f"algorithm={arm.algorithm}", f"curation={arm.curation}", f"keep_fraction={arm.keep_fraction}"]
        plans.append(resolve([*chosen, *own, f"seed={seed}", f"study={study.name}", *overrides]))
    return plans


def missing(plans: Sequence[Plan], home: Path) -> list[Plan]:
    """The plans without a finished record of the same study; records that cannot be read count as absent."""
    found = set()
    for path in (home / "records").glob("*/record.json"):
        try:
            record, _ = read_record(path.parent)
        except RecordError:
            continue
        if record.status in DONE:
            found.add((record.study, record.trial_digest))
    return [plan for plan in plans if (plan.study, plan.digest) not in found]


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
        record, _ = run_trial(plan, home, inputs=opened[plan.workload.digest], on_point=on_point)
        records.append(record)
        if on_record is not None:
            on_record(plan, record)
        if record.status is Status.INTERRUPTED:
            break
    return records
