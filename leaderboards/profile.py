"""AlgoPerf's performance-profile score, exactly: a secondary score here, because it moves with the field of entries.

Source: Dahl et al., "Benchmarking Neural Network Training Algorithms" (arXiv 2306.07179), section 4.3, and the rules of its
v0.5 competition; what the scoring code does where it differs from them is said at each function.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .statistics import Floats

__all__ = ["R_MAX", "held_out_rule", "profile_score", "profile_score_trapezoid", "ratios"]

R_MAX = 4.0
_POINTS = 100


def ratios(times: Floats) -> Floats:
    """Times (…, entries, workloads), infinite where missed, over the best of each workload; infinite where nobody hit."""
    best = np.min(times, axis=-2, keepdims=True, initial=np.inf)
    with np.errstate(invalid="ignore"):
        found: Floats = times / best
    return np.where(np.isfinite(times), found, np.inf)


def profile_score(times: Floats) -> Floats:
    """Area under the performance profile between ratio 1 and 4, in closed form: mean over workloads of max(0, 4 - r) / 3."""
    score: Floats = np.clip(R_MAX - ratios(times), 0.0, None).mean(axis=-1) / (R_MAX - 1)
    return score


def profile_score_trapezoid(times: Floats) -> Floats:
    """The same area by the trapezoid rule on 100 points, as AlgoPerf's code integrates it; up to 0.0016 off the exact one."""
    points = np.linspace(1.0, R_MAX, _POINTS)
    profile = (ratios(times)[..., None] <= points).mean(axis=-2)
    score: Floats = np.trapezoid(profile, points, axis=-1) / (R_MAX - 1)
    return score


def held_out_rule(times: Floats, held_out: Mapping[int, Floats]) -> Floats:
    """Times of base workloads after AlgoPerf v0.5's held-out and 4x rules, in the order of its code.

    ``held_out`` maps a base workload's column to the times (…, entries) on its variant. A variant is missed if its base is; then
    every time beyond four times the best of its column is missed, variants included; then a base is missed if its variant is.
    """
    base = np.where(ratios(times) > R_MAX, np.inf, times)
    for column, variant in held_out.items():
        found = np.where(np.isfinite(times[..., column]), variant, np.inf)
        kept = ratios(found[..., None])[..., 0] <= R_MAX
        base[..., column] = np.where(kept, base[..., column], np.inf)
    return base
