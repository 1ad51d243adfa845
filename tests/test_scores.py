"""Scores: factors against a pinned reference that nobody else's entry can move, with intervals that cover what they say."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.cells import Cell, Field, field, pin, relaxed
from timetrial.leaderboards.coupling import coupling
from timetrial.leaderboards.horizons import horizon_points
from timetrial.leaderboards.profile import held_out_rule, profile_score, profile_score_trapezoid
from timetrial.leaderboards.scores import ecdf, headlines, leave_one_entry_out, leave_one_workload_out, level_factors
from timetrial.suite.errors import RecordError
from timetrial.suite.record import Entry, Status
from timetrial.suite.workload import Direction, Lens

from .synthetic_records import LOSS, lognormal_times, trial, trials, workload

WORKLOADS = (workload("cifar10_cnn"), workload("shakespeare_gpt", metric=LOSS), workload("molhiv_gnn"), workload("digits_conv"))
MEDIANS = {"adamw": 20.0, "muon": 12.0, "lion": 26.0, "nesterov": 19.5, "adagrad": 80.0}


@cache
def example():
    rng = np.random.default_rng(3)
    return tuple(
        pair
        for of in WORKLOADS
        for entry, median in MEDIANS.items()
        for pair in trials(of, entry, lognormal_times(rng, median, 10 if entry == "adamw" else 5))
    )


def field_of(found, reference="adamw", **options):
    records = [record for record, _ in found]
    built = board(records)
    return field(built, records, pin(built, reference, "cpu2", "test"), **options)


def without(gone):
    return [pair for pair in example() if pair[0].entry.name not in gone]


def main_seconds(found, entry, of):
    picked = [r for r, _ in found if r.entry.name == entry and r.workload == of]
    return [r.crossing().cost[Lens.CHARGED_SECONDS] if r.crossing().hit else 2 * of.budget.charged_seconds for r in picked]


def by_entry(found):
    return {h.entry: h for h in found}


def test_a_factor_is_the_ratio_of_medians_and_the_headline_their_geometric_mean():
    found = by_entry(headlines(field_of(example())))
    for entry in MEDIANS:
        beside = [pair for pair in example() if pair[0].seed < 5 or entry == "adamw"]  # of the reference, the seeds that the entry has
        ratios = [np.median(main_seconds(beside, "adamw", w)) / np.median(main_seconds(beside, entry, w)) for w in WORKLOADS]
        assert found[entry].factor.value == pytest.approx(float(np.exp(np.mean(np.log(ratios)))))
    ranked = [h for h in headlines(field_of(example())) if h.why is None]
    assert ranked == sorted(ranked, key=lambda h: -h.factor.value)


def test_the_reference_scores_exactly_one():
    found = by_entry(headlines(field_of(example())))["adamw"]
    assert (found.factor.value, found.factor.interval.low, found.factor.interval.high) == (1.0, 1.0, 1.0)


def test_a_miss_counts_as_twice_the_budget_and_is_shown_at_once_the_budget():
    found = [*trials(WORKLOADS[0], "adamw", [20.0] * 5), *trials(WORKLOADS[0], "slow", [500.0] * 5)]
    factors = {(f.entry, f.level): f for f in level_factors(field_of(found))}
    slow, reference = factors["slow", 0.88], np.median(main_seconds(found, "adamw", WORKLOADS[0]))
    assert (slow.hits, slow.n) == (0, 5)
    assert slow.factor.value == pytest.approx(reference / 120)
    assert slow.at_budget.value == pytest.approx(reference / 60)


def test_a_diverged_trial_counts_as_a_miss_at_every_level():
    found = [*trials(WORKLOADS[0], "adamw", [20.0] * 5), *trials(WORKLOADS[0], "wild", [10.0] * 5, status=Status.DIVERGED)]
    assert {f.hits for f in level_factors(field_of(found)) if f.entry == "wild"} == {0}


@settings(max_examples=12, deadline=None)
@given(st.sets(st.sampled_from([e for e in MEDIANS if e != "adamw"])))
def test_who_else_entered_moves_no_bit_of_a_score(gone):
    everyone, fewer = (field_of(found) for found in (example(), without(gone)))
    for score in (headlines, level_factors):
        before = {(f.entry, getattr(f, "workload", ""), getattr(f, "level", 0)): (f.factor, f.at_budget) for f in score(everyone, 200)}
        after = {(f.entry, getattr(f, "workload", ""), getattr(f, "level", 0)): (f.factor, f.at_budget) for f in score(fewer, 200)}
        assert after == {key: value for key, value in before.items() if key[0] not in gone}


def test_leaving_an_entry_out_moves_no_other_factor():
    whole = by_entry(headlines(field_of(example()), 200))
    for gone, rest in leave_one_entry_out(field_of(example()), 200).items():
        assert {h.entry: h.factor for h in rest} == {e: h.factor for e, h in whole.items() if e != gone}


def test_leaving_a_workload_out_gives_the_mean_of_the_others():
    reports = leave_one_workload_out(field_of(example()), 200)
    assert set(reports) == {w.identity for w in WORKLOADS}
    others = field_of([pair for pair in example() if pair[0].workload is not WORKLOADS[0]])
    assert by_entry(reports[WORKLOADS[0].identity]) == by_entry(headlines(others, 200))


def test_fewer_than_half_of_the_workloads_hit_is_unranked():
    found = by_entry(headlines(field_of(example()), 200))
    assert found["adagrad"].rank is None
    assert "fewer than half of the core workloads hit (0 of 4)" in found["adagrad"].why


def test_an_entry_not_measured_everywhere_is_unranked_and_says_so():
    found = [pair for pair in example() if pair[0].entry.name != "muon" or pair[0].workload is not WORKLOADS[1]]
    muon = by_entry(headlines(field_of(found), 200))["muon"]
    assert (muon.rank, muon.workloads_measured) == (None, 3)
    assert "not measured on 1 of 4" in muon.why
    judged = field_of(found, required_units=6)  # of which each cell lacks one or more: misses
    assert by_entry(headlines(judged, 200))["muon"].rank is not None
    assert {cell.n for cell in judged.entries["muon"].values()} == {6}
    assert np.isnan(judged.entries["muon"]["shakespeare_gpt@1"].costs).all()


def test_no_interval_and_no_difference_below_five_seeds():
    found = [pair for pair in example() if pair[0].seed < 3]
    assert [(h.factor.interval, h.rank) for h in headlines(field_of(found), 200) if h.why is None] == [(None, 1)] * 4


def test_groups_tell_apart_what_is_apart():
    found = by_entry(headlines(field_of(example())))
    assert (found["muon"].rank, found["lion"].rank) == (1, 4)
    assert not set(found["muon"].group) & set(found["lion"].group)


def test_the_settings_with_most_trials_are_scored_never_the_best():
    lucky = trial(WORKLOADS[0], "muon", 0, 3.0, record_id="lucky", hyperparameters={"lr": 1.0})
    plain, with_lucky = field_of(example()), field_of([*example(), lucky])
    assert headlines(with_lucky, 200) == headlines(plain, 200)
    assert [r.record_id for r in with_lucky.set_aside] == ["lucky"]


def test_a_pinned_record_that_is_gone_is_named():
    records = [record for record, _ in example()]
    built = board(records)
    pinned = pin(built, "adamw", "cpu2", "7")
    fewer = [r for r in records if r.record_id != "cifar10_cnn-adamw-s0"]
    with pytest.raises(RecordError, match=r"cifar10_cnn@1.*version '7'"):
        field(board(fewer), fewer, pinned)
    with pytest.raises(RecordError, match="nobody"):
        pin(built, "nobody", "cpu2", "7")


def test_the_best_of_a_study_of_tuning_trials_is_its_cost():
    pairs = [trial(WORKLOADS[0], "a", s, t, study=f"study {s // 3}") for s, t in enumerate([20.0, 10.0, 500.0, 14.0, 12.0, 30.0])]
    built = field_of(pairs, "a", unit_of=lambda record: record.study)
    costs = built.reference[WORKLOADS[0].identity].costs[built.main[WORKLOADS[0].identity]]
    assert costs == pytest.approx([10.0, 12.0], abs=0.1)


def test_other_lenses_score_with_their_own_budget():
    missing = trials(WORKLOADS[0], "slow", [500.0] * 5)
    factors = {}
    for lens in (Lens.EXAMPLES, Lens.FLOPS):
        found = [*trials(WORKLOADS[0], "adamw", [20.0] * 5), *missing]
        factors[lens] = next(f for f in level_factors(field_of(found, lens=lens)) if f.entry == "slow" and f.level == 0.88)
    reference = np.median(main_seconds(example()[:0] or trials(WORKLOADS[0], "adamw", [20.0] * 5), "adamw", WORKLOADS[0]))
    for found in factors.values():  # the synthetic budget of 60 s is 40,000 examples at 4e7 FLOPs each
        assert found.factor.value == pytest.approx(reference / 120)


def test_relaxed_targets_are_read_off_the_curves_and_never_cost_more():
    amounts = [0.0, 0.05, 0.1, 0.2]
    curves = {record.record_id: points for record, points in example()}
    eased = field_of(example(), curves=curves, relaxations=amounts)
    at_main = {h.entry: h.factor.value for h in headlines(eased, 200, dict.fromkeys(eased.main, 0))}
    assert at_main == {h.entry: h.factor.value for h in headlines(field_of(example()), 200)}
    for cells in eased.entries.values():
        for cell in cells.values():
            filled = np.where(np.isnan(cell.costs), np.inf, cell.costs)
            assert np.all(filled[1:] <= filled[:-1])
    assert relaxed(0.88, Direction.MAXIMIZE, 0.1) == pytest.approx(0.792)
    assert relaxed(2.0, Direction.MINIMIZE, 0.1) == pytest.approx(2.2)


def test_the_runtime_ecdf_climbs_to_the_share_of_targets_hit():
    built = field_of(example())
    for entry, cells in built.entries.items():
        costs, shares = zip(*ecdf(built, entry), strict=True)
        assert list(costs) == sorted(costs)
        assert list(shares) == sorted(shares)
        every = np.concatenate([cell.costs.ravel() for cell in cells.values()])
        assert shares[-1] == pytest.approx(np.isfinite(every).mean())
    half = [pair for pair in example() if pair[0].entry.name != "muon" or pair[0].workload in WORKLOADS[:2]]
    assert ecdf(field_of(half), "muon")[-1][1] < ecdf(built, "muon")[-1][1]


def skewed_times(rng, median, n, spread=0.1):
    """Times with a long slow tail: the exponential's median is log 2."""
    return median * np.exp(spread * (rng.exponential(size=n) - math.log(2)))


