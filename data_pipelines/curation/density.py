"""Density-based pruning: each cluster's budget follows its complexity, inside it the examples far from the centroid are kept.

Source  Abbas et al. 2024, Effective pruning of web-scale datasets based on complexity of concept clusters (2401.04578).
        Their quadratic programme is the projection onto a box-constrained simplex, solved here exactly, in integers.
Expect  like prototypes, but no cluster is emptied; run it on deduplicated data.
"""

from __future__ import annotations

import heapq
from typing import Any, final

import numpy as np
from scipy.special import softmax

from ...suite.errors import ConfigError
from ..clusters import Clusters, kmeans, unit_rows
from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import top

__all__ = ["DensityPruning", "allocate", "allocate_real", "complexity"]


def complexity(found: Clusters, near: int = 20) -> np.ndarray:
    """Spread inside × distance to the neighbours, float64 ``[k]``: mean cosine distance of the members to their centroid times mean cosine
    distance of the centroid to its ``near`` nearest others. An empty cluster gets the mean of the rest; a single cluster 1."""
    count = len(found.centroids)
    sizes = np.bincount(found.labels, minlength=count)
    inside = np.bincount(found.labels, weights=1.0 - found.similarities.astype(np.float64), minlength=count) / np.maximum(sizes, 1)
    if count == 1:
        return np.ones(1)
    cosines = found.centroids.astype(np.float64) @ found.centroids.T.astype(np.float64)
    np.fill_diagonal(cosines, -np.inf)
    between = 1.0 - np.sort(cosines, axis=1)[:, -min(near, count - 1) :].mean(axis=1)
    made = np.maximum(inside, 0.0) * np.maximum(between, 0.0)
    made[sizes == 0] = made[sizes > 0].mean()
    return np.asarray(made)


def allocate_real(target: np.ndarray, least: np.ndarray, most: np.ndarray, budget: float) -> np.ndarray:
    """The point of the box ``least <= x <= most`` with Σ x = budget nearest to ``target``: clip(target + λ), λ by bisection."""
    low, high = float((least - target).min()) - 1.0, float((most - target).max()) + 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(target + middle, least, most).sum() < budget else (low, middle)
    return np.asarray(np.clip(target + high, least, most))


def allocate(target: np.ndarray, least: np.ndarray, most: np.ndarray, budget: int) -> np.ndarray:
    """The integer point of the box with Σ x = budget nearest to ``target``, int64 ``[k]``; ties: first cluster.

    The sum of squares is separable and convex, so raising the coordinate of least marginal cost one at a time is exact; it starts
    from just below the real solution. ``ConfigError`` when the box cannot hold the budget.
    """
    least, most = np.asarray(least, dtype=np.int64), np.asarray(most, dtype=np.int64)
    if (least > most).any() or not least.sum() <= budget <= most.sum():
        raise ConfigError(f"budget: expected {int(least.sum())} to {int(most.sum())} within the clusters' bounds, given {budget}")
    parts: np.ndarray = np.maximum(np.floor(allocate_real(target, least, most, budget)).astype(np.int64) - 1, least)
    heap = [(2.0 * (x - t) + 1.0, j) for j, (x, t, m) in enumerate(zip(parts, target, most, strict=True)) if x < m]
    heapq.heapify(heap)
    for _ in range(budget - int(parts.sum())):
        _, j = heapq.heappop(heap)
        parts[j] += 1
        if parts[j] < most[j]:
            heapq.heappush(heap, (2.0 * (parts[j] - target[j]) + 1.0, j))
    return parts


@final
class DensityPruning(CurationMethod):
    """Cluster budgets from softmax(complexity / ``temperature``), then the examples farthest from (``keep="far"``) the centroid.

    Every cluster keeps at least ``least_share`` of an even split, or all it has.
    """

    def __init__(
        self,
        embedder: str = "pca",
        clusters: int = 100,
        temperature: float = 0.5,
        least_share: float = 0.5,
        keep: str = "far",
        **embedder_options: Any,
    ) -> None:
        if temperature <= 0 or not 0 <= least_share <= 1:
            raise ConfigError(f"expected temperature above 0 and least_share in [0, 1], given {temperature} and {least_share}")
        if keep not in ("far", "near"):
            raise ConfigError(f"keep: expected 'far' or 'near', given {keep!r}")
        self.embedder, self.clusters, self.temperature, self.least_share, self.keep = embedder, clusters, temperature, least_share, keep
        self.embedder_options = embedder_options

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Embed, cluster, allocate, keep."""
        budget = kept_count(len(pool), keep_fraction)
        vectors = unit_rows(context.embed(self.embedder, **self.embedder_options))
        with context.span("cluster"):
            seed = int(context.generator.integers(2**31))
            found = kmeans(vectors, min(self.clusters, len(pool)), seed=seed, spherical=True)
        with context.span("score"):
            sizes = np.bincount(found.labels, minlength=len(found.centroids))
            context.note("cluster", found.labels)
            context.note("centroid_distance", 1.0 - found.similarities)
            target = softmax(complexity(found) / self.temperature) * budget
            least = np.minimum(sizes, int(budget / len(sizes) * self.least_share))
            parts = allocate(target, least, sizes, budget)
            score = -found.similarities if self.keep == "far" else found.similarities
            kept = [np.flatnonzero(found.labels == j)[top(score[found.labels == j], part)] for j, part in enumerate(parts) if part]
        provenance = {"method": "density", "embedder": self.embedder, "temperature": self.temperature, "keep": self.keep}
        ids = pool.ids[np.sort(np.concatenate(kept))]
        return Selection(ids, keep_fraction, pool.digest, provenance | {"clusters": dict(found.report)})
