"""``timetrial curate``: prune or deduplicate one's own pictures, texts, vectors or FFCV files with the methods of the benchmark."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from .output import console, print_json

HELP = "prune or deduplicate your own pictures, texts or vectors"
EXAMPLES = (
    "timetrial curate embeddings.npy --method near_dedup threshold=0.97 --out kept",
    "timetrial curate photos/ --method perceptual_dedup --out kept",
    "timetrial curate photos/ --method prototypes --keep-fraction 0.5 embedder=patches --out kept",
    "timetrial curate train.beton --method near_dedup --out kept --out-beton train-kept.beton",
    "timetrial curate posts.parquet --column body --method minhash_dedup --out kept",
)

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input", metavar="INPUT", type=Path, help="folder of pictures or .npy shards; .npy; .beton; .csv, .parquet, .jsonl, .txt"
    )
    parser.add_argument("options", metavar="KEY=VALUE", nargs="*", help="options of the method and its embedder (`timetrial show METHOD`)")
    parser.add_argument("--method", default="near_dedup", metavar="NAME", help="a curation method that needs no labels (near_dedup)")
    parser.add_argument("--keep-fraction", type=float, default=1.0, metavar="F", help="share to keep; 1: what a threshold leaves")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where results are written (INPUT's name + -curated)")
    parser.add_argument("--out-beton", type=Path, metavar="FILE", help="write what is kept as an FFCV file, too")
    parser.add_argument("--column", metavar="NAME", help="column of texts, or field of a .beton, that is looked at")
    parser.add_argument("--side", type=int, default=32, metavar="PIXELS", help="pictures are compared at this size (32)")
    parser.add_argument("--memory", default="4GB", metavar="SIZE", help="what may be held at once (4GB)")
    parser.add_argument("--seed", type=int, default=0, help="of random draws (0)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def execute(arguments: argparse.Namespace) -> int:
    from ...data_pipelines.own_beton import check_beton_output, open_own_data
    from ...data_pipelines.own_curation import curate_own_data, own_scratch, with_beton, write_curated
    from ..files import write_text
    from .curate_page import curate_page

    memory, options = size_in_bytes(arguments.memory), parse_options(arguments.options)
    if arguments.side < 1:
        raise UserError(f"--side: expected at least 1 pixel, given {arguments.side}")
    source = arguments.input.expanduser().absolute()
    out = (arguments.out or Path(f"{source.stem}-curated")).expanduser().absolute()
    pruned = None if arguments.out_beton is None else arguments.out_beton.expanduser().absolute()
    scratch = own_scratch(arguments.home, source, arguments.side)
    with progress(quiet=arguments.quiet) as report:
        data = open_own_data(source, scratch, column=arguments.column, side=arguments.side, on_progress=report)
        if pruned is not None:
            check_beton_output(data, source, pruned)
        result = curate_own_data(
            data,
            arguments.method,
            arguments.keep_fraction,
            options=options,
            seed=arguments.seed,
            scratch=scratch,
            memory_bytes=memory,
            on_progress=report,
        )
        if pruned is not None:
            result = with_beton(result, source, pruned, scratch, report)
        paths = write_curated(result, out)
        write_text(out / "report.html", curate_page(result))
    summary = result.summary()
    if arguments.json:
        print_json(summary | {"folder": str(out)} | ({} if pruned is None else {"beton": str(pruned)}))
    elif not arguments.quiet:
        dropped = summary["examples"] - summary["kept"]
        console().print(f"{summary['method']}: kept {summary['kept']:,} of {summary['examples']:,}, dropped {dropped:,}")
        console().print(f"{summary['seconds']:.2f} s, peak memory {summary['peak_memory_bytes'] / 2**20:,.0f} MiB")
        if summary["unreadable"]:
            console().print(f"{summary['unreadable']:,} could not be read or are empty; the report lists them")
        console().print(f"written: {', '.join(path.name for path in paths)}, report.html in {out}")
        if pruned is not None:
            console().print(f"written: {pruned}, {pruned.stat().st_size:,} bytes")
    return 0


def parse_options(given: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` arguments as a mapping; values are YAML (numbers, lists, true/false)."""
    options = {}
    for item in given:
        key, separator, value = item.partition("=")
        if not separator or not key.isidentifier():
            raise UserError(f"option {item!r}: expected KEY=VALUE")
        try:
            options[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"option {item!r}: {value!r} is not a value") from None
    return options


def size_in_bytes(text: str) -> int:
    """``4GB``, ``512MiB``, ``1e9``: a number of bytes with an optional unit (powers of 1,024)."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([KMGT]?)I?B?\s*", text.upper().replace("E", "e"))
    if not found or float(found[1]) <= 0:
        raise UserError(f"--memory: expected a size like 4GB or 512MB, given {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """Bars with the remaining time on a terminal, one plain line a stage elsewhere."""
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    out = console(stderr=True, quiet=quiet)
    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True, disable=quiet or not out.is_terminal) as bars:

        def report(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
                if not out.is_terminal:
                    out.print(stage)
            bars.update(tasks[stage], completed=share)

        yield report
