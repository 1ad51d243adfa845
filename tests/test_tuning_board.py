"""What tuning brings: exact expectations over the tuning trials that ran, beside the defaults and the fresh seeds."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.pages import write_site
from timetrial.leaderboards.scores import MISS_MULTIPLE
from timetrial.leaderboards.states import Standing, Verdict
from timetrial.leaderboards.tuning import hit_chances, tuned
from timetrial.suite.record import Ruleset, Status

from .synthetic_records import trial, trials, workload

OF = workload()
MISS = 500.0


def tuning(entry, seconds, **changes):
    """Tuning trials on seed 0, one a learning rate; ``MISS`` seconds are beyond the budget."""
    found = []
    for i, value in enumerate(seconds):
        own = {
            "record_id": f"{entry}-tuning-{i}",
            "study": "s/tuning",
            "hyperparameters": {"lr": i},
            "started_at": f"2026-01-01T00:01:{i:02d}",
        }
        found.append(trial(OF, entry, 0, value, **own | changes)[0])
    return found


def fresh(entry, seconds, lr, **changes):
    return [record for record, _ in trials(OF, entry, seconds, study="s", hyperparameters={"lr": lr}, **changes)]


def section(records):
    (found,) = board(records).sections
    return found


@given(st.lists(st.booleans(), min_size=1, max_size=7))
def test_the_chance_of_a_hit_is_its_share_among_all_choices_of_k(hit):
    brute = [np.mean([any(chosen) for chosen in itertools.combinations(hit, k)]) for k in range(1, len(hit) + 1)]
    assert hit_chances(len(hit), sum(hit)) == pytest.approx(brute)


def test_the_expected_best_of_k_is_the_mean_over_all_choices_of_k_trials_with_misses_at_their_price():
    records = [*tuning("adamw", [30.0, 10.0, MISS, 20.0]), *fresh("adamw", [11.0, 12.0, 13.0], 1)]
    (found,) = tuned(section(records), records)
    price = MISS_MULTIPLE * OF.budget.charged_seconds
    brute = [np.mean([min(c) for c in itertools.combinations([30.0, 10.0, price, 20.0], k)]) for k in range(1, 5)]
    assert found.expected_seconds == pytest.approx(brute, rel=0.02)
    assert (found.n, found.hits) == (4, 3) and found.chance == pytest.approx((3 / 4, 1, 1, 1))
    assert found.fresh.value == pytest.approx(12.0, rel=0.02) and found.defaults is None


@pytest.mark.parametrize("status", [Status.FAILED, Status.DIVERGED])
def test_every_started_trial_counts(status):
    records = [*tuning("adamw", [10.0]), *fresh("adamw", [11.0], 1)]
    bad = tuning("adamw", [10.0, 20.0], status=status)[1:]
    (found,) = tuned(section(records), [*records, *bad])
    assert (found.n, found.hits) == (2, 1)
    assert found.expected_seconds[0] == pytest.approx((10 + MISS_MULTIPLE * OF.budget.charged_seconds) / 2, rel=0.02)


def test_defaults_are_what_the_algorithm_is_defined_with_and_nothing_else():
    chosen = fresh("adamw", [11.0] * 3, 1, at_defaults=False)
    plain = [r for i, s in enumerate([40.0] * 3) for r in [trial(OF, "adamw", i, s, record_id=f"plain{i}", at_defaults=True)[0]]]
    records = [*tuning("adamw", [10.0, 30.0]), *chosen, *plain]
    (found,) = tuned(section(records), records)
    assert found.defaults.value == pytest.approx(40, rel=0.02) and found.fresh.value == pytest.approx(11, rel=0.02)


def test_a_run_at_the_defaults_in_the_same_study_is_not_taken_for_the_chosen_point():
    at_defaults = fresh("adamw", [40.0] * 4, 9, at_defaults=True)
    chosen = [replace(r, record_id=f"{r.record_id}-chosen") for r in fresh("adamw", [11.0] * 3, 1, at_defaults=False)]
    records = [*tuning("adamw", [30.0, 10.0]), *chosen, *at_defaults]
    (found,) = tuned(section(records), records)
    assert found.fresh.value == pytest.approx(11, rel=0.02) and found.defaults.value == pytest.approx(40, rel=0.02)


def test_trials_of_another_section_and_smoke_runs_have_no_say():
    records = [*tuning("adamw", [10.0]), *fresh("adamw", [11.0], 1)]
    others = [
        *tuning("adamw", [1.0], record_id="a", hyperparameters={"lr": 7}, hardware_class="gpu"),
        *tuning("adamw", [1.0], record_id="b", hyperparameters={"lr": 8}, ruleset=Ruleset.SELF_TUNING),
        *tuning("adamw", [1.0], record_id="c", hyperparameters={"lr": 9}, status=Status.SMOKE),
    ]
    assert tuned(section(records), [*records, *others]) == tuned(section(records), records)


def test_entries_are_in_the_order_of_what_all_their_trials_bring_whatever_the_order_of_the_records():
    records = [*tuning("adamw", [30.0, 20.0]), *tuning("lion", [50.0, 5.0]), *fresh("adamw", [11.0], 1)]
    found = tuned(section(records), records)
    assert [t.entry for t in found] == ["lion", "adamw"]
    random.Random(0).shuffle(records)
    assert tuned(section(records), records) == found


def test_the_page_of_a_workload_shows_it(tmp_path):
    records = [*tuning("adamw", [30.0, MISS]), *tuning("lion", [20.0]), *fresh("adamw", [11.0], 1), *fresh("lion", [21.0], 0)]
    built = board(records)
    write_site(built, records, {}, tmp_path, "adamw")
    page = (tmp_path / "workload" / f"{built.sections[0].key}.html").read_text()
    table = page.partition("What tuning brings")[2].partition("</table>")[0]
    assert "best of 2" in table and "best of 3" not in table and "(50 %)" in table and "1/2" in table
    write_site(board(records[3:]), records[3:], {}, tmp_path / "untuned", "adamw")
    assert "What tuning brings" not in (tmp_path / "untuned" / "workload" / f"{built.sections[0].key}.html").read_text()


def test_withdrawn_tuning_trials_are_in_no_table_and_of_a_repeated_point_the_calm_trial_counts(tmp_path):
    tried = tuning("adamw", [30.0, 10.0, 20.0])
    shaken = replace(tuning("adamw", [MISS, MISS])[1], record_id="shaken", machine={"stolen_fraction": 0.4, "stolen_limit": 0.05})
    records = [shaken, *tried, *fresh("adamw", [11.0, 12.0, 13.0], 1)]
    (found,) = tuned(section(records), records)
    assert (found.n, found.hits) == (3, 3)
    built = board(records, states={tried[0].record_id: Verdict(Standing.WITHDRAWN, "disturbed")})
    write_site(built, records, {}, tmp_path, "reference")
    (page,) = (tmp_path / "workload").glob("*.html")
    assert 'data-label="hits">2/2<' in page.read_text()
