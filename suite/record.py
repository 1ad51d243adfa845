"""The record: what a trial leaves behind, and the only thing that boards are made from.

A record is a folder: ``record.json`` (everything in the :class:`Record` dataclass), ``curve.csv``, ``config.yaml`` (the
resolved configuration) and ``source/`` (the code that ran). It is written atomically, once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from .curve import Crossing, CurvePoint, crossings, read_curve, write_curve
from .errors import RecordError
from .files import file_digest, write_json, write_text
from .schema import STRICT, build, plain
from .workload import Budget, Metric, ResultRule, TargetLadder, Tier

__all__ = [
    "DONE",
    "SCHEMA_VERSION",
    "TRAINED",
    "TUNING_SUFFIX",
    "Cost",
    "Entry",
    "Origin",
    "Record",
    "Result",
    "Ruleset",
    "Selected",
    "SpanCost",
    "Status",
    "StopRule",
    "Stopped",
    "TimeLedger",
    "WorkloadIdentity",
    "read_record",
    "readable_records",
    "write_record",
]

SCHEMA_VERSION = 1
TUNING_SUFFIX = "/tuning"
"""What is added to a study's name for the trials that chose its hyperparameters; those never rank."""


class Status(StrEnum):
    """How a trial ended. Only ``hit`` and ``missed`` (and ``diverged``, as a miss) enter a score; none is ever an infinity."""

    HIT = "hit"
    MISSED = "missed"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    SMOKE = "smoke"


TRAINED = frozenset({Status.HIT, Status.MISSED, Status.DIVERGED})
"""A trial with one of these came to its end."""
DONE = TRAINED | {Status.FAILED}
"""A trial with one of these is not run again."""


class Origin(StrEnum):
    """``native``: this harness ran it. ``algoperf``: imported from AlgoPerf's logs. Never mixed on a board."""

    NATIVE = "native"
    ALGOPERF = "algoperf"


class Ruleset(StrEnum):
    """``external_tuning``: a fixed number of tuning trials chose the hyperparameters. ``self_tuning``: an algorithm has none to set, and a
    larger budget. Never mixed on a board."""

    EXTERNAL_TUNING = "external_tuning"
    SELF_TUNING = "self_tuning"


@dataclass(frozen=True)
class WorkloadIdentity:
    """All that a board needs to know about the workload, so that it needs no configuration beside the record."""

    __pydantic_config__: ClassVar = STRICT
    name: str
    version: int
    tier: Tier
    family: str
    metric: Metric
    ladder: TargetLadder
    budget: Budget
    result_rule: ResultRule
    digest: str
    ranked: bool = True

    @property
    def identity(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Entry:
    """What was trained with. ``algorithm`` and ``curation`` are names; the mappings hold their resolved options.

    ``at_defaults``: whether the hyperparameters are those that the algorithm is defined with; None where nobody said.
    """

    __pydantic_config__: ClassVar = STRICT
    name: str
    algorithm: str
    curation: str
    algorithm_options: Mapping[str, Any] = field(default_factory=dict)
    curation_options: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    source_digest: str | None = None
    at_defaults: bool | None = None


@dataclass(frozen=True)
class TimeLedger:
    """Seconds per bucket and per ``bucket/span``. ``lost_seconds``: work redone after an interruption, reported, not charged.

    ``outer_seconds``: wall time of the whole trial by one outer stopwatch; buckets must add up to it.
    """

    __pydantic_config__: ClassVar = STRICT
    wall_seconds: Mapping[str, float]
    cpu_seconds: Mapping[str, float]
    span_seconds: Mapping[str, float]
    charged_seconds: float
    outer_seconds: float | None = None
    lost_seconds: float = 0.0


@dataclass(frozen=True)
class SpanCost:
    """What one span of choosing cost. ``read_bytes``: of examples asked of the pool; ``peak_memory_bytes``: of the process by its end."""

    __pydantic_config__: ClassVar = STRICT
    wall_seconds: float
    cpu_seconds: float
    read_bytes: int | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class Selected:
    """What curation kept of the pool. ``digest`` is that of ``selection.npz`` beside the record; its cost is already in the ledger.

    ``provenance`` (JSON values): what the method tells of its choice, the measured recall of approximate searches among it. ``ledger``:
    the cost of ``embed``, ``cluster``, ``score``, ``dedup`` and ``rewrite``, of those that there were.
    """

    __pydantic_config__: ClassVar = STRICT
    pool_examples: int
    kept_examples: int
    keep_fraction: float
    digest: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    ledger: Mapping[str, SpanCost] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """Costs that are no curve. FLOPs are counted in a dry run outside the clock; a memory count is a peak in this process.

    ``sent_bytes``: what each of several processes handed on for averaging gradients, over the whole trial.
    ``optimizer_state_bytes``: the tensors of the algorithm's ``state_dict`` at the last checkpoint; None when there was none.
    """

    __pydantic_config__: ClassVar = STRICT
    parameters: int
    model_flops_per_example: float | None = None
    update_flops_per_step: float | None = None
    peak_memory_bytes: int | None = None
    data_bytes: int | None = None
    optimizer_state_bytes: int | None = None
    sent_bytes: int | None = None


@dataclass(frozen=True)
class Result:
    """Quality at the end and, on the test split (never seen by an entry), at the hit of the main level and at the end.

    ``test_measures_at_hit`` and ``…_at_end``: what else the task reports on the test split, by name (``bleu``, ``auc``, ``psnr`` …).
    """

    __pydantic_config__: ClassVar = STRICT
    final_quality: float | None = None
    final_loss: float | None = None
    test_quality_at_hit: float | None = None
    test_quality_at_end: float | None = None
    test_measures_at_hit: Mapping[str, float] = field(default_factory=dict)
    test_measures_at_end: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StopRule:
    """When a trial is hopeless: at the first evaluation from ``from_examples`` on, if none so far has reached ``level``.

    Fixed before the trial starts, in examples seen: neither the machine nor who else entered decides (:mod:`.early_stop`).
    """

    __pydantic_config__: ClassVar = STRICT
    from_examples: int
    level: float


@dataclass(frozen=True)
class Stopped:
    """That a study ended a trial by ``rule``, at so many ``examples`` and with ``quality`` as the best so far.

    The trial is a miss like any other; what it would have reached at the end is not known, so ``result`` says nothing of it.
    """

    __pydantic_config__: ClassVar = STRICT
    rule: StopRule
    examples: int
    quality: float


@dataclass(frozen=True)
class Record:
    """One trial. Optional fields may be absent only from records of foreign origin or of trials that failed early."""

    __pydantic_config__: ClassVar = STRICT
    schema_version: int
    record_id: str
    origin: Origin
    workload: WorkloadIdentity
    entry: Entry
    seed: int
    status: Status
    crossings: tuple[Crossing, ...]
    result: Result
    time: TimeLedger
    status_reason: str | None = None
    trial_digest: str | None = None
    study: str | None = None
    seeds: Mapping[str, int] = field(default_factory=dict)
    selected: Selected | None = None
    cost: Cost | None = None
    resumed_count: int = 0
    hardware_class: str | None = None
    numerics_key: str | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, Any] = field(default_factory=dict)
    loader: Mapping[str, Any] = field(default_factory=dict)
    data_digests: Mapping[str, str] = field(default_factory=dict)
    curve_digest: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    overrides: tuple[str, ...] = ()
    ruleset: Ruleset = Ruleset.EXTERNAL_TUNING
    stopped: Stopped | None = None

    @property
    def base_study(self) -> str | None:
        """The study that it belongs to: its own, or of a tuning trial the one that it chose hyperparameters for."""
        return None if self.study is None else self.study.removesuffix(TUNING_SUFFIX)

    @property
    def disturbed(self) -> bool:
        """Whether the hypervisor kept more of the CPUs while it ran than the protocol allows; False where nothing tells."""
        return self.disturbance > 0

    @property
    def disturbance(self) -> float:
        """The share of the CPUs that was kept where it is above the limit, else 0."""
        stolen, limit = self.machine.get("stolen_fraction"), self.machine.get("stolen_limit")
        if not isinstance(stolen, (int, float)) or not isinstance(limit, (int, float)):
            return 0.0
        return float(stolen) if stolen > limit else 0.0

    @property
    def precedence(self) -> tuple[float, str, str]:
        """Sort key of the trials of one entry and seed, of which the first counts: the least disturbed, of these the one started first."""
        return self.disturbance, self.started_at or "", self.record_id

    def crossing(self, level: float | None = None) -> Crossing | None:
        """The crossing of a level (the main one by default); None when the ladder has no such level."""
        wanted = self.workload.ladder.main if level is None else level
        return next((c for c in self.crossings if c.level == wanted), None)


