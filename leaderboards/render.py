"""A board as text: terminal table, Markdown, CSV and JSON, and all of them with the page in one folder."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..suite.curve import Curve
from ..suite.files import write_text
from ..suite.schema import plain
from ..suite.workload import Lens
from . import formats
from .boards import LENSES, Board, Row, Section
from .page import page
from .statistics import MINIMUM_N, Estimate

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["csv_text", "escape", "json_text", "markdown", "markdown_row", "terminal", "write_board"]

_NARROW = ("entry", "hit", "to target", "95 % interval", "examples", "FLOPs", "final")
_WIDE = ("algorithm", "curation", "kept", "n", *_NARROW[1:])
_LEFT = frozenset({"entry", "algorithm", "curation", "95 % interval"})


def terminal(board: Board) -> RenderableType:
    """The board for ``rich``: one table a section; colours only where the terminal has them."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for section in board.sections:
        parts.append(Text.assemble((section.workload.identity, "bold"), (f"  {subtitle(section)}", "dim")))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for name in _NARROW:
            table.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=name != "entry", overflow="fold")
        for row in section.rows:
            cells = _cells(row)
            table.add_row(*(Text(cells[name]) for name in _NARROW), style=None if row.hits else "dim")
        parts += [table, *(Text(note, "dim") for note in notes(section)), Text("")]
    if not board.sections:
        parts.append(Text("no record counts on a board yet"))
    if board.left_out:
        parts.append(Text(f"left out, {len(board.left_out)} of {len(board.rejected) + board.n}:", "bold"))
        parts += [Text(f"  {r.record_id}: {r.reason}", "dim") for r in board.left_out]
    if board.tuning:
        parts.append(Text(_tuning(board), "dim"))
    return Group(*parts)


def markdown(board: Board) -> str:
    """GitHub-flavoured Markdown: one table a section, then what was left out."""
    lines: list[str] = []
    for section in board.sections:
        head = [f"final {section.workload.metric.name}" if name == "final" else name for name in _WIDE]
        lines += [f"### {section.workload.identity}", "", subtitle(section), ""]
        lines += [markdown_row(head), markdown_row([":--" if name in _LEFT else "--:" for name in _WIDE])]
        lines += [markdown_row([escape(_cells(row)[name]) for name in _WIDE]) for row in section.rows]
        lines += ["", *(f"*{escape(note)}*  " for note in notes(section)), ""]
    if board.left_out:
        lines += ["### Left out", "", *(f"- {escape(r.record_id)}: {escape(r.reason)}" for r in board.left_out), ""]
    if board.tuning:
        lines += [f"*{_tuning(board)}*", ""]
    return "\n".join(lines)


