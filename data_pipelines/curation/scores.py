"""Scores of single examples from what a model says of them: pure array functions, higher = keep (the harder example).

``p`` is float ``[n, C]`` softmax output, ``y`` int64 ``[n]`` classes, ``E`` epochs. Results are float64 ``[n]``.
"""

from __future__ import annotations

import numpy as np
from scipy.special import entr, softmax

from ...suite.errors import ConfigError

__all__ = [
    "aum",
    "disagreement",
    "dual",
    "el2n",
    "entropy",
    "forgetting",
    "input_norm",
    "last_layer_gradient_norm",
    "least_confidence",
    "memorization",
    "memorization_error",
    "narrow_margin",
    "output_change",
    "probabilities",
    "residuals",
    "tdds",
    "true_margin",
]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax in float64."""
    p: np.ndarray = softmax(np.asarray(logits, dtype=np.float64), axis=-1)
    return p


def residuals(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``p`` minus the one-hot class: the gradient of cross entropy with respect to the logits, ``[n, C]``."""
    out = np.array(p, dtype=np.float64)
    out[np.arange(len(y)), y] -= 1.0
    return out


def el2n(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Length of the error vector, in [0, √2]; 0 exactly when the prediction is the one-hot class. Paul et al. 2021 (2107.07075)."""
    return np.asarray(np.linalg.norm(residuals(p, y), axis=1))


def last_layer_gradient_norm(p: np.ndarray, y: np.ndarray, features: np.ndarray) -> np.ndarray:
    """GraNd restricted to a linear head with bias: ‖p − y‖·√(1 + ‖h‖²), ``features`` h ``[n, d]``. The identity is exact."""
    return np.asarray(el2n(p, y) * np.sqrt(1.0 + np.square(np.asarray(features, dtype=np.float64)).sum(axis=1)))


def entropy(p: np.ndarray) -> np.ndarray:
    """Shannon entropy of the prediction, in nats."""
    return np.asarray(entr(np.asarray(p, dtype=np.float64)).sum(axis=1))


def least_confidence(p: np.ndarray) -> np.ndarray:
    """One minus the largest probability."""
    return np.asarray(1.0 - np.max(np.asarray(p, dtype=np.float64), axis=1))


def narrow_margin(p: np.ndarray) -> np.ndarray:
    """Minus the gap between the two largest probabilities: 0 for a tie, −1 for certainty. Needs two classes."""
    ordered = np.partition(np.asarray(p, dtype=np.float64), -2, axis=1)
    return np.asarray(ordered[:, -2] - ordered[:, -1])


def true_margin(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Probability of the true class minus the largest other one, in [−1, 1]: what AUM averages. Not a score: higher is easier."""
    rows = np.arange(len(y))
    others = np.array(p, dtype=np.float64)
    true = others[rows, y].copy()
    others[rows, y] = -np.inf
    return np.asarray(true - others.max(axis=1))


def input_norm(inputs: np.ndarray) -> np.ndarray:
    """Euclidean length of the flattened input. A negative control: GraNd at initialisation is little else (Kirsch 2023, 2303.14753)."""
    return np.asarray(np.linalg.norm(np.asarray(inputs, dtype=np.float64).reshape(len(inputs), -1), axis=1))


def forgetting(correct: np.ndarray) -> np.ndarray:
    """Forgetting events: how often a right answer turned wrong at the next look, from ``correct`` bool ``[E, n]``.

    An example that was never right counts as E, the maximum (Toneva et al. 2019, 1812.05159: sorted last).
    """
    seen = np.asarray(correct, dtype=bool)
    events: np.ndarray = (seen[:-1] & ~seen[1:]).sum(axis=0).astype(np.float64)
    events[~seen.any(axis=0)] = len(seen)
    return events


def aum(margins: np.ndarray) -> np.ndarray:
    """Minus the area under the margin: the mean over epochs of :func:`true_margin` ``[E, n]`` (Pleiss et al. 2020, 2001.10528)."""
    return np.asarray(-np.asarray(margins, dtype=np.float64).mean(axis=0))


def dual(true_probability: np.ndarray, window: int) -> np.ndarray:
    """Difficulty times uncertainty: mean over sliding windows of std(p_y)·(1 − mean p_y), ``[E, n]`` (Cho et al. 2025, 2502.06905).

    Standard deviations have ``window − 1`` in the denominator. ``ConfigError`` unless 2 <= window <= E.
    """
    series = np.asarray(true_probability, dtype=np.float64)
    if not 2 <= window <= len(series):
        raise ConfigError(f"window: expected 2 to {len(series)} epochs, given {window}")
    parts = [series[start : start + window] for start in range(len(series) - window + 1)]
    return np.asarray(np.mean([part.std(axis=0, ddof=1) * (1.0 - part.mean(axis=0)) for part in parts], axis=0))


def output_change(p_before: np.ndarray, p_after: np.ndarray) -> np.ndarray:
    """TDDS's step between consecutive epochs: Σ_c |p_after·(log p_after − log p_before)|; probabilities below 1e-8 are raised to it."""
    before, after = (np.maximum(np.asarray(p, dtype=np.float64), 1e-8) for p in (p_before, p_after))
    return np.asarray(np.abs(after * (np.log(after) - np.log(before))).sum(axis=1))


def tdds(changes: np.ndarray, window: int, decay: float = 0.9) -> np.ndarray:
    """Dual-depth dynamics from :func:`output_change` ``[E − 1, n]`` (Zhang et al. 2024, 2311.13613).

    In each window of ``window`` epochs (``window − 1`` changes) the length of the deviations from the window's mean; the windows are
    averaged exponentially, the newest weighing ``decay``. ``ConfigError`` unless 2 <= window <= E.
    """
    steps = np.asarray(changes, dtype=np.float64)
    epochs = len(steps) + 1
    if not 2 <= window <= epochs:
        raise ConfigError(f"window: expected 2 to {epochs} epochs, given {window}")
    score = np.zeros(steps.shape[1])
    for start in range(epochs - window + 1):
        part = steps[start : start + window - 1]
        score = (1.0 - decay) * score + decay * np.linalg.norm(part - part.mean(axis=0), axis=0)
    return score


def disagreement(members: np.ndarray) -> np.ndarray:
    """How much an ensemble's members disagree: entropy of the mean prediction minus mean entropy, ``members`` ``[M, n, C]``, in nats.

    The mutual information of prediction and member (Houlsby et al. 2011, 1112.5745): 0 when all members agree.
    """
    p = np.asarray(members, dtype=np.float64)
    gap = entr(p.mean(axis=0)).sum(axis=-1) - entr(p).sum(axis=-1).mean(axis=0)
    return np.asarray(np.maximum(gap, 0.0))


def memorization(correct: np.ndarray, included: np.ndarray) -> np.ndarray:
    """P[right | trained on it] − P[right | not trained on it], both bool ``[R, n]`` over R runs (Feldman and Zhang 2020, 2008.03703).

    ``ConfigError`` when an example was in all runs or in none.
    """
    inside, outside = np.asarray(included, dtype=bool), ~np.asarray(included, dtype=bool)
    if not (inside.any(axis=0) & outside.any(axis=0)).all():
        raise ConfigError(f"memorization: {len(inside)} runs leave some example always in or always out; raise the number of runs")
    right = np.asarray(correct, dtype=np.float64)
    included_right = (right * inside).sum(axis=0) / inside.sum(axis=0)
    return np.asarray(included_right - (right * outside).sum(axis=0) / outside.sum(axis=0))


def memorization_error(p_in: np.ndarray, p_out: np.ndarray, runs: int, fraction: float) -> np.ndarray:
    """Standard error of :func:`memorization` with true probabilities ``p_in``, ``p_out`` and ``runs`` subsets of share ``fraction``."""
    return np.asarray(np.sqrt(p_in * (1 - p_in) / (runs * fraction) + p_out * (1 - p_out) / (runs * (1 - fraction))))
