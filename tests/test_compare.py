"""Two entries against each other: effects, honesty below five seeds, misses, planning, and the verb."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.compare import compare, effect, sentence, verdict
from timetrial.suite.cli import main
from timetrial.suite.errors import RecordError, UnknownName
from timetrial.suite.record import write_record
from timetrial.suite.workload import Lens

from .synthetic_records import lognormal_times, trials, workload


def costs(rng, median, n, spread=0.1):
    return dict(enumerate(lognormal_times(rng, median, n, spread)))


def duel_of(found, a="adamw", b="lion"):
    records = [record for record, _ in found]
    (duel,) = compare(board(records), records, a, b)
    return duel


def test_the_paired_effect_is_the_paired_t_test_on_logarithms():
    rng = np.random.default_rng(0)
    a, b = costs(rng, 20, 8), costs(rng, 25, 8)
    found = effect(a, b, 60)
    test = stats.ttest_rel(np.log(list(b.values())), np.log(list(a.values())))
    interval = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.factor.interval.low, found.factor.interval.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert found.pairs == 8


def test_the_unpaired_effect_is_welchs_test_on_logarithms():
    rng = np.random.default_rng(1)
    a = costs(rng, 20, 7)
    b = {seed + 100: cost for seed, cost in costs(rng, 25, 9, 0.3).items()}
    found = effect(a, b, 60)
    test = stats.ttest_ind(np.log(list(b.values())), np.log(list(a.values())), equal_var=False)
    interval = test.confidence_interval(0.95)
    assert found.pairs == 0 and found.p == pytest.approx(test.pvalue)
    assert (found.factor.interval.low, found.factor.interval.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))


def test_swapping_the_two_inverts_the_factor_and_keeps_p():
    rng = np.random.default_rng(2)
    a, b = costs(rng, 20, 6), costs(rng, 30, 6)
    one, other = effect(a, b, 60), effect(b, a, 60)
    assert one.factor.value * other.factor.value == pytest.approx(1)
    assert one.p == pytest.approx(other.p)
    assert (verdict(one), verdict(other)) == ("sooner", "later")


def test_below_five_seeds_nothing_is_claimed_however_large_the_difference():
    of = workload()
    duel = duel_of(trials(of, "adamw", [5, 5.1, 5.2, 5.1]) + trials(of, "lion", [50, 51, 52, 51]))
    found = duel.workloads[of.identity][Lens.CHARGED_SECONDS]
    assert found.factor.interval is None and found.p is None and verdict(found) == "too few"
    assert "nothing can be claimed below n = 5" in sentence(duel, of.identity, found)


def test_five_misses_against_five_hits_are_worse_without_an_invented_interval():
    found = effect(dict.fromkeys(range(6), math.nan), {s: 20.0 + s for s in range(6)}, 60)
    assert found.factor.interval is None and verdict(found) == "later"
    assert found.p == pytest.approx(2 / 2**6)
    unpaired = effect(dict.fromkeys(range(5), math.nan), {s + 9: 20.0 + s for s in range(5)}, 60)
    assert verdict(unpaired) == "later"
    assert verdict(effect(dict.fromkeys(range(5), math.nan), dict.fromkeys(range(5), math.nan), 60)) == "not told apart"


def test_the_planned_number_of_seeds_has_the_power_that_was_asked_for():
    """Simulated: four of five experiments of that size find a planted difference of 10 %."""
    rng = np.random.default_rng(3)
    needed = effect(costs(rng, 20, 400, 0.1), costs(rng, 20, 400, 0.1), 60).seeds_needed(0.1)
    a = 0.1 * rng.standard_normal((4000, needed))
    b = 0.1 * rng.standard_normal((4000, needed)) + math.log(1.1)
    assert (stats.ttest_rel(a, b, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.04)
    assert 10 < needed < 30


def test_intervals_of_no_difference_cover_one_as_often_as_they_say():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(400):
        bounds = effect(costs(rng, 20, 5), costs(rng, 20, 5), 60).factor.interval
        covered += bounds.low <= 1 <= bounds.high
    assert covered / 400 == pytest.approx(0.95, abs=0.04)


def test_overall_is_the_geometric_mean_and_every_lens_is_there():
    rng = np.random.default_rng(5)
    found = []
    for of in (workload(), workload("shakespeare_gpt")):
        found += trials(of, "adamw", lognormal_times(rng, 20, 5)) + trials(of, "lion", lognormal_times(rng, 30, 5))
    duel = duel_of(found)
    factors = [by_lens[Lens.CHARGED_SECONDS].factor.value for by_lens in duel.workloads.values()]
    overall = duel.overall[Lens.CHARGED_SECONDS]
    assert overall.factor.value == pytest.approx(math.sqrt(factors[0] * factors[1]))
    assert verdict(overall) == "sooner"
    assert set(duel.overall) == {lens for lens in Lens if lens is not Lens.JOULES}


def test_entries_that_never_met_and_unknown_ones_are_refused():
    found = trials(workload(), "adamw", [20] * 5) + trials(workload("other"), "lion", [20] * 5)
    with pytest.raises(RecordError, match="no workload in common"):
        duel_of(found)
    with pytest.raises(UnknownName, match="lion"):
        duel_of(found, b="loin")


def test_the_verb_compares_records_in_words_and_as_json(tmp_path, capsys):
    rng = np.random.default_rng(6)
    of = workload()
    for record, points in trials(of, "adamw", lognormal_times(rng, 20, 5)) + trials(of, "lion", lognormal_times(rng, 35, 5)):
        write_record(tmp_path / "records" / record.record_id, record, points, "")
    flags = ["--home", str(tmp_path), "--plan", "5%"]
    assert main(["compare", "adamw", "lion", *flags]) == 0
    said = capsys.readouterr().out
    assert "adamw reaches the target with less charged seconds than lion" in said and "seeds for 5 %" in said
    assert main(["compare", "adamw", "lion", *flags, "--json"]) == 0
    effects = json.loads(capsys.readouterr().out)["comparisons"][0]["effects"]
    seconds = next(e for e in effects if e["lens"] == "charged_seconds")
    assert seconds["verdict"] == "sooner" and seconds["seeds_needed"] >= 5
    assert main(["compare", "adamw", "lino", *flags]) == 1
    assert "did you mean" in capsys.readouterr().err
    assert main(["compare", "adamw", "lion", "--plan", "few", "--home", str(tmp_path)]) == 1


def test_run_interleaves_the_two_entries_and_alternates_who_goes_first():
    from timetrial.suite.cli.compare import interleaved_plans

    plans = interleaved_plans("adamw", "lion + random 0.5", ["digits_mlp"], 2)
    assert [(p.seed, p.entry_name) for p in plans] == [
        (0, "adamw"), (0, "lion + random 0.5"), (1, "lion + random 0.5"), (1, "adamw"),
    ]  # fmt: skip
