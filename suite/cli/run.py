"""``timetrial run``: one trial by name, or a Hydra multirun of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..registry import adopt

HELP = "run a workload by name"
EXAMPLES = (
    "timetrial run digits_mlp",
    "timetrial run cifar10_cnn algorithm=nesterov lr=0.5 seed=3",
    "timetrial run cifar10_cnn curation=random keep_fraction=0.5",
    "timetrial run digits_mlp -m algorithm=adamw,lion seed=0,1,2",
    "timetrial run shakespeare_gpt --dry-run",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``run``; overrides may stand anywhere between them."""
    parser.add_argument("workload", help="a name from `timetrial list workloads`, a variant's, or your own workload's folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="algorithm=, curation=, keep_fraction=, seed=, lr=, …")
    parser.add_argument("-m", "--multirun", action="store_true", help="run every combination of comma-separated values (Hydra multirun)")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved plan and what it will cost; train nothing")
    parser.add_argument("--smoke", action="store_true", help="a few steps to catch errors; the record is never ranked")
    parser.add_argument("--fresh", action="store_true", help="discard the checkpoint of an interrupted run instead of resuming it")
    parser.add_argument("--json", action="store_true", help="print the record (or the dry run's plan) as JSON")
    parser.add_argument("--no-mlflow", action="store_true", help="leave the record unmirrored; `timetrial mirror` sends it later")


def execute(arguments: argparse.Namespace) -> int:
    """Run and report; 3 when a single trial missed its target."""
    home: Path = arguments.home
    overrides = [f"workload={','.join(map(adopt, arguments.workload.split(',')))}", *arguments.overrides]
    if arguments.multirun:
        from .multirun import run_all

        return run_all(overrides, home, arguments)
    from ..config import resolve
    from .single import run_one

    return run_one(resolve(overrides), home, arguments)
