"""Two rulesets: hyperparameters chosen by a fixed number of trials, or none at all and a larger budget; never on one board."""

from __future__ import annotations

import pytest

from timetrial.leaderboards.boards import board
from timetrial.suite.config import plan_of, resolve
from timetrial.suite.errors import ConfigError
from timetrial.suite.protocol import protocol
from timetrial.suite.record import Ruleset
from timetrial.suite.schema import plain
from timetrial.suite.study import Arm, Study, study_plans

from .synthetic_records import trial, workload

DIGITS = "workload=digits_mlp"


def test_self_tuning_multiplies_the_budget_and_nothing_else():
    plan, larger = resolve([DIGITS]), resolve([DIGITS, "ruleset=self_tuning"])
    factor = protocol().self_tuning.budget_factor
    assert larger.workload.budget.examples == factor * plan.workload.budget.examples
    assert larger.workload.budget.charged_seconds == pytest.approx(factor * plan.workload.budget.charged_seconds)
    assert (plan.ruleset, larger.ruleset) == (Ruleset.EXTERNAL_TUNING, Ruleset.SELF_TUNING)
    same = plain(larger) | {"ruleset": plain(plan)["ruleset"]}
    same["workload"] |= {"budget": plain(plan)["workload"]["budget"]}
    assert same == plain(plan)


def test_self_tuning_has_no_hyperparameters_to_set():
    with pytest.raises(ConfigError, match="ruleset self_tuning: there are no hyperparameters to set; given lr"):
        resolve([DIGITS, "ruleset=self_tuning", "lr=0.5"])


def test_an_unknown_ruleset_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="expected external_tuning or self_tuning, given 'selftuning'"):
        resolve([DIGITS, "ruleset=selftuning"])


def test_the_plan_of_a_record_is_the_same_again():
    plan = resolve([DIGITS, "ruleset=self_tuning"])
    again = plan_of(plain(plan))
    assert again == plan and again.digest == plan.digest


def test_a_plan_knows_whether_it_has_its_algorithm_s_own_hyperparameters():
    assert resolve([DIGITS]).at_defaults is True
    assert resolve([DIGITS, "lr=0.5"]).at_defaults is False
    assert resolve([DIGITS, "lr=0.5"]).digest != resolve([DIGITS]).digest


def test_a_self_tuning_trial_whose_hyperparameters_were_set_counts_nowhere():
    (rejected,) = board([trial(workload(), "prodigy", 1, 10.0, ruleset=Ruleset.SELF_TUNING, at_defaults=False)[0]]).rejected
    assert rejected.reason == "self-tuning, but its hyperparameters were set"


def test_an_arm_of_a_study_may_be_self_tuning():
    study = Study("mine", "a test", ("digits_mlp",), (Arm("prodigy", overrides={"ruleset": "self_tuning"}),), 1)
    assert [plan.ruleset for plan in study_plans(study)] == [Ruleset.SELF_TUNING]


def test_the_two_rulesets_never_share_a_section():
    of = workload()
    tuned = trial(of, "adamw", 1, 20.0)[0]
    alone = trial(of, "prodigy", 1, 10.0, ruleset=Ruleset.SELF_TUNING)[0]
    sections = board([tuned, alone]).sections
    assert [(s.ruleset, [row.entry for row in s.rows]) for s in sections] == [
        (Ruleset.EXTERNAL_TUNING, ["adamw"]),
        (Ruleset.SELF_TUNING, ["prodigy"]),
    ]
    assert len({s.key for s in sections}) == 2
    (only,) = board([tuned]).sections
    assert only.key == sections[0].key
