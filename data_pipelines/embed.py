"""Embedders: examples to vectors, by name, on the clock, with a cache whose entries carry their cost.

``raw``: the continuous inputs, flattened. ``pca``: their leading principal components. ``patches``: random-patch features with k-means
filters. ``contrastive``: a small encoder trained on the pool without labels. ``tfidf``: latent semantic analysis of texts or tokens.
``model``: features of the workload's own model after some epochs. ``minilm`` (texts), ``timm`` and ``open_clip`` (pictures): pretrained
encoders, of the open track. An embedder sees inputs and never labels; ``model`` learns from the labels that the workload trains on.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from ..suite.errors import ConfigError, DataError, NeedsUnmet, unknown_name
from ..suite.files import atomic_path, file_digest, object_digest, write_json
from .contrastive import contrastive_features
from .curation.interface import TrainProxy
from .curation.pool import Pool
from .curation.selection import Cost
from .encoders import minilm, open_clip_features, pictures, timm_features
from .patches import patch_features

__all__ = ["EMBEDDERS", "Embedder", "contrastive", "embed", "model_features", "patches", "pca", "raw", "tfidf"]

VERSION = 1  # of the embedders' results; part of every cache key
CHUNK = 2048  # examples that are widened to float32 at once


def raw(pool: Pool) -> np.ndarray:
    """The continuous inputs, flattened and joined: float32 ``[n, d]``, bytes scaled to [0, 1].

    A single input that is float32 ``[n, d]`` already is returned as it lies, memory-mapped if it is.
    """
    if len(pool.inputs) == 1 and (head := pool.rows(pool.inputs[0], slice(0, 1))).ndim == 2 and head.dtype == np.float32:
        return pool.field(pool.inputs[0])
    return np.concatenate(list(_chunks(pool, np.arange(len(pool)))))


def pca(pool: Pool, *, dimensions: int = 64, fit_examples: int = 5000) -> np.ndarray:
    """Projection of the centred raw input on its leading principal directions: float32 ``[n, min(dimensions, d, fitted)]``.

    Directions are fitted on ``fit_examples`` examples evenly spaced by id; above 1,024 input dimensions by a randomised SVD with a
    fixed seed. The sign of a direction makes its largest entry positive.
    """
    from sklearn.utils.extmath import randomized_svd

    if dimensions < 1 or fit_examples < 2:
        raise ConfigError(f"pca: expected dimensions of at least 1 and fit_examples of at least 2, given {dimensions} and {fit_examples}")
    count = min(fit_examples, len(pool))
    fitted = np.concatenate(list(_chunks(pool, np.linspace(0, len(pool) - 1, count).astype(np.int64))))
    mean = fitted.mean(axis=0, dtype=np.float64).astype(np.float32)
    fitted -= mean
    if fitted.shape[1] <= 1024:
        directions = np.linalg.eigh(fitted.T.astype(np.float64) @ fitted)[1][:, ::-1][:, :dimensions]
    else:
        directions = randomized_svd(fitted, min(dimensions, count), n_iter=4, random_state=0)[2].T
    directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])])
    own = directions.astype(np.float32)
    return np.concatenate([(chunk - mean) @ own for chunk in _chunks(pool, np.arange(len(pool)))])


def patches(pool: Pool, *, seed: int, filters: int = 64, size: int = 6, stride: int = 3, patch_count: int = 50_000) -> np.ndarray:
    """Random-patch features of the first image input, float32 ``[n, 4·2·filters]``; see :func:`~.patches.patch_features`."""
    return patch_features(pictures(pool, "patches"), seed=seed, filters=filters, size=size, stride=stride, patch_count=patch_count)


def contrastive(pool: Pool, *, seed: int, epochs: float = 1.0, learning_rate: float = 2e-3, temperature: float = 0.2) -> np.ndarray:
    """An encoder trained on the pool without labels, float32 ``[n, 128]``; see :func:`~.contrastive.contrastive_features`."""
    images = pictures(pool, "contrastive")
    return contrastive_features(images, seed=seed, epochs=epochs, learning_rate=learning_rate, temperature=temperature)


def tfidf(pool: Pool, *, dimensions: int = 64, words: int = 1, buckets: int = 2**16) -> np.ndarray:
    """Latent semantic analysis of the first text or token input: float32 ``[n, dimensions]``, rows of length 1 (or 0 for empty texts).

    Runs of one to ``words`` words are hashed into ``buckets``, weighted by inverse document frequency, and projected by a randomised
    SVD with a fixed seed (Deerwester et al. 1990).
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.preprocessing import normalize

    names = [name for name in pool.inputs if pool.rows(name, slice(0, 1)).dtype.kind in "Oiu"]
    if not names:
        raise NeedsUnmet(f"embedder 'tfidf' needs texts or tokens; the pool's inputs are {', '.join(pool.inputs)}")
    rows = pool.field(names[0])
    texts = (row if isinstance(row, str) else " ".join(map(str, row)) for row in rows)
    counts = HashingVectorizer(n_features=buckets, ngram_range=(1, words), token_pattern=r"\S+", alternate_sign=False, norm=None)
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts.fit_transform(texts))
    projected = TruncatedSVD(min(dimensions, len(pool) - 1), random_state=0).fit_transform(weighted)
    return np.asarray(normalize(projected), dtype=np.float32)


