"""The front boards as Markdown and JSON, from the objects that the front page shows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ..suite.schema import plain
from . import formats
from .boards import PROVISIONAL
from .coverage import Coverage
from .curation_summary import Summary
from .matrix import Matrix, MatrixCell, sentence
from .render import escape, markdown_row
from .scores import Headline
from .statistics import MINIMUM_N
from .tracks import FrontBoard

__all__ = ["FRONT_JSON", "FRONT_MARKDOWN", "conclusions", "front_json", "front_markdown", "interval_text", "shown_rank"]

FRONT_MARKDOWN, FRONT_JSON = "front.md", "front.json"
FRONT_SCHEMA_VERSION = 1
_HEAD = ("rank", "entry", "factor", "95 % interval", "miss at 1x budget", "workloads hit", "group")


def front_markdown(
    fronts: Sequence[FrontBoard], covered: Sequence[Coverage], marks: Mapping[str, Sequence[str]], matrices: Sequence[Matrix] = ()
) -> str:
    """One table a front board and matrix, costs as its first switch shows them, then what is not measured yet and the command for it.

    ``marks``: what was said of entries since (disputed, superseded), by entry.
    """
    lines: list[str] = []
    for front in fronts:
        claim = "" if front.claim else f" · {PROVISIONAL}"
        about = f"tier {front.tier.value} · {front.place} · reference trials: {front.pin}{claim}"
        lines += [f"### {front.track.value.capitalize()}", "", about, ""]
        lines += [f"Speed-up factor over {escape(front.reference)}, geometric mean over {', '.join(map(escape, front.workloads))}.", ""]
        lines += [markdown_row(_HEAD), markdown_row([":--" if name in ("entry", "95 % interval") else "--:" for name in _HEAD])]
        state, headlines = next(iter(front.headlines.items()))
        lines += [markdown_row([escape(cell) for cell in _cells(front, h, marks.get(h.entry, ()))]) for h in headlines]
        lines += ["", f"*{state.title}; entries that share a letter cannot be told apart.*", "", escape(" ".join(conclusions(front))), ""]
    if not fronts:
        lines += ["No headline score yet: it takes two workloads with the reference and at least half of the other entries on them.", ""]
    for matrix in matrices:
        lines += _matrix(matrix)
    for one in covered:
        lines += [f"**{escape(one.grid.study)}**{f' on {escape(one.place)}' if one.place else ''}: {one.said}", ""]
        if one.missing:
            lines += [*_gaps(one), "", f"The command that runs what is missing: `{one.grid.command}`", ""]
    return "\n".join(lines)


def front_json(
    fronts: Sequence[FrontBoard], covered: Sequence[Coverage], matrices: Sequence[Matrix] = (), chosen: Sequence[Summary] = ()
) -> str:
    """The same for machines, every switch of every board, ``schema_version`` first level, keys sorted."""
    boards = [
        {
            "track": front.track.value,
            "tier": front.tier.value,
            "place": front.place,
            "reference": front.reference,
            "workloads": front.workloads,
            "claim": front.claim,
            "pin": front.pin,
            "headlines": {state.key: [plain(h) for h in found] for state, found in front.headlines.items()},
        }
        for front in fronts
    ]
    crossed = [
        {"workload": m.section.workload.identity, "place": m.section.place, "readings": [plain(reading) for reading in m.readings]}
        for m in matrices
    ]
    covers = [plain(one) for one in covered]
    value: dict[str, Any] = {"schema_version": FRONT_SCHEMA_VERSION, "fronts": boards, "matrices": crossed, "coverage": covers}
    value["choosing"] = [plain(one) for one in chosen]
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def conclusions(front: FrontBoard) -> tuple[str, ...]:
    """What the intervals of a board's first switch allow to say of its entries against the reference, and what not, in sentences."""
    ranked = [h for h in next(iter(front.headlines.values())) if shown_rank(front, h) is not None and h.entry != front.reference]
    if not ranked:
        return (f"Nothing is shown yet: a claim needs frozen targets and {MINIMUM_N} trials on every one of these workloads.",)
    said: dict[str, list[str]] = {"Shown to be faster than": [], "Shown to be slower than": [], "Not told apart from": []}
    faster, slower, neither = said
    for h in ranked:
        low, high = (h.factor.interval.low, h.factor.interval.high) if h.factor.interval is not None else (0.0, None)
        said[faster if low > 1 else slower if high is not None and high < 1 else neither].append(h.entry)
    return (
        *(f"{what} {front.reference}: {', '.join(names)}." for what, names in said.items() if names),
        "That holds for other seeds on such a machine and these workloads, and says nothing of other workloads, data or hardware.",
    )


