"""Subsets whose weighted gradient stands for the gradient of all: CRAIG and GradMatch.

Source  CRAIG: Mirzasoleiman et al. 2020 (1906.01827). GradMatch: Killamsetty et al. 2021 (2103.00123).
        Both on last-layer gradients of a briefly trained proxy, inside every class, chosen once before training.
Expect  published as re-selected every few epochs; a single early selection gives most of the cost and less of the gain.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numba import njit

from ...suite.errors import ConfigError, NeedsUnmet
from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import per_class
from .scores import probabilities, residuals
from .submodular import facility_location

__all__ = ["Craig", "GradMatch", "craig", "gradient_gram", "match_gradient"]


def gradient_gram(residual: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Inner products of the last-layer gradients (p − y) ⊗ [h, 1], float64 ``[n, n]``, without forming them.

    ``residual`` ``[n, C]``, ``features`` ``[n, d]``: (R Rᵀ) ∘ (1 + H Hᵀ).
    """
    h = np.asarray(features, dtype=np.float64)
    r = np.asarray(residual, dtype=np.float64)
    gram: np.ndarray = (r @ r.T) * (1.0 + h @ h.T)
    return gram


def craig(gram: np.ndarray, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Medoids of the gradients by facility location, in the order chosen, and how many gradients each stands for (they sum to n)."""
    squares = np.diag(gram)
    distance = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2.0 * gram, 0.0))
    similarity = float(distance.max()) - distance
    chosen = facility_location(similarity, budget)
    stands_for = np.bincount(similarity[chosen].argmax(axis=0), minlength=budget)
    return chosen, stands_for.astype(np.float64)


def match_gradient(gram: np.ndarray, budget: int, ridge: float, block: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative orthogonal matching pursuit of the mean gradient ḡ: positions in the order chosen, and their weights.

    Minimises ½‖Σ w_j g_j − ḡ‖² + ½·ridge·‖w‖² over w >= 0 on the chosen. Each round takes the ``block`` gradients that correlate most
    with what is left of ḡ, then solves for all weights again, to six digits at the end. Some weights may end at 0.
    """
    gram = np.ascontiguousarray(gram, dtype=np.float64)
    aim = gram.mean(axis=0)
    chosen = np.empty(0, dtype=np.int64)
    weights = np.empty(0)
    left = aim.copy()
    while len(chosen) < budget:
        left[chosen] = -np.inf
        fresh = np.argsort(-left, kind="stable")[: min(block, budget - len(chosen))]
        chosen = np.concatenate([chosen, fresh])
        inner = np.ascontiguousarray(gram[np.ix_(chosen, chosen)])
        inner[np.diag_indices_from(inner)] += ridge
        sweeps = 20_000 if len(chosen) == budget else 100
        weights = _non_negative(inner, aim[chosen], np.concatenate([weights, np.zeros(len(fresh))]), 1e-10, sweeps)
        left = aim - weights @ gram[chosen]
    return chosen, weights


@njit(cache=True)
def _non_negative(quadratic, linear, start, tolerance, sweeps):  # type: ignore[no-untyped-def]
    """Minimum of ½wᵀQw − bᵀw over w >= 0 by coordinate descent from ``start``; Q positive definite."""
    weights = start.copy()
    slope = quadratic @ weights - linear
    scale = tolerance * max(np.abs(linear).max(), 1e-300)
    for _ in range(sweeps):
        worst = 0.0
        for j in range(len(weights)):
            moved = max(0.0, weights[j] - slope[j] / quadratic[j, j]) - weights[j]
            if moved != 0.0:
                weights[j] += moved
                slope += moved * quadratic[j]
                worst = max(worst, abs(moved) * quadratic[j, j])
        if worst < scale:
            break
    return weights


@final
class Craig(CurationMethod):
    """Facility location on last-layer gradient distances inside every class; weights are cluster sizes, scaled to mean 1."""

    needs_labels = True
    needs_proxy = True

    def __init__(self, epochs: float = 1) -> None:
        self.epochs = epochs

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Medoids and what they stand for."""
        return _weighted(pool, keep_fraction, context, self.epochs, craig, {"method": "craig", "epochs": self.epochs})


@final
class GradMatch(CurationMethod):
    """Matching pursuit of the mean last-layer gradient inside every class; weights are scaled to mean 1.

    ``rounds`` bounds how often the weights are solved in one class: 1 gradient a round while the budget allows, more beyond.
    """

    needs_labels = True
    needs_proxy = True

    def __init__(self, epochs: float = 1, ridge: float = 1.0, rounds: int = 200) -> None:
        if ridge <= 0 or rounds < 1:
            raise ConfigError(f"gradmatch: expected ridge above 0 and at least one round, given {ridge} and {rounds}")
        self.epochs, self.ridge, self.rounds = epochs, ridge, rounds

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Pursuit and its weights."""

        def pursue(gram: np.ndarray, part: int) -> tuple[np.ndarray, np.ndarray]:
            return match_gradient(gram, part, self.ridge, -(-part // self.rounds))

        provenance = {"method": "gradmatch", "epochs": self.epochs, "ridge": self.ridge, "rounds": self.rounds}
        return _weighted(pool, keep_fraction, context, self.epochs, pursue, provenance)


def _weighted(pool: Pool, keep_fraction: float, context: Context, epochs: float, choose: Any, provenance: dict[str, Any]) -> Selection:
    """Run ``choose(gram, part) -> positions, weights`` in every class, on gradients of a proxy trained for ``epochs``."""
    y = pool.labels
    largest = int(np.bincount(np.unique(y, return_inverse=True)[1]).max())
    if 16 * largest**2 > context.memory_bytes:
        raise ConfigError(f"gradients of {largest} examples of one class need {16 * largest**2:,} bytes of {context.memory_bytes:,}")
    with context.span("score"):
        last = context.proxy()(epochs, int(context.generator.integers(2**31)), collect=("logits", "features")).last
        if last.logits is None or last.features is None:
            raise NeedsUnmet("last-layer gradients need a classifier head whose input and output the proxy reports")
        residual, features = residuals(probabilities(last.logits), y), last.features
        weight = np.zeros(len(pool))

        def inside(members: np.ndarray, part: int) -> np.ndarray:
            chosen, weights = choose(gradient_gram(residual[members], features[members]), part)
            weight[members[chosen]] = weights * (part / max(float(weights.sum()), 1e-300))
            return np.asarray(chosen)

        kept = per_class(y, kept_count(len(pool), keep_fraction), inside)
    return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance, weights=weight[kept].astype(np.float32))
