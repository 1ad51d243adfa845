"""``timetrial list``: what can be run, by kind."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import unknown_name
from ..registry import names
from .catalogue import KINDS, describe, unmet_needs
from .output import print_json, print_table

HELP = "workloads, algorithms, curation methods and studies by name"
EXAMPLES = (
    "timetrial list",
    "timetrial list workloads",
    "timetrial list algorithms --matrix",
    "timetrial list curation --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", metavar="KIND", help=f"one of {', '.join(KINDS)}; all of them when left out")
    parser.add_argument("--json", action="store_true", help="an array of objects (without KIND: an object of such arrays)")
    parser.add_argument("--matrix", action="store_true", help="which algorithms and curation methods run on which workloads")


def execute(arguments: argparse.Namespace) -> int:
    if arguments.kind is not None and arguments.kind not in KINDS:
        raise unknown_name("kind", arguments.kind, KINDS)
    kinds = [arguments.kind] if arguments.kind else list(KINDS)
    if arguments.matrix:
        kinds = [kind for kind in kinds if kind in ("algorithms", "curation")] or ["algorithms", "curation"]
    found = {kind: describe(kind) for kind in kinds}
    if arguments.json:
        print_json(found[kinds[0]] if arguments.kind and len(kinds) == 1 else found)
        return 0
    for position, kind in enumerate(kinds):
        if len(kinds) > 1:
            print(f"{chr(10) if position else ''}{kind}")
        if arguments.matrix:
            _print_matrix(kind, found[kind])
        else:
            _PRINTERS[kind](found[kind])
    return 0


def _print_workloads(workloads: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (w["name"], w["tier"], w["family"], *_target(w), _standing(w), _reference_time(w), len(w["variants"]), w["summary"])
        for w in workloads
    ]
    columns = ("name", "tier", "family", "metric", "target", "targets", "reference", "variants", "summary")
    print_table(columns, rows, numeric=("target", "reference", "variants"))


def _print_entries(entries: Sequence[Mapping[str, Any]]) -> None:
    count = len(names("workload"))
    kind = ("kind",) if entries and "kind" in entries[0] else ()
    rows = [
        (e["name"], *(e[key] for key in kind), _share(len(e["runs_on"]), count), ", ".join(e["needs"]) or "nothing", e["summary"])
        for e in entries
    ]
    print_table(("name", *kind, "workloads", "needs", "summary"), rows)


def _print_studies(studies: Sequence[Mapping[str, Any]]) -> None:
    rows = [(s["name"], len(s["workloads"]) * s["arms"] * s["seeds"], ", ".join(s["workloads"]), s["summary"]) for s in studies]
    print_table(("name", "trials", "workloads", "summary"), rows, numeric=("trials",))


def _print_matrix(kind: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Rows: entries that some workload refuses; columns: workloads; a cell says that it runs, or which needs are unmet."""
    workloads = describe("workloads")
    everywhere = [entry["name"] for entry in entries if len(entry["runs_on"]) == len(workloads)]
    if everywhere:
        print(f"run on every workload: {', '.join(everywhere)}")
    rows = [(entry["name"], *(_cell(unmet_needs(entry, w)) for w in workloads)) for entry in entries if entry["name"] not in everywhere]
    if rows:
        print_table((kind, *(workload["name"] for workload in workloads)), rows)


def target_text(metric: Mapping[str, Any], level: float) -> str:
    """``accuracy >= 0.8``: the metric, which way it improves, and a level."""
    return f"{metric['name']} {'>=' if metric['direction'] == 'maximize' else '<='} {level:g}"


def _target(workload: Mapping[str, Any]) -> tuple[str, str]:
    metric, _, target = target_text(workload["metric"], workload["ladder"]["main"]).partition(" ")
    return metric, target


def _reference_time(workload: Mapping[str, Any]) -> str:
    seconds = workload["reference_seconds"]
    return "not yet" if seconds is None else f"{seconds:.1f} s"


def _standing(workload: Mapping[str, Any]) -> str:
    status = str(workload["ladder"].get("status", "provisional"))
    return status if workload["ranked"] else f"{status}, never ranked"


def _cell(unmet: Sequence[str]) -> str:
    return f"no {', '.join(unmet)}" if unmet else "runs"


def _share(part: int, whole: int) -> str:
    return "all" if part == whole else f"{part} of {whole}"


_PRINTERS = {"workloads": _print_workloads, "algorithms": _print_entries, "curation": _print_entries, "studies": _print_studies}