def write_record(folder: Path, record: Record, curve: tuple[CurvePoint, ...], config_yaml: str) -> None:
    """Write a record folder; ``record.json`` comes last, so a folder that has one is whole.

    Raises ``RecordError`` when the folder already holds a record: records are immutable.
    """
    if (folder / "record.json").exists():
        raise RecordError(f"{folder}: already holds a record; records are written once")
    write_text(folder / "config.yaml", config_yaml)
    write_text(folder / "curve.csv", write_curve(curve))
    value = plain(record)
    value["curve_digest"] = file_digest(folder / "curve.csv")
    write_json(folder / "record.json", value)


def read_record(folder: Path) -> tuple[Record, tuple[CurvePoint, ...]]:
    """Read a record and its curve and hold them against each other.

    Raises ``RecordError`` when a file is missing or altered, the schema is foreign, or the crossings are not those of the curve.
    """
    path = folder / "record.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError:
        raise RecordError(f"{folder}: no record.json; expected a record folder") from None
    except (ValueError, OSError) as problem:
        raise RecordError(f"{path}: cannot be read as a record: {problem}") from None
    if not isinstance(value, dict) or value.get("schema_version") != SCHEMA_VERSION:
        given = value.get("schema_version") if isinstance(value, dict) else type(value).__name__
        raise RecordError(f"{path}: schema_version: expected {SCHEMA_VERSION}, given {given!r}")
    record = build(Record, value, str(path), RecordError)
    curve_path = folder / "curve.csv"
    if not curve_path.exists():
        raise RecordError(f"{folder}: curve.csv is missing")
    if file_digest(curve_path) != record.curve_digest:
        raise RecordError(f"{curve_path}: its digest is not the one in record.json; the curve was altered")
    curve = read_curve(curve_path.read_text(encoding="utf-8"), str(curve_path))
    if crossings(curve, record.workload.metric, record.workload.ladder) != record.crossings:
        raise RecordError(f"{path}: crossings: they do not follow from curve.csv; one of the two was altered")
    return record, curve


def readable_records(home: Path, named: str = "*") -> Iterator[tuple[Record, tuple[CurvePoint, ...]]]:
    """The records below ``home`` whose folders match ``named``, with their curves, by folder. Those that cannot be trusted are left
    out: boards name them."""
    for path in sorted((home / "records").glob(f"{named}/record.json")):
        try:
            yield read_record(path.parent)
        except RecordError:
            continue


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that a record may hold")
