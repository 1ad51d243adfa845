"""``timetrial prepare``: the data of workloads, fetched, checked and converted before any clock runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..registry import adopt, definition
from .output import print_json, progress_bars

if TYPE_CHECKING:
    from ...data_pipelines.dataset import Dataset

HELP = "fetch, verify and convert the data of workloads"
EXAMPLES = (
    "timetrial prepare digits_mlp",
    "timetrial prepare cifar10_cnn shakespeare_gpt",
    "TIMETRIAL_MIRROR=~/mirror timetrial prepare cifar10_cnn    # a folder in place of the network",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workloads", nargs="+", metavar="WORKLOAD", help="a name that `timetrial list workloads` shows")
    parser.add_argument("--json", action="store_true", help="an array with one object for each workload")


def execute(arguments: argparse.Namespace) -> int:
    workloads = list(dict.fromkeys(map(adopt, arguments.workloads)))
    for name in workloads:
        definition("workload", name)  # a wrong name is told before the first download
    found = []
    for name in workloads:
        found.append(_prepared(name, arguments.home, quiet=arguments.quiet or arguments.json))
        if not arguments.json:
            print(_line(found[-1]))
    if arguments.json:
        print_json(found)
    return 0


def _prepared(name: str, home: Path, *, quiet: bool) -> dict[str, Any]:
    from ..config import resolve_definition
    from ..inputs import prepare_inputs

    workload = resolve_definition("workload", name)
    with progress_bars(quiet=quiet) as report:
        dataset: Dataset = prepare_inputs(workload, home, report)
    examples = {split: len(content) for split, content in dataset.splits.items()}
    beton = all(content.beton is not None for content in dataset.splits.values())
    return {
        "name": name,
        "source": dataset.name,
        "version": dataset.version,
        "digest": dataset.digest,
        "examples": examples,
        "ffcv_files": beton,
    }


def _line(found: Mapping[str, Any]) -> str:
    examples = " + ".join(f"{count:,} {split}" for split, count in found["examples"].items())
    files = "arrays and FFCV files" if found["ffcv_files"] else "arrays only"
    return f"{found['name']}: {found['source']}@{found['version']} is ready: {examples} examples, {files}, digest {found['digest'][:12]}"
