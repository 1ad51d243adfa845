"""Embedders: examples to vectors, by name, on the clock.

``raw``: the input itself, flattened. ``pca``: its leading principal components, fitted on the pool. An embedder sees inputs and
never labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from ..suite.errors import DataError, NeedsUnmet, unknown_name
from .curation.interface import Cost, TrainProxy
from .curation.pool import Pool

__all__ = ["EMBEDDERS", "embed", "pca_embedding", "raw_embedding"]

CHUNK = 4096  # examples that are widened to float32 at once


def raw_embedding(pool: Pool) -> np.ndarray:
    """The continuous inputs, flattened and joined: float32 ``[n, d]``, bytes scaled to [0, 1].

    ``NeedsUnmet`` when no input is an image or a float array.
    """
    names = _continuous(pool)
    width = [int(np.prod(pool.rows(name, slice(0, 1)).shape[1:])) for name in names]
    out = np.empty((len(pool), sum(width)), dtype=np.float32)
    for start in range(0, len(pool), CHUNK):
        rows = slice(start, min(start + CHUNK, len(pool)))
        column = 0
        for name, w in zip(names, width, strict=True):
            block = pool.rows(name, rows)
            out[rows, column : column + w] = block.reshape(len(block), -1)
            if block.dtype == np.uint8:
                out[rows, column : column + w] /= 255.0
            column += w
    return out


def pca_embedding(pool: Pool, *, dimensions: int = 64) -> np.ndarray:
    """Projection of the centred raw input on its leading principal directions: float32 ``[n, min(dimensions, d)]``.

    The covariance is summed in float64 over chunks; the sign of a direction is fixed by making its largest entry positive.
    """
    raw = raw_embedding(pool)
    mean = raw.mean(axis=0, dtype=np.float64)
    raw -= mean.astype(np.float32)
    covariance = np.zeros((raw.shape[1], raw.shape[1]))
    for start in range(0, len(raw), CHUNK):
        block = raw[start : start + CHUNK]
        covariance += block.T @ block
    _, vectors = np.linalg.eigh(covariance)
    leading = vectors[:, ::-1][:, :dimensions]
    leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])])
    projected: np.ndarray = raw @ leading.astype(np.float32)
    return projected


EMBEDDERS: Mapping[str, Callable[..., np.ndarray]] = {"raw": raw_embedding, "pca": pca_embedding}


def embed(
    pool: Pool,
    name: str,
    options: Mapping[str, Any],
    *,
    seed: int,
    span: Callable[[str], AbstractContextManager[None]],
    charge: Callable[[Cost], None],
    cache: Path | None = None,
    train_proxy: TrainProxy | None = None,
) -> np.ndarray:
    """Rows of float32 ``[n, d]`` aligned with the pool's ids, made inside the span ``embed``.

    Raises ``UnknownName`` for an unknown embedder and ``DataError`` when a vector is not finite.
    """
    if name not in EMBEDDERS:
        raise unknown_name("embedder", name, EMBEDDERS)
    with span("embed"):
        vectors: np.ndarray = EMBEDDERS[name](pool, **options)
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise DataError(f"embedder {name!r}: {int(bad.sum())} vectors are not finite, the first is example {pool.ids[bad][0]}")
    return vectors


def _continuous(pool: Pool) -> tuple[str, ...]:
    kinds = {name: pool.rows(name, slice(0, 1)).dtype for name in pool.inputs}
    names = tuple(name for name, kind in kinds.items() if kind == np.uint8 or np.issubdtype(kind, np.floating))
    if not names:
        raise NeedsUnmet(f"this embedder needs an image or a float input; the pool has {({n: str(k) for n, k in kinds.items()})}")
    return names
