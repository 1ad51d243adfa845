"""The report of ``timetrial curate`` as one self-contained page: what was kept, what was dropped and why, duplicates side by side."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from ...data_pipelines.own_curation import Curated
from ...leaderboards.page import render

__all__ = ["curate_page"]

GROUPS, CLUSTERS, SAMPLE, STRIP = 24, 30, 48, 8  # groups of duplicates, clusters, dropped examples, pictures in a strip
BINS = 40
NUMBERS = {
    "score": "score",
    "centroid_distance": "distance to the own centroid",
    "class_distance": "distance to the own class",
    "similarity": "similarity to the closest other example",
}


@final
@dataclass(frozen=True)
class _Item:
    """One example: its name, a picture as a data URI or "", and why it was dropped ("" if it was not)."""

    name: str
    picture: str
    reason: str


@final
@dataclass(frozen=True)
class _Bar:
    """A bin of the histogram: its range, and the heights of kept and dropped examples in percent of the tallest bin."""

    title: str
    kept: float
    dropped: float


def curate_page(result: Curated) -> str:
    """The page. The same result gives the same bytes, apart from its measured seconds and memory."""
    summary = result.summary()
    number = next((name for name in NUMBERS if name in result.notes), None)
    return render(
        "curation.html.j2",
        title=f"{summary['method']}: kept {summary['kept']:,} of {summary['examples']:,}",
        summary=summary,
        facts=_facts(result),
        histogram=_histogram(result.notes[number], result.kept) if number else [],
        number=NUMBERS.get(number or "", ""),
        groups=_groups(result),
        clusters=_clusters(result),
        dropped=[_item(result, i) for i in _spread(np.flatnonzero(~result.kept), SAMPLE)],
        unreadable=result.data.unreadable[:SAMPLE],
    )


def _facts(result: Curated) -> list[tuple[str, str]]:
    """What is told in a line each: options, spans, recall of the search."""
    facts = [(name, str(value)) for name, value in result.options.items() if value is not None]
    cost = result.selection.cost
    facts += [(f"{name} seconds", f"{seconds:.3f}") for name, seconds in (cost.span_seconds if cost else {}).items()]
    search = result.selection.provenance.get("search", {})
    if search:
        facts.append(("pairs found", f"{search['pairs']:,}"))
        facts.append(("recall, brute-forced sample", f"{search['recall']:.4f} of {search['checked_pairs']:,} pairs"))
        facts.append(("share of all pairs compared", f"{search['share_compared']:.2e}"))
    return [*facts, ("selection", result.selection.digest[:16]), ("pool", result.data.pool.digest[:16])]


def _item(result: Curated, position: int) -> _Item:
    name = result.data.names[int(result.data.pool.ids[position])]
    return _Item(name, _picture(result, position), str(result.reasons[position]))


def _alike(result: Curated, position: int) -> _Item:
    """A dropped duplicate beside the one that stayed: how alike they are is all that needs saying."""
    item = _item(result, position)
    similarity = result.notes.get("similarity")
    return replace(item, reason="" if similarity is None else f"closest: {similarity[position]:.4f}")


def _picture(result: Curated, position: int) -> str:
    if result.data.kind != "pictures":
        return ""
    from PIL import Image

    pixels = result.data.pool.rows("image", np.array([position]))[0]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _spread(positions: np.ndarray, count: int) -> list[int]:
    """At most ``count`` of them, evenly spaced."""
    if len(positions) <= count:
        return [int(p) for p in positions]
    return [int(positions[i]) for i in np.linspace(0, len(positions) - 1, count).astype(int)]


def _groups(result: Curated) -> list[tuple[_Item, list[_Item], int]]:
    """The largest sets of duplicates: who stayed, some of who went, and how many went."""
    if "duplicate_of" not in result.notes:
        return []
    of = result.notes["duplicate_of"]
    heads, counts = np.unique(of[of >= 0], return_counts=True)
    found = []
    for head, count in sorted(zip(heads.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))[:GROUPS]:
        stayed = _item(result, int(result.data.pool.positions(np.array([head]))[0]))
        found.append((stayed, [_alike(result, i) for i in np.flatnonzero(of == head)[:STRIP].tolist()], count))
    return found


def _clusters(result: Curated) -> list[dict[str, Any]]:
    """The largest clusters: size, how many were kept, and a strip of examples."""
    if "cluster" not in result.notes:
        return []
    labels, kept = result.notes["cluster"], result.kept
    sizes = np.bincount(labels)
    return [
        {
            "label": int(label),
            "size": int(sizes[label]),
            "kept": int(kept[labels == label].sum()),
            "items": [_item(result, i) for i in _spread(np.flatnonzero(labels == label), STRIP)],
        }
        for label in np.argsort(-sizes, kind="stable")[:CLUSTERS]
        if sizes[label]
    ]


def _histogram(values: np.ndarray, kept: np.ndarray) -> list[_Bar]:
    """Where kept and dropped examples lie."""
    finite = np.isfinite(values)
    if not finite.any():
        return []
    edges = np.histogram_bin_edges(values[finite], BINS)
    stays, goes = (np.histogram(values[finite & mask], edges)[0] for mask in (kept, ~kept))
    tallest = max(int((stays + goes).max()), 1)
    return [
        _Bar(f"{low:.4g} to {high:.4g}: {s:,} kept, {g:,} dropped", 100 * s / tallest, 100 * g / tallest)
        for low, high, s, g in zip(edges[:-1], edges[1:], stays.tolist(), goes.tolist(), strict=True)
    ]
