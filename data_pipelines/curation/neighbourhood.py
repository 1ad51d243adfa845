"""Methods on the nearest-neighbour graph of an embedding: CAL (contrastive examples) and D2 (diversity and difficulty).

Source  CAL: Margatina et al. 2021 (2109.03764), keeping the largest divergence as published. D2: Maharana et al. 2023 (2310.07931).
Expect  D2 spreads a hard score over the graph, so it degrades less than the score alone at small keep fractions.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from scipy.special import rel_entr

from ...suite.errors import ConfigError, NeedsUnmet, unknown_name
from ..clusters import neighbours
from . import scores
from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import per_class
from .scored import keep_by

__all__ = ["D2", "Cal", "contrast", "message_passing", "spread"]


def contrast(p: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Mean symmetric Kullback–Leibler divergence of each prediction to those of its neighbours, float64 ``[n]``, higher = keep.

    ``p`` ``[n, C]``, ``near`` int64 ``[n, k]``. Probabilities below 1e-12 are raised to it.
    """
    own = np.maximum(np.asarray(p, dtype=np.float64), 1e-12)
    total = np.zeros(len(own))
    for column in near.T:
        other = own[column]
        total += (rel_entr(own, other) + rel_entr(other, own)).sum(axis=1) / 2.0
    return np.asarray(total / near.shape[1])


def message_passing(score: np.ndarray, near: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """D2's forward pass: s_i + Σ_j exp(−d_ij)·s_j over the neighbours j of i, float64 ``[n]``."""
    own = np.asarray(score, dtype=np.float64)
    passed: np.ndarray = own + (np.exp(-np.asarray(distance, dtype=np.float64)) * own[near]).sum(axis=1)
    return passed


def spread(score: np.ndarray, near: np.ndarray, distance: np.ndarray, budget: int, gamma: float) -> np.ndarray:
    """D2's reverse pass: take the largest score, subtract exp(−γ·d)·s from its neighbours, repeat; positions in the order taken.

    Ties: lowest position.
    """
    own = np.array(score, dtype=np.float64)
    damping = np.exp(-gamma * np.asarray(distance, dtype=np.float64))
    taken = np.zeros(len(own), dtype=bool)
    chosen = np.empty(budget, dtype=np.int64)
    for step in range(budget):
        i = chosen[step] = int(np.where(taken, -np.inf, own).argmax())
        taken[i] = True
        own[near[i]] -= damping[i] * own[i]
    return chosen


@final
class Cal(CurationMethod):
    """Keeps the examples whose prediction differs most from their neighbours' in the feature space of a briefly trained proxy."""

    needs_proxy = True

    def __init__(self, epochs: float = 1, neighbour_count: int = 10) -> None:
        self.epochs, self.neighbour_count = epochs, neighbour_count

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Contrast to the neighbours, then the top."""
        with context.span("score"):
            last = context.proxy()(self.epochs, int(context.generator.integers(2**31)), collect=("logits", "features")).last
            if last.logits is None or last.features is None:
                raise NeedsUnmet("cal needs a classifier head whose input and output the proxy reports")
            near, _ = neighbours(last.features, min(self.neighbour_count, len(pool) - 1))
            score = contrast(scores.probabilities(last.logits), near)
            context.note("score", score)
            kept = keep_by(score, pool, keep_fraction, context.generator, "top", {})
        provenance = {"method": "cal", "epochs": self.epochs, "neighbour_count": self.neighbour_count}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)


@final
class D2(CurationMethod):
    """Difficulty spread over the neighbour graph, then taken greedily with neighbours damped; inside every class when ``balanced``.

    ``score``: ``aum``, ``forgetting``, ``el2n`` of a proxy trained for ``epochs``, or ``none`` (all ones: diversity alone, no labels).
    Scores are shifted to be positive, since messages multiply them. Distances are divided by their median, so that ``gamma`` means the
    same in every embedding.
    """

    def __init__(
        self,
        score: str = "forgetting",
        embedder: str = "pca",
        epochs: float = 10,
        neighbour_count: int = 10,
        gamma: float = 1.0,
        balanced: bool = True,
        **embedder_options: Any,
    ) -> None:
        if score not in ("aum", "forgetting", "el2n", "none"):
            raise unknown_name("score of d2", score, ("aum", "forgetting", "el2n", "none"))
        if gamma <= 0 or neighbour_count < 1:
            raise ConfigError(f"d2: expected gamma and neighbour_count above 0, given {gamma} and {neighbour_count}")
        self.score, self.embedder, self.epochs, self.neighbour_count = score, embedder, epochs, neighbour_count
        self.gamma, self.balanced, self.embedder_options = gamma, balanced, embedder_options
        self.needs_labels, self.needs_proxy = balanced or score != "none", score != "none" or embedder == "model"

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Embedding, difficulty, graph, greedy."""
        vectors = context.embed(self.embedder, **self.embedder_options)
        budget = kept_count(len(pool), keep_fraction)
        with context.span("score"):
            difficulty = self._difficulty(pool, context)

            def choose(members: np.ndarray, part: int) -> np.ndarray:
                if len(members) == 1:
                    return np.zeros(part, dtype=np.int64)
                near, squared = neighbours(vectors[members], min(self.neighbour_count, len(members) - 1))
                distance = np.sqrt(squared)
                distance /= max(float(np.median(distance)), 1e-30)
                return spread(message_passing(difficulty[members], near, distance), near, distance, part, self.gamma)

            kept = per_class(pool.labels, budget, choose) if self.balanced else np.sort(choose(np.arange(len(pool)), budget))
        provenance = {"method": "d2", "score": self.score, "embedder": self.embedder, "epochs": self.epochs, "gamma": self.gamma}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance | {"neighbour_count": self.neighbour_count})

    def _difficulty(self, pool: Pool, context: Context) -> np.ndarray:
        """Positive difficulty float64 ``[n]``, 1 on average."""
        if self.score == "none":
            return np.ones(len(pool))
        run = context.proxy()(self.epochs, int(context.generator.integers(2**31)), collect=("logits",))
        p = [scores.probabilities(logits) for logits in run.stack("logits")]
        if self.score == "el2n":
            raw = scores.el2n(p[-1], pool.labels)
        elif self.score == "aum":
            raw = scores.aum(np.stack([scores.true_margin(q, pool.labels) for q in p]))
        else:
            raw = scores.forgetting(np.stack([q.argmax(axis=1) == pool.labels for q in p]))
        shifted = raw - raw.min() + 1e-3
        return np.asarray(shifted / shifted.mean())
