"""What pruning must do to a perceptron: the teacher–student theory as an analytic answer, and the student that it is about.

Source  Sorscher et al. 2022 (2206.14486), appendix A, re-derived through Gordon's inequality.
Set-up  Inputs x ~ N(0, I_N), labels sign(T·x) of a teacher T, difficulty z = |probe·x|, α_tot·N examples of which the keep fraction with
        the smallest (hard), the largest (easy) or random z is kept. The student is the separator of largest margin κ on the kept
        examples; R is its overlap with the teacher, its error arccos(R)/π.
Expect  hard beats easy when data are abundant and loses when they are scarce; with a perfect probe easy always beats random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.optimize import brentq, minimize, minimize_scalar, nnls
from scipy.special import ndtr, ndtri

from ...suite.errors import ConfigError

__all__ = ["KEEP", "Prediction", "crossover", "max_margin", "predict", "predict_imperfect"]

KEEP = ("easy", "hard", "random")
NODES = 100  # of a quadrature; the integrands are smooth between their ends
Z_MAX = 9.0  # beyond, the normal density is below 1e-18


@final
@dataclass(frozen=True)
class Prediction:
    """Overlap with the teacher, margin, and generalisation error of the max-margin student, in the limit of many dimensions."""

    overlap: float
    margin: float
    error: float


def predict(alpha_total: float, keep_fraction: float = 1.0, keep: str = "random") -> Prediction:
    """Theory with a perfect probe (the difficulty is measured along the teacher itself).

    For each overlap R the margin solves α·E_z[I₂((κ − R z)/√(1 − R²))] = 1 with I₂(a) = (1 + a²)Φ(a) + aφ(a), α = keep_fraction·α_total;
    the student has the R of the largest margin.
    """
    z, weight = _difficulties(keep_fraction, keep)
    alpha = keep_fraction * alpha_total

    def margin(angle: float) -> float:
        overlap, rest = math.cos(angle), math.sin(angle)
        return _margin(alpha, weight, overlap * z, rest)

    found = minimize_scalar(lambda angle: -margin(angle), bounds=(1e-6, math.pi / 2), method="bounded", options={"xatol": 1e-9})
    angle = float(found.x)
    return Prediction(math.cos(angle), margin(angle), angle / math.pi)


def predict_imperfect(alpha_total: float, keep_fraction: float, keep: str, probe_angle: float) -> Prediction:
    """Theory with a probe at ``probe_angle`` (radians, 0 to π/2) to the teacher.

    With z along the probe and v ~ N(0, 1) orthogonal to it in the plane of both, y = sign(z cos θ + v sin θ). The student has the
    components ρ, β in that plane and s outside; κ is the largest solution of α·E[I₂((κ − y(ρz + βv))/s)] = 1.
    """
    z, weight = _difficulties(keep_fraction, keep)
    cosine, sine = math.cos(probe_angle), math.sin(probe_angle)
    v, v_weight, label = _across(z, cosine, sine)
    joint = (weight[:, None] * v_weight).ravel()
    along, across = (label * z[:, None]).ravel(), (label * v).ravel()
    alpha = keep_fraction * alpha_total

    def margin(point: np.ndarray) -> float:
        rho, beta = math.cos(point[0]), math.sin(point[0]) * math.cos(point[1])
        rest = math.sin(point[0]) * math.sin(point[1])
        return _margin(alpha, joint, rho * along + beta * across, max(rest, 1e-9))

    starts = [(0.3, 0.8), (1.0, 0.8)]
    runs = [minimize(lambda x: -margin(x), start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10}) for start in starts]
    best = min(runs, key=lambda run: float(run.fun)).x
    rho, beta = math.cos(best[0]), math.sin(best[0]) * math.cos(best[1])
    overlap = rho * cosine + beta * sine
    return Prediction(overlap, margin(best), math.acos(min(1.0, overlap)) / math.pi)


def crossover(keep_fraction: float, one: str, other: str, low: float, high: float) -> float:
    """The α_total between ``low`` and ``high`` at which two ways of keeping have the same error (perfect probe)."""

    def gap(alpha: float) -> float:
        return predict(alpha, keep_fraction, one).error - predict(alpha, keep_fraction, other).error

    return float(brentq(gap, low, high, xtol=1e-4))


def max_margin(inputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Direction (float64 ``[N]``, length 1) of the separator through the origin of largest margin, y = ±1.

    Exact, by Lawson and Hanson's least-distance programme: non-negative least squares on the signed inputs with a row of ones. A
    soft-margin machine, however hard, is not there yet (error 0.104 where 0.136 is right). ``ConfigError`` when no separator exists.
    """
    signed = np.asarray(inputs, dtype=np.float64) * np.asarray(y, dtype=np.float64)[:, None]
    system = np.vstack([signed.T, np.ones(len(signed))])
    aim = np.zeros(len(system))
    aim[-1] = 1.0
    weights, _ = nnls(system, aim, maxiter=50 * len(signed))
    residual = system @ weights - aim
    if abs(residual[-1]) < 1e-12:
        raise ConfigError("max_margin: the examples cannot be separated by a plane through the origin")
    direction = -residual[:-1] / residual[-1]
    return np.asarray(direction / np.linalg.norm(direction))


def _margin(alpha: float, weight: np.ndarray, projected: np.ndarray, rest: float) -> float:
    """The κ that solves α·Σ weight·I₂((κ − projected)/rest) = 1."""

    def excess(kappa: float) -> float:
        a = (kappa - projected) / rest
        return alpha * float(weight @ ((1.0 + a * a) * ndtr(a) + a * np.exp(-a * a / 2) / math.sqrt(2 * math.pi))) - 1.0

    low, high = -1.0, 1.0
    while excess(low) > 0:
        low *= 2
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, low, high, xtol=1e-13))


def _difficulties(keep_fraction: float, keep: str) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and probabilities of the half-normal difficulty, restricted to what is kept."""
    if keep not in KEEP:
        raise ConfigError(f"keep: expected one of {', '.join(KEEP)}, given {keep!r}")
    if not 0 < keep_fraction <= 1:
        raise ConfigError(f"keep_fraction: expected more than 0 and at most 1, given {keep_fraction}")
    low = float(ndtri(1 - keep_fraction / 2)) if keep == "easy" else 0.0
    high = min(float(ndtri(0.5 + keep_fraction / 2)), Z_MAX) if keep == "hard" else Z_MAX
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    z = low + (nodes + 1) * (high - low) / 2
    mass = weights * np.exp(-z * z / 2)
    return z, mass / mass.sum()


def _across(z: np.ndarray, cosine: float, sine: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each z >= 0 (half of a symmetric law) nodes of v, their probabilities and labels ``[NODES, NODES]``, cut at the label's jump."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES // 2)
    jump = np.clip(-z * cosine / max(sine, 1e-12), -Z_MAX, Z_MAX)[:, None]
    below = -Z_MAX + (nodes + 1) * (jump + Z_MAX) / 2
    above = jump + (nodes + 1) * (Z_MAX - jump) / 2
    v = np.hstack([below, above])
    mass = np.hstack([weights * (jump + Z_MAX), weights * (Z_MAX - jump)]) * np.exp(-v * v / 2)
    label = np.hstack([np.full_like(below, -1.0), np.full_like(above, 1.0)])
    return v, mass / mass.sum(axis=1, keepdims=True), label
