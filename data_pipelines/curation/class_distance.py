"""Distance to the own class: supervised prototypes (far or near) and Moderate (the middle).

Source  supervised prototypes: Sorscher et al. 2022 (2206.14486); Moderate: Xia et al., Moderate Coreset, ICLR 2023.
Expect  Moderate resists label noise, since mislabelled examples lie far from the class they claim; it is close to random otherwise.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np

from ...suite.errors import ConfigError
from ..clusters import unit_rows
from .interface import Context, CurationMethod, Pool, Selection
from .scored import keep_by

__all__ = ["Moderate", "SupervisedPrototypes", "class_mean_distance", "class_median_distance"]


def class_mean_distance(vectors: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cosine distance of unit rows ``[n, d]`` to the direction of their class's mean, float64 ``[n]``."""
    out = np.empty(len(y))
    for c in np.unique(y):
        members = y == c
        centre = vectors[members].mean(axis=0, dtype=np.float64)
        out[members] = 1.0 - vectors[members] @ (centre / max(float(np.linalg.norm(centre)), 1e-30))
    return out


def class_median_distance(vectors: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Euclidean distance of rows ``[n, d]`` to the element-wise median of their class, float64 ``[n]``."""
    out = np.empty(len(y))
    for c in np.unique(y):
        members = y == c
        out[members] = np.linalg.norm(vectors[members] - np.median(vectors[members], axis=0), axis=1)
    return out


@final
class SupervisedPrototypes(CurationMethod):
    """Keeps the examples farthest from (``keep="far"``) or nearest to (``"near"``) the mean direction of their class."""

    needs_labels = True

    def __init__(self, embedder: str = "pca", keep: str = "far", balanced: bool = True, **embedder_options: Any) -> None:
        if keep not in ("far", "near"):
            raise ConfigError(f"keep: expected 'far' or 'near', given {keep!r}")
        self.embedder, self.keep, self.balanced, self.embedder_options = embedder, keep, balanced, embedder_options

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Distances to the own class, then the top."""
        vectors = context.embed(self.embedder, **self.embedder_options)
        with context.span("score"):
            distance = class_mean_distance(unit_rows(vectors), pool.labels)
            context.note("class_distance", distance)
            score = distance if self.keep == "far" else -distance
            kept = keep_by(score, pool, keep_fraction, context.generator, "top", {}, self.balanced)
        provenance = {"method": "supervised_prototypes", "embedder": self.embedder, "keep": self.keep, "balanced": self.balanced}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)


@final
class Moderate(CurationMethod):
    """Keeps the examples whose distance to their class's median is in the middle ranks of all distances.

    A port of the method in circulation keeps the two tails instead, which is this method ``reversed``.
    """

    needs_labels = True

    def __init__(self, embedder: str = "model", **embedder_options: Any) -> None:
        self.embedder, self.embedder_options, self.needs_proxy = embedder, embedder_options, embedder == "model"

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Distances to the own class's median, ranked over all classes together, then the central ranks."""
        vectors = context.embed(self.embedder, **self.embedder_options)
        with context.span("score"):
            distance = class_median_distance(vectors, pool.labels)
            context.note("class_distance", distance)
            kept = keep_by(distance, pool, keep_fraction, context.generator, "central", {})
        provenance = {"method": "moderate", "embedder": self.embedder}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)
