"""Samplers: a score and a budget to the positions that are kept. Pure functions; scores are oriented higher = keep.

All return sorted int64 positions, exactly ``budget`` of them. Ties are broken by position, that is by id.
"""

from __future__ import annotations

import numpy as np

from ...suite.errors import ConfigError

__all__ = ["shares", "stratified_random", "top"]


def shares(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Split a budget over strata in proportion to their sizes, int64, by largest remainder (ties: first stratum).

    The parts sum to ``budget`` and never exceed the sizes. ``ConfigError`` when the budget is above their sum or negative.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    total = int(sizes.sum())
    if not 0 <= budget <= total:
        raise ConfigError(f"budget: expected 0 to {total}, given {budget}")
    if total == 0:
        return sizes
    floors, remainders = np.divmod(sizes * budget, total)  # in integers: no rounding noise
    order = np.lexsort((np.arange(len(sizes)), -remainders))
    floors[order[: budget - int(floors.sum())]] += 1
    return floors


def top(score: np.ndarray, budget: int) -> np.ndarray:
    """The ``budget`` highest scores."""
    order = np.lexsort((np.arange(len(score)), -np.asarray(score, dtype=np.float64)))
    return np.sort(order[:budget])


def stratified_random(strata: np.ndarray, budget: int, generator: np.random.Generator) -> np.ndarray:
    """A uniform subset inside each stratum, each stratum's part by :func:`shares`."""
    names, members = np.unique(strata, return_inverse=True)
    parts = shares(np.bincount(members, minlength=len(names)), budget)
    kept = [generator.choice(np.flatnonzero(members == s), part, replace=False) for s, part in enumerate(parts)]
    return np.sort(np.concatenate(kept))
