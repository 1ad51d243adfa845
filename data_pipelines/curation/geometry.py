"""Greedy geometry in an embedding: k-center (cover everything) and herding (match the mean).

Source  k-center: Gonzalez 1985; Sener and Savarese 2018 (1708.00489). Herding: Welling 2009; Chen, Welling and Smola 2010 (1203.3472).
Expect  k-center chases outliers and loses at small keep fractions; herding keeps the typical and loses diversity.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np

from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import per_class

__all__ = ["Herding", "KCenter", "herd", "k_center"]


def k_center(vectors: np.ndarray, budget: int, first: int) -> np.ndarray:
    """Farthest-first traversal of rows ``[n, d]`` from ``first``: positions int64 ``[budget]`` in the order chosen.

    The largest distance of any point to its nearest centre is at most twice the optimum. Memory O(n). Ties: lowest position.
    """
    rows = np.asarray(vectors, dtype=np.float32)
    squares = np.einsum("nd,nd->n", rows, rows)
    chosen = np.empty(budget, dtype=np.int64)
    chosen[0] = first
    nearest = np.full(len(rows), np.inf, dtype=np.float32)
    for step in range(1, budget):
        last = chosen[step - 1]
        np.minimum(nearest, squares - 2.0 * (rows @ rows[last]) + squares[last], out=nearest)
        nearest[last] = -1.0
        chosen[step] = int(nearest.argmax())
    return chosen


def herd(vectors: np.ndarray, budget: int) -> np.ndarray:
    """Positions int64 ``[budget]``, in order, whose running mean follows the mean of all rows ``[n, d]`` most closely.

    Each step takes the row that brings the mean of the chosen nearest to the mean of all (the smallest distance; a reference
    implementation in circulation takes the largest). Ties: lowest position.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    rows = rows - rows.mean(axis=0)
    squares = np.einsum("nd,nd->n", rows, rows)
    total = np.zeros(rows.shape[1])
    free = np.ones(len(rows), dtype=bool)
    chosen = np.empty(budget, dtype=np.int64)
    for step in range(budget):
        gap = squares + 2.0 * (rows @ total)  # |total + x|² without the constant: the centred mean of all is 0
        gap[~free] = np.inf
        chosen[step] = int(gap.argmin())
        free[chosen[step]] = False
        total += rows[chosen[step]]
    return chosen


@final
class KCenter(CurationMethod):
    """Farthest-first centres in an embedding, from a random start; ``balanced`` runs it inside every class."""

    def __init__(self, embedder: str = "pca", balanced: bool = False, **embedder_options: Any) -> None:
        self.embedder, self.balanced, self.embedder_options, self.needs_labels = embedder, balanced, embedder_options, balanced

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """The centres."""
        vectors = context.embed(self.embedder, **self.embedder_options)
        with context.span("score"):

            def choose(members: np.ndarray, part: int) -> np.ndarray:
                return k_center(vectors[members], part, int(context.generator.integers(len(members))))

            kept = _inside(pool, keep_fraction, self.balanced, choose)
        provenance = {"method": "k_center", "embedder": self.embedder, "balanced": self.balanced}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)


@final
class Herding(CurationMethod):
    """The examples whose running mean follows the mean, inside every class when ``balanced`` (as published)."""

    def __init__(self, embedder: str = "pca", balanced: bool = True, **embedder_options: Any) -> None:
        self.embedder, self.balanced, self.embedder_options, self.needs_labels = embedder, balanced, embedder_options, balanced

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """The herd."""
        vectors = context.embed(self.embedder, **self.embedder_options)
        with context.span("score"):
            kept = _inside(pool, keep_fraction, self.balanced, lambda members, part: herd(vectors[members], part))
        provenance = {"method": "herding", "embedder": self.embedder, "balanced": self.balanced}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)


def _inside(pool: Pool, keep_fraction: float, balanced: bool, choose: Any) -> np.ndarray:
    """Sorted positions: one greedy run over everything, or one inside every class."""
    budget = kept_count(len(pool), keep_fraction)
    if balanced:
        return per_class(pool.labels, budget, choose)
    return np.sort(np.asarray(choose(np.arange(len(pool)), budget)))
