"""How verbs write: tables and progress for people, JSON for machines, plain text when nobody is looking.

rich decides by itself: no colour under ``NO_COLOR`` or ``TERM=dumb``, no control codes when the stream is no terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "print_json", "print_table", "progress_bars"]

_WIDE = 10_000  # columns of a pipe: a table row stays on one line, whatever reads it


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A rich console on stdout or stderr; it never wraps a line that goes into a pipe or file, and never guesses markup or numbers."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _WIDE, quiet=quiet, highlight=False, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """One JSON document on stdout; NaN and infinity are refused with ``ValueError``."""
    print(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, numeric: Sequence[str] = ()) -> None:
    """A table without borders: columns under a bold head, those in ``numeric`` flush right, the last one wrapped if need be."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        last = column == columns[-1]
        table.add_column(column, justify="right" if column in numeric else "left", no_wrap=not last, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    out = console()
    with out.capture() as capture:
        out.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


@contextmanager
def progress_bars(*, quiet: bool) -> Iterator[Callable[[str, int, int | None], None]]:
    """Live bars on stderr: ``report(label, done, total)`` draws or updates the bar of a label.

    Where stderr is no terminal, each label is one plain line when it begins; with ``quiet`` there is nothing.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    out = console(stderr=True, quiet=quiet)
    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True, disable=quiet or not out.is_terminal) as bars:

        def report(label: str, done: int, total: int | None = None) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
                if not out.is_terminal:
                    out.print(label)
            bars.update(tasks[label], completed=done, total=total)

        yield report
