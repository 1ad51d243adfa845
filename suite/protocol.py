"""The protocol's constants that are no workload's: ``configs/protocol.yaml``, read and checked. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import yaml

from .errors import ConfigError
from .registry import config_folders
from .schema import STRICT, build

__all__ = [
    "Disturbance",
    "EarlyStop",
    "Hardware",
    "Protocol",
    "Round",
    "SelfTuning",
    "TargetProtocol",
    "Tuning",
    "protocol",
    "protocol_round",
    "target_protocol",
]


@dataclass(frozen=True)
class TargetProtocol:
    """How targets are set: ``tuning_trials`` points for each of the ``baselines``, the best on ``reference_seeds`` fresh seeds.

    ``hit_share`` of these seeds hit the main target; the budget is ``budget_factor`` times their median charged seconds to it;
    evaluations take at most ``evaluation_share`` of the charged time.
    """

    __pydantic_config__: ClassVar = STRICT
    baselines: tuple[str, ...]
    tuning_trials: int
    reference_seeds: int
    hit_share: float
    budget_factor: float
    evaluation_share: float


@dataclass(frozen=True)
class Tuning:
    """External tuning: how many ``trials`` choose an entry's hyperparameters on a workload, all on seed 0."""

    __pydantic_config__: ClassVar = STRICT
    trials: int


@dataclass(frozen=True)
class SelfTuning:
    """Self-tuning: ``budget_factor`` multiplies a workload's budget in seconds and in examples."""

    __pydantic_config__: ClassVar = STRICT
    budget_factor: float


@dataclass(frozen=True)
class EarlyStop:
    """When a trial is hopeless: from the share ``after`` of its horizon on, if it never had what every seed of the reference had by the
    share ``reference`` of its own run."""

    __pydantic_config__: ClassVar = STRICT
    after: float
    reference: float


@dataclass(frozen=True)
class Disturbance:
    """A trial during which more than ``stolen_fraction`` of all CPU time was stolen is run again, up to ``repeats`` times, each after at
    most ``patience_seconds`` of waiting for calm."""

    __pydantic_config__: ClassVar = STRICT
    stolen_fraction: float
    repeats: int
    patience_seconds: float


@dataclass(frozen=True)
class Hardware:
    """``classes``: short names of the hardware that boards are published for, and the class that each stands for. On other hardware than a
    workload's targets were frozen on, its budget in seconds is ``elsewhere_factor`` times as long, so that it cuts off what is far too slow
    and the budget in examples ends the rest."""

    __pydantic_config__: ClassVar = STRICT
    classes: Mapping[str, str]
    elsewhere_factor: float


@dataclass(frozen=True)
class Round:
    """What a submission runs: every workload with the fresh seeds 1 to ``seeds``."""

    __pydantic_config__: ClassVar = STRICT
    workloads: tuple[str, ...]
    seeds: int


@dataclass(frozen=True)
class Protocol:
    """All of it, a section a field."""

    __pydantic_config__: ClassVar = STRICT
    targets: TargetProtocol
    tuning: Tuning
    self_tuning: SelfTuning
    early_stop: EarlyStop
    disturbance: Disturbance
    hardware: Hardware
    qualification: Round
    full: Round

    def checked(self) -> Protocol:
        """This protocol, or ``ConfigError`` naming the constant that is out of its range."""
        shares = (
            ("targets.hit_share", self.targets.hit_share),
            ("targets.evaluation_share", self.targets.evaluation_share),
            ("early_stop.after", self.early_stop.after),
            ("early_stop.reference", self.early_stop.reference),
            ("disturbance.stolen_fraction", self.disturbance.stolen_fraction),
        )
        counts = (
            ("targets.tuning_trials", self.targets.tuning_trials),
            ("targets.reference_seeds", self.targets.reference_seeds),
            ("tuning.trials", self.tuning.trials),
            ("qualification.seeds", self.qualification.seeds),
            ("full.seeds", self.full.seeds),
        )
        factors = (
            ("targets.budget_factor", self.targets.budget_factor),
            ("self_tuning.budget_factor", self.self_tuning.budget_factor),
            ("hardware.elsewhere_factor", self.hardware.elsewhere_factor),
        )
        checks: list[tuple[str, float, bool, str]] = [(name, value, 0 < value <= 1, "more than 0 and at most 1") for name, value in shares]
        checks += [(name, value, value >= 1, "at least 1") for name, value in (*counts, *factors)]
        for name, value, ok, expected in checks:
            if not ok:
                raise ConfigError(f"protocol.yaml: {name}: expected {expected}, given {value}")
        return self


def protocol() -> Protocol:
    """The shipped protocol. ``ConfigError`` names a key that is unknown, missing or out of its range."""
    value = yaml.safe_load((config_folders()[0] / "protocol.yaml").read_text(encoding="utf-8"))
    return build(Protocol, value, "protocol.yaml").checked()


def target_protocol() -> TargetProtocol:
    """The constants of target setting."""
    return protocol().targets


def protocol_round(name: Literal["qualification", "full"]) -> Round:
    """What a submission runs."""
    found: Round = getattr(protocol(), name)
    return found
