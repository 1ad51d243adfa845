"""Medians, rates and their intervals against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from timetrial.leaderboards.statistics import (
    bootstrap_medians,
    expected_best,
    faster,
    letters,
    median,
    olympic_mean,
    proportion,
    rcp_allowed_speedup,
)

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


@pytest.mark.parametrize(("n", "least"), [(5, 0.92), (6, 0.93), (8, 0.93), (10, 0.93), (20, 0.93)])
@pytest.mark.parametrize("draw", [lambda r, s: r.standard_normal(s), lambda r, s: r.exponential(size=s)], ids=["normal", "exponential"])
def test_the_interval_of_a_median_covers_the_true_one_as_often_as_it_says(n, least, draw):
    rng = np.random.default_rng(0)
    truth = float(np.median(draw(np.random.default_rng(1), 2_000_001)))
    samples = draw(rng, (1_500, n)) + 10
    covered = [i.low <= truth + 10 <= i.high for i in (median(sample.tolist()).interval for sample in samples)]
    assert least <= np.mean(covered) <= 0.985


def test_a_rate_stays_inside_zero_and_one():
    assert proportion(5, 5).interval.high == 1.0
    assert proportion(0, 5).interval.low == 0.0
    assert proportion(3, 4).interval is None
    assert proportion(0, 0).value is None


def test_bootstrap_draws_depend_on_the_trials_alone():
    values = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, 10.0]])
    once, again = bootstrap_medians(values, "key", 500), bootstrap_medians(values, "key", 500)
    assert np.array_equal(once, again)
    assert np.array_equal(once[1], 2 * once[0])  # one resample of trials serves all levels
    assert not np.array_equal(once, bootstrap_medians(values, "another", 500))


def test_bootstrap_medians_follow_the_exact_distribution():
    drawn = bootstrap_medians(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]), "k", 200_000)[0]
    exact = [stats.binom.sf(2, 5, k / 5) - stats.binom.sf(2, 5, (k - 1) / 5) for k in range(1, 6)]  # at least 3 of 5 draws
    assert [float(np.mean(drawn == k)) for k in range(1, 6)] == pytest.approx(exact, abs=0.005)


def test_the_olympic_mean_drops_the_ends_and_one_miss():
    assert olympic_mean([1.0, 9.0, 2.0, 3.0]) == 2.5
    assert olympic_mean([1.0, math.nan, 2.0, 3.0]) == 2.5
    assert olympic_mean([1.0, math.nan, 2.0, math.nan]) is None
    assert olympic_mean([1.0, 2.0]) is None


def test_the_allowed_speedup_is_that_of_mlperfs_own_example():
    assert rcp_allowed_speedup(15.75, 0.433, 8, 3) == pytest.approx(0.0353, abs=5e-5)
    assert rcp_allowed_speedup(1.0, 9.0, 3, 3) == math.inf


def test_the_one_sided_test_keeps_its_level_and_sees_a_difference():
    rng = np.random.default_rng(0)
    same = [faster(rng.lognormal(0, 0.1, 5), rng.lognormal(0, 0.1, 20)).p < 0.05 for _ in range(2000)]
    assert 0.03 <= np.mean(same) <= 0.07
    found = faster(rng.lognormal(-0.3, 0.1, 5), rng.lognormal(0, 0.1, 20))
    assert found.p < 0.001
    assert found.ratio == pytest.approx(math.exp(0.3), rel=0.1)
    assert faster([1.0, math.nan], [1.0, 2.0]) is None
    assert faster([1.0], [1.0, 2.0]) is None
    assert faster([1.0, 1.0], [2.0, 2.0]).p == 0.0


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=6))
def test_the_expected_best_of_k_is_the_mean_over_all_choices_of_k(values):
    brute = [np.mean([min(chosen) for chosen in itertools.combinations(values, k)]) for k in range(1, len(values) + 1)]
    assert expected_best(values) == pytest.approx(brute)


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))))
def test_entries_share_a_letter_exactly_when_they_cannot_be_told_apart(case):
    n, pairs = case
    different = np.zeros((n, n), dtype=bool)
    for i, j in pairs:
        different[i, j] = different[j, i] = i != j
    groups = [set(g) for g in letters(different)]
    for i, j in itertools.combinations(range(n), 2):
        assert bool(groups[i] & groups[j]) != different[i, j]
    assert all(groups)
    assert "a" in groups[0]
