"""``timetrial study``: run a named grid of trials, only what is missing, and show its board."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Plan
from .output import console

if TYPE_CHECKING:
    from ..study import Study

HELP = "run a named study: a grid of trials, resumable"
INTERRUPTED = 130
LOAD_SECONDS = 1.0  # over which the load of an otherwise waiting machine is measured
BUSY = 0.1  # share of all CPU time above which a machine is not idle
EXAMPLES = (
    "timetrial study demo",
    "timetrial study demo --seeds 5",
    "timetrial study demo --dry-run",
    "timetrial study nano_algorithms --workload ctr_dlrm",
    "timetrial study nano_matrix variants.seed=7 --dry-run",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``study``."""
    parser.add_argument("name", help="a name from `timetrial list studies`")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="applied to every trial of the study")
    parser.add_argument("--seeds", type=int, help="run this many seeds instead of the study's own number")
    parser.add_argument("--workload", action="append", metavar="NAME", help="only on this one of its workloads (may be repeated)")
    parser.add_argument("--whole", action="store_true", help="follow every trial to its end, hopeless ones too")
    parser.add_argument("--dry-run", action="store_true", help="print what is missing and stop")
    parser.add_argument("--no-mlflow", action="store_true", help="leave the records unmirrored; `timetrial mirror` sends them later")


def execute(arguments: argparse.Namespace) -> int:
    """Run what is missing, mirror it, print and write the board."""
    from ...leaderboards.statistics import MINIMUM_N
    from ..study import load_study

    study = load_study(arguments.name, arguments.seeds)
    study = replace(study, early_stop=study.early_stop and not arguments.whole, workloads=_wanted(study, arguments.workload))
    # A tuned study goes workload by workload: one that somebody ends early has whole answers for the first ones.
    parts = [replace(study, workloads=(one,)) for one in study.workloads] if study.tuning_trials else [study]
    plans: list[Plan] = []
    for part in parts:
        found = _run_part(part, arguments)
        if found is None:
            return INTERRUPTED
        plans += found
    if arguments.dry_run:
        return 0
    show_board(str(plans[0].study), plans, arguments.home)
    if study.seeds < MINIMUM_N:
        print(f"{study.seeds} seeds are too few for intervals: timetrial study {study.name} --seeds {MINIMUM_N}", file=sys.stderr)
    return 0


def _wanted(study: Study, workloads: Sequence[str] | None) -> tuple[str, ...]:
    """Those of a study's workloads that were asked for, in its order; all without a wish. ``UnknownName`` for one it does not have."""
    from ..errors import unknown_name

    for name in workloads or ():
        if name not in study.workloads:
            raise unknown_name(f"workload of study {study.name}", name, study.workloads)
    return tuple(name for name in study.workloads if not workloads or name in workloads)


def _run_part(study: Study, arguments: argparse.Namespace) -> list[Plan] | None:
    """Run what is missing of a study, tuning trials first: its plans, or None when somebody stopped them. A dry run lists them."""
    from ..study import chosen_plans, missing, on_workloads, study_plans, tuning_plans
    from ..variants import of_hidden_variants

    home: Path = arguments.home
    # Hidden variants are drawn after tuning: points that were chosen on the base workloads are held against them.
    name, workloads, overrides = of_hidden_variants(study.name, study.workloads, arguments.overrides)
    tuning = tuning_plans(study, overrides)
    if tuning:
        to_tune = missing(tuning, home)
        where = ", ".join(study.workloads)
        print(f"study {study.name} on {where}: {len(tuning)} tuning trials, {len(to_tune)} to run", file=sys.stderr)
        if arguments.dry_run and to_tune:
            return _list(to_tune)
        if to_tune and not run_plans(to_tune, arguments):
            return None
        plans = chosen_plans(study, home, overrides)
        plans = plans if name == study.name else on_workloads(plans, name, dict(zip(study.workloads, workloads, strict=True)), overrides)
    else:
        plans = study_plans(replace(study, name=name, workloads=workloads), overrides)
    to_do = missing(plans, home)
    print(f"study {name}: {len(plans)} trials, {len(to_do)} to run. {study.summary}", file=sys.stderr)
    if arguments.dry_run:
        return _list(to_do)
    return plans if not to_do or run_plans(to_do, arguments) else None


def _list(plans: Sequence[Plan]) -> list[Plan]:
    for plan in plans:
        print(f"{plan.workload.identity}  {plan.entry_name}  seed {plan.seed}  {dict(plan.algorithm.hyperparameters)}")
    return list(plans)


def run_plans(plans: Sequence[Plan], arguments: argparse.Namespace) -> bool:
    """Run and mirror trials; False when somebody stopped them."""
    from ..study import run_study
    from .progress import TrialDisplay
    from .single import mirror_quietly

    for line in _forecast(plans, arguments.home):
        print(line, file=sys.stderr)
    with TrialDisplay(plans, quiet=arguments.quiet) as display:
        records = run_study(plans, arguments.home, on_point=display.on_point, on_record=display.on_record)
    if not arguments.no_mlflow:
        mirror_quietly([arguments.home / "records" / record.record_id for record in records], arguments.home)
    whole = records[-1].status != "interrupted"
    if not whole:
        print("interrupted; the same command resumes it", file=sys.stderr)
    return whole


def _forecast(plans: Sequence[Plan], home: Path) -> list[str]:
    """How long it will take, and what would spoil the timings."""
    from ..machine_load import load
    from ..study import expected_seconds

    seconds, unknown = expected_seconds(plans, home)
    known = [f"about {_duration(seconds)} for {len(plans) - unknown} trials"] * (unknown < len(plans))
    lines = ["; ".join([*known, *[f"{unknown} trials on workloads that never ran here, their time is not known"] * (unknown > 0)])]
    busy = load(LOAD_SECONDS)["busy_fraction"]
    if busy is not None and busy > BUSY:
        lines.append(f"warning: other programs take {busy:.0%} of this machine; timings are worth little until they stop (records say so)")
    return lines


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def show_board(study: str, plans: Sequence[Plan], home: Path) -> None:
    """Print the board of these plans' records and write its page, and the one of curation, below ``<home>/boards/STUDY``."""
    from ...leaderboards.boards import board, read_folders
    from ...leaderboards.curation import comparisons
    from ...leaderboards.curation_page import curation_page
    from ...leaderboards.render import terminal, write_board
    from ..files import write_text

    wanted = {plan.digest for plan in plans}
    read, rejected = read_folders(path.parent for path in (home / "records").glob("*/record.json"))
    found = [(record, curve) for record, curve in read if record.study == study and record.trial_digest in wanted]
    table = board([record for record, _ in found], rejected)
    folder = home / "boards" / study
    write_board(table, {record.record_id: curve for record, curve in found}, folder)
    console().print(terminal(table))
    print(f"page: {folder / 'index.html'}", file=sys.stderr)
    if compared := comparisons(found):
        write_text(folder / "curation.html", curation_page(compared, study, len({plan.seed for plan in plans})))
        print(f"page: {folder / 'curation.html'}", file=sys.stderr)
