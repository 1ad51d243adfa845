"""From a folder to a report: read the manifest, scan the code, run it in a process with limits, and say what came of it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..entry import EntryFolder, read_entry
from ..errors import EntryRefused, UserError
from ..isolation import Ending, Limits, Outcome, run_isolated
from ..schema import build
from .report import Report, Violation
from .rules import RULES, Judge
from .static import scan

__all__ = ["check_entry"]

_ENDINGS = {Ending.TIMED_OUT: "time_limit", Ending.OUT_OF_MEMORY: "memory_limit", Ending.CRASHED: "runs"}
_SEEN_IN_CODE = ("loads", "no_peeking", "no_workload_names", "no_clock", "readable_code")


def check_entry(folder: str | os.PathLike[str], limits: Limits | None = None) -> Report:
    """Run the contract suite on an entry's folder; nothing is ranked and nothing is written.

    Whatever the entry does is in the report; the only thing raised is ``UserError`` for a folder that is not there. ``limits`` bound
    the process that runs the entry's code (:class:`~timetrial.suite.isolation.Limits`).
    """
    place = Path(folder).expanduser().resolve()
    if not place.is_dir():
        raise UserError(f"{folder}: no such folder; an entry is a folder with entry.yaml")
    began, limits = time.monotonic(), limits or Limits()
    try:
        entry = read_entry(place)
    except UserError as problem:
        broken = Violation("manifest", str(problem).removeprefix("entry.yaml: "), "entry.yaml")
        return Report(place.name, (), (broken,), seconds=time.monotonic() - began)
    found = scan(place)
    if any(violation.rule == "loads" for violation in found):
        return _report(entry, found, {"manifest"}, began)
    outcome = run_isolated(f"{__package__}.child", {"folder": str(place), "seconds": limits.seconds}, limits)
    checked, undecided = {"manifest", *_SEEN_IN_CODE}, dict[str, str]()
    if outcome.ending is Ending.ANSWERED:
        found += [build(Violation, value, "violation", EntryRefused) for value in outcome.answer["violations"]]
        checked |= {*outcome.answer["checked"], "time_limit", "memory_limit"}
        undecided = dict(outcome.answer["undecided"])
    else:
        found.append(_ended(outcome, place))
    return replace(_report(entry, found, checked, began), undecided=undecided, network=outcome.network)


def _report(entry: EntryFolder, found: list[Violation], checked: Iterable[str], began: float) -> Report:
    broken = {violation.rule for violation in found}
    passed = tuple(rule.name for rule in RULES if rule.judge is Judge.AUTOMATIC and rule.name in checked and rule.name not in broken)
    return Report(entry.manifest.name, passed, tuple(found), seconds=time.monotonic() - began)


def _ended(outcome: Outcome, folder: Path) -> Violation:
    """A process that gave no answer, with the line of the entry that its last words name."""
    lines = [
        (Path(file).relative_to(folder).as_posix(), int(line))
        for file, line in re.findall(r'File "([^"]+)", line (\d+)', outcome.output)
        if Path(file).is_relative_to(folder)
    ]
    newest_first = "most recent call first" in outcome.output
    file, number = (lines[0] if newest_first else lines[-1]) if lines else (None, None)
    return Violation(_ENDINGS[outcome.ending], outcome.detail, file, number)
