"""What a headline is made of: its parts are the scores' own numbers."""

import numpy as np
import pytest

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.breakdown import breakdown
from timetrial.leaderboards.scores import ecdf, leave_one_workload_out, level_factors
from timetrial.leaderboards.tracks import front_boards

from .synthetic_records import LOSS, lognormal_times, trials, workload

WORKLOADS = (workload(), workload("shakespeare_gpt", metric=LOSS), workload("ctr_dlrm"))
SECONDS = {"adamw": (20, 20, 20), "lion": (30, 12, 25), "muon": (12, 26, 15), "late": (18, 18, None)}


@pytest.fixture(scope="module")
def front():
    rng = np.random.default_rng(0)
    records = []
    for entry, by_workload in SECONDS.items():
        for of, seconds in zip(WORKLOADS, by_workload, strict=True):
            records += [] if seconds is None else [r for r, _ in trials(of, entry, lognormal_times(rng, seconds, 5, 0.03))]
    return front_boards(board(records), records, "adamw")[0]


@pytest.fixture(scope="module")
def taken(front):
    return breakdown(front.field, next(iter(front.headlines.values())))


def test_parts_are_the_factors_at_the_main_target_in_the_order_of_the_headlines(front, taken):
    assert list(taken.parts) == [h.entry for h in next(iter(front.headlines.values()))]
    mains = {w.identity: w.ladder.main for w in WORKLOADS}
    for f in level_factors(front.field):
        if f.level == mains[f.workload]:
            assert taken.parts[f.entry][f.workload].factor == f


def test_the_factors_of_an_entry_multiply_to_its_headline(front, taken):
    for h in next(iter(front.headlines.values())):
        factors = [part.factor.factor.value for part in taken.parts[h.entry].values()]
        assert h.factor.value == pytest.approx(float(np.exp(np.mean(np.log(factors)))))


def test_without_is_the_headline_over_the_other_workloads(front, taken):
    for left_out, found in leave_one_workload_out(front.field).items():
        for h in found:
            part = taken.parts[h.entry].get(left_out)
            assert part is None or part.without == h
    assert taken.parts["late"]["cifar10_cnn@1"].without.why is not None  # still not measured on all of the others


def test_a_workload_that_an_entry_was_not_measured_on_has_no_part(taken):
    assert "ctr_dlrm@1" not in taken.parts["late"] and len(taken.parts["muon"]) == 3


def test_the_profile_is_the_runtime_distribution_over_all_workloads(front, taken):
    for series in taken.profile.series:
        steps = ecdf(front.field, series.label)
        for cost, share in zip(taken.profile.grid, series.values, strict=True):
            assert share == pytest.approx(max((s for c, s in steps if c <= cost), default=0.0), rel=1e-3)
