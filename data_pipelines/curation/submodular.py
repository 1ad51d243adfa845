"""Submodular coverage: facility location (lazy greedy), graph cut, log-determinant.

Source  facility location and lazy greedy: Minoux 1978; Krause and Golovin 2014, Submodular Function Maximization. Graph cut as used in
        Zhou et al. 2023, Dataset Quantization (2308.10524). Log-determinant: Kulesza and Taskar 2012 (1207.6083).
Expect  among the few that beat random below 5 % kept; the cost is quadratic in the group size, so classes are handled one by one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, final

import numpy as np

from ...suite.errors import ConfigError, unknown_name
from ..clusters import unit_rows
from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import per_class

__all__ = ["GREEDY", "Submodular", "cosine_similarities", "facility_location", "graph_cut", "log_determinant"]


def cosine_similarities(vectors: np.ndarray) -> np.ndarray:
    """(1 + cosine)/2 of all pairs of rows ``[n, d]``: float32 ``[n, n]`` in [0, 1]."""
    rows = unit_rows(vectors)
    return np.asarray(np.clip(0.5 + 0.5 * (rows @ rows.T), 0.0, 1.0))


def facility_location(similarity: np.ndarray, budget: int) -> np.ndarray:
    """Lazy greedy maximum of Σ_i max_{s in S} similarity[i, s], in the order chosen: exactly what plain greedy chooses.

    ``similarity`` is ``[n, n]``, symmetric, not negative. A stale gain bounds the true one from above, so a candidate whose fresh
    gain still leads the heap is the best; equal gains go to the lowest position. At least (1 − 1/e) of the optimum.
    """
    covered = np.zeros(len(similarity))
    heap = [(-float(gain), i) for i, gain in enumerate(similarity.sum(axis=1, dtype=np.float64))]
    heapq.heapify(heap)
    chosen = np.empty(budget, dtype=np.int64)
    for step in range(budget):
        while True:
            _, i = heapq.heappop(heap)
            entry = (-float(np.maximum(similarity[i] - covered, 0.0).sum()), i)
            if not heap or entry <= heap[0]:
                break
            heapq.heappush(heap, entry)
        chosen[step] = i
        np.maximum(covered, similarity[i], out=covered)
    return chosen


def graph_cut(similarity: np.ndarray, budget: int, weight: float = 1.0) -> np.ndarray:
    """Greedy maximum of weight·Σ_{i, s in S} similarity − Σ_{s, t in S} similarity, in the order chosen; ties: lowest position.

    Gain of x: weight·Σ_i sim(i, x) − 2·Σ_{s in S} sim(s, x) − sim(x, x). Monotone only for weight >= 2.
    """
    gain = weight * similarity.sum(axis=1, dtype=np.float64) - np.diag(similarity)
    chosen = np.empty(budget, dtype=np.int64)
    for step in range(budget):
        chosen[step] = int(gain.argmax())
        gain -= 2.0 * similarity[chosen[step]]
        gain[chosen[step]] = -np.inf
    return chosen


def log_determinant(similarity: np.ndarray, budget: int, ridge: float = 1e-3) -> np.ndarray:
    """Greedy maximum of log det(similarity_S + ridge·I), in the order chosen, by incremental Cholesky (Chen et al. 2018, 1709.05135).

    A candidate's gain is the log of what remains of it after projecting out the chosen, so a copy gains least.
    """
    remains = np.diag(similarity).astype(np.float64) + ridge
    factors = np.zeros((budget, len(similarity)))
    chosen = np.empty(budget, dtype=np.int64)
    for step in range(budget):
        i = chosen[step] = int(remains.argmax())
        row = similarity[i].astype(np.float64)
        row[i] += ridge
        factors[step] = (row - factors[:step].T @ factors[:step, i]) / np.sqrt(remains[i])
        remains = np.maximum(remains - np.square(factors[step]), 1e-12)
        remains[chosen[: step + 1]] = -np.inf
    return chosen


GREEDY: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "facility_location": facility_location,
    "graph_cut": graph_cut,
    "log_determinant": log_determinant,
}


@final
class Submodular(CurationMethod):
    """Greedy maximum of one of :data:`GREEDY` on cosine similarities, inside every class when ``balanced``.

    ``ConfigError`` when a group's similarity matrix would not fit in the context's memory.
    """

    def __init__(self, function: str = "facility_location", embedder: str = "pca", balanced: bool = True, **embedder_options: Any) -> None:
        if function not in GREEDY:
            raise unknown_name("submodular function", function, GREEDY)
        self.function, self.embedder, self.balanced, self.embedder_options = function, embedder, balanced, embedder_options
        self.needs_labels = balanced

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """The greedy set."""
        budget = kept_count(len(pool), keep_fraction)
        groups = np.bincount(np.unique(pool.labels, return_inverse=True)[1]) if self.balanced else np.array([len(pool)])
        needed = 4 * int(groups.max()) ** 2
        if needed > context.memory_bytes:
            limit = f"{self.function}: similarities of {groups.max()} examples need {needed:,} bytes of {context.memory_bytes:,}"
            raise ConfigError(f"{limit}; use balanced=true, fewer examples or more memory")
        vectors = context.embed(self.embedder, **self.embedder_options)
        with context.span("score"):

            def choose(members: np.ndarray, part: int) -> np.ndarray:
                return GREEDY[self.function](cosine_similarities(vectors[members]), part)

            kept = per_class(pool.labels, budget, choose) if self.balanced else np.sort(choose(np.arange(len(pool)), budget))
        provenance = {"method": self.function, "embedder": self.embedder, "balanced": self.balanced}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)
