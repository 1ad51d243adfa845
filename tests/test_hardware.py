"""Another hardware class: seconds that were frozen elsewhere cut off only what is far too slow, and its trials are never taken for ours."""

from __future__ import annotations

from dataclasses import replace

import pytest

from timetrial.leaderboards.cells import budget_in
from timetrial.suite import config, machine
from timetrial.suite.config import plan_of, resolve
from timetrial.suite.errors import RecordError
from timetrial.suite.inputs import open_inputs
from timetrial.suite.protocol import protocol
from timetrial.suite.record import read_record
from timetrial.suite.schema import plain
from timetrial.suite.study import Arm, Study, expected_seconds, missing, run_study, study_plans
from timetrial.suite.verify import plan_of_record
from timetrial.suite.workload import Lens

from .synthetic_records import trial, workload

ELSEWHERE = config._elsewhere  # what every other test does without
FROZEN, OPEN = "workload=cifar10_cnn", "workload=digits_mlp"
SHORT = (OPEN, "workload.budget.examples=1000", "loader=torch")


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """As a user has it, on the hardware that targets were frozen on."""
    monkeypatch.setattr(config, "_elsewhere", ELSEWHERE)
    on(monkeypatch, "cpu2")


def on(monkeypatch, name):
    """This machine takes itself for one of another class."""
    monkeypatch.setattr(machine, "trial_hardware_class", lambda gpus_allowed=True: name)


def seconds(*overrides):
    return resolve(overrides).workload.budget.charged_seconds


def test_where_targets_were_frozen_their_seconds_are_the_budget():
    plan = resolve([FROZEN])
    assert plan.workload.reference.hardware_class == machine.trial_hardware_class() == "cpu2"
    assert plan.workload.budget.charged_seconds < 60


def test_elsewhere_a_frozen_budget_is_longer_in_seconds_and_in_nothing_else(monkeypatch):
    here = resolve([FROZEN])
    on(monkeypatch, "cpu8-old-one-avx2")
    there, factor = resolve([FROZEN]), protocol().hardware.elsewhere_factor
    assert there.workload.budget.charged_seconds == factor * here.workload.budget.charged_seconds
    same = plain(there)
    same["workload"]["budget"]["charged_seconds"] = here.workload.budget.charged_seconds
    assert same["workload"]["budget"].pop("cut_off_only") is True
    assert same == plain(here) and there.digest != here.digest
    assert plan_of(plain(there)) == there, "what a record holds is run again as it was"


def test_seconds_that_somebody_set_and_those_of_provisional_targets_stay(monkeypatch):
    provisional = seconds(OPEN)
    on(monkeypatch, "cpu8-old-one-avx2")
    assert seconds(FROZEN, "workload.budget.charged_seconds=10") == 10
    assert seconds(OPEN) == provisional


def test_self_tuning_multiplies_what_this_hardware_has(monkeypatch):
    on(monkeypatch, "cpu8-old-one-avx2")
    factor = protocol().self_tuning.budget_factor
    assert seconds(FROZEN, "algorithm=prodigy", "ruleset=self_tuning") == pytest.approx(factor * seconds(FROZEN))


def test_a_study_runs_again_on_another_class(prepared_home, tmp_path, monkeypatch):
    open_inputs(resolve(SHORT).workload, prepared_home)
    (tmp_path / "data").symlink_to(prepared_home / "data")
    plans = study_plans(Study("mine", "a test", ("digits_mlp",), (Arm("adamw"),), 1), SHORT[1:])
    (record,) = run_study(plans, tmp_path)
    assert record.hardware_class == "cpu2" and missing(plans, tmp_path) == [] and expected_seconds(plans, tmp_path)[1] == 0
    on(monkeypatch, "cpu8-old-one-avx2")
    assert missing(plans, tmp_path) == plans and expected_seconds(plans, tmp_path) == (0, 1)
    (other,) = run_study(plans, tmp_path)
    assert other.hardware_class == "cpu8-old-one-avx2" and missing(plans, tmp_path) == []
    folder = tmp_path / "records" / other.record_id
    assert plan_of_record(read_record(folder)[0], folder) == plans[0]


def test_several_processes_share_the_cpus_of_a_machine_with_gpus(monkeypatch):
    asked = []
    monkeypatch.setattr(machine, "trial_hardware_class", lambda gpus_allowed=True: asked.append(gpus_allowed) or "cpu2")
    resolve([FROZEN, "processes=2"])
    assert set(asked) == {False}


def test_scores_elsewhere_rest_on_what_the_reference_took_beside_the_entries():
    of = workload()
    elsewhere = replace(of, budget=replace(of.budget, charged_seconds=1e4, cut_off_only=True))
    low = sum(of.ladder.levels[:2]) / 2
    reference, hopeless = (
        [replace(trial(of, "reference", seed, 20.0, ceiling=end)[0], workload=elsewhere) for seed in range(5)] for end in (0.93, low)
    )
    assert budget_in(of, Lens.CHARGED_SECONDS, reference) == of.budget.charged_seconds
    assert budget_in(elsewhere, Lens.CHARGED_SECONDS, reference) == pytest.approx(of.budget.charged_seconds), "all examples at their pace"
    assert not any(record.crossing().hit for record in hopeless)
    assert budget_in(elsewhere, Lens.CHARGED_SECONDS, hopeless) == pytest.approx(of.budget.charged_seconds), "from easier levels"
    with pytest.raises(RecordError, match="carry no joules"):
        budget_in(elsewhere, Lens.JOULES, reference)
