"""Scaling-law fits recover planted laws, say how sure they are, and give the same answer every time (property 19)."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.leaderboards.scaling import UNIT, fit_decay, fit_repetition, repetition_loss
from timetrial.suite.errors import UserError

UNIQUE = np.repeat([2e4, 5e4, 1e5, 3e5], 6)
SEEN = UNIQUE * np.tile([0.5, 1, 2, 3.5, 8, 30], 4)


def by_hand(unique, seen, scale, utility, half_life, floor):
    """The product of the paper, one pass after the other."""
    passes = [min(k * unique, seen) * scale / UNIT for k in range(1, math.ceil(seen / unique) + 1)]
    loss = passes[0] ** utility + floor
    for k, (before, after) in enumerate(pairwise(passes), start=1):
        loss *= (after / before) ** (utility * 2 ** (-k / half_life))
    return loss


@given(st.floats(1e3, 1e6), st.floats(0.1, 40), st.floats(0.1, 10), st.floats(-1, -0.01), st.floats(0.2, 20), st.sampled_from([0.0, 0.1]))
def test_the_law_is_the_product_over_passes(unique, repeats, scale, utility, half_life, floor):
    expected = by_hand(unique, unique * repeats, scale, utility, half_life, floor)
    assert repetition_loss([unique], [unique * repeats], scale, utility, half_life, floor)[0] == pytest.approx(expected, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 20), st.floats(-0.8, -0.05), st.floats(0.5, 15), st.sampled_from([0.0, 0.1]))
def test_a_planted_law_is_recovered_from_exact_data(scale, utility, half_life, floor):
    losses = repetition_loss(UNIQUE, SEEN, scale, utility, half_life, floor)
    found = fit_repetition(UNIQUE, SEEN, losses, floor)
    assert (found.scale, found.utility, found.half_life) == pytest.approx((scale, utility, half_life), rel=1e-6)
    assert found == fit_repetition(UNIQUE, SEEN, losses, floor)


def test_with_one_percent_of_noise_the_intervals_hold_the_truth():
    truth = (2.0, -0.3, 4.0)
    covered, draws = np.zeros(3), 40
    for seed in range(draws):
        noise = np.exp(0.01 * np.random.default_rng(seed).standard_normal(len(SEEN)))
        found = fit_repetition(UNIQUE, SEEN, repetition_loss(UNIQUE, SEEN, *truth) * noise)
        intervals = (found.scale_interval, found.utility_interval, found.half_life_interval)
        covered += [i.low <= value <= i.high for i, value in zip(intervals, truth, strict=True)]
        assert found.residual < 0.02
    assert (covered >= 0.85 * draws).all(), "95 % intervals"


def test_a_law_whose_data_never_wear_out_needs_no_half_life():
    fresh = repetition_loss([1e6], [1e6], 1.0, -0.5, 1e9)
    repeated = repetition_loss([1e3], [1e6], 1.0, -0.5, 1e9)
    assert repeated == pytest.approx(fresh, rel=1e-3)


@given(st.floats(0.1, 2), st.floats(1, 50))
def test_power_law_and_exponential_are_told_apart(rate, scale):
    n = np.array([1e3, 2e3, 5e3, 1e4, 4e4])
    power, exponential = fit_decay(n, scale * n**-rate)
    assert (power.rate, power.scale) == pytest.approx((rate, scale), rel=1e-6)
    assert power.residual < 1e-9 < exponential.residual
    power, exponential = fit_decay(n, scale * np.exp(-rate * n / 1e4))
    assert (exponential.rate, exponential.scale) == pytest.approx((rate / 1e4, scale), rel=1e-6)
    assert exponential.residual < 1e-9 < power.residual


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_repetition([1e4] * 3, [5e3] * 3, [1, 2, 3]), "no point repeats"),
        (lambda: fit_repetition([1e4] * 2, [2e4] * 2, [1, 2]), "three points"),
        (lambda: fit_repetition([1e4] * 3, [2e4] * 3, [1, 2, 0]), "losses: expected positive"),
        (lambda: fit_repetition([1e4] * 3, [2e4] * 3, [1, 2, 3], -1.5), "floor"),
        (lambda: fit_decay([1e3, 1e4], [0.2, 0.1]), "three different sizes"),
        (lambda: fit_decay([1e3, 1e4, 1e5], [0.2, 0.1, math.nan]), "errors: expected positive"),
    ],
)
def test_what_cannot_be_fitted_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
