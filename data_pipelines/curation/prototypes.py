"""Self-supervised prototypes: k-means in an embedding, difficulty = distance to the own centroid.

Source  Sorscher et al., Beyond neural scaling laws: beating power law scaling via data pruning, arXiv 2206.14486, section 4.
Expect  ``keep: far`` wins when data are abundant, ``keep: near`` when they are scarce; the embedding decides how well it works.
"""

from __future__ import annotations

from typing import Any, final

from ...suite.errors import ConfigError
from ..clusters import kmeans, unit_rows
from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import top

__all__ = ["Prototypes"]


@final
class Prototypes(CurationMethod):
    """Keeps the examples farthest from (``keep="far"``, hard) or nearest to (``"near"``, easy) their spherical k-means centroid.

    ``embedder`` names the embedding; ``clusters`` is capped at the number of examples.
    """

    def __init__(self, embedder: str = "pca", clusters: int = 10, keep: str = "far", iterations: int = 25, **embedder_options: Any) -> None:
        if keep not in ("far", "near"):
            raise ConfigError(f"keep: expected 'far' or 'near', given {keep!r}")
        self.embedder, self.clusters, self.keep, self.iterations = embedder, clusters, keep, iterations
        self.embedder_options = embedder_options

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """The highest (or lowest) cosine distances to the own centroid."""
        vectors = unit_rows(context.embed(self.embedder, **self.embedder_options))
        with context.span("cluster"):
            found = kmeans(
                vectors,
                min(self.clusters, len(pool)),
                seed=int(context.generator.integers(2**31)),
                spherical=True,
                iterations=self.iterations,
            )
        with context.span("score"):
            distance = 1.0 - found.similarities
            context.note("cluster", found.labels)
            context.note("centroid_distance", distance)
            kept = top(distance if self.keep == "far" else -distance, kept_count(len(pool), keep_fraction))
        provenance = {"method": "prototypes", "embedder": self.embedder, "keep": self.keep, "clusters": dict(found.report)}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)