def synthetic_field(rng, entries, n, times=lognormal_times):
    """Cells without curves: seconds around 20 / factor on every workload, for many repetitions of an experiment."""

    def cell(median, count, key):
        return Cell(np.array([times(rng, median, count)]), key)

    ids = [w.identity for w in WORKLOADS]
    return Field(
        lens=Lens.CHARGED_SECONDS,
        workloads=WORKLOADS,
        levels=dict.fromkeys(ids, (0.88,)),
        main=dict.fromkeys(ids, 0),
        budgets=dict.fromkeys(ids, 60.0),
        entries={e: {i: cell(20 / factor, n, f"{e}{i}{rng.random()}") for i in ids} for e, factor in entries.items()},
        reference={i: cell(20.0, 20, f"{i}{rng.random()}") for i in ids},
    )


def coverage(n, times, experiments=250):
    """How often the intervals of a workload's factor and of the headline hold the truth, over experiments with fresh seeds."""
    rng = np.random.default_rng(n)
    single, headline = [], []
    for _ in range(experiments):
        built = synthetic_field(rng, {"muon": 1.39}, n, times)
        single += [f.factor.interval.low <= 1.39 <= f.factor.interval.high for f in level_factors(built, 400)]
        headline += [h.factor.interval.low <= 1.39 <= h.factor.interval.high for h in headlines(built, 400)]
    return np.mean(single), np.mean(headline)


