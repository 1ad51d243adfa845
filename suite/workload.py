"""What a workload is: data, model, loss, metric, target ladder and budget at one tier, immutable and versioned.

Built from one YAML file in ``configs/workload``, the single place of every constant. Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field

from .errors import ConfigError
from .files import object_digest
from .schema import STRICT, plain

__all__ = [
    "Budget",
    "Data",
    "Direction",
    "Evaluation",
    "Lens",
    "Metric",
    "Reference",
    "ResultRule",
    "TargetLadder",
    "TargetStatus",
    "Tier",
    "Workload",
]


class Tier(StrEnum):
    """``nano``: 2 CPU cores, about a minute. ``small``: one GPU, minutes. ``full``: GPUs, hours. Never mixed on a board."""

    NANO = "nano"
    SMALL = "small"
    FULL = "full"


class Direction(StrEnum):
    """Which way a metric improves."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


class Lens(StrEnum):
    """A unit in which cost is compared; every curve point carries all of them, ``joules`` only where a meter exists."""

    CHARGED_SECONDS = "charged_seconds"
    CPU_SECONDS = "cpu_seconds"
    STEPS = "steps"
    EXAMPLES = "examples"
    FLOPS = "flops"
    GRADIENT_DEPTH = "gradient_depth"
    JOULES = "joules"


DETERMINISTIC_LENSES = frozenset({Lens.STEPS, Lens.EXAMPLES, Lens.FLOPS, Lens.GRADIENT_DEPTH})


class TargetStatus(StrEnum):
    """``provisional`` targets are never ranked; ``frozen`` ones carry the digest of the procedure's logs."""

    PROVISIONAL = "provisional"
    FROZEN = "frozen"


class ResultRule(StrEnum):
    """``first_crossing``: cost at the confirmed, interpolated crossing. ``fixed_schedule``: cost of the whole declared run."""

    FIRST_CROSSING = "first_crossing"
    FIXED_SCHEDULE = "fixed_schedule"


@dataclass(frozen=True)
class Metric:
    """The quality that targets are set on, measured on the validation split. ``unit`` is for people (``fraction``, ``bits/char``)."""

    __pydantic_config__: ClassVar = STRICT
    name: str
    direction: Direction
    unit: str

    def reached(self, quality: float, level: float) -> bool:
        """Whether ``quality`` is at least as good as ``level``; equality counts (AlgoPerf's harness and scorer disagree on this)."""
        return quality >= level if self.direction is Direction.MAXIMIZE else quality <= level

    def best(self, qualities: Iterable[float]) -> float:
        """The one that is hardest to reach. ``ValueError`` when there is none."""
        return max(qualities) if self.direction is Direction.MAXIMIZE else min(qualities)

    def worst(self, qualities: Iterable[float]) -> float:
        """The one that is easiest to reach. ``ValueError`` when there is none."""
        return min(qualities) if self.direction is Direction.MAXIMIZE else max(qualities)


@dataclass(frozen=True)
class TargetLadder:
    """At least ten quality levels from easy to hard, one of them the main target.

    A level is hit at the first evaluation that reaches it and is followed by ``confirmations`` evaluations that reach it too
    (fewer when the trial's budget ends before).
    """

    __pydantic_config__: ClassVar = STRICT
    levels: tuple[float, ...]
    main: float
    status: TargetStatus = TargetStatus.PROVISIONAL
    confirmations: int = 1
    evidence_digest: str | None = None

    def checked(self, metric: Metric, where: str) -> TargetLadder:
        """This ladder, or ``ConfigError`` when levels are too few, unordered, or lack the main target."""
        ordered = sorted(set(self.levels), reverse=metric.direction is Direction.MINIMIZE)
        if len(self.levels) < 10 or list(self.levels) != ordered:
            raise ConfigError(f"{where}: ladder.levels: expected at least ten distinct levels from easy to hard, given {list(self.levels)}")
        if self.main not in self.levels:
            raise ConfigError(f"{where}: ladder.main: expected one of the levels {list(self.levels)}, given {self.main}")
        if self.status is TargetStatus.FROZEN and not self.evidence_digest:
            raise ConfigError(f"{where}: ladder.status: frozen targets need evidence_digest, the digest of the logs they derive from")
        return self

    @property
    def digest(self) -> str:
        """Identity of the targets: records with different digests never share a board."""
        return object_digest(plain(self))


