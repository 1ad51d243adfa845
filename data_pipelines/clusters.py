"""Clusters and neighbours, by faiss, under fixed seeds and in canonical row order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from ..suite.errors import ConfigError, DataError

__all__ = ["Clusters", "approximate_neighbours", "kmeans", "nearest_centroids", "neighbours", "unit_rows"]


@final
@dataclass(frozen=True, eq=False)
class Clusters:
    """A k-means result. ``centroids`` float32 ``[k, d]``, ``labels`` int64 ``[n]``, ``similarities`` float32 ``[n]`` to the own centroid.

    Similarity is the cosine when ``spherical``, else minus the squared distance: higher is nearer. ``report`` (JSON values) says how
    it was made: k, seed, iterations, points trained on, objective, faiss build.
    """

    centroids: np.ndarray
    labels: np.ndarray
    similarities: np.ndarray
    spherical: bool
    report: Mapping[str, Any]


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32, in a new array. ``DataError`` for rows that are zero or not finite: they have no direction."""
    own = np.array(vectors, dtype=np.float32, order="C")
    norms = np.linalg.norm(own, axis=1, keepdims=True)
    bad = ~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise DataError(f"{int(bad.sum())} vectors are zero or not finite and have no direction, the first is row {first}")
    own /= norms
    return own


def kmeans(
    vectors: np.ndarray,
    count: int,
    *,
    seed: int,
    spherical: bool = False,
    iterations: int = 25,
    points_per_centroid: int = 256,
) -> Clusters:
    """faiss k-means of float32 ``[n, d]`` rows, given in canonical order (by id: another order gives another clustering).

    Starts from distance-weighted draws (AFK-MC², Bachem et al. 2016), which plain random rows do not match on separated clusters.
    At most ``points_per_centroid * count`` rows, drawn by ``seed``, train the centroids; all are assigned. Spherical rows must
    have length 1. Raises ``ConfigError`` when ``count`` is not between 1 and n.
    """
    import faiss

    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if not 1 <= count <= len(rows):
        raise ConfigError(f"clusters: expected 1 to {len(rows)}, given {count}")
    if not np.isfinite(rows).all():
        raise DataError("clusters: vectors hold NaN or infinity")
    trained = rows
    if len(rows) > points_per_centroid * count:
        picked = np.random.default_rng(seed).choice(len(rows), points_per_centroid * count, replace=False)
        trained = rows[np.sort(picked)]
    run = faiss.Kmeans(
        rows.shape[1],
        count,
        niter=iterations,
        seed=seed,
        spherical=spherical,
        max_points_per_centroid=max(points_per_centroid, -(-len(trained) // count)),
        min_points_per_centroid=1,
        init_method=faiss.ClusteringInitMethod_AFK_MC2,
    )
    run.train(trained)
    if run.centroids is None or run.obj is None:
        raise DataError("clusters: faiss returned no centroids")
    report = {
        "clusters": count,
        "seed": seed,
        "iterations": iterations,
        "start": "afk-mc2",
        "trained_on": len(trained),
        "rows": len(rows),
        "objective": float(run.obj[-1]),
        "faiss": f"{faiss.__version__} {faiss.get_compile_options().strip()}",
    }
    return nearest_centroids(rows, run.centroids, spherical=spherical, report=report)


def nearest_centroids(
    vectors: np.ndarray, centroids: np.ndarray, *, spherical: bool = False, report: Mapping[str, Any] | None = None
) -> Clusters:
    """Assign every row to its nearest centroid: largest inner product when ``spherical``, else smallest Euclidean distance."""
    import faiss

    rows, heads = (np.ascontiguousarray(array, dtype=np.float32) for array in (vectors, centroids))
    metric = faiss.METRIC_INNER_PRODUCT if spherical else faiss.METRIC_L2
    found, labels = faiss.knn(rows, heads, 1, metric=metric)
    return Clusters(heads, labels[:, 0].astype(np.int64), found[:, 0] if spherical else -found[:, 0], spherical, dict(report or {}))


def neighbours(vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact nearest other rows by Euclidean distance: positions int64 ``[n, count]``, squared distances float32, nearest first.

    A row is never its own neighbour, also among exact copies. ``ConfigError`` unless 1 <= count < n.
    """
    import faiss

    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if not 1 <= count < len(rows):
        raise ConfigError(f"neighbours: expected 1 to {len(rows) - 1}, given {count}")
    distance, near = faiss.knn(rows, rows, count + 1)
    own = near == np.arange(len(rows))[:, None]
    own[~own.any(axis=1), -1] = True  # copies crowded the row itself out: drop the farthest instead
    return near[~own].reshape(len(rows), count), np.maximum(distance[~own].reshape(len(rows), count), 0.0)


def approximate_neighbours(
    vectors: np.ndarray, count: int, *, index: str = "ivf", effort: int = 16, seed: int = 0, checked: int = 200
) -> tuple[np.ndarray, np.ndarray, Mapping[str, Any]]:
    """Nearest other rows as :func:`neighbours` gives them, through an ``ivf`` or ``hnsw`` index, and a report with the measured recall.

    ``effort``: lists that are searched (ivf) or candidates kept (hnsw). ``recall`` is the share of the true neighbours of ``checked``
    random rows that were found, by brute force. Missing neighbours are -1 at infinite distance.
    """
    import faiss

    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if not 1 <= count < len(rows):
        raise ConfigError(f"neighbours: expected 1 to {len(rows) - 1}, given {count}")
    built: Any
    if index == "ivf":
        lists = max(1, round(4 * len(rows) ** 0.5))
        built = faiss.IndexIVFFlat(faiss.IndexFlatL2(rows.shape[1]), rows.shape[1], min(lists, max(1, len(rows) // 39)))
        built.cp.seed, built.nprobe = seed, effort
        built.train(rows)
    elif index == "hnsw":
        built = faiss.IndexHNSWFlat(rows.shape[1], 32)
        built.hnsw.efConstruction, built.hnsw.efSearch = 80, max(effort, count + 1)
    else:
        raise ConfigError(f"index: expected 'ivf' or 'hnsw', given {index!r}")
    built.add(rows)
    distance, near = built.search(rows, count + 1)
    own = near == np.arange(len(rows))[:, None]
    own[~own.any(axis=1), -1] = True
    near, distance = near[~own].reshape(len(rows), count), distance[~own].reshape(len(rows), count)
    distance[near < 0] = np.inf
    some = np.sort(np.random.default_rng(seed).choice(len(rows), min(checked, len(rows)), replace=False))
    true, _ = faiss.knn(rows[some], rows, count + 1)  # squared distances; the row itself is at 0
    hits = (distance[some] <= true[:, -1:] * (1 + 1e-5) + 1e-12).sum()
    report = {"index": index, "effort": effort, "recall": float(hits / (len(some) * count)), "checked": len(some)}
    return near, np.maximum(distance, 0.0), report
