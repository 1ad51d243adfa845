"""``timetrial compare``: two entries against each other, from records or run now, interleaved."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .output import print_json, print_table

if TYPE_CHECKING:
    from ...leaderboards.compare import Duel, Effect
    from ..config import Plan

HELP = "compare two entries: ratio, interval, p, and what may be claimed"
EXAMPLES = (
    "timetrial compare adamw lion",
    'timetrial compare adamw "adamw + random 0.5" --plan 5%',
    "timetrial compare adamw lion --run digits_mlp --seeds 5",
    "timetrial compare adamw lion --json",
)
STUDY = "compare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``compare``."""
    parser.add_argument("a", metavar="A", help="an entry as boards name it: adamw, or 'adamw + random 0.5'")
    parser.add_argument("b", metavar="B", help="the entry that A is held against")
    parser.add_argument("--records", action="append", type=Path, metavar="FOLDER", help="record folders or packs (those below --home)")
    parser.add_argument("--study", metavar="NAME", help="only the trials of this study")
    parser.add_argument("--plan", type=_percent, metavar="PERCENT", help="how many seeds a difference of this size (5%%) would take")
    parser.add_argument("--run", action="append", metavar="WORKLOAD", help="first run what is missing here, A and B in turn")
    parser.add_argument("--seeds", type=int, default=5, help="of --run")
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """Run if asked to, read the records, compare, say what may be claimed."""
    from ...leaderboards.boards import board, read_folders
    from ...leaderboards.compare import compare
    from .places import record_folders

    if arguments.a == arguments.b:
        raise UserError(f"expected two different entries, given {arguments.a!r} twice")
    if arguments.run:
        if arguments.records or arguments.study:
            raise UserError("--run makes records below --home in the study 'compare'; leave out --records and --study")
        arguments.study = STUDY
        status = _run(arguments)
        if status:
            return status
    with record_folders(arguments.records or [arguments.home / "records"], arguments.records is not None) as folders:
        found, rejected = read_folders(folders)
    records = [record for record, _ in found if arguments.study in (None, record.study)]
    if not records:
        raise UserError("no record to compare; run both entries first, or let `--run WORKLOAD` do it")
    duels = compare(board(records, rejected), records, arguments.a, arguments.b)
    if arguments.json:
        print_json({"schema_version": 1, "comparisons": [_json(duel, arguments.plan) for duel in duels]})
    else:
        for duel in duels:
            _print(duel, arguments.plan)
    return 0


def interleaved_plans(a: str, b: str, workloads: list[str], seeds: int) -> list[Plan]:
    """Both entries on all workloads, A before B and B before A in turn, so that neither always runs on the warmer machine."""
    from ..config import resolve

    plans = []
    for seed in range(seeds):
        for workload in workloads:
            for entry in (a, b) if seed % 2 == 0 else (b, a):
                plans.append(resolve([f"workload={workload}", *_choices(entry), f"seed={seed}", f"study={STUDY}"]))
    return plans


def _run(arguments: argparse.Namespace) -> int:
    from ..study import missing, run_study
    from .progress import TrialDisplay

    if arguments.seeds < 1:
        raise UserError(f"--seeds: expected at least 1, given {arguments.seeds}")
    plans = interleaved_plans(arguments.a, arguments.b, arguments.run, arguments.seeds)
    to_do = missing(plans, arguments.home)
    print(f"compare: {len(plans)} trials, {len(to_do)} to run", file=sys.stderr)
    if not to_do:
        return 0
    with TrialDisplay(to_do, quiet=arguments.quiet or arguments.json) as display:
        records = run_study(to_do, arguments.home, on_point=display.on_point, on_record=display.on_record)
    return 130 if records[-1].status == "interrupted" else 0


def _choices(entry: str) -> list[str]:
    """Overrides of an entry's name: ``adamw`` or ``adamw + random 0.5``."""
    match = re.fullmatch(r"(\w+)(?: \+ (\w+) ([0-9.]+))?", entry)
    if match is None:
        raise UserError(f"--run: expected an entry like 'adamw' or 'adamw + random 0.5', given {entry!r}")
    algorithm, curation, fraction = match.groups()
    return [f"algorithm={algorithm}", *([f"curation={curation}", f"keep_fraction={fraction}"] if curation else [])]


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a percentage like 5%, given {text!r}") from None
    if not 0 < value <= 10:
        raise argparse.ArgumentTypeError(f"expected more than 0% and at most 1000%, given {text!r}")
    return value


def _rows(duel: Duel) -> list[tuple[str, Any, Effect]]:
    per_workload = [(name, lens, found) for name, by_lens in duel.workloads.items() for lens, found in by_lens.items()]
    return per_workload + [("overall", lens, found) for lens, found in duel.overall.items() if len(duel.workloads) > 1]


def _print(duel: Duel, difference: float | None) -> None:
    from ...leaderboards.compare import sentence, verdict
    from ..workload import Lens

    print(f"{duel.a} against {duel.b}, hardware class {duel.hardware_class}; above 1x {duel.a} needs less\n")
    lines = []
    for where, lens, found in _rows(duel):
        bounds = found.factor.interval
        text = "–" if bounds is None or bounds.high is None else f"{bounds.low:.3g} – {bounds.high:.3g}"
        p = "–" if found.p is None else f"{found.p:.2g}"
        line = [where, lens.value, f"{found.factor.value:.3g}x", text, p, found.pairs or f"{found.n_a}/{found.n_b}", verdict(found)]
        if difference is not None:
            line.insert(-1, found.seeds_needed(difference) or "–")
        lines.append(line)
    columns = ["workload", "lens", "factor", "95 % interval", "p", "seeds", "verdict"]
    if difference is not None:
        columns.insert(-1, f"seeds for {100 * difference:g} %")
    print_table(columns, lines, numeric=columns[2:-1])
    print()
    for where, lens, found in _rows(duel):
        if lens is Lens.CHARGED_SECONDS:
            print(sentence(duel, where, found))
    if len(duel.workloads) > 1:
        print("Overall is the geometric mean over these workloads; its interval is about other seeds, not about other workloads.")
    if difference is not None:
        print("Seeds needed rest on the spread of these trials: with few of them, a rough guess (80 % power, two-sided 5 %).")
    if not duel.ranked:
        print("Targets are provisional or the workload is never ranked: this is a measurement, not a claim for a board.")
    for missing_side in duel.absent:
        print(f"left out: {missing_side}")


def _json(duel: Duel, difference: float | None) -> dict[str, Any]:
    from ...leaderboards.compare import sentence, verdict
    from ..schema import plain

    def one(where: str, lens: Any, found: Effect) -> dict[str, Any]:
        extra = {} if difference is None else {"seeds_needed": found.seeds_needed(difference)}
        said = {"verdict": verdict(found), "sentence": sentence(duel, where, found, lens)}
        return {"workload": where, "lens": lens.value, **plain(found), **said, **extra}

    return {
        "a": duel.a,
        "b": duel.b,
        "hardware_class": duel.hardware_class,
        "ranked": duel.ranked,
        "absent": list(duel.absent),
        "effects": [one(*row) for row in _rows(duel)],
    }
