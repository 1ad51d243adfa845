"""Hierarchical k-means, balanced: cluster, cluster the centroids again, then share the budget top-down as evenly as the tree allows.

Source  Vo et al. 2024, Automatic data curation for self-supervised learning (2405.15613), with the resampling rounds of section 3.
Expect  flattens the density of the pool: rare concepts gain, dense ones lose. Made for long-tailed pools; near random on balanced ones.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, final

import numpy as np

from ...suite.errors import ConfigError
from ..clusters import Clusters, kmeans, nearest_centroids
from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import top, water_fill

__all__ = ["Hierarchical", "balanced_sizes", "hierarchy"]


def hierarchy(vectors: np.ndarray, levels: list[int], *, resamplings: int, near: int, seed: int) -> list[Clusters]:
    """k-means of the rows into ``levels[0]`` clusters, of those centroids into ``levels[1]``, and so on.

    After each k-means, ``resamplings`` times: take the ``near`` rows closest to every centroid, run k-means on those alone, assign
    everything anew; this evens out the density that plain k-means follows.
    """
    tree: list[Clusters] = []
    rows = np.asarray(vectors, dtype=np.float32)
    for depth, count in enumerate(levels):
        found = kmeans(rows, min(count, len(rows)), seed=seed + depth)
        for turn in range(resamplings):
            order = np.lexsort((np.arange(len(rows)), -found.similarities, found.labels))
            starts = np.concatenate([[0], np.cumsum(np.bincount(found.labels, minlength=len(found.centroids)))])[:-1]
            place = np.arange(len(rows)) - starts[found.labels[order]]
            closest = np.sort(order[place < near])
            again = kmeans(rows[closest], min(count, len(closest)), seed=seed + depth + 1000 * (turn + 1))
            found = nearest_centroids(rows, again.centroids, report=again.report)
        tree.append(found)
        rows = found.centroids
    return tree


def balanced_sizes(tree: list[Clusters], budget: int) -> np.ndarray:
    """Examples to take from each leaf, int64 ``[levels[0]]``: at every node the budget is shared max-min fairly over the children."""
    sizes = [np.bincount(tree[0].labels, minlength=len(tree[0].centroids))]
    for level in tree[1:]:
        sizes.append(np.bincount(level.labels, weights=sizes[-1], minlength=len(level.centroids)).astype(np.int64))
    parts = water_fill(sizes[-1], budget)
    for depth in range(len(tree) - 1, 0, -1):
        below = np.zeros(len(sizes[depth - 1]), dtype=np.int64)
        for node, part in enumerate(parts):
            children = np.flatnonzero(tree[depth].labels == node)
            below[children] = water_fill(sizes[depth - 1][children], int(part))
        parts = below
    return parts


@final
class Hierarchical(CurationMethod):
    """Balanced sampling from a k-means tree; inside a leaf ``pick`` is ``random`` or ``closest`` to the centroid."""

    def __init__(
        self,
        embedder: str = "pca",
        levels: tuple[int, ...] = (300, 30),
        resamplings: int = 10,
        near: int = 10,
        pick: str = "random",
        **embedder_options: Any,
    ) -> None:
        if not levels or any(b >= a for a, b in pairwise(levels)):
            raise ConfigError(f"levels: expected falling numbers of clusters, given {list(levels)}")
        if pick not in ("random", "closest"):
            raise ConfigError(f"pick: expected 'random' or 'closest', given {pick!r}")
        self.embedder, self.levels, self.resamplings, self.near, self.pick = embedder, list(levels), resamplings, near, pick
        self.embedder_options = embedder_options

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Embed, build the tree, share the budget, draw."""
        vectors = context.embed(self.embedder, **self.embedder_options)
        with context.span("cluster"):
            seed = int(context.generator.integers(2**31))
            tree = hierarchy(vectors, self.levels, resamplings=self.resamplings, near=self.near, seed=seed)
        with context.span("score"):
            context.note("cluster", tree[0].labels)
            parts = balanced_sizes(tree, kept_count(len(pool), keep_fraction))
            score = context.generator.random(len(pool)) if self.pick == "random" else tree[0].similarities
            members = [np.flatnonzero(tree[0].labels == leaf) for leaf in range(len(parts))]
            kept = [m[top(score[m], int(part))] for m, part in zip(members, parts, strict=True)]
        provenance = {"method": "hierarchical", "embedder": self.embedder, "levels": self.levels, "pick": self.pick}
        ids = pool.ids[np.sort(np.concatenate(kept))]
        return Selection(ids, keep_fraction, pool.digest, provenance | {"resamplings": self.resamplings, "near": self.near})