def csv_text(board: Board) -> str:
    """One line a row of every section: plain numbers in full precision, units in the header, empty where there is no number."""
    text = io.StringIO()
    lines = [_csv_values(section, row) for section in board.sections for row in section.rows]
    writer = csv.DictWriter(text, _CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def json_text(board: Board) -> str:
    """The whole board object, ``schema_version`` first level, keys sorted: the form that machines read."""
    return json.dumps(plain(board), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_board(board: Board, curves: Mapping[str, Curve], folder: Path, title: str = "timetrial") -> tuple[Path, ...]:
    """Write every form of a board into a folder; the page is ``index.html``. ``curves`` are by record id."""
    forms = {
        "index.html": page(board, curves, title),
        "board.md": markdown(board),
        "board.csv": csv_text(board),
        "board.json": json_text(board),
    }
    for name, text in forms.items():
        write_text(folder / name, text)
    return tuple(folder / name for name in forms)


def subtitle(section: Section) -> str:
    """What the numbers of a section hold for: tier, hardware class, target and how it stands."""
    w = section.workload
    origin = () if section.origin == "native" else (f"from {section.origin}",)
    return " · ".join((*origin, f"tier {w.tier}", section.place, f"target {formats.target(w)} (validation), {section.standing}"))


def notes(section: Section) -> list[str]:
    """What a reader must know about missing intervals and missed targets; empty when there is nothing to say."""
    found = []
    few = max((row.n for row in section.rows), default=0)
    if any(row.n < MINIMUM_N for row in section.rows):
        seeds = f"{few} seed{'s' if few != 1 else ''} at most" if few < MINIMUM_N else "some entries have fewer"
        found.append(f"no interval below n = {MINIMUM_N}: {seeds}, so an order may be chance")
    if any(row.hits < row.n for row in section.rows):
        found.append("a missed trial counts as slower than every hit; the median is not known where half or more missed")
    if ended := [f"{row.label} ({row.stopped} of {row.n})" for row in section.rows if row.stopped]:
        found.append(f"stopped early, too far behind to hit; counted as missed, without a final quality: {', '.join(ended)}")
    if shaken := [f"{row.label} ({row.disturbed} of {row.n})" for row in section.rows if row.disturbed]:
        found.append(f"disturbed, the hypervisor kept part of the machine from every try of a seed: {', '.join(shaken)}")
    found += [f"{row.label}: {state}" for row in section.rows for state in row.states]
    return found


def _tuning(board: Board) -> str:
    return f"{len(board.tuning)} tuning trials chose hyperparameters; only trials on fresh seeds rank"


def _cells(row: Row) -> dict[str, str]:
    seconds = row.to_target.get(Lens.CHARGED_SECONDS)
    return {
        "entry": row.label,
        "algorithm": row.algorithm,
        "curation": row.curation,
        "kept": "–" if row.keep_fraction is None else f"{100 * row.keep_fraction:.4g} %",
        "n": str(row.n),
        "hit": formats.rate(row.hits, row.n),
        "to target": "missed" if seconds is None or seconds.value is None else formats.seconds(seconds.value),
        "95 % interval": formats.interval(seconds, formats.seconds) if seconds is not None and seconds.n >= MINIMUM_N else "–",
        "examples": _amount(row.to_target.get(Lens.EXAMPLES)),
        "FLOPs": _amount(row.to_target.get(Lens.FLOPS)),
        "final": "–" if row.final_quality.value is None else formats.quality(row.final_quality.value),
    }


def _amount(estimate: Estimate | None) -> str:
    return "–" if estimate is None or estimate.value is None else formats.count(estimate.value)


def escape(text: str) -> str:
    """Text of a record as Markdown that shows it and does nothing else."""
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def markdown_row(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


_ESTIMATES = {
    "hit_rate": "fraction",
    **{f"{lens.value.removesuffix('_seconds')}{'_time' if lens is Lens.CHARGED_SECONDS else ''}_to_target": unit
       for lens, unit in zip(LENSES, ("s", "examples", "FLOP"), strict=True)},
    "final_quality": "metric unit",
    "test_quality_at_hit": "metric unit",
}  # fmt: skip
_IDENTITY = ("origin", "tier", "hardware_class", "ruleset", "workload", "workload_digest", "targets", "metric", "metric_unit", "target")
_ENTRY = ("label", "entry", "algorithm", "curation", "keep_fraction", "settings_digest", "n", "hits", "stopped", "disturbed")
_CSV_COLUMNS = (*_IDENTITY, *_ENTRY, *(f"{name}{part} [{unit}]" for name, unit in _ESTIMATES.items() for part in ("", " low", " high")))


def _csv_values(section: Section, row: Row) -> dict[str, Any]:
    w = section.workload
    workload = (w.identity, w.digest, w.ladder.status, w.metric.name, w.metric.unit, w.ladder.main)
    names = (section.origin, w.tier, section.hardware_class, section.ruleset, *workload)
    values: dict[str, Any] = dict(zip(_IDENTITY, names, strict=True)) | {name: getattr(row, name) for name in _ENTRY}
    found = (row.hit_rate, *(row.to_target.get(lens) for lens in LENSES), row.final_quality, row.test_quality)
    for (name, unit), estimate in zip(_ESTIMATES.items(), found, strict=True):
        bounds = None if estimate is None else estimate.interval
        values[f"{name} [{unit}]"] = None if estimate is None else estimate.value
        values[f"{name} low [{unit}]"] = None if bounds is None else bounds.low
        values[f"{name} high [{unit}]"] = None if bounds is None else bounds.high
    return values