def model_features(pool: Pool, *, seed: int, train_proxy: TrainProxy | None, epochs: float = 1) -> np.ndarray:
    """Input of the head of the workload's own model after ``epochs`` epochs on the pool: float32 ``[n, d]``."""
    if train_proxy is None:
        raise NeedsUnmet("embedder 'model' trains the workload's model; there is none here, only data")
    features = train_proxy(epochs, seed, collect=("features",)).last.features
    if features is None:
        raise NeedsUnmet("embedder 'model': this workload's model reports no features")
    return features


@final
@dataclass(frozen=True)
class Embedder:
    """``make(pool, **options)`` -> float32 ``[n, d]``. Only what depends on the inputs, the options and the seed alone is ``cacheable``.

    ``pretrained`` on other data than the pool: selections made with it belong to the open-encoder track.
    """

    make: Callable[..., np.ndarray]
    seeded: bool = False
    cacheable: bool = True
    pretrained: bool = False

    def options(self, given: Mapping[str, Any], name: str) -> dict[str, Any]:
        """The options in full, defaults included; ``ConfigError`` for one that the embedder does not have."""
        known = {p.name: p.default for p in inspect.signature(self.make).parameters.values() if p.kind is p.KEYWORD_ONLY}
        service = {key: known.pop(key) for key in ("seed", "train_proxy") if key in known}
        for key in given:
            if key not in known:
                hint = "is set by the harness" if key in service else f"is unknown; known: {', '.join(known) or '(none)'}"
                raise ConfigError(f"embedder {name!r}: option {key!r} {hint}")
        return known | dict(given)


EMBEDDERS: Mapping[str, Embedder] = {
    "raw": Embedder(raw, cacheable=False),
    "pca": Embedder(pca),
    "patches": Embedder(patches, seeded=True),
    "contrastive": Embedder(contrastive, seeded=True),
    "tfidf": Embedder(tfidf),
    "model": Embedder(model_features, seeded=True, cacheable=False),
    "minilm": Embedder(minilm, pretrained=True),
    "timm": Embedder(timm_features, pretrained=True),
    "open_clip": Embedder(open_clip_features, pretrained=True),
}


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
    now: Callable[[], float] = time.perf_counter,
    cpu_now: Callable[[], float] = time.process_time,
) -> np.ndarray:
    """Rows of float32 ``[n, d]`` aligned with the pool's ids.

    Made inside the span ``embed``, or taken from ``cache`` and charged at what it took to make. Raises ``UnknownName`` for an unknown
    embedder, ``ConfigError`` for an unknown option, ``DataError`` when a vector is not finite.
    """
    if name not in EMBEDDERS:
        raise unknown_name("embedder", name, EMBEDDERS)
    embedder = EMBEDDERS[name]
    full = embedder.options(options, name)
    path = None
    if cache is not None and embedder.cacheable:
        key = {"pool": pool.digest, "embedder": name, "options": full, "seed": seed if embedder.seeded else None, "version": VERSION}
        path = cache / f"{name}-{object_digest(key)[:32]}.npy"
        known = _cached(path)
        if known is not None:
            charge(known[1])
            return known[0]
    services: dict[str, Any] = {"seed": seed} if embedder.seeded else {}
    if name == "model":
        services["train_proxy"] = train_proxy
    start, cpu_start = now(), cpu_now()
    with span("embed"):
        vectors = embedder.make(pool, **full, **services)
    cost = Cost(now() - start, cpu_now() - cpu_start, {"embed": now() - start})
    for start in range(0, len(vectors), CHUNK):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + CHUNK]).all(axis=1))
        if bad.size:
            raise DataError(f"embedder {name!r}: the vector of example {pool.ids[start + bad[0]]} is not finite")
    if path is not None:
        with atomic_path(path) as part, part.open("wb") as stream:
            np.save(stream, vectors)
        write_json(path.with_suffix(".json"), {"digest": file_digest(path), "cost": asdict(cost)})
    return vectors


def _cached(path: Path) -> tuple[np.ndarray, Cost] | None:
    """A cached embedding, memory-mapped, and its cost; None when there is none or it is not whole (it is then made anew)."""
    try:
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if file_digest(path) != note["digest"]:
            return None
        return np.load(path, mmap_mode="r"), Cost(**note["cost"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _chunks(pool: Pool, positions: np.ndarray) -> Iterator[np.ndarray]:
    """The continuous inputs of some examples, flattened, joined and widened to float32, ``CHUNK`` rows at a time."""
    names = [n for n in pool.inputs if (kind := pool.rows(n, slice(0, 1)).dtype) == np.uint8 or np.issubdtype(kind, np.floating)]
    if not names:
        raise NeedsUnmet(f"this embedder needs an image or a float input; the pool's inputs are {', '.join(pool.inputs)}")
    for start in range(0, len(positions), CHUNK):
        blocks = [pool.rows(name, positions[start : start + CHUNK]) for name in names]
        scaled = [b.reshape(len(b), -1) * np.float32(1 / 255 if b.dtype == np.uint8 else 1) for b in blocks]
        yield np.concatenate(scaled, axis=1, dtype=np.float32)
