"""Targets follow from the reference's curves by a rule that anybody can apply again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.suite.curve import crossings
from timetrial.suite.errors import ConfigError
from timetrial.suite.targets import TargetRules, confirmed_quality, derive_targets
from timetrial.suite.workload import TargetLadder, TargetStatus

from .synthetic_records import ACCURACY, LOSS, curve, workload

RULES = TargetRules(hit_share=0.9, budget_factor=1.5)
DIGEST = "d" * 64


def reference(metric, seeds=20, seed=0, points=40):
    """Curves of a reference whose seeds differ in speed and ceiling, with noise in every evaluation."""
    rng, of = np.random.default_rng(seed), workload(metric=metric)
    return [
        curve(of, seconds, ceiling=ceiling, points=points, wobble=wobble)
        for seconds, ceiling, wobble in zip(
            20 * np.exp(0.1 * rng.standard_normal(seeds)),
            0.93 + 0.004 * rng.standard_normal(seeds),
            0.002 * rng.standard_normal((seeds, points + 1)),
            strict=True,
        )
    ]


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), seeds=st.integers(5, 30))
def test_the_reference_hits_the_main_target_in_nine_of_ten_seeds_and_no_harder_one_would_do(metric, seed, seeds):
    curves = reference(metric, seeds, seed)
    derived = derive_targets(curves, metric, RULES, DIGEST)
    assert len(derived.seconds_to_target) >= 0.9 * seeds
    ladder = derived.ladder.checked(metric, "derived")
    assert ladder.status is TargetStatus.FROZEN and len(ladder.levels) >= 10
    worse = -1 if metric is LOSS else 1
    one_more = ladder.main + worse * 1.01 * 10.0 ** (np.floor(np.log10(ladder.main)) - 2)
    hits = sum(metric.reached(confirmed_quality(c, metric, 1), one_more) for c in curves)
    assert hits < 0.9 * seeds


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
@given(seed=st.integers(0, 1000), confirmations=st.integers(0, 3))
def test_the_confirmed_quality_is_the_hardest_level_that_crossings_find(metric, seed, confirmations):
    (one,) = reference(metric, 1, seed, points=12)
    best = confirmed_quality(one, metric, confirmations)
    harder = best + (-1e-9 if metric is LOSS else 1e-9)
    found = crossings(one, metric, TargetLadder((best, harder), best, confirmations=confirmations))
    assert [c.hit for c in found] == [True, False]


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_the_budget_is_a_multiple_of_the_reference_s_median_and_holds_its_whole_run(factor):
    curves = reference(ACCURACY)
    derived = derive_targets(curves, ACCURACY, replace(RULES, budget_factor=factor), DIGEST)
    own, whole = factor * np.median(derived.seconds_to_target), np.median([c[-1].charged_seconds for c in curves])
    assert (own > whole) == (factor == 10.0)
    assert derived.budget_seconds == pytest.approx(max(own, whole), abs=0.1)
    assert derived.budget_seconds >= max(own, whole)


def test_easier_levels_are_spread_over_the_way_to_the_target():
    curves = reference(ACCURACY)
    derived = derive_targets(curves, ACCURACY, RULES, DIGEST)
    easier = [level for level in derived.ladder.levels if level < derived.ladder.main]
    seconds = [c.cost["charged_seconds"] for c in crossings(curves[0], ACCURACY, derived.ladder) if c.hit][: len(easier)]
    assert len(easier) >= 8
    assert max(np.diff([0.0, *seconds])) < 0.4 * np.median(derived.seconds_to_target)


def test_the_order_of_the_seeds_does_not_matter():
    curves = reference(ACCURACY)
    assert derive_targets(curves, ACCURACY, RULES, DIGEST) == derive_targets(curves[::-1], ACCURACY, RULES, DIGEST)


def test_curves_that_cannot_carry_a_ladder_are_refused():
    curves = reference(ACCURACY)
    with pytest.raises(ConfigError, match="at least 3 evaluations"):
        derive_targets([], ACCURACY, RULES, DIGEST)
    shifted = [tuple(replace(p, examples=p.examples + 7) for p in curves[0]), *curves[1:]]
    with pytest.raises(ConfigError, match="different examples"):
        derive_targets(shifted, ACCURACY, RULES, DIGEST)
    flat = [tuple(replace(p, quality=0.5) for p in one) for one in curves]
    with pytest.raises(ConfigError, match="can be told apart"):
        derive_targets(flat, ACCURACY, RULES, DIGEST)
