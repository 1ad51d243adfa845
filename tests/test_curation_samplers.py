"""Samplers and allocators: exact budgets, fair shares, covered strata, and one rounding rule.

Properties 11, 13 and 14 (budgets and allocators) of the list in tests/test_curation_trial.py.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.data_pipelines.curation.density import allocate, allocate_real
from timetrial.data_pipelines.curation.samplers import (
    SAMPLERS,
    beta,
    central,
    coverage,
    coverage_strata,
    make_sampler,
    per_class,
    shares,
    stratified_random,
    top,
    water_fill,
)
from timetrial.data_pipelines.curation.selection import kept_count
from timetrial.suite.errors import ConfigError, DataError, UnknownName

PATIENT = settings(deadline=None)  # machines are shared: how long an example takes is no property of the code
SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(sum)
SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("n", "keep_fraction", "kept"),
    [(10, 1, 10), (10, 0.5, 5), (15, 0.1, 2), (45, 0.7, 32), (45, 0.3, 14), (3, 0.01, 1), (1, 0.5, 1), (5, 0.5, 3), (1000, 1 / 3, 333)],
)
def test_the_rounding_rule_is_half_up_on_the_number_as_written(n, keep_fraction, kept):
    assert kept_count(n, keep_fraction) == kept


@pytest.mark.parametrize("keep_fraction", [0, -0.1, 1.0001, float("nan"), float("inf"), "0.5"])
def test_a_keep_fraction_outside_zero_to_one_is_refused(keep_fraction):
    with pytest.raises(ConfigError, match="keep_fraction"):
        kept_count(10, keep_fraction)


@PATIENT
@given(SIZES, st.floats(0, 1))
def test_shares_are_proportional_up_to_one_and_sum_to_the_budget(sizes, fraction):
    sizes = np.array(sizes)
    budget = int(fraction * sizes.sum())
    parts = shares(sizes, budget)
    assert parts.sum() == budget
    assert (parts <= sizes).all()
    assert (np.abs(parts - sizes * budget / sizes.sum()) < 1).all()


@PATIENT
@given(SIZES, st.floats(0, 1))
def test_water_filling_is_max_min_fair(sizes, fraction):
    sizes = np.array(sizes)
    budget = int(fraction * sizes.sum())
    parts = water_fill(sizes, budget)
    assert parts.sum() == budget
    assert (parts <= sizes).all()
    assert (parts >= 0).all()
    short = parts < sizes
    if short.any():  # whoever could take more already has (up to one) as much as anybody
        assert parts[short].min() >= parts.max() - 1


@PATIENT
@given(SIZES)
def test_water_filling_equals_the_sparse_first_allocation_up_to_remainders(sizes):
    """The coverage paper walks from the sparsest stratum up, each taking its even share of what is left."""
    sizes = np.array(sizes)
    budget = int(sizes.sum() // 2)
    walked, rest = np.zeros(len(sizes), int), budget
    for turn, j in enumerate(np.argsort(sizes, kind="stable")):
        walked[j] = min(sizes[j], rest // (len(sizes) - turn))
        rest -= walked[j]
    assert rest == 0
    assert np.abs(np.sort(walked) - np.sort(water_fill(sizes, budget))).max() <= 1


@pytest.mark.parametrize("split", [shares, water_fill])
@pytest.mark.parametrize("budget", [-1, 7])
def test_a_budget_that_cannot_be_met_is_refused(split, budget):
    with pytest.raises(ConfigError, match="expected 0 to 6"):
        split(np.array([1, 2, 3]), budget)


@PATIENT
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(sum), st.data())
def test_integer_allocation_is_the_optimum_of_all_integer_allocations(most, data):
    most = np.array(most)
    least = np.array([data.draw(st.integers(0, m)) for m in most])
    budget = data.draw(st.integers(int(least.sum()), int(most.sum())))
    target = np.array([data.draw(st.floats(-3, 9)) for _ in most])
    found = allocate(target, least, most, budget)
    assert found.sum() == budget
    assert ((least <= found) & (found <= most)).all()
    every = [x for x in itertools.product(*(range(a, b + 1) for a, b in zip(least, most, strict=True))) if sum(x) == budget]
    best = min(float(np.square(np.array(x) - target).sum()) for x in every)
    assert float(np.square(found - target).sum()) == pytest.approx(best, abs=1e-9)


@PATIENT
@given(st.lists(st.floats(0, 50), min_size=2, max_size=6), st.data())
def test_real_allocation_satisfies_its_optimality_conditions(target, data):
    target = np.array(target)
    most = np.array([data.draw(st.integers(1, 40)) for _ in target])
    least = np.array([data.draw(st.integers(0, m)) for m in most])
    budget = data.draw(st.integers(int(least.sum()), int(most.sum())))
    x = allocate_real(target, least, most, budget)
    assert x.sum() == pytest.approx(budget, abs=1e-6)
    inside = (x > least + 1e-6) & (x < most - 1e-6)
    if inside.any():
        shift = (x - target)[inside]
        assert np.ptp(shift) < 1e-6
        assert (target + shift[0] <= most + 1e-6)[~inside & (x < most - 1e-6)].all()
        assert (target + shift[0] <= least + 1e-6)[~inside & (x < most - 1e-6)].all()


def test_allocation_refuses_a_box_that_cannot_hold_the_budget():
    with pytest.raises(ConfigError, match="budget"):
        allocate(np.ones(2), np.array([1, 1]), np.array([2, 2]), 5)


def options_for(name, n):
    return {"ease": np.linspace(0.1, 0.9, n)} if name == "beta" else {}


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@PATIENT
@given(values=SCORES, fraction=st.floats(0.01, 1), shape=st.sampled_from(["any", "constant", "negative", "outlier"]))
def test_every_sampler_meets_its_budget_exactly_whatever_the_scores(name, values, fraction, shape):
    score = np.array(values)
    if shape == "constant":
        score[:] = -3.5
    elif shape == "negative":
        score = -np.abs(score) - 1
    elif shape == "outlier":
        score[0] = 1e9
    if name == "beta":
        score = np.abs(score)
    budget = kept_count(len(score), fraction)
    kept = make_sampler(name, options_for(name, len(score)))(score, budget, generator())
    assert len(kept) == budget
    assert (np.diff(kept) > 0).all()
    assert kept.min() >= 0
    assert kept.max() < len(score)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_samplers_take_everything_when_everything_is_asked_for(name):
    score = generator().random(17)
    assert make_sampler(name, options_for(name, 17))(score, 17, generator()).tolist() == list(range(17))


def test_top_keeps_the_highest_and_breaks_ties_by_position():
    assert top(np.array([1.0, 3, 2, 3, 3]), 2).tolist() == [1, 3]
    assert top(np.array([1.0, 3, 2, 4, 0]), 2, skip_hardest=0.2).tolist() == [1, 2]


def test_central_leaves_out_as_many_above_as_below():
    assert central(np.array([0.0, 10, 20, 30, 40]), 3).tolist() == [1, 2, 3]


def test_the_direction_of_top_is_higher_is_kept_and_its_reversal_keeps_the_opposite():
    score = np.arange(10.0)
    assert set(top(score, 5)) == set(range(5, 10))
    assert set(top(-score, 5)).isdisjoint(top(score, 5))


@PATIENT
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.integers(1, 60))
def test_strata_partition_everything_also_negative_scores(values, strata):
    members = coverage_strata(np.array(values) - 10, strata)
    assert (members >= 0).all()
    assert (members < strata).all()


def test_coverage_spreads_over_the_range_and_drops_the_hardest():
    score = np.concatenate([np.zeros(900), np.linspace(0.02, 1, 100)])
    kept = coverage(score, 100, generator(), strata=50, drop_hardest=0.05)
    assert kept.max() < 950  # of 1,000, the 50 hardest are gone
    spread_out = (score[kept] > 0.02).sum()
    random_share = (score[generator().choice(1000, 100, replace=False)] > 0.02).sum()
    assert spread_out > 3 * random_share


def test_coverage_takes_the_papers_share_of_hardest_when_none_is_given():
    score = np.arange(1000.0)
    assert coverage(score, 100, generator()).max() < 700
    assert coverage(score, 200, generator()).max() < 800
    assert coverage(score, 500, generator()).max() >= 950


def test_beta_sampling_moves_to_easier_examples_as_fewer_are_kept():
    rng = generator(1)
    ease = rng.random(4000)
    score = (1 - ease) * rng.random(4000)
    means = [ease[beta(score, budget, generator(2), ease=ease)].mean() for budget in (100, 300, 1000)]
    assert means[0] > means[1] > means[2]


def test_each_class_gets_its_own_share():
    labels = np.repeat([0, 1], [900, 100])
    kept = per_class(labels, 500, lambda members, part: np.arange(part))
    assert np.bincount(labels[kept]).tolist() == [450, 50]


def test_a_budget_smaller_than_the_number_of_classes_is_met():
    labels = np.repeat(np.arange(10), 3)
    for budget in (1, 4, 9):
        assert len(stratified_random(labels, budget, generator())) == budget
        kept = per_class(labels, budget, lambda members, part: np.arange(part))
        assert len(kept) == budget and np.bincount(labels[kept]).max() == 1
    assert stratified_random(np.zeros(1, int), 1, generator()).tolist() == [0]


def test_stratified_random_is_uniform_inside_a_class():
    labels = np.repeat([0, 1], [8, 4])
    hits = np.zeros(12)
    for seed in range(600):
        hits[stratified_random(labels, 6, generator(seed))] += 1
    assert hits / 600 == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 600))


def test_nan_scores_are_named():
    with pytest.raises(DataError, match="2 scores are NaN, the first is at position 1"):
        top(np.array([0, np.nan, np.nan]), 1)


def test_unknown_samplers_and_options_name_the_known_ones():
    with pytest.raises(UnknownName, match="coverage"):
        make_sampler("coverge", {})
    with pytest.raises(ConfigError, match="skip_hardest"):
        make_sampler("top", {"skip": 0.1})
