"""Published claims against records: verdicts by hand, by a brute-force interval, and never from trials that are not there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from timetrial.leaderboards.claims import Claim, Measure, Outcome, Side, claims_markdown, decide, load_claims, tally
from timetrial.suite.errors import ConfigError
from timetrial.suite.registry import definition, names
from timetrial.suite.workload import Lens

from .synthetic_records import ACCURACY, LOSS, trial, workload


def claim(measure=Measure.QUALITY_AT_EXAMPLES, margin=None, better=("good", 0.5), worse=("random", 0.5)):
    return Claim("good beats random", "Nobody 2026", "page 1", "elsewhere", "cifar10_cnn", Side(*better), Side(*worse), measure, margin)


def arm(of, curation, seconds, fraction=0.5):
    """One trial a number of seconds to the main target; all data where the method is 'all'."""
    entry = "adamw" if curation == "all" else f"adamw + {curation} {fraction}"
    return [trial(of, entry, seed, needed) for seed, needed in enumerate(seconds)]


FULL = (20.0, 20.5, 21.0, 20.2)
FAST, SLOW, MIXED = (10.0, 10.4, 10.8, 10.1), (30.0, 31.0, 32.0, 30.5), (10.0, 45.0, 12.0, 50.0)


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
@pytest.mark.parametrize("measure", Measure)
@pytest.mark.parametrize(("good", "outcome"), [(FAST, Outcome.HELD), (SLOW, Outcome.NOT_HELD), (MIXED, Outcome.UNDECIDED)])
def test_a_claim_holds_or_not_or_is_undecided_whichever_way_the_metric_improves(metric, measure, good, outcome):
    of = workload(metric=metric)
    trials = arm(of, "all", FULL) + arm(of, "good", good) + arm(of, "random", FULL)
    (found,) = decide([claim(measure)], trials)
    assert found.outcome is outcome
    assert found.n == 4
    assert (found.effect > found.claim.threshold) or outcome is not Outcome.HELD


def test_the_interval_is_that_of_a_paired_t_test():
    of = workload()
    good, random = arm(of, "good", MIXED), arm(of, "random", FULL)
    (found,) = decide([claim()], good + random)
    expected = stats.ttest_rel([c[-1].quality for _, c in good], [c[-1].quality for _, c in random]).confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))
    (found,) = decide([claim(Measure.SECONDS_TO_TARGET)], good + random)
    cost = [[r.crossing().cost[Lens.CHARGED_SECONDS] for r, _ in side] for side in (random, good)]
    expected = stats.ttest_rel(*np.log(cost)).confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))
    assert found.effect == pytest.approx(math.exp(np.mean(np.log(cost[0]) - np.log(cost[1]))))


def test_without_loss_means_within_the_margin():
    of = workload()
    trials = arm(of, "all", FULL) + arm(of, "good", [s * 1.02 for s in FULL])
    lost = np.mean([a[1][-1].quality - b[1][-1].quality for a, b in zip(trials[:4], trials[4:], strict=True)])
    outcomes = [decide([claim(margin=-m, worse=("all",))], trials)[0].outcome for m in (2 * lost, lost / 2)]
    assert outcomes == [Outcome.HELD, Outcome.NOT_HELD]
    (exact,) = decide([claim()], arm(of, "good", FULL) + arm(of, "random", FULL))
    assert (exact.outcome, exact.effect) == (Outcome.NOT_HELD, 0.0)  # no difference at all is not more than none


def test_what_is_missing_or_too_little_is_said():
    of = workload()
    assert decide([claim()], arm(of, "random", FULL))[0].outcome is Outcome.NOT_MEASURED
    (two,) = decide([claim()], arm(of, "good", FAST[:2]) + arm(of, "random", FULL))
    assert (two.outcome, two.n, two.interval) == (Outcome.UNDECIDED, 2, None)
    assert two.text == "undecided at 2 seeds"
    (no_full,) = decide([claim(Measure.QUALITY_AT_SECONDS)], arm(of, "good", FAST) + arm(of, "random", FULL))
    assert no_full.outcome is Outcome.NOT_MEASURED  # equal seconds are those of training on all data
    assert decide([claim()], arm(workload("digits_mlp"), "good", FAST)) == ()


def test_a_trial_that_was_cut_off_says_nothing_at_equal_examples():
    of = workload()
    short = [(record, curve[:10]) for record, curve in arm(of, "good", (100.0, 101.0, 102.0))]
    assert decide([claim()], short + arm(of, "random", FULL))[0].outcome is Outcome.NOT_MEASURED


def test_a_miss_costs_twice_the_budget_and_two_misses_are_no_difference():
    of, never = workload(), (900.0, 900.0, 900.0)
    (found,) = decide([claim(Measure.SECONDS_TO_TARGET)], arm(of, "good", (10.0, 10.0, 10.0)) + arm(of, "random", never))
    hit = trial(of, seconds_to_main=10.0)[0].crossing().cost[Lens.CHARGED_SECONDS]
    assert (found.outcome, found.effect) == (Outcome.HELD, pytest.approx(2 * of.budget.charged_seconds / hit))
    assert found.measured.endswith("x), 3 of 3 with a miss")
    (found,) = decide([claim(Measure.SECONDS_TO_TARGET)], arm(of, "good", never) + arm(of, "random", never))
    assert (found.outcome, found.n, found.measured) == (Outcome.UNDECIDED, 3, "both missed")


def test_where_two_settings_could_be_meant_nothing_is_decided_until_the_claim_says_which():
    of = workload()

    def setting(name, seconds):
        found = arm(of, "good", seconds)
        options = {"embedder": name}
        return [(replace(r, record_id=f"{r.record_id}-{name}", entry=replace(r.entry, curation_options=options)), c) for r, c in found]

    trials = setting("pca", FAST) + setting("raw", SLOW) + arm(of, "random", FULL)
    assert decide([claim()], trials)[0].outcome is Outcome.NOT_MEASURED
    meant = [claim(better=("good", 0.5, {"embedder": name})) for name in ("pca", "raw")]
    assert [v.outcome for v in decide(meant, trials)] == [Outcome.HELD, Outcome.NOT_HELD]


def test_the_order_of_trials_changes_nothing_and_the_earliest_of_a_seed_counts():
    of = workload()
    trials = arm(of, "all", FULL) + arm(of, "good", FAST) + arm(of, "random", FULL)
    again = replace(trials[4][0], record_id="again", started_at="2027-01-01T00:00:00.000+00:00")
    trials.append((again, trial(of, "adamw + good 0.5", 0, 59.0)[1]))
    every = [claim(measure) for measure in Measure]
    assert decide(every, trials) == decide(every, trials[::-1]) == decide(every, trials[:-1])


def test_the_table_says_claim_source_comparison_and_verdict():
    of = workload()
    verdicts = decide(
        [claim(), claim(margin=-0.01), claim(Measure.SECONDS_TO_TARGET, 1.5)], arm(of, "good", FAST) + arm(of, "random", FULL)
    )
    text = claims_markdown(verdicts)
    assert "| good 0.5 above random 0.5; quality at equal examples | +0.0" in text
    assert "good 0.5 at most 0.01 below random 0.5" in text
    assert "good 0.5 sooner than random 0.5 by 1.5x; seconds to the target" in text
    assert text.count("**held**") == 3
    assert tally(verdicts) == "3 held, 0 did not hold, 0 undecided, 0 not measured"


def test_every_shipped_claim_is_about_arms_that_the_study_runs():
    claims = load_claims()
    assert len(claims) >= 12
    study = definition("study", "nano_curation")
    arms = {(a.get("curation", "all"), a.get("keep_fraction", 1.0)) for a in study["arms"]}
    for one in claims:
        assert one.workload in study["workloads"]
        for side in (one.better, one.worse):
            assert side.curation in names("curation")
            assert (side.curation, side.keep_fraction) in arms, f"{one.claim}: {side.text}"
    assert len({(c.better, c.worse, c.measure) for c in map(comparable, claims)}) == len(claims), "a comparison occurs once"


def comparable(one):
    return replace(one, better=one.better.text, worse=one.worse.text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "expected a list"),
        ("- {claim: x}", r"claims.yaml: claim 1: key 'paper' is missing"),
        ("unknown", "unknown key 'papr'; did you mean 'paper'"),
        ("range", "keep_fraction: expected more than 0 and at most 1, given 2"),
    ],
)
def test_claims_that_do_not_fit_are_named(tmp_path, text, message):
    path = tmp_path / "claims.yaml"
    whole = "- {claim: c, paper: p, where: w, published: s, workload: x, better: {curation: a}, worse: {curation: b}, "
    whole += "measure: quality at equal examples}"
    changed = {
        "unknown": whole.replace("published: s", "published: s, papr: q"),
        "range": whole.replace("curation: a", "curation: a, keep_fraction: 2"),
    }
    path.write_text(changed.get(text, text))
    with pytest.raises(ConfigError, match=message):
        load_claims(path)