@pytest.mark.parametrize("times", [lognormal_times, skewed_times])
@pytest.mark.parametrize("n", [5, 10])
def test_intervals_cover_the_true_factor_from_five_seeds_on(n, times):
    single, headline = coverage(n, times)
    assert 0.93 <= single <= 0.985
    assert 0.92 <= headline <= 0.995


def test_three_seeds_would_cover_too_little_which_is_why_no_interval_is_shown(monkeypatch):
    monkeypatch.setattr("timetrial.leaderboards.scores.MINIMUM_N", 3)
    assert coverage(3, lognormal_times)[0] < 0.92


def test_the_same_entry_under_two_names_shares_a_group():
    """A/A: of 200 boards with fresh seeds, at least 95 % put the twins into one group, whoever stands around them."""
    rng = np.random.default_rng(11)
    shared = []
    for _ in range(200):
        found = by_entry(headlines(synthetic_field(rng, {"twin a": 1.2, "twin b": 1.2, "muon": 1.6, "lion": 1.1}, 5), 400))
        shared.append(bool(set(found["twin a"].group) & set(found["twin b"].group)))
    assert np.mean(shared) >= 0.95


def test_the_profile_score_is_the_area_under_the_profile():
    times = np.array([[10.0, 20.0, np.inf], [15.0, 10.0, np.inf], [40.0, np.inf, 30.0]])
    by_hand = [(3 + 2 + 0) / 9, (2.5 + 3 + 0) / 9, (0 + 0 + 3) / 9]
    assert profile_score(times) == pytest.approx(by_hand)
    assert profile_score_trapezoid(times) == pytest.approx(by_hand, abs=0.005)
    fine = np.linspace(1, 4, 300_001)
    ratios = times / times.min(axis=0)
    assert profile_score(times) == pytest.approx([np.mean(r[:, None] <= fine) for r in ratios], abs=1e-5)