def interval_text(headline: Headline) -> str:
    """``1.21x – 1.40x``, empty where there is no interval."""
    bounds = headline.factor.interval
    return "" if bounds is None or bounds.high is None else f"{bounds.low:.2f}x – {bounds.high:.2f}x"


def shown_rank(front: FrontBoard, headline: Headline) -> int | None:
    """The rank where it is a claim: frozen targets, and enough trials for an interval."""
    return headline.rank if front.claim and headline.factor.interval is not None else None


def _cells(front: FrontBoard, headline: Headline, marks: Sequence[str]) -> list[str]:
    rank = shown_rank(front, headline)
    told = "".join(f" ({text})" for text in (*([f"unranked: {headline.why}"] if headline.why else []), *marks))
    return [
        "–" if rank is None else str(rank),
        headline.entry + told,
        f"{headline.factor.value:.2f}x",
        interval_text(headline) or f"no interval below n = {MINIMUM_N}",
        f"{headline.at_budget.value:.2f}x",
        f"{headline.workloads_hit}/{len(front.workloads)}",
        "–" if rank is None else "".join(headline.group),
    ]


def _matrix(matrix: Matrix) -> list[str]:
    """A matrix as its first switch shows it, and what may be said of it."""
    reading, w = matrix.shown, matrix.section.workload
    target = f"target {formats.target(w)}" if reading.main else f"{w.metric.name} {reading.title}"
    where = f"{w.identity}, {matrix.section.place}, {target}"
    lines = [
        "### Algorithm x curation",
        "",
        f"{escape(where)}: median seconds, trials that came so far, and what the pair adds",
        "",
    ]
    lines += [markdown_row(["algorithm", *map(escape, matrix.selections)]), markdown_row([":--", *["--:"] * len(matrix.selections)])]
    width = len(matrix.selections)
    for start in range(0, len(reading.cells), width):
        row = reading.cells[start : start + width]
        lines.append(markdown_row([escape(row[0].algorithm), *(_matrix_cell(cell) for cell in row)]))
    return [*lines, "", f"*{escape(sentence(reading))}*", ""]


def _matrix_cell(cell: MatrixCell) -> str:
    cost = "missed" if cell.cost.value is None else formats.seconds(cell.cost.value)
    return f"{cost}, {formats.rate(cell.hits, cell.n)}, {cell.surprise:.2f}x"


def _gaps(one: Coverage) -> list[str]:
    """Lines of what lacks trials, by workload: nothing at all, or fewer seeds than planned."""
    nothing: dict[str, list[str]] = defaultdict(list)
    fewer: dict[tuple[str, int], list[str]] = defaultdict(list)
    for entry, cells in one.cells.items():
        for workload, cell in zip(one.grid.workloads, cells, strict=True):
            if not cell.measured:
                nothing[workload].append(escape(entry))
            elif cell.n < one.grid.seeds:
                fewer[workload, cell.n].append(escape(entry))
    empty = [workload for workload, entries in nothing.items() if len(entries) == len(one.cells)]
    lines = [f"- not measured on {', '.join(map(escape, empty))}: every entry"] if empty else []
    lines += [f"- not measured on {escape(workload)}: {', '.join(names)}" for workload, names in nothing.items() if workload not in empty]
    for (workload, n), entries in fewer.items():
        names = ", ".join(entries) if len(entries) < len(one.cells) else "every entry"
        lines.append(f"- begun on {escape(workload)}, {n} of {one.grid.seeds} seeds: {names}")
    return lines
