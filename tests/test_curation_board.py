"""Two budgets side by side, and how many uses a selection needs until it pays: by hand, and against a brute-force search."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.leaderboards.break_even import BreakEven, break_even, break_even_uses
from timetrial.leaderboards.curation import CUT_OFF, comparisons, markdown, places, report, two_budgets
from timetrial.leaderboards.curation_scaling import scaling, scaling_markdown, time_scaling
from timetrial.leaderboards.curation_summary import summaries, summary_markdown
from timetrial.leaderboards.curation_trials import at_examples, at_seconds, quality_at
from timetrial.leaderboards.scaling import Repetition
from timetrial.suite import cli
from timetrial.suite.curve import crossings
from timetrial.suite.errors import UserError
from timetrial.suite.record import write_record
from timetrial.suite.workload import Lens

from .synthetic_records import ACCURACY, LOSS, trial, workload

SECONDS = st.integers(0, 400).map(lambda n: n / 4)


@given(SECONDS, SECONDS, SECONDS)
def test_break_even_is_the_first_number_of_uses_that_is_not_slower(selection, training, reference):
    found = next((m for m in range(1, 2000) if selection / m + training <= reference), None)
    if training == reference and selection > 0:
        found = None
    assert break_even_uses(selection, training, reference) == found


@pytest.mark.parametrize("seconds", [(-1, 1, 1), (1, math.inf, 1), (1, 1, math.nan)])
def test_what_is_no_time_is_refused(seconds):
    with pytest.raises(ValueError, match="expected seconds"):
        break_even_uses(*seconds)


SEEDS = range(5)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([15.0, 15.2, 15.1, 14.9, 15.3], "5 uses"),  # 24 s of choosing against 5 s saved
        ([15.0, 35.2, 15.1, 34.9, 15.3], "5 uses?"),  # by medians, but two seeds say the opposite
        ([25.0, 25.2, 25.1, 24.9, 25.3], "never"),
        ([15.0, 35.2, 25.1, 34.9, 15.3], "never?"),
        ([500.0] * 5, "never"),
        ([15.0, 15.2, 15.1], "5 uses?"),  # too few seeds for any claim
    ],
)
def test_whether_a_selection_pays_is_said_with_a_question_mark_where_noise_may_have_made_it(times, said):
    full = {seed: trial(workload(), "adamw", seed, 20.0 + seed / 10)[0] for seed in SEEDS}
    own = {seed: chosen(workload(), "adamw + el2n 0.5", seed, seconds, 24.0)[0] for seed, seconds in enumerate(times)}
    assert break_even(own, full).said == said


def test_a_selection_that_costs_nothing_pays_at_once_or_never():
    full = {seed: trial(workload(), "adamw", seed, 20.0 + seed / 10)[0] for seed in SEEDS}
    fast = {seed: trial(workload(), "adamw + rs2 0.5", seed, 18.0 + seed / 10)[0] for seed in SEEDS}
    assert break_even(fast, full) == BreakEven(1, shown=True)
    assert break_even(full, fast) == BreakEven(None, shown=True)
    assert break_even(full, full) == BreakEven(1, shown=False)


def test_quality_is_interpolated_between_evaluations_and_held_at_the_end():
    _, curve = trial(workload())
    a, b = curve[3], curve[4]
    assert quality_at(curve, Lens.EXAMPLES, (a.examples + b.examples) / 2) == pytest.approx((a.quality + b.quality) / 2)
    assert quality_at(curve, Lens.EXAMPLES, a.examples) == pytest.approx(a.quality)
    assert quality_at(curve, Lens.CHARGED_SECONDS, 1e9) == curve[-1].quality
    assert quality_at(curve[2:], Lens.EXAMPLES, 0) == curve[2].quality  # all was spent on choosing: the model is untrained


def test_beyond_its_end_a_curve_says_something_only_if_it_ended_by_itself():
    record, curve = trial(workload(), seconds_to_main=30.0)
    assert at_examples((record, curve)) == curve[-1].quality
    assert at_seconds((record, curve), 1e9) == curve[-1].quality  # all examples were seen
    short = cut_off((record, curve), 20)
    assert at_examples(short) is None
    assert at_seconds(short, 1e9) is None
    assert at_seconds(short, curve[10].charged_seconds) == curve[10].quality
    all_levels = replace(record, crossings=tuple(replace(c, hit=True) for c in record.crossings))
    assert at_examples((all_levels, curve[:20])) == curve[19].quality  # nothing harder was left to reach


def cut_off(whole, points):
    """The trial as it is when the seconds end it after so many evaluations."""
    record, curve = whole
    return replace(record, crossings=crossings(curve[:points], record.workload.metric, record.workload.ladder)), curve[:points]


def test_an_arm_that_was_cut_off_is_flagged_and_has_no_quality_at_equal_examples():
    of = workload()
    short = [cut_off(trial(of, "adamw + el2n 0.5", seed, 50.0), 20) for seed in range(3)]
    trials = [trial(of, "adamw", seed) for seed in range(3)] + [trial(of, "adamw + random 0.5", seed) for seed in range(3)] + short
    (arm,) = (arm for arm in two_budgets(trials) if arm.curation == "el2n")
    assert arm.at_examples.value is None and arm.pairs == 0 and arm.flags == (CUT_OFF,)
    assert f"| not measured | not measured |  | never? | 3 | {CUT_OFF} |" in markdown(two_budgets(trials))


def chosen(of, entry, seed, seconds_to_main, selection):
    """A trial whose selection took ``selection`` seconds before training began."""
    record, curve = trial(of, entry, seed, seconds_to_main)
    later = tuple(replace(p, charged_seconds=p.charged_seconds + (selection if p.examples else 0)) for p in curve)
    crossings = tuple(
        replace(c, cost={**c.cost, Lens.CHARGED_SECONDS: c.cost[Lens.CHARGED_SECONDS] + selection}) if c.hit else c
        for c in record.crossings
    )
    return replace(record, crossings=crossings, time=replace(record.time, wall_seconds={"curate": selection})), later


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_a_faster_method_wins_at_equal_examples_and_pays_after_enough_uses(metric):
    of = workload(metric=metric)
    trials = [trial(of, "adamw", seed, 20.0) for seed in range(3)]
    trials += [trial(of, "adamw + random 0.5", seed, 25.0) for seed in range(3)]
    trials += [chosen(of, "adamw + el2n 0.5", seed, 15.0, 24.0) for seed in range(3)]
    arms = {arm.curation: arm for arm in two_budgets(trials)}
    assert (arms["el2n"].wins, arms["el2n"].pairs) == (3, 3)
    assert arms["el2n"].selection_seconds == 24.0
    assert arms["el2n"].pays.uses == 5  # 24 s of choosing against 5 s saved a training
    assert arms["random"].pays.uses is None and arms["all"].pays is None
    order = -1 if metric is LOSS else 1
    assert order * arms["el2n"].at_seconds.value < order * arms["el2n"].at_examples.value
    assert arms["all"].at_seconds.value == arms["all"].at_examples.value
    table = markdown(two_budgets(trials), seeds=5)
    assert "| 0.5 | el2n | 24.0 s |" in table and "5 uses? | 3/5 |" in table and "never?" in table


def arm(of, curation, seconds, options=None, seeds=4):
    """Trials of a method that needs about ``seconds`` to the main level, the same wobble of a seed in every arm."""
    for seed in range(seeds):
        record, curve = trial(of, f"adamw + {curation} 0.5", seed, seconds * (1 + 0.02 * ((seed * 7) % 5)))
        yield replace(record, entry=replace(record.entry, curation_options=options or {})), curve


def flagged(of, *arms):
    trials = [trial(of, "adamw", seed) for seed in range(4)] + [t for own in arms for t in own]
    return {arm.curation: arm.flags for arm in two_budgets(trials) if arm.flags}


def test_the_summary_names_what_is_shown_and_counts_the_rest():
    of = workload()
    full = [trial(of, "adamw", seed, 28 * (1 + 0.02 * ((seed * 7) % 5))) for seed in range(5)]
    ways = {"random": 30, "good": 20, "bad": 45, "like_random": 30}
    (line,) = found = summaries(comparisons([*full, *(t for name, seconds in ways.items() for t in arm(of, name, seconds, seeds=5))]))
    assert (line.methods, line.above, line.below, line.neither, line.sooner) == (4, ("good 0.5",), 1, 1, ("good 0.5 (at once)",))
    assert "| 4 | good 0.5 | 1 | 1 | good 0.5 (at once) |" in summary_markdown(found)
    (few,) = found = summaries(comparisons([*full[:1], *(t for name, seconds in ways.items() for t in arm(of, name, seconds, seeds=1))]))
    assert not few.compared and few.sooner == () and "| 4 | not measured |  |  | none shown |" in summary_markdown(found)
    assert summary_markdown(()) == ""


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_a_method_that_loses_to_random_or_to_its_own_reversal_is_flagged(metric):
    of = workload(metric=metric)
    random, good, bad = arm(of, "random", 30), arm(of, "good", 20), arm(of, "bad", 45)
    reversed_good, reversed_bad = (arm(of, "reversed", seconds, {"of": name}) for name, seconds in (("good", 50), ("bad", 25)))
    found = flagged(of, random, good, bad, reversed_good, reversed_bad)
    assert found == {"bad": ("below random", "below its own reversal"), "reversed (of=bad)": ("a control above random",)}
    assert "| below random; below its own reversal |" in markdown(
        two_budgets(
            [
                *(trial(of, "adamw", s) for s in range(4)),
                *arm(of, "random", 30),
                *arm(of, "bad", 45),
                *arm(of, "reversed", 25, {"of": "bad"}),
            ]
        )
    )


def test_a_method_within_noise_of_its_reversal_is_flagged_too_and_equal_trials_are_no_win():
    of = workload()
    same = [
        (replace(record, entry=replace(record.entry, curation="reversed", curation_options={"of": "even"})), c)
        for record, c in arm(of, "even", 20)
    ]
    assert flagged(of, arm(of, "random", 30), arm(of, "even", 20), same)["even"] == ("not above its own reversal",)
    wobbly = [t for seed, s in enumerate((20, 40, 19, 41)) for t in [trial(of, "adamw + even 0.5", seed, s)]]
    assert "not above its own reversal" in flagged(of, wobbly, arm(of, "reversed", 30, {"of": "even"}))["even"]


def test_one_seed_or_an_ambiguous_reversal_decides_nothing():
    of = workload()
    assert flagged(of, arm(of, "random", 30, seeds=1), arm(of, "bad", 45, seeds=1)) == {}
    settings = [arm(of, "bad", 45, {"embedder": name}) for name in ("pca", "raw")]
    assert flagged(of, *settings, arm(of, "reversed", 20, {"of": "bad", "options": {}})) == {}
    settings = [arm(of, "bad", 45, {"embedder": name}) for name in ("pca", "raw")]
    found = flagged(of, *settings, arm(of, "reversed", 20, {"of": "bad", "options": {"embedder": "raw"}}))
    assert found == {"bad (embedder=raw)": ("below its own reversal",)}


def test_the_order_of_trials_changes_nothing():
    of = workload()
    trials = [trial(of, entry, seed, 20.0 + seed) for entry in ("adamw", "adamw + random 0.5", "adamw + rs2 0.1") for seed in range(3)]
    assert two_budgets(trials) == two_budgets(trials[::-1])


def test_one_method_with_two_settings_is_two_arms():
    of = workload()
    record, curve = trial(of, "adamw + prototypes 0.5")
    arms = [
        (replace(record, entry=replace(record.entry, curation_options={"embedder": name, "clusters": 10})), curve)
        for name in ("pca", "patches")
    ]
    found = {arm.curation for arm in two_budgets([trial(of, "adamw"), *arms])}
    assert found == {"all", "prototypes (embedder=pca)", "prototypes (embedder=patches)"}


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UserError, match="on all data"):
        two_budgets([trial(workload(), "adamw + random 0.5")])
    with pytest.raises(UserError, match="2 combinations"):
        two_budgets([trial(workload(), "adamw"), trial(workload(), "lion")])
    with pytest.raises(UserError, match="timetrial study nano_curation"):
        report(comparisons([trial(workload(), "adamw"), trial(workload(), "lion + random 0.5")]))


def test_every_workload_with_both_gets_a_table():
    of, other = workload("one"), workload("two")
    trials = [trial(of, "adamw"), trial(of, "adamw + rs2 0.5"), trial(other, "adamw"), trial(other, "lion + rs2 0.5")]
    text = report(comparisons(trials))
    assert "### one@1, adamw (settings " in text and "cpu2, budget 40.0 k examples and 60.0 s\n" in text and "two@1" not in text


def test_an_algorithm_with_other_hyperparameters_is_another_place():
    of = workload()
    trials = [trial(of, "adamw"), trial(of, "adamw + rs2 0.5")]
    tuned = [trial(of, "adamw", record_id="tuned", hyperparameters={"lr": 0.1})]
    assert report(comparisons(trials + tuned)) == report(comparisons(trials))
    with pytest.raises(UserError, match="2 combinations"):
        two_budgets(trials + tuned)


def test_trials_on_all_data_count_with_the_seeds_of_chosen_ones():
    of = workload()
    trials = [trial(of, entry, seed, 20.0) for entry in ("adamw", "adamw + random 0.5") for seed in range(3)]
    slow_hour = [trial(of, "adamw", seed, 40.0) for seed in range(7, 12)]
    (before,), (after,) = places(trials).values(), places(trials + slow_hour).values()
    assert before == after
    apart = [one for one in trials if one[0].entry.curation != "all"] + slow_hour
    assert len(next(iter(places(apart).values()))) == len(apart), "with no seed in common they all count"


def sized(of, curation, law, seeds=2):
    """Trials that end at the error that a law gives for what they keep."""
    for fraction in (0.1, 0.3, 0.6) if curation != "all" else (1.0,):
        for seed in range(seeds):
            record, points = trial(of, "adamw" if curation == "all" else f"adamw + {curation} {fraction}", seed)
            error = law(record.selected.kept_examples)
            yield record, (*points[:-1], replace(points[-1], quality=1 - error, loss=error))


def test_error_against_kept_examples_tells_a_power_law_from_an_exponential():
    of = workload()
    power, exponential = (lambda n: 3 * n**-0.3), (lambda n: 0.6 * math.exp(-n / 30_000))
    (one,) = scaling([*sized(of, "random", power), *sized(of, "all", power)])
    assert one.kept == (4500, 13_500, 27_000, 45_000)
    assert one.power.rate == pytest.approx(0.3) and one.power.residual < 1e-9 < one.exponential.residual
    (two,) = scaling([*sized(of, "el2n", exponential), *sized(of, "all", exponential)])
    assert two.exponential.rate == pytest.approx(1 / 30_000) and two.exponential.residual < 1e-9 < two.power.residual
    assert two.repetition is not None  # 40,000 examples seen of 4,500
    trials = [*sized(of, "random", power), *sized(of, "all", power)]
    assert "| random | 4.50 k, 13.5 k, 27.0 k, 45.0 k | 0.300" in report(comparisons(trials))
    assert scaling(trials) == scaling(trials[::-1])


def test_a_method_that_chooses_anew_every_epoch_keeps_the_examples_of_an_epoch():
    of = workload()
    trials = [
        (replace(record, selected=replace(record.selected, kept_examples=45_000)), curve)
        for record, curve in sized(of, "rs2", lambda n: 3 * n**-0.3)
    ]
    (one,) = scaling([*trials, *sized(of, "all", lambda n: 3 * n**-0.3)])
    assert one.kept == (4500, 13_500, 27_000, 45_000)


def test_a_half_life_that_the_passes_made_do_not_tell_is_not_stated():
    of = workload()
    (one,) = scaling([*sized(of, "random", lambda n: 3 * n**-0.3), *sized(of, "all", lambda n: 3 * n**-0.3)])
    said = {}
    for half_life in (one.passes * 1.01, one.passes / 2, 0.5):
        law = Repetition(1.0, -0.3, half_life, None, None, None, 0.0)
        said[half_life] = scaling_markdown([replace(one, repetition=law)]).split("|")[-2].strip()
    assert list(said.values()) == [f"above {one.passes:.2g} epochs", f"{one.passes / 2:.2g} epochs", "below 1 epoch"]
    assert "not measured" in scaling_markdown([replace(one, repetition=None)])


def test_error_against_seconds_is_the_least_reached_by_then_whatever_was_kept():
    of = workload()
    trials = [trial(of, "adamw + el2n 0.1", seed, 10.0, ceiling=0.8) for seed in range(3)]  # early but low
    trials += [trial(of, "adamw + el2n 0.5", seed, 30.0) for seed in range(3)]
    trials += [trial(of, "adamw", seed, 20.0) for seed in range(3)]
    found = {one.curation: one for one in time_scaling(trials)}
    assert set(found) == {"all", "el2n"}
    for one in found.values():
        seconds, errors = zip(*one.points, strict=True)
        assert list(seconds) == sorted(set(seconds)) and list(errors) == sorted(set(errors), reverse=True)
        for at, error in one.points:
            reached = [1 - p.quality for r, c in trials if r.entry.curation == one.curation for p in c if 0 < p.charged_seconds <= at]
            assert error == pytest.approx(min(reached))
    assert found["all"].exponential.residual < found["all"].power.residual or found["all"].power.rate > 0
    assert time_scaling(trials) == time_scaling(trials[::-1])


def test_two_sizes_are_no_law():
    of = workload()
    assert scaling([trial(of, "adamw"), trial(of, "adamw + random 0.5")]) == ()


def test_the_command_prints_the_tables_of_a_study(tmp_path, capsys):
    folder = tmp_path / "records"
    for record, curve in [trial(workload(), "adamw"), trial(workload(), "adamw + rs2 0.5")]:
        write_record(folder / record.record_id, record, curve, "")
    assert cli.main(["leaderboard", "--budgets", "--records", str(folder), "--home", str(tmp_path)]) == 0
    assert "| 0.5 | rs2 |" in capsys.readouterr().out