def test_the_profile_score_of_an_entry_moves_when_another_leaves_as_ours_never_does():
    times = np.array([[10.0, 30.0], [11.0, 25.0], [40.0, 6.0]])
    assert profile_score(times)[:2].argmax() != profile_score(times[:2]).argmax()


def test_the_held_out_rule_zeroes_a_base_whose_variant_is_missed_or_too_slow():
    base = np.array([[10.0, 10.0], [12.0, 45.0], [11.0, 12.0]])
    found = held_out_rule(base, {0: np.array([5.0, 8.0, 21.0])})
    assert found.tolist() == [[10.0, 10.0], [12.0, math.inf], [math.inf, 12.0]]
    assert held_out_rule(base, {0: np.array([np.inf, 8.0, 9.0])})[0, 0] == math.inf
    assert base[0, 0] == 10.0


def coupled(rng, strength, n=5, rows=4, columns=5):
    lean = rng.standard_normal((rows, columns))
    lean -= lean.mean(axis=0)
    lean -= lean.mean(axis=1, keepdims=True)
    lean *= strength / math.sqrt((lean**2).sum() / ((rows - 1) * (columns - 1)))
    base = rng.normal(3, 0.3, (rows, 1)) + rng.normal(0, 0.5, (1, columns))
    return {(f"r{i}", f"c{j}"): np.exp(base[i, j] + lean[i, j] + 0.1 * rng.standard_normal(n)) for i in range(rows) for j in range(columns)}


def test_coupling_finds_what_was_planted_and_nothing_where_costs_multiply():
    rng = np.random.default_rng(0)
    strong = coupling(coupled(rng, 0.2))
    assert strong.typical == pytest.approx(math.exp(0.2), rel=0.06)
    assert strong.p < 1e-6
    none = [coupling(coupled(rng, 0.0)) for _ in range(300)]
    assert 0.02 <= np.mean([c.p < 0.05 for c in none]) <= 0.09
    assert np.mean([c.typical_interval.low == 1.0 for c in none]) >= 0.93


def test_the_interval_of_coupling_covers_the_truth():
    rng = np.random.default_rng(1)
    found = [coupling(coupled(rng, 0.1)).typical_interval for _ in range(300)]
    assert 0.92 <= np.mean([i.low <= math.exp(0.1) <= i.high for i in found]) <= 0.995


def test_surprises_of_a_row_multiply_to_one_and_name_its_worst_column():
    found = coupling(coupled(np.random.default_rng(2), 0.3))
    for row in ("r0", "r1", "r2", "r3"):
        surprises = [p.surprise for p in found.pairs if p.row == row]
        assert np.prod(surprises) == pytest.approx(1.0)
        assert found.worst[row] == max(surprises)
    assert all(p.interval.low <= p.surprise <= p.interval.high for p in found.pairs)


def test_an_empty_cell_is_not_measured_and_never_invented():
    costs = coupled(np.random.default_rng(3), 0.1)
    del costs["r1", "c2"]
    with pytest.raises(ValueError, match="not measured: r1 x c2"):
        coupling(costs)


def with_horizon(pair, horizon):
    record, points = pair
    entry = Entry(record.entry.name, record.entry.algorithm, "all", {"horizon": horizon})
    return dataclasses.replace(record, entry=entry, record_id=f"{record.record_id}-{horizon}"), points[: int(len(points) * horizon / 2)]


def test_the_horizon_ladder_gives_the_frontier_of_quality_against_cost():
    pairs = [
        with_horizon(trial(WORKLOADS[0], entry, seed, seconds, ceiling=ceiling), horizon)
        for entry, seconds, ceiling in (("fast", 10.0, 0.92), ("slow", 20.0, 0.93))
        for horizon in (0.25, 0.5, 1.0, 2.0)
        for seed in range(5)
    ]
    points = horizon_points([r for r, _ in pairs], {r.record_id: c for r, c in pairs})
    assert [p.horizon for p in points if p.entry == "fast"] == [0.25, 0.5, 1.0, 2.0]
    assert all(p.cost.interval is not None for p in points)
    on_frontier = {(p.entry, p.horizon) for p in points if p.on_frontier}
    brute = {
        (p.entry, p.horizon)
        for p in points
        if not any(
            q.cost.value <= p.cost.value
            and q.quality.value >= p.quality.value
            and (q.cost.value, q.quality.value) != (p.cost.value, p.quality.value)
            for q in points
        )
    }
    assert on_frontier == brute
    assert ("fast", 0.25) in on_frontier
    assert ("slow", 0.25) not in on_frontier
