"""``timetrial targets``: set the targets of a workload by the procedure, or derive frozen ones again from their logs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.table import Table

from ..config import Plan
from ..errors import UserError
from ..files import write_text
from ..registry import adopt
from ..workload import Workload

HELP = "set the targets of a workload: tune baselines, run the best on many seeds, freeze"
INTERRUPTED = 130
EXAMPLES = (
    "timetrial targets",
    "timetrial targets cifar10_cnn --dry-run",
    "timetrial targets path/to/my_workload",
    "timetrial targets digits_mlp --check",
    "timetrial targets --page targets.html",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``targets``."""
    parser.add_argument("workload", nargs="?", help="a workload, a variant, or your own workload's folder; none: all frozen ones")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="applied to every trial: loader=, workers=, threads=")
    parser.add_argument("--check", action="store_true", help="derive frozen targets again from their logs and compare; train nothing")
    parser.add_argument("--page", type=Path, metavar="FILE", help="without a workload: draw all frozen targets and their logs as a page")
    parser.add_argument("--tuning-only", action="store_true", help="run the tuning trials and stop: they are as good on a busy machine")
    parser.add_argument("--dry-run", action="store_true", help="print the trials that are missing and stop")
    parser.add_argument("--no-mlflow", action="store_true", help="leave the records unmirrored; `timetrial mirror` sends them later")


def execute(arguments: argparse.Namespace) -> int:
    """Run what is missing, tuning trials first, then derive and freeze. 1 when ``--check`` finds a difference."""
    if arguments.workload is None:
        return _overview(arguments.page)
    workload = adopt(arguments.workload)
    return _check(workload) if arguments.check else _set(workload, arguments)


def _overview(page: Path | None) -> int:
    from ..config import resolve_definition
    from ..registry import names, targets_path, variant_names
    from .output import console

    known = [name for base in names("workload") for name in (base, *variant_names(base))]
    workloads = [resolve_definition("workload", name) for name in known if targets_path(name).is_file()]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for header in ("workload", "reference", "main target"):
        table.add_column(header)
    for header in ("levels", "hits", "seconds", "budget s", "on"):
        table.add_column(header, justify="right")
    for w in workloads:
        r, target = w.reference, f"{w.metric.name} {w.ladder.main:g} {w.metric.unit}"
        seconds = f"{median(r.seconds_to_target):.2f}"
        row = (r.algorithm, target, f"{len(w.ladder.levels)}", f"{r.hits}/{r.seeds}", seconds, f"{w.budget.charged_seconds:g}")
        table.add_row(w.identity, *row, r.hardware_class)
    console().print(table)
    if page is not None:
        write_text(page, _page(workloads))
        print(f"written: {page}", file=sys.stderr)
    return 0


def _page(workloads: Sequence[Workload]) -> str:
    from ...leaderboards.targets_page import Targets, targets_page
    from ..target_setting import logged_curves

    shown = []
    for w, reference in ((w, w.reference) for w in workloads if w.reference is not None):
        curves, tuning = logged_curves(w.name)
        shown.append(Targets(w.identity, w.summary, w.metric, w.ladder, w.budget, reference, curves, tuning))
    return targets_page(shown, "Targets and their references")


def _check(workload: str) -> int:
    from ..registry import targets_path
    from ..target_setting import rederive

    different = rederive(workload)
    if different:
        raise UserError(f"{targets_path(workload)}: {', '.join(different)} do not follow from the logs beside it")
    print(f"{workload}: the frozen targets follow from their logs")
    return 0


def _set(workload: str, arguments: argparse.Namespace) -> int:
    from ..protocol import target_protocol
    from ..study import finished
    from ..target_setting import baseline_plans, freeze, reference_plans, target_rules, too_costly, write_logs

    protocol, home = target_protocol(), arguments.home
    tuning = baseline_plans(workload, protocol, arguments.overrides)
    if not _finish(f"tuning {', '.join(protocol.baselines)}", tuning, arguments):
        return 0 if arguments.dry_run else INTERRUPTED
    tuned = finished(tuning, home)
    if (problem := too_costly([record for record, _ in tuned], protocol.evaluation_share)) is not None:
        raise UserError(f"{workload}: {problem}")
    if arguments.tuning_only:
        return 0
    plans = reference_plans(tuning, tuned, protocol.reference_seeds)
    best = f"{plans[0].algorithm.name} {dict(plans[0].algorithm.hyperparameters)}"
    if not _finish(f"reference {best}", plans, arguments):
        return 0 if arguments.dry_run else INTERRUPTED
    path = freeze(workload, write_logs(plans[0].workload, target_rules(protocol), tuned, finished(plans, home)))
    print(path.read_text(encoding="utf-8"), end="")
    print(f"frozen: {path}", file=sys.stderr)
    return 0


def _finish(what: str, plans: Sequence[Plan], arguments: argparse.Namespace) -> bool:
    """Run the missing trials; False when some still miss."""
    from ..study import missing
    from .study import run_plans

    home: Path = arguments.home
    to_do = missing(plans, home)
    print(f"{what}: {len(plans)} trials, {len(to_do)} to run", file=sys.stderr)
    if arguments.dry_run:
        for plan in to_do:
            print(f"{plan.workload.identity}  {plan.algorithm.name}  seed {plan.seed}  {dict(plan.algorithm.hyperparameters)}")
        return not to_do
    return not to_do or run_plans(to_do, arguments)
