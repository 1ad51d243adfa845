"""``timetrial verify``: recompute records from their evidence, and run trials again."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .output import print_json

if TYPE_CHECKING:
    from ..verify import Check

HELP = "recompute records from their evidence; --rerun trains again"
EXAMPLES = (
    "timetrial verify ~/.timetrial/records",
    "timetrial verify ~/.timetrial/records/digits_mlp-adamw-all-s0-*",
    "timetrial verify RECORD --rerun",
    "timetrial verify pack.zip --json",
    "timetrial verify leaderboards/published/nano",
)
_MARKS = {True: "ok", False: "FAILED", None: "not decided"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of ``verify``."""
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD", help="record folders, folders of them, packs, published boards")
    parser.add_argument("--rerun", action="store_true", help="train each trial again and compare the curves (data from --home)")
    parser.add_argument("--run-code", action="store_true", help="let --rerun execute code that is not timetrial's own")
    parser.add_argument("--json", action="store_true", help="every check as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """Print every check; exit 1 when one failed."""
    from .places import record_folders

    with record_folders(arguments.records, must_exist=True) as folders:
        if not folders:
            raise UserError("no record folder in what was given")
        checks = _checks(folders, arguments)
    checks += [_site(place, arguments) for place in arguments.records if (place / "site" / "index.html").is_file()]
    failed = sum(check.passed is False for check in checks)
    open_ = sum(check.passed is None for check in checks)
    if arguments.json:
        print_json({"schema_version": 1, "records": len(folders), "failed": failed, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            if not (arguments.quiet and check.passed):
                print(f"{_MARKS[check.passed]:<12}{check.subject}: {check.name}: {check.detail}")
        print(f"{len(folders)} records, {len(checks)} checks, {failed} failed, {open_} not decided")
    return 1 if failed else 0


def _site(place: Path, arguments: argparse.Namespace) -> Check:
    """Whether the site beside published records is what they give, byte for byte: every number on its boards, recomputed."""
    from tempfile import TemporaryDirectory

    from ..verify import Check
    from .places import gather
    from .site import write_pages

    found = gather(argparse.Namespace(records=[place], source="records", study=None, home=arguments.home))
    with TemporaryDirectory() as scratch:
        write_pages(found, found.board(), Path(scratch), None, None)
        fresh, there = (
            {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            for folder in (Path(scratch), place / "site")
        )
    wrong = sorted(name for name in fresh.keys() | there.keys() if fresh.get(name) != there.get(name))
    detail = f"{len(wrong)} files are not what the records give: {', '.join(wrong[:5])}" if wrong else f"{len(fresh)} files, built again"
    return Check(place.name, "site", not wrong, detail)


def _checks(folders: list[Path], arguments: argparse.Namespace) -> list[Check]:
    from ...leaderboards.states import FILE_NAME, Standing, read_states, state_of
    from ..errors import RecordError
    from ..record import read_record
    from ..verify import rerun, verify_folder, verify_set

    checks, read = [], []
    for folder in folders:
        checks += verify_folder(folder)
        try:
            read.append((*read_record(folder), folder))
        except RecordError:
            continue  # verify_folder has said so
    states = {name: said for place in arguments.records for name, said in read_states(place / FILE_NAME).items()}
    verdicts = [(record, state_of(record, states)) for record, _, _ in read]
    checks += verify_set([record for record, said in verdicts if said is None or said.state is not Standing.WITHDRAWN])
    if arguments.rerun:
        others = [record for record, _, _ in read]
        for record, curve, folder in read:
            checks += rerun(record, curve, folder, arguments.home, run_code=arguments.run_code, others=others)
    return checks
