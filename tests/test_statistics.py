"""Medians, rates and their intervals against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.leaderboards.statistics import median, proportion

numbers = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=30)


@given(numbers)
def test_the_median_is_the_middle_value(values):
    assert median(values).value == pytest.approx(float(np.median(values)))


@given(numbers, st.integers(0, 20))
def test_missed_trials_lie_above_every_hit(values, misses):
    found = median(values, misses)
    assert found.n == len(values) + misses
    ordered = sorted(values) + [math.inf] * misses
    middle = ordered[(found.n - 1) // 2], ordered[found.n // 2]
    assert found.value == (pytest.approx(sum(middle) / 2) if math.isfinite(middle[1]) else None)


@given(st.lists(st.floats(0.01, 1e6), min_size=5, max_size=30), st.integers(0, 10))
def test_the_interval_encloses_the_median_and_is_open_only_towards_misses(values, misses):
    found = median(values, misses)
    if found.interval is None:
        assert misses > 0
        return
    if found.value is not None:
        assert found.interval.low <= found.value * (1 + 1e-12)
        assert found.interval.high is None or found.interval.high >= found.value * (1 - 1e-12)
    assert misses > 0 or found.interval.high is not None


@pytest.mark.parametrize(("n", "least"), [(5, 0.93), (6, 0.94), (8, 0.94), (10, 0.94), (20, 0.94)])
@pytest.mark.parametrize("draw", [lambda r, s: r.standard_normal(s), lambda r, s: r.exponential(size=s)], ids=["normal", "exponential"])
def test_the_interval_of_a_median_covers_the_true_one_as_often_as_it_says(n, least, draw):
    rng = np.random.default_rng(0)
    truth = float(np.median(draw(np.random.default_rng(1), 2_000_001)))
    samples = draw(rng, (3_000, n)) + 10
    covered = [i.low <= truth + 10 <= i.high for i in (median(sample.tolist()).interval for sample in samples)]
    assert least <= np.mean(covered) <= 0.985


def test_a_rate_stays_inside_zero_and_one():
    assert proportion(5, 5).interval.high == 1.0
    assert proportion(0, 5).interval.low == 0.0
    assert proportion(3, 4).interval is None
    assert proportion(0, 0).value is None
