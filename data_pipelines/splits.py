"""Cutting splits by id: seeded, class-balanced, and the same on every machine and NumPy version."""

from __future__ import annotations

import numpy as np

from ..suite.errors import ConfigError

__all__ = ["shuffled_ids", "validation_ids"]


def shuffled_ids(n: int, seed: int) -> np.ndarray:
    """A permutation of ``range(n)``, int64 ``[n]``, that depends on nothing but ``n`` and ``seed``.

    Ids are sorted by the raw 64-bit output of the Philox counter generator (Salmon et al. 2011, "Parallel random numbers: as easy as
    1, 2, 3"): NumPy keeps raw streams for ever, while ``Generator.permutation`` may change between versions (NEP 19).
    """
    keys = np.random.Philox(key=seed).random_raw(n)
    return np.argsort(keys, kind="stable").astype(np.int64)


def validation_ids(labels_or_n: np.ndarray | int, count: int, seed: int) -> np.ndarray:
    """``count`` ids to hold out of a split, sorted int64 ``[count]``.

    With labels (integers ``[n]``) every class keeps its share of the split, to within one example (largest remainder); with a number of
    examples the cut is uniform. ``ConfigError`` when fewer than one example would stay on either side, or a held-out class would be
    left without a training example.
    """
    labels = np.zeros(labels_or_n, np.int64) if isinstance(labels_or_n, int) else np.asarray(labels_or_n)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ConfigError(f"validation cut: expected integer labels [n], given {labels.dtype} {list(labels.shape)}")
    if not 0 < count < len(labels):
        raise ConfigError(f"validation cut: expected 1 to {len(labels) - 1} of {len(labels)} examples, given {count}")
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    quotas = _largest_remainder(sizes, count)
    order = shuffled_ids(len(labels), seed)
    grouped = order[np.argsort(classes[order], kind="stable")]  # class by class, shuffled inside each
    starts = np.cumsum(sizes) - sizes
    return np.sort(np.concatenate([grouped[start : start + quota] for start, quota in zip(starts, quotas, strict=True)]))


def _largest_remainder(sizes: np.ndarray, count: int) -> np.ndarray:
    """Shares of ``count`` in proportion to ``sizes``, in whole numbers: int64, same length, exact sum, never all of a class."""
    floor, remainder = np.divmod(sizes.astype(np.int64) * count, int(sizes.sum()))
    by_remainder = np.argsort(-remainder, kind="stable")
    floor[by_remainder[: count - int(floor.sum())]] += 1
    if np.any(floor >= sizes):
        raise ConfigError(f"validation cut: {count} of {int(sizes.sum())} examples would leave a class without a training example")
    return floor
