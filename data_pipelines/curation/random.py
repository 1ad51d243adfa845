"""Random subsets: the baseline that any method must beat, and the whole pool.

``all`` keeps everything. ``random`` draws without replacement. ``stratified_random`` keeps each class's share of the pool.
"""

from __future__ import annotations

from typing import final

import numpy as np

from ...suite.errors import ConfigError
from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import stratified_random

__all__ = ["All", "Random", "StratifiedRandom"]


@final
class All(CurationMethod):
    """Keeps the whole pool; ``ConfigError`` when asked to keep less."""

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Every id of the pool."""
        if keep_fraction != 1:
            raise ConfigError(f"'all' keeps everything: expected keep_fraction 1, given {keep_fraction}")
        return Selection(pool.ids, keep_fraction, pool.digest, {"method": "all"})


@final
class Random(CurationMethod):
    """A uniform subset of the pool, drawn without replacement."""

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """``kept_count(n, keep_fraction)`` ids, every subset equally likely."""
        with context.span("score"):
            kept = context.generator.choice(len(pool), kept_count(len(pool), keep_fraction), replace=False)
        return Selection(pool.ids[np.sort(kept)], keep_fraction, pool.digest, {"method": "random"})


@final
class StratifiedRandom(CurationMethod):
    """A uniform subset within each class; class shares of the pool are kept up to one example (largest remainder)."""

    needs_labels = True

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """``kept_count(n, keep_fraction)`` ids, uniform inside each class."""
        with context.span("score"):
            kept = stratified_random(pool.labels, kept_count(len(pool), keep_fraction), context.generator)
        return Selection(pool.ids[kept], keep_fraction, pool.digest, {"method": "stratified_random"})
