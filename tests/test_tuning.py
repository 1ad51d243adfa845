"""Tuning: the points are the same for everybody, inside their ranges, and the choice follows from the records alone."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.suite.config import AlgorithmDefinition, resolve_definition
from timetrial.suite.errors import ConfigError
from timetrial.suite.record import Status
from timetrial.suite.registry import names
from timetrial.suite.tuning import Dimension, best_trial, search_space, tuning_points

from .synthetic_records import LOSS, trial, workload


def algorithm(space, **hyperparameters):
    return AlgorithmDefinition("mine", "", "timetrial.x", hyperparameters={"lr": 0.1, "width": 3, **hyperparameters}, search_space=space)


LR = {"low": 1e-4, "high": 1e-1, "scale": "log"}


def test_points_are_complete_tables_and_a_longer_list_begins_with_the_shorter_one():
    mine = algorithm({"lr": LR})
    few, many = tuning_points(mine, 3), tuning_points(mine, 8)
    assert many[:3] == few
    assert all(set(point) == {"lr", "width"} and point["width"] == 3 for point in many)
    assert len({point["lr"] for point in many}) == 8


def test_equal_spaces_of_two_entries_give_equal_points():
    one, other = algorithm({"lr": LR}), replace(algorithm({"lr": LR}), name="other", summary="another paper")
    assert tuning_points(one, 5) == tuning_points(other, 5)


def test_an_entry_without_a_search_space_has_one_point_its_defaults():
    assert tuning_points(algorithm({}), 5) == ({"lr": 0.1, "width": 3},)


def test_points_fill_their_ranges_evenly_on_the_scale_asked_for():
    """Discrepancy of a quasi-random sequence: each quarter of the range holds a quarter of 64 points, give or take two."""
    points = tuning_points(algorithm({"lr": LR, "width": {"low": 0.0, "high": 4.0}}), 64)
    shares = [math.log(point["lr"] / 1e-4) / math.log(1e3) for point in points]
    assert np.histogram(shares, 4, (0, 1))[0] == pytest.approx(16, abs=2)
    assert np.histogram([point["width"] for point in points], 4, (0, 4))[0] == pytest.approx(16, abs=2)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 50), st.integers(1, 50), st.sampled_from(["linear", "log"]))
def test_whole_numbers_stay_inside_with_both_ends(share, low, more, scale):
    dimension = Dimension(low, low + more, scale, integer=True)
    value = dimension.at(share)
    assert isinstance(value, int) and low <= value <= low + more
    assert dimension.at(0.0) == low and dimension.at(math.nextafter(1, 0)) == low + more


def test_choices_are_equally_likely():
    assert [Dimension(choices=("a", "b")).at(share) for share in (0.0, 0.49, 0.5, 0.99)] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    "space, message",
    [
        ({"momentum": LR}, "search_space.momentum: no such hyperparameter; known: lr, width"),
        ({"lr": {"low": 1.0}}, "search_space.lr: expected low and high"),
        ({"lr": {"low": 0.0, "high": 1.0, "scale": "log"}}, "log scale needs low > 0"),
        ({"lr": {"low": 2.0, "high": 1.0}}, "low < high"),
        ({"lr": {"low": 1.0, "high": float("inf")}}, "finite"),
        ({"lr": {"low": 1.0, "high": 2.0, "choices": [1]}}, "either choices or"),
        ({"lr": {"low": 1.0, "high": 2.0, "step": 3}}, "step"),
    ],
)
def test_a_range_that_cannot_be_drawn_from_is_refused(space, message):
    with pytest.raises(ConfigError, match=message):
        search_space(algorithm(space))


def test_every_algorithm_that_is_shipped_can_be_tuned():
    for name in names("algorithm"):
        definition = resolve_definition("algorithm", name)
        assert len(tuning_points(definition, 4)) == (4 if definition.search_space else 1)


def test_the_fastest_hit_is_chosen_whatever_its_final_quality():
    of = workload()
    slow, fast = trial(of, seed=0, seconds_to_main=30.0)[0], trial(of, seed=1, seconds_to_main=10.0)[0]
    missed = trial(of, seed=2, seconds_to_main=500.0)[0]
    assert best_trial([slow, missed, fast]) is fast


@pytest.mark.parametrize("metric", [workload().metric, LOSS])
def test_without_a_hit_the_best_final_quality_is_chosen(metric):
    of = workload(metric=metric)
    far, near = trial(of, seed=0, seconds_to_main=900.0)[0], trial(of, seed=1, seconds_to_main=90.0)[0]
    diverged = trial(of, seed=2, seconds_to_main=80.0, status=Status.DIVERGED)[0]
    assert near.status is far.status is Status.MISSED
    assert best_trial([far, diverged, near]) is near


def test_what_diverges_everywhere_is_measured_at_its_first_point():
    of = workload()
    failed = trial(of, seed=0, status=Status.FAILED)[0]
    diverged = [trial(of, seed=seed, seconds_to_main=90.0, status=Status.DIVERGED)[0] for seed in (1, 2)]
    assert best_trial([failed, *diverged]) is diverged[0]


def test_trials_that_say_nothing_choose_nothing():
    failed = trial(workload(), seed=0, status=Status.FAILED)[0]
    with pytest.raises(ConfigError, match="none of 1 trials"):
        best_trial([failed])