@dataclass(frozen=True)
class Budget:
    """How much a trial may spend. It ends when the amount of ``lens`` is spent, and is cut off by ``charged_seconds`` and ``limits``.

    ``lens`` is the unit of the fraction that an algorithm sees and must be deterministic; its amount is ``examples`` or, for another
    lens, stands in ``limits``, and ``examples`` then ends nothing. ``limits``: amounts in further lenses, the same for every entry, which
    is what compute-matched means: ``{flops: 2e13}``, ``{cpu_seconds: 60}``. ``cut_off_only``: the seconds end what is far too slow and are
    nothing that scores rest on.
    """

    __pydantic_config__: ClassVar = STRICT
    examples: int
    charged_seconds: float
    lens: Lens = Lens.EXAMPLES
    limits: Annotated[Mapping[Lens, float], Field(exclude_if=lambda limits: not limits)] = field(default_factory=dict)
    cut_off_only: Annotated[bool, Field(exclude_if=lambda only: not only)] = False

    def amount(self, lens: Lens) -> float | None:
        """What may be spent of a lens; None where the budget does not say."""
        seconds = {} if self.cut_off_only else {Lens.CHARGED_SECONDS: self.charged_seconds}
        return ({Lens.EXAMPLES: float(self.examples)} | seconds | dict(self.limits)).get(lens)

    def times(self, factor: float) -> Budget:
        """As many times as much of everything."""
        limits = {lens: factor * amount for lens, amount in self.limits.items()}
        return replace(self, examples=round(factor * self.examples), charged_seconds=factor * self.charged_seconds, limits=limits)

    def checked(self, where: str) -> Budget:
        """This budget, or ``ConfigError`` when its lens depends on the machine or has no amount, or one is stated twice or not positive."""
        if self.lens not in DETERMINISTIC_LENSES:
            known = ", ".join(sorted(DETERMINISTIC_LENSES))
            raise ConfigError(f"{where}: budget.lens: algorithms see a deterministic lens only ({known}); given {self.lens}")
        for lens in (Lens.EXAMPLES, Lens.CHARGED_SECONDS):
            if lens in self.limits:
                raise ConfigError(f"{where}: budget.limits.{lens}: its amount is budget.{lens}")
        if self.amount(self.lens) is None:
            raise ConfigError(f"{where}: budget.limits: expected an amount of {self.lens}, the budget's lens; given {dict(self.limits)}")
        for name, value in (("examples", self.examples), ("charged_seconds", self.charged_seconds)):
            if value <= 0:
                raise ConfigError(f"{where}: budget.{name}: expected more than 0, given {value}")
        for lens, value in self.limits.items():
            if value <= 0:
                raise ConfigError(f"{where}: budget.limits.{lens}: expected more than 0, given {value:g}")
        return self


@dataclass(frozen=True)
class Reference:
    """The frozen, tuned baseline that every score on a workload is relative to; ``algorithm=reference`` runs it.

    ``examples_to_target`` is the median over the ``hits`` of its ``seeds`` that reached the main target; ``seconds_to_target`` are
    all of their charged seconds, sorted, on one hardware class.
    """

    __pydantic_config__: ClassVar = STRICT
    algorithm: str
    hyperparameters: Mapping[str, Any]
    examples_to_target: float
    seconds_to_target: tuple[float, ...]
    hardware_class: str
    hits: int
    seeds: int


@dataclass(frozen=True)
class Evaluation:
    """When and with what quality is measured: every ``every_examples`` examples seen, in batches of ``batch_size``.

    Fixed by the workload and never re-scheduled for an entry.
    """

    __pydantic_config__: ClassVar = STRICT
    every_examples: int
    batch_size: int


@dataclass(frozen=True)
class Data:
    """Where examples come from. ``validation_examples`` are cut from the official training split, class-balanced, by
    ``split_seed``; 0 means that the source has a validation split of its own. ``augmentation`` holds the options of
    ``data_pipelines.augment.Augmentation``."""

    __pydantic_config__: ClassVar = STRICT
    source: str
    validation_examples: int
    options: Mapping[str, Any] = field(default_factory=dict)
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    split_seed: int = 0


@dataclass(frozen=True)
class Workload:
    """One workload. ``task`` names the file in ``tasks/`` that gives model, loss and metric, or a file of one's own with its digest
    (``task.py@12ab…``); ``model`` its options.

    ``batch_size`` is the suggestion that an algorithm may follow. ``provides`` lists the needs it meets
    (:class:`~timetrial.suite.algorithm.Need`). ``base`` is the workload that a variant differs from. ``reference`` comes with frozen
    targets.
    """

    __pydantic_config__: ClassVar = STRICT
    name: str
    version: int
    tier: Tier
    family: str
    summary: str
    task: str
    data: Data
    metric: Metric
    ladder: TargetLadder
    budget: Budget
    evaluation: Evaluation
    batch_size: int
    model: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)
    provides: tuple[str, ...] = ()
    precision: str = "32-true"
    channels_last: bool = False
    result_rule: ResultRule = ResultRule.FIRST_CROSSING
    base: str | None = None
    ranked: bool = True
    reference: Reference | None = None

    @property
    def identity(self) -> str:
        """``name@version``; what boards and records call it."""
        return f"{self.name}@{self.version}"

    @property
    def digest(self) -> str:
        """sha256 over every constant of the workload, targets included."""
        return object_digest(plain(self))

    def checked(self, where: str) -> Workload:
        """This workload, or ``ConfigError`` naming the constant that contradicts the others."""
        self.ladder.checked(self.metric, where)
        self.budget.checked(where)
        for name, value in (
            ("batch_size", self.batch_size),
            ("evaluation.every_examples", self.evaluation.every_examples),
            ("evaluation.batch_size", self.evaluation.batch_size),
        ):
            if value <= 0:
                raise ConfigError(f"{where}: {name}: expected more than 0, given {value}")
        return self
