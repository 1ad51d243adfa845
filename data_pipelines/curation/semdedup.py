"""Deduplication inside clusters: SemDeDup in its three readings, and D4 (deduplicate, cluster again, prune).

Source  SemDeDup: Abbas et al. 2023 (2303.09540); rules: Rule in duplicates.py. D4: Tirumala et al. 2023 (2308.12284).
Expect  large gains on pools with copies, none without; where all copies are exact, a hash does the same for a hundredth of the cost.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np

from ...suite.errors import ConfigError
from ..clusters import Clusters, kmeans, unit_rows
from ..duplicates import Rule, group_pairs, nearest_earlier, survivors
from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import top

__all__ = ["D4", "SemDeDup", "precedence"]

PRECEDENCE = ("far", "near", "random", "id")


@final
class SemDeDup(CurationMethod):
    """Removes near-duplicates inside k-means clusters of an embedding.

    At keep fraction 1, ``threshold`` (a cosine) decides under ``rule``. Below 1 the threshold is what meets the size: the examples whose
    closest earlier neighbour is farthest are kept, which is the any-earlier rule; the other rules cannot meet a size. ``keep`` is the
    precedence: ``far`` from the centroid first (as published), ``near``, ``random`` or ``id``.
    """

    own_size = True

    def __init__(
        self,
        embedder: str = "pca",
        clusters: int = 100,
        threshold: float = 0.95,
        rule: str = "any_earlier",
        keep: str = "far",
        **embedder_options: Any,
    ) -> None:
        if rule not in tuple(Rule):
            raise ConfigError(f"rule: expected one of {', '.join(Rule)}, given {rule!r}")
        if keep not in PRECEDENCE:
            raise ConfigError(f"keep: expected one of {', '.join(PRECEDENCE)}, given {keep!r}")
        self.embedder, self.clusters, self.threshold, self.rule, self.keep = embedder, clusters, threshold, Rule(rule), keep
        self.embedder_options = embedder_options

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Embed, cluster, compare inside clusters, keep."""
        if keep_fraction < 1 and self.rule is not Rule.ANY_EARLIER:
            raise ConfigError(f"rule {self.rule} keeps what its threshold leaves; only any_earlier can meet keep_fraction {keep_fraction}")
        vectors = unit_rows(context.embed(self.embedder, **self.embedder_options))
        found = _cluster(vectors, self.clusters, context)
        with context.span("dedup"):
            rank = precedence(found, self.keep, context.generator)
            context.note("cluster", found.labels)
            if keep_fraction < 1:
                closest, partner = nearest_earlier(vectors, found.labels, rank)
                kept = top(-closest, kept_count(len(pool), keep_fraction))
                partner[kept] = -1
            else:
                pairs = group_pairs(vectors, found.labels, self.threshold)
                stays, partner = survivors(len(pool), pairs, rank, self.rule)
                kept = np.flatnonzero(stays)
            context.note("duplicate_of", np.where(partner < 0, -1, pool.ids[partner]))
        provenance = {"method": "semdedup", "embedder": self.embedder, "threshold": self.threshold, "rule": str(self.rule)}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance | {"keep": self.keep, "clusters": dict(found.report)})


@final
class D4(CurationMethod):
    """SemDeDup to ``dedup_keep_fraction``, cluster what is left anew, then keep the examples farthest from their new centroids.

    Clustering again matters: duplicates make clusters of their own that must be gone first. Where the keep fraction is above
    ``dedup_keep_fraction``, only the first stage runs.
    """

    def __init__(self, embedder: str = "pca", clusters: int = 100, dedup_keep_fraction: float = 0.75, **embedder_options: Any) -> None:
        self.embedder, self.clusters, self.embedder_options = embedder, clusters, embedder_options
        self.dedup_keep_fraction = dedup_keep_fraction

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Two clusterings, two stages."""
        vectors = unit_rows(context.embed(self.embedder, **self.embedder_options))
        first = _cluster(vectors, self.clusters, context)
        with context.span("dedup"):
            closest, _ = nearest_earlier(vectors, first.labels, precedence(first, "far", context.generator))
            rest = top(-closest, kept_count(len(pool), max(self.dedup_keep_fraction, keep_fraction)))
        second = _cluster(vectors[rest], self.clusters, context)
        with context.span("score"):
            kept = rest[top(-second.similarities, kept_count(len(pool), keep_fraction))]
        provenance = {"method": "d4", "embedder": self.embedder, "dedup_keep_fraction": self.dedup_keep_fraction}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance | {"clusters": dict(second.report)})


def precedence(found: Clusters, keep: str, generator: np.random.Generator) -> np.ndarray:
    """Rank of every row, int64 ``[n]``, 0 first: who may stay when two are alike. Ties go to the lower id."""
    count = len(found.labels)
    key = {
        "far": found.similarities,
        "near": -found.similarities,
        "id": np.zeros(count),
        "random": generator.random(count) if keep == "random" else np.zeros(count),
    }[keep]
    rank = np.empty(count, dtype=np.int64)
    rank[np.lexsort((np.arange(count), key))] = np.arange(count)
    return rank


def _cluster(vectors: np.ndarray, clusters: int, context: Context) -> Clusters:
    with context.span("cluster"):
        return kmeans(vectors, min(clusters, len(vectors)), seed=int(context.generator.integers(2**31)), spherical=True)
