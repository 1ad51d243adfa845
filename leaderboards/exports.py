"""A board for papers and other people's pages: LaTeX tables, standalone SVG plots, and a region of a Markdown file."""

from __future__ import annotations

import html
import math

from ..suite.errors import UserError
from ..suite.workload import Lens
from . import formats
from .boards import Board, Row, Section
from .render import subtitle

__all__ = ["latex", "section_svg", "with_region"]

BEGIN = "<!-- BEGIN timetrial leaderboard (generated; edits are lost) -->"
END = "<!-- END timetrial leaderboard -->"
_LATEX = {**{c: f"\\{c}" for c in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
_MATHS = {"≥": r"$\geq$", "≤": r"$\leq$", "–": "--", "·": r"$\cdot$"}


def latex(board: Board) -> str:
    """One ``table`` with ``booktabs`` rules a section; text of records is escaped."""
    return "\n".join(_table(section) for section in board.sections)


def section_svg(section: Section) -> str:
    """Median charged seconds to the target with their intervals as a standalone drawing, light and dark."""
    rows = [row for row in section.rows if (s := row.to_target.get(Lens.CHARGED_SECONDS)) is not None and s.value is not None]
    missed = len(section.rows) - len(rows)
    ends = [v for row in rows for v in _ends(row) if v is not None]
    scale = 380 / max(ends, default=1.0)
    height = 64 + 26 * len(rows) + (22 if missed else 0)
    under = f"{section.place}, {section.standing}; median and 95 % interval over seeds"
    title = f"{section.workload.identity}: charged seconds to {formats.target(section.workload)}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="system-ui, sans-serif" font-size="13">',
        "<style>text{fill:#14181f}.s{fill:#5b6575;font-size:12px}.r{stroke:#2f6fed;stroke-width:6;stroke-opacity:.4}.d{fill:#2f6fed}"
        "@media(prefers-color-scheme:dark){text{fill:#e8edf4}.s{fill:#97a3b4}.r{stroke:#6fa1ff}.d{fill:#6fa1ff}}</style>",
        f"<title>{_xml(title)}</title>",
        f'<text x="0" y="18" font-weight="600">{_xml(title)}</text>',
        f'<text x="0" y="36" class="s">{_xml(under)}</text>',
    ]
    for i, row in enumerate(rows):
        low, value, high = _ends(row)
        y = 62 + 26 * i
        lines.append(f'<text x="0" y="{y + 4}">{_xml(row.label[:30])}</text>')
        if low is not None:
            end = 380 if high is None else scale * high
            lines.append(f'<path class="r" d="M{220 + scale * low:.1f} {y}H{220 + end:.1f}"/>')
        lines.append(f'<circle class="d" cx="{220 + scale * (value or 0):.1f}" cy="{y}" r="5"/>')
        lines.append(f'<text x="610" y="{y + 4}">{formats.seconds(value or 0)}</text>')
    if missed:
        lines.append(
            f'<text x="0" y="{62 + 26 * len(rows)}" class="s">{missed} more missed the target in half or more of their trials</text>'
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def with_region(text: str, body: str) -> str:
    """A Markdown text with its generated region replaced by ``body``; ``UserError`` when the markers are not there once each."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"expected one region between the lines {BEGIN!r} and {END!r}")
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{body.strip()}\n\n{END}{rest.partition(END)[2]}"


def _table(section: Section) -> str:
    head = ["entry", "hit", "seconds to target", r"95\,\% interval", "examples", "FLOPs", "final"]
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escaped(f'{section.workload.identity}: {subtitle(section)}')}}}"]
    lines += [r"\begin{tabular}{lrrlrrr}", r"\toprule", f"{' & '.join(head)} \\\\", r"\midrule"]
    lines += [f"{' & '.join(_escaped(cell) for cell in _cells(row))} \\\\" for row in section.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _cells(row: Row) -> list[str]:
    seconds = row.to_target.get(Lens.CHARGED_SECONDS)
    amounts = [row.to_target.get(lens) for lens in (Lens.EXAMPLES, Lens.FLOPS)]
    return [
        row.label,
        formats.rate(row.hits, row.n),
        "missed" if seconds is None or seconds.value is None else formats.seconds(seconds.value),
        formats.interval(seconds, formats.seconds) if seconds is not None and seconds.interval is not None else "–",
        *("–" if e is None or e.value is None else formats.count(e.value) for e in amounts),
        "–" if row.final_quality.value is None else formats.quality(row.final_quality.value),
    ]


def _ends(row: Row) -> tuple[float | None, float | None, float | None]:
    found = row.to_target[Lens.CHARGED_SECONDS]
    bounds = found.interval
    value = None if found.value is None or not math.isfinite(found.value) else found.value
    return (None, value, None) if bounds is None else (bounds.low, value, bounds.high)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(c) or _MATHS.get(c) or c for c in text)


def _xml(text: str) -> str:
    return html.escape("".join(c for c in text if c.isprintable()), quote=True)
