"""Samplers: a score and a budget to the positions that are kept. Pure functions; scores are oriented higher = keep.

All return sorted int64 positions, exactly ``budget`` of them. Ties are broken by position, that is by id.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...suite.errors import ConfigError, DataError, unknown_name

__all__ = [
    "SAMPLERS",
    "beta",
    "central",
    "coverage",
    "coverage_strata",
    "make_sampler",
    "per_class",
    "shares",
    "stratified_random",
    "top",
    "water_fill",
]

Sampler = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def shares(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Split a budget over strata in proportion to their sizes, int64, by largest remainder (ties: first stratum).

    The parts sum to ``budget`` and never exceed the sizes. ``ConfigError`` when the budget is above their sum or negative.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    total = int(sizes.sum())
    _check(budget, total)
    if total == 0:
        return sizes
    floors = sizes * budget // total  # in integers: no rounding noise
    order = np.lexsort((np.arange(len(sizes)), floors * total - sizes * budget))
    floors[order[: budget - int(floors.sum())]] += 1
    return floors


def water_fill(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Max-min fair split, int64: every stratum gets the same level or all it has; the remainder goes to the first ones that can take it.

    No part can grow without a smaller one shrinking. The parts sum to ``budget``; ``ConfigError`` when they cannot.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    _check(budget, int(sizes.sum()))
    low, high = 0, int(sizes.max(initial=0))
    while low < high:  # the highest integer level that the budget pays for
        level = (low + high + 1) // 2
        low, high = (level, high) if int(np.minimum(sizes, level).sum()) <= budget else (low, level - 1)
    parts: np.ndarray = np.minimum(sizes, low)
    parts[np.flatnonzero(sizes > low)[: budget - int(parts.sum())]] += 1
    return parts


def top(score: np.ndarray, budget: int, generator: np.random.Generator | None = None, *, skip_hardest: float = 0.0) -> np.ndarray:
    """The ``budget`` highest scores, after the share ``skip_hardest`` of the very highest is left out (data_diet's offset window)."""
    order = _descending(score)
    skipped = min(int(len(order) * skip_hardest), len(order) - budget)
    return np.sort(order[skipped : skipped + budget])


def central(score: np.ndarray, budget: int, generator: np.random.Generator | None = None) -> np.ndarray:
    """The ``budget`` middle ranks: as many left out above as below, the odd one above (Xia et al., Moderate Coreset, ICLR 2023)."""
    order = _descending(score)[::-1]
    start = (len(order) - budget) // 2
    return np.sort(order[start : start + budget])


def coverage(
    score: np.ndarray, budget: int, generator: np.random.Generator, *, strata: int = 50, drop_hardest: float | None = None
) -> np.ndarray:
    """Coverage-centric: leave out the hardest share, cut the remaining score range into equal widths, fill the sparsest stratum first.

    Zheng et al. 2023 (2210.15809). ``drop_hardest`` None takes the paper's share for this keep fraction: 0.3 at 0.1 and
    below, 0.2 at 0.2, 0.1 at 0.3, 0 from 0.5 on, linear between. Never leaves out so many that the budget cannot be met.
    """
    order = _descending(score)
    if drop_hardest is None:
        drop_hardest = float(np.interp(budget / len(order), [0.1, 0.2, 0.3, 0.5], [0.3, 0.2, 0.1, 0.0]))
    rest = np.sort(order[min(int(len(order) * drop_hardest), len(order) - budget) :])
    members = coverage_strata(np.asarray(score)[rest], strata)
    parts = water_fill(np.bincount(members, minlength=strata), budget)
    kept = [generator.choice(rest[members == s], part, replace=False) for s, part in enumerate(parts) if part]
    return np.sort(np.concatenate(kept))


def coverage_strata(score: np.ndarray, strata: int) -> np.ndarray:
    """Stratum of each score, int64 in [0, strata): equal widths over the whole range, the maximum in the last one."""
    low, high = float(np.min(score)), float(np.max(score))
    if high == low:
        return np.zeros(len(score), dtype=np.int64)
    scaled = (np.asarray(score, dtype=np.float64) - low) / (high - low) * strata
    return np.minimum(scaled.astype(np.int64), strata - 1)


def beta(score: np.ndarray, budget: int, generator: np.random.Generator, *, ease: np.ndarray, sharpness: float = 4.0) -> np.ndarray:
    """DUAL's Beta sampling: draw without replacement with probability score × Beta density at the mean true probability ``ease`` [n].

    b = 15·(1 − μ)·(1 − r^sharpness), a = 16 − b, with r = 1 − keep fraction and μ the mean ease of the ten highest scores: the fewer
    are kept, the easier they are (Cho et al. 2025, 2502.06905). Scores must not be negative.
    """
    from scipy import stats  # an import of over a second, which every trial would pay for

    score = np.asarray(score, dtype=np.float64)
    if (score < 0).any():
        raise DataError("beta sampling: scores are probabilities' weights and must not be negative")
    anchor = float(np.mean(ease[_descending(score)[:10]]))
    b = 15.0 * (1.0 - anchor) * (1.0 - (1.0 - budget / len(score)) ** sharpness)
    weight = score * stats.beta.pdf(np.clip(ease, 1e-6, 1 - 1e-6), 16.0 - b, max(b, 1e-6))
    weight = np.maximum(weight, 1e-12 * max(float(weight.max()), 1.0))  # an example of weight 0 stays reachable when all others are taken
    # Gumbel keys: the k largest of log w + noise are k draws without replacement
    keys = np.log(weight) + generator.gumbel(size=len(weight))
    return top(keys, budget)


SAMPLERS: Mapping[str, Callable[..., np.ndarray]] = {"top": top, "central": central, "coverage": coverage, "beta": beta}


def make_sampler(name: str, options: Mapping[str, Any]) -> Sampler:
    """A sampler by name with its options bound; unknown names and options are refused with the known ones."""
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    chosen = SAMPLERS[name]
    known = [p.name for p in inspect.signature(chosen).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for key in options:
        if key not in known:
            raise ConfigError(f"sampler {name!r} has no option {key!r}; known: {', '.join(known) or '(none)'}")
    return lambda score, budget, generator: chosen(score, budget, generator, **options)


def per_class(labels: np.ndarray, budget: int, choose: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """Run ``choose(members, part)`` inside every class and join; a class's part of the budget is its share of the pool.

    ``members`` are the class's positions; ``choose`` returns indices into them.
    """
    classes = np.unique(labels)
    parts = shares(np.array([(labels == c).sum() for c in classes]), budget)
    kept = []
    for c, part in zip(classes, parts, strict=True):
        members = np.flatnonzero(labels == c)
        if part:
            kept.append(members[choose(members, int(part))])
    return np.sort(np.concatenate(kept))


def stratified_random(strata: np.ndarray, budget: int, generator: np.random.Generator) -> np.ndarray:
    """A uniform subset inside each stratum, each stratum's part by :func:`shares`."""
    return per_class(strata, budget, lambda members, part: generator.choice(len(members), part, replace=False))


def _descending(score: np.ndarray) -> np.ndarray:
    values = np.asarray(score, dtype=np.float64)
    bad = np.flatnonzero(np.isnan(values))
    if bad.size:
        raise DataError(f"{bad.size} scores are NaN, the first is at position {bad[0]}")
    return np.lexsort((np.arange(len(values)), -values))


def _check(budget: int, total: int) -> None:
    if not 0 <= budget <= total:
        raise ConfigError(f"budget: expected 0 to {total}, given {budget}")
