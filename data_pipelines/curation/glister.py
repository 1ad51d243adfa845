"""GLISTER: take the examples whose gradient step lowers the loss on held-out data most.

Source  Killamsetty et al. 2021 (2012.10630), the greedy with first-order updates, on the last layer of a briefly trained proxy.
        The held-out data are a random part of the pool, never the workload's validation set.
Expect  robust to label noise; a reference implementation in circulation never updates the held-out gradient, ours is tested to.
"""

from __future__ import annotations

from typing import final

import numpy as np

from ...suite.errors import ConfigError, NeedsUnmet
from .interface import Context, CurationMethod, Pool, Selection, kept_count
from .samplers import top
from .scores import probabilities, residuals

__all__ = ["Glister", "glister"]


def glister(
    residual: np.ndarray,
    features: np.ndarray,
    held_logits: np.ndarray,
    held_features: np.ndarray,
    held_y: np.ndarray,
    budget: int,
    *,
    learning_rate: float,
    rounds: int,
) -> np.ndarray:
    """Positions int64 ``[budget]`` in the order chosen.

    ``residual`` ``[n, C]`` = p − y and ``features`` ``[n, d]`` of the candidates, logits and features of the held-out examples at the
    same weights. Gain of i: inner product of its last-layer gradient with the held-out gradient. After each of ``rounds`` equal
    parts, the head takes the step −learning_rate·mean gradient of the chosen part, and the held-out gradient is computed anew.
    """
    h = np.hstack([np.asarray(features, dtype=np.float64), np.ones((len(features), 1))])
    held_h = np.hstack([np.asarray(held_features, dtype=np.float64), np.ones((len(held_features), 1))])
    logits = np.array(held_logits, dtype=np.float64)
    free = np.ones(len(h), dtype=bool)
    chosen: list[np.ndarray] = []
    for part in np.array_split(np.arange(budget), min(rounds, budget)):
        held_gradient = residuals(probabilities(logits), held_y).T @ held_h / len(held_h)  # [C, d + 1]
        gain = np.einsum("nc,nc->n", residual, h @ held_gradient.T)
        gain[~free] = -np.inf
        picked = np.lexsort((np.arange(len(gain)), -gain))[: len(part)]
        free[picked] = False
        chosen.append(picked)
        step = np.asarray(residual)[picked].T @ h[picked] / len(picked)
        logits -= learning_rate * (held_h @ step.T)
    return np.concatenate(chosen)


@final
class Glister(CurationMethod):
    """Greedy by held-out gain. ``held_fraction`` of the pool, drawn at random, is the held-out part; it can be chosen too."""

    needs_labels = True
    needs_proxy = True

    def __init__(self, epochs: float = 1, learning_rate: float = 0.1, rounds: int = 50, held_fraction: float = 0.1) -> None:
        if not (0 < held_fraction < 1 and rounds >= 1):
            raise ConfigError(f"glister: expected held_fraction in (0, 1) and at least one round, given {held_fraction} and {rounds}")
        self.epochs, self.learning_rate, self.rounds, self.held_fraction = epochs, learning_rate, rounds, held_fraction

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Proxy trained on the rest, gains measured on the held-out part."""
        y = pool.labels
        budget = kept_count(len(pool), keep_fraction)
        with context.span("score"):
            held = top(context.generator.random(len(pool)), kept_count(len(pool), self.held_fraction))
            rest = np.setdiff1d(np.arange(len(pool)), held)
            if len(rest) == 0:
                raise ConfigError(f"glister: {len(pool)} examples leave none beside the held-out ones")
            last = context.proxy()(self.epochs, int(context.generator.integers(2**31)), subset=rest, collect=("logits", "features")).last
            if last.logits is None or last.features is None:
                raise NeedsUnmet("glister needs a classifier head whose input and output the proxy reports")
            residual = residuals(probabilities(last.logits), y)
            kept = glister(
                residual,
                last.features,
                last.logits[held],
                last.features[held],
                y[held],
                budget,
                learning_rate=self.learning_rate,
                rounds=self.rounds,
            )
        provenance = {"method": "glister", "epochs": self.epochs, "learning_rate": self.learning_rate, "rounds": self.rounds}
        return Selection(pool.ids[np.sort(kept)], keep_fraction, pool.digest, provenance | {"held_fraction": self.held_fraction})
