"""Crossings are interpolated, confirmed, and never an infinity; a curve reads back to the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.suite.curve import CurvePoint, crossings, read_curve, write_curve
from timetrial.suite.errors import RecordError
from timetrial.suite.workload import Direction, Lens, Metric, TargetLadder

UP = Metric("accuracy", Direction.MAXIMIZE, "fraction")
DOWN = Metric("loss", Direction.MINIMIZE, "nats")


def point(i: int, quality: float) -> CurvePoint:
    return CurvePoint(100 * i, 10 * i, 2.0 * i, 4.0 * i, 1e9 * i, 10 * i, None, 0.5 if i else None, 1.0, quality)


def curve(*qualities: float) -> tuple[CurvePoint, ...]:
    return tuple(point(i, q) for i, q in enumerate(qualities))


def crossing_of(level, qualities, metric=UP, confirmations=1):
    ladder = TargetLadder((level,), level, confirmations=confirmations)
    return crossings(curve(*qualities), metric, ladder)[0]


def test_cost_is_interpolated_in_quality_in_every_lens():
    found = crossing_of(0.75, [0.1, 0.5, 1.0, 1.0])
    assert found.cost == {
        Lens.CHARGED_SECONDS: 3.0,
        Lens.CPU_SECONDS: 6.0,
        Lens.STEPS: 15.0,
        Lens.EXAMPLES: 150.0,
        Lens.FLOPS: 1.5e9,
        Lens.GRADIENT_DEPTH: 15.0,
    }


def test_minimised_metrics_cross_downwards():
    assert crossing_of(2.0, [4.0, 3.0, 1.0, 1.0], DOWN).cost[Lens.EXAMPLES] == 150.0


def test_equality_counts_as_reached():
    assert crossing_of(0.5, [0.1, 0.5, 0.5]).cost[Lens.EXAMPLES] == 100.0


def test_a_lucky_evaluation_that_is_not_confirmed_does_not_count():
    assert crossing_of(0.5, [0.1, 0.6, 0.4, 0.6, 0.6]).cost[Lens.EXAMPLES] == 250.0
    assert not crossing_of(0.5, [0.1, 0.6, 0.4, 0.4]).hit


def test_the_last_evaluation_of_a_trial_needs_no_confirmation():
    assert crossing_of(0.5, [0.1, 0.4, 0.6]).hit


def test_more_confirmations_are_demanded_when_the_ladder_says_so():
    qualities = [0.1, 0.6, 0.6, 0.4, 0.6, 0.6, 0.6]
    assert crossing_of(0.5, qualities, confirmations=1).cost[Lens.EXAMPLES] < 100
    assert crossing_of(0.5, qualities, confirmations=2).cost[Lens.EXAMPLES] > 300


def test_a_level_below_the_untrained_model_costs_nothing():
    assert crossing_of(0.05, [0.1, 0.5, 0.5]).cost[Lens.CHARGED_SECONDS] == 0.0


def test_a_missed_level_has_no_cost_at_all():
    found = crossing_of(0.9, [0.1, 0.5])
    assert (found.hit, found.cost) == (False, {})


finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(finite, min_size=1, max_size=20), finite, st.integers(0, 3))
def test_crossing_lies_between_the_evaluations_around_it(qualities, level, confirmations):
    found = crossing_of(level, qualities, confirmations=confirmations)
    reached = [q >= level for q in qualities]
    first = next((i for i in range(len(reached)) if all(reached[i : i + 1 + confirmations])), None)
    assert found.hit == (first is not None)
    if first is not None:
        assert 100 * max(first - 1, 0) - 1e-6 <= found.cost[Lens.EXAMPLES] <= 100 * first + 1e-6


@given(st.lists(finite, min_size=2, max_size=20), st.lists(finite, min_size=2, max_size=6))
def test_harder_levels_never_cost_less(qualities, levels):
    ordered = tuple(sorted(set(levels)))
    found = crossings(curve(*qualities), UP, TargetLadder(ordered, ordered[0]))
    costs = [c.cost[Lens.EXAMPLES] for c in found if c.hit]
    assert costs == sorted(costs)
    assert [c.hit for c in found] == sorted((c.hit for c in found), reverse=True)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=10))
def test_a_written_curve_reads_back_to_the_same_bits(qualities):
    points = curve(*qualities)
    assert read_curve(write_curve(points), "here") == points


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("quality", "score"), "expected columns"),
        (lambda text: text.replace("0.25", "nan"), "finite"),
        (lambda text: text.replace("0.25", "fast"), "expected a number"),
        (lambda text: text + "1,2\n", "expected 10 values, given 2"),
        (lambda text: "", "an empty file"),
        (lambda text: text + text.splitlines()[1] + "\n", "runs backwards"),
    ],
)
def test_an_altered_curve_is_refused_by_name(change, message):
    with pytest.raises(RecordError, match=f"curve.csv.*{message}"):
        read_curve(change(write_curve(curve(0.125, 0.25))), "curve.csv")


def test_curves_carry_memory_where_it_is_known_and_older_ones_keep_their_bytes():
    old = (point(0, 0.1), point(1, 0.5))
    assert "peak_memory_bytes" not in write_curve(old)
    new = tuple(replace(p, peak_memory_bytes=10**9 + p.steps, optimizer_state_bytes=None if not p.steps else 640) for p in old)
    assert read_curve(write_curve(new), "here") == new and read_curve(write_curve(old), "here") == old
    with pytest.raises(RecordError, match="expected columns"):
        read_curve(write_curve(new).replace("peak_memory_bytes", "peak"), "here")
