"""The protocol's constants that are no workload's: ``configs/protocol.yaml``, read and checked. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from .registry import config_folders
from .schema import STRICT, build

__all__ = ["TargetProtocol", "protocol_section", "target_protocol"]


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


def target_protocol() -> TargetProtocol:
    """The constants of target setting."""
    return build(TargetProtocol, protocol_section("targets"), "protocol.yaml: targets")


def protocol_section(name: str) -> Mapping[str, Any]:
    """One section of the protocol's file as plain values; ``KeyError`` when there is none of this name."""
    value: Mapping[str, Any] = yaml.safe_load((config_folders()[0] / "protocol.yaml").read_text(encoding="utf-8"))
    section: Mapping[str, Any] = value[name]
    return section
