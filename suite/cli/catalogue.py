"""The four kinds of things with names, as plain objects read from their YAML files; no torch, no Hydra, no pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from types import MappingProxyType
from typing import Any

from ..errors import ConfigError
from ..registry import definition, names, variant_names

__all__ = ["KINDS", "describe", "unmet_needs"]

#: What ``list`` calls a kind, and the config group that holds it.
KINDS: Mapping[str, str] = MappingProxyType(
    {"workloads": "workload", "algorithms": "algorithm", "curation": "curation", "studies": "study"}
)

_MET_BY_OPTION = frozenset({"two_processes"})  # `timetrial run … processes=2`
_WORKLOAD_KEYS = ("version", "tier", "family", "summary", "metric", "ladder", "budget")


def describe(kind: str) -> list[dict[str, Any]]:
    """One object for every name of a kind, sorted by name.

    Algorithms and curation methods carry ``needs`` and ``runs_on``, the workloads that meet them all. Raises ``ConfigError``
    when a definition lacks what a list must show.
    """
    group = KINDS[kind]
    workloads = {name: definition("workload", name) for name in names("workload")} if group in ("algorithm", "curation") else {}
    return [_describe(group, name, workloads) for name in names(group)]


def unmet_needs(entry: Mapping[str, Any], workload: Mapping[str, Any]) -> list[str]:
    """Needs of an algorithm or curation method that a workload does not provide and no option of a run meets, sorted."""
    return sorted(set(_needs(entry)) - _MET_BY_OPTION - set(workload.get("provides") or ()))


def _describe(group: str, name: str, workloads: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    content = definition(group, name)
    try:
        if group == "workload":
            defaults: dict[str, Any] = {"provides": [], "base": None, "ranked": True}
            optional = {key: content.get(key, value) for key, value in defaults.items()}
            shown = {"name": name, **{key: content[key] for key in _WORKLOAD_KEYS}, **optional}
            return {**shown, "reference_seconds": _reference_seconds(content), "variants": list(variant_names(name))}
        if group == "study":
            return {"name": name, **{key: content[key] for key in ("summary", "workloads", "seeds")}, "arms": len(content["arms"])}
        needs = _needs(content)
        fitting = [other for other, workload in workloads.items() if not unmet_needs(content, workload)]
        kind = {"kind": content.get("kind", "static")} if group == "curation" else {}
        told = {"name": name, "summary": content["summary"], **kind, "paper": content.get("paper", "")}
        return {**told, "needs": needs, "runs_on": fitting}
    except KeyError as missing:
        raise ConfigError(f"{group} {name}: key {missing.args[0]!r} is missing") from None


def _reference_seconds(workload: Mapping[str, Any]) -> float | None:
    """Median charged seconds in which the frozen reference reached the main target; None before targets are frozen."""
    seconds = (workload.get("reference") or {}).get("seconds_to_target")
    return float(median(seconds)) if seconds else None


def _needs(entry: Mapping[str, Any]) -> list[str]:
    return sorted({*(entry.get("needs") or ()), *(["labels"] if entry.get("needs_labels") else [])})
