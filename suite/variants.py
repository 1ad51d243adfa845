"""Variants: workloads that differ from a base in one thing, and hidden ones that a seed draws after an entry is submitted.

``configs/variant/BASE.yaml`` holds ``variants``, by name what is set otherwise than in the base, and ``hidden``, for each key that a hidden
variant may change the values that it may take. No torch, no Hydra.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from .errors import ConfigError

__all__ = ["CHANGED_WHEN_HIDDEN", "hidden_changes", "hidden_seed", "merged", "of_hidden_variants", "varied"]

#: Keys that a hidden variant changes at once.
CHANGED_WHEN_HIDDEN = 2


def varied(base: Mapping[str, Any], name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The definition of a variant: the base's with ``changes`` merged in, mapping by mapping.

    Targets of the base say nothing about the variant: its ladder is provisional unless ``changes`` bring a ladder of their own.
    """
    ladder = {key: value for key, value in base["ladder"].items() if key not in ("status", "evidence_digest")}
    found = merged({**base, "ladder": ladder, "summary": f"{base['summary']}, varied"}, changes)
    return {**found, "name": f"{base['name']}-{name}", "base": base["name"]}


def hidden_seed(name: str) -> int | None:
    """The seed in ``hidden12``; None for other names."""
    found = re.fullmatch(r"hidden(0|[1-9]\d*)", name)
    return int(found[1]) if found else None


def of_hidden_variants(study: str, workloads: Sequence[str], overrides: Sequence[str]) -> tuple[str, tuple[str, ...], list[str]]:
    """A study's name, workloads and overrides as ``variants.seed=N`` changes them: on the hidden variant N of each workload.

    The override is taken out; without it all stays as it is. The name becomes ``STUDY-hiddenN``, so that the trials are never mistaken
    for those on the base workloads. Raises ``ConfigError`` for another key below ``variants`` and for what is no seed.
    """
    given = [item for item in overrides if item.startswith("variants.")]
    rest = [item for item in overrides if item not in given]
    for item in given:
        key, _, value = item.partition("=")
        if key != "variants.seed" or hidden_seed(f"hidden{value}") is None:
            raise ConfigError(f"override {item!r}: expected variants.seed=N with a whole number N from 0")
    if not given:
        return study, tuple(workloads), rest
    hidden = f"hidden{given[-1].partition('=')[2]}"
    return f"{study}-{hidden}", tuple(f"{workload}-{hidden}" for workload in workloads), rest


def hidden_changes(space: Mapping[str, list[Any]], base: str, seed: int) -> dict[str, Any]:
    """What a hidden variant changes: two keys (one where there is only one) and a value for each, drawn from sha256 of base and seed.

    ``space`` maps dotted keys (``model.activation``) to values that differ from the base's. Raises ``ConfigError`` when it is empty.
    """
    if not space or not all(space.values()):
        raise ConfigError(f"workload {base}: there is nothing that a hidden variant could change")
    drawn = sorted(space, key=lambda key: _number(base, seed, key))[:CHANGED_WHEN_HIDDEN]
    changes: dict[str, Any] = {}
    for key in drawn:
        value = space[key][_number(base, seed, key, "value") % len(space[key])]
        for part in reversed(key.split(".")):
            value = {part: value}
        changes = merged(changes, value)
    chosen = ", ".join(f"{key} drawn" for key in sorted(drawn))
    return {**changes, "summary": f"hidden variant of {base} by seed {seed}: {chosen}"}


def _number(*parts: object) -> int:
    return int.from_bytes(sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """``one`` with the values of ``other`` over it, mapping by mapping."""
    found = dict(one)
    for key, value in other.items():
        found[key] = merged(found[key], value) if isinstance(value, Mapping) and isinstance(found.get(key), Mapping) else value
    return found
