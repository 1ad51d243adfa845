"""All near-duplicate pairs of many vectors, in a small fraction of the comparisons that brute force makes.

1. Project unit rows on their leading principal directions and append the length of what is left. Distances can only shrink, so
   nothing is lost by screening there. There are as many directions as it takes to let few other pairs through.
2. k-means cells in the space of the first directions. A row is a member of its own cell, and a guest of every cell whose border is
   nearer than a margin. Two rows closer than r on two sides of a border have together at most r to it, so a margin of r/2 finds
   every pair; displacements rarely point straight at the border, so a fraction of that (``reach``) finds nearly all.
3. Compare members with members and guests, cell by cell; decide each candidate on the two full rows in float64.
4. Hold the result against brute force on a random sample of rows, and widen the margin to the guarantee if too many were missed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..suite.errors import ConfigError, DataError
from .clusters import kmeans, unit_rows
from .duplicates import SLACK, Pairs, pair_cosines
from .shards import Rows, Stages

__all__ = ["Found", "near_pairs"]

DIMENSIONS = 64  # of the space of the cells, and the fewest of the projection
PROBED = 500  # rows of the sample that tell how many other pairs a projection lets through
CHUNK = 8192  # rows that are projected or assigned at once
SAMPLE = 20_000  # rows that the projection and the cells are fitted on, at least
CHECKED = 1000  # rows whose pairs are also found by brute force
NEAREST = 12  # cells that a row is held against for guests at first
ENOUGH = 0.99  # recall below which the margin is widened to the guarantee
EDGE = 0.01  # width of the band above the threshold whose recall is reported apart


@final
@dataclass(frozen=True, eq=False)
class Found:
    """Pairs of row positions and a ``report`` (JSON values): cells, margin, comparisons, and the recall on a brute-forced sample."""

    pairs: Pairs
    report: Mapping[str, Any]


def near_pairs(
    rows: Rows,
    threshold: float,
    *,
    seed: int = 0,
    cells: int | None = None,
    reach: float = 0.3,
    scratch: Path | None = None,
    on_progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Found:
    """Pairs of rows with a cosine of at least ``threshold`` (0 to 1).

    ``scratch``: a folder for what does not fit in memory and for resuming; it must belong to these rows and options alone. ``reach``:
    share of the guaranteed margin, in (0, 1]. ``DataError`` names the first row that is zero or not finite.
    """
    if not 0 <= threshold <= 1 or not 0 < reach <= 1:
        raise ConfigError(f"expected a threshold in [0, 1] and a reach in (0, 1], given {threshold} and {reach}")
    stages = Stages(scratch)
    space = _Space.fit(rows, threshold, cells, seed, stages)
    low = _project(rows, space, stages, on_progress)
    pairs, comparisons, guests = _search(rows, low, space, threshold, reach, stages, on_progress)
    checked = _check(rows, low, space, threshold, pairs, seed)
    if checked["recall"] < ENOUGH and reach < 1:
        reach = 1.0
        pairs, comparisons, guests = _search(rows, low, space, threshold, reach, stages, on_progress)
        checked = _check(rows, low, space, threshold, pairs, seed)
    total = len(rows) * (len(rows) - 1) / 2
    report = {
        "rows": len(rows),
        "threshold": threshold,
        "directions": space.directions.shape[1],
        "cells": len(space.centroids),
        "reach": reach,
        "pairs": len(pairs),
        "share_compared": comparisons / max(total, 1.0),
        "guests_per_row": guests / len(rows),
        "stages_reused": stages.reused,
        **checked,
    }
    return Found(pairs, report)


@final
@dataclass(frozen=True, eq=False)
class _Space:
    """Where rows are compared first: ``directions`` ``[d, w]`` around ``mean``, squared ``radius``, and ``centroids`` ``[k, m + 1]``.

    Cells are found in the first m directions and compared in all w.
    """

    mean: np.ndarray
    directions: np.ndarray
    centroids: np.ndarray
    radius: float

    @classmethod
    def fit(cls, rows: Rows, threshold: float, cells: int | None, seed: int, stages: Stages) -> _Space:
        """Principal directions and cells from a random sample."""
        count = cells or max(1, min(len(rows) // 8, round(14 * len(rows) ** (1 / 3))))
        if not 1 <= count <= len(rows):
            raise ConfigError(f"cells: expected 1 to {len(rows)}, given {cells}")
        draw = np.random.default_rng(seed)
        size = min(len(rows), max(SAMPLE, 32 * count))
        sample = unit_rows(rows.take(np.sort(draw.choice(len(rows), size, replace=False))))
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        radius = max(2.0 - 2.0 * threshold, 0.0)

        def directions() -> np.ndarray:
            centred = sample - mean
            axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))[1][:, ::-1].astype(np.float32)
            return np.ascontiguousarray(axes[:, : _enough(centred[draw.permutation(size)], axes, radius, len(rows))])

        space = cls(mean, stages.run("axes", directions), np.empty((0, min(DIMENSIONS, rows.width) + 1), np.float32), radius)
        coarse = space.coarse(space.lower(sample))
        found = stages.run("centroids", lambda: kmeans(coarse, count, seed=seed, iterations=10, points_per_centroid=64).centroids)
        return cls(mean, space.directions, np.asarray(found), radius)

    def lower(self, unit: np.ndarray) -> np.ndarray:
        """Projected unit rows and the length of their rest, float32 ``[n, w + 1]``: distances here are never above the true ones."""
        return _with_rest(unit - self.mean, self.directions)

    def coarse(self, low: np.ndarray) -> np.ndarray:
        """The same rows in the space of the cells, float32 ``[n, m + 1]``."""
        first = self.centroids.shape[1] - 1
        return np.hstack([low[:, :first], np.linalg.norm(low[:, first:], axis=1, keepdims=True)])


def _with_rest(centred: np.ndarray, axes: np.ndarray) -> np.ndarray:
    low = centred @ axes
    rest = np.maximum(np.einsum("nd,nd->n", centred, centred) - np.einsum("nm,nm->n", low, low), 0.0)
    return np.hstack([low, np.sqrt(rest)[:, None]])


def _enough(shuffled: np.ndarray, axes: np.ndarray, radius: float, rows: int) -> int:
    """The fewest directions, a power of two times the least, that let through no more pairs beyond the radius than there are rows."""
    probes, everything = min(PROBED, len(shuffled)), len(axes)
    most = 2.0 * probes * len(shuffled) / rows  # among the probed pairs; every pair of rows would be probed from both sides
    true, width = _within(shuffled, probes, radius), min(DIMENSIONS, everything)
    while width < everything and _within(_with_rest(shuffled, axes[:, :width]), probes, radius) - true > most:
        width = min(2 * width, everything)
    return width


def _within(low: np.ndarray, probes: int, radius: float) -> int:
    """Number of pairs of one of the first rows and any row whose squared distance is at most the radius."""
    return int(np.count_nonzero(_close(low, low[:probes], radius)))


def _close(one: np.ndarray, other: np.ndarray, radius: float) -> np.ndarray:
    """Whether squared distances are at most the radius, by minus half of them: bool ``[len(one), len(other)]``."""
    half_one, half_other = (np.einsum("nm,nm->n", rows, rows) / 2.0 for rows in (one, other))
    close: np.ndarray = one @ other.T - half_other - half_one[:, None] >= -(radius + SLACK) / 2.0
    return close


def _project(rows: Rows, space: _Space, stages: Stages, on_progress: Callable[[str, float], None]) -> list[np.ndarray]:
    """Every shard's rows in the space, one stage a shard."""

    def shard(low: int, high: int) -> np.ndarray:
        out = np.empty((high - low, space.directions.shape[1] + 1), dtype=np.float32)
        for first, chunk in rows.chunks(CHUNK, low, high):
            try:
                unit = unit_rows(chunk)
            except DataError as problem:
                raise DataError(f"rows from {first}: {problem}") from None
            out[first - low : first - low + len(chunk)] = space.lower(unit)
            on_progress("project", (first + len(chunk)) / len(rows))
        return out

    return [stages.run(f"low-{i:05d}", lambda a=a, b=b: shard(a, b)) for i, (a, b) in enumerate(rows.bounds)]  # type: ignore[misc]


def _assign(
    low: np.ndarray, space: _Space, margin: float, complete: bool, nearest: int = NEAREST
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Own cell of every row int64 ``[n]``, and guests: (row, cell) int64 ``[g]`` each; all there are when ``complete``."""
    import faiss

    nearest = min(nearest, len(space.centroids))
    squared, cell = faiss.knn(np.ascontiguousarray(low), space.centroids, nearest)
    own = cell[:, 0]
    if nearest == 1:
        return own, np.empty(0, np.int64), np.empty(0, np.int64)
    between = np.linalg.norm(space.centroids[own][:, None] - space.centroids[cell[:, 1:]], axis=2)
    # distance to the bisecting plane, times 2 between: nearly equal centroids have one only as far as squares are free of rounding
    near = squared[:, 1:] - squared[:, :1] <= 2.0 * margin * between + SLACK
    if complete and nearest < len(space.centroids):
        # a plane is at least half the difference of the distances away: beyond the last cell looked at there may be more for these
        reach_of_last = (np.sqrt(np.maximum(squared[:, -1], 0)) - np.sqrt(np.maximum(squared[:, 0], 0))) / 2.0
        open_rows = np.flatnonzero(reach_of_last <= margin)
        near[open_rows] = False
        _, more, more_cell = _assign(low[open_rows], space, margin, complete, 4 * nearest) if len(open_rows) else (own, own[:0], own[:0])
        row, column = np.nonzero(near)
        return own, np.concatenate([row, open_rows[more]]), np.concatenate([cell[row, column + 1], more_cell])
    row, column = np.nonzero(near)
    return own, row, cell[row, column + 1]


def _search(
    rows: Rows,
    low: list[np.ndarray],
    space: _Space,
    threshold: float,
    reach: float,
    stages: Stages,
    on_progress: Callable[[str, float], None],
) -> tuple[Pairs, float, int]:
    """Pairs, number of comparisons, number of guests."""
    margin = reach * math.sqrt(space.radius) / 2.0 + SLACK

    def assign(index: int) -> np.ndarray:
        first = rows.bounds[index][0]
        parts = []
        for start in range(0, len(low[index]), CHUNK):
            own, guest, guest_cell = _assign(space.coarse(low[index][start : start + CHUNK]), space, margin, reach == 1)
            offset = first + start
            parts.append(np.stack([np.concatenate([np.arange(len(own)), guest]) + offset, np.concatenate([own, guest_cell])]))
            parts[-1] = np.vstack([parts[-1], np.repeat([0, 1], [len(own), len(guest)])])  # row, cell, whether a guest
            on_progress("assign", (offset + len(own)) / len(rows))
        return np.hstack(parts)

    entries = np.hstack([stages.run(f"assign-{reach:g}-{i:05d}", lambda i=i: assign(i)) for i in range(len(low))])  # type: ignore[misc]
    order = np.lexsort((entries[0], entries[2], entries[1]))
    row, cell, guest = entries[:, order]
    stops = np.flatnonzero(np.diff(cell, append=-1)) + 1
    starts = np.concatenate([[0], stops[:-1]])
    members = np.add.reduceat(1 - guest, starts)
    comparisons = float((members * (members - 1) / 2 + members * (stops - starts - members)).sum())

    def compare(batch: np.ndarray) -> np.ndarray:
        found = [np.empty((2, 0), dtype=np.int64)]
        for c in batch:
            inside = row[starts[c] : stops[c]]
            found.extend(_cell(_gather(low, inside), inside, int(members[c]), space.radius))
        return np.hstack(found)

    candidates = []
    batches = np.array_split(np.arange(len(starts)), max(1, len(starts) // 16))
    # many small products: two threads that share one product wait for each other longer than they compute
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, found in enumerate(pool.map(compare, batches)):
            candidates.append(found)
            on_progress("compare", (done + 1) / len(batches))
    one, other = np.hstack(candidates)
    pairs = Pairs.of(one, other, np.zeros(len(one)))  # a pair may come up on both sides of a border
    cosine = _cosines(rows, pairs.first, pairs.second, on_progress)
    kept = cosine >= threshold
    return Pairs(pairs.first[kept], pairs.second[kept], cosine[kept]), comparisons, int(guest.sum())


def _cell(low: np.ndarray, row: np.ndarray, members: int, radius: float) -> Iterator[np.ndarray]:
    """Candidate pairs int64 ``[2, p]`` of a cell's members among themselves and with its guests (the rows after them)."""
    half = np.einsum("nm,nm->n", low, low)[:, None] / 2.0
    left = np.hstack([low[:members], np.ones((members, 1), np.float32), -half[:members]])
    right = np.hstack([low, -half, np.ones((len(low), 1), np.float32)])
    step = max(64, 2**21 // max(len(low), 1))
    for start in range(0, members, step):
        close = left[start : start + step] @ right[start:].T >= -(radius + SLACK) / 2.0  # minus half the squared distance
        a, b = np.nonzero(close)
        proper = b > a
        yield np.stack([row[start + a[proper]], row[start + b[proper]]])


def _gather(low: list[np.ndarray], positions: np.ndarray) -> np.ndarray:
    if len(low) == 1:
        return np.asarray(low[0][positions])
    return Rows(low).take(positions)


def _cosines(rows: Rows, one: np.ndarray, other: np.ndarray, on_progress: Callable[[str, float], None] | None = None) -> np.ndarray:
    """Exact cosines of candidate pairs, gathered a block at a time."""
    out = np.empty(len(one))
    for start in range(0, len(one), CHUNK):
        part = slice(start, start + CHUNK)
        wanted, where = np.unique(np.concatenate([one[part], other[part]]), return_inverse=True)
        first, second = np.split(where, 2)
        out[part] = pair_cosines(rows.take(wanted), first, second)
        if on_progress is not None:
            on_progress("verify", min(start + CHUNK, len(one)) / len(one))
    return out


def _check(rows: Rows, low: list[np.ndarray], space: _Space, threshold: float, pairs: Pairs, seed: int) -> dict[str, Any]:
    """Recall against brute force over the pairs of some random rows, in all and just above the threshold."""
    picked = np.sort(np.random.default_rng([seed, 1]).choice(len(rows), min(CHECKED, len(rows)), replace=False))
    own = _gather(low, picked)
    ones, others = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for (first, _), shard in zip(rows.bounds, low, strict=True):
        for start in range(0, len(shard), CHUNK):
            a, b = np.nonzero(_close(np.asarray(shard[start : start + CHUNK]), own, space.radius))
            ones.append(a + first + start)
            others.append(picked[b])
    one, other = np.concatenate(ones), np.concatenate(others)
    proper = one != other
    true = Pairs.of(one[proper], other[proper], np.zeros(int(proper.sum())))
    cosine = _cosines(rows, true.first, true.second)
    key = true.first * len(rows) + true.second
    hit = np.isin(key, pairs.first * len(rows) + pairs.second)
    real, edge = cosine >= threshold, (cosine >= threshold) & (cosine < threshold + EDGE)
    return {
        "checked_rows": len(picked),
        "checked_pairs": int(real.sum()),
        "recall": float(hit[real].mean()) if real.any() else 1.0,
        "checked_edge_pairs": int(edge.sum()),
        "recall_at_edge": float(hit[edge].mean()) if edge.any() else 1.0,
        "edge": [threshold, threshold + EDGE],
    }
