"""Studies: interleaved, resumable, only what is missing; and the Python face."""

from __future__ import annotations

import pytest

import timetrial
from timetrial.suite.config import resolve
from timetrial.suite.errors import ConfigError, UnknownName
from timetrial.suite.record import Status
from timetrial.suite.study import Arm, Study, load_study, missing, run_study, study_plans

SHORT = ("workload.budget.examples=1000", "workload.budget.charged_seconds=1000", "loader=torch")
STUDY = Study("mine", "a test", ("digits_mlp",), (Arm("adamw"), Arm("lion", overrides={"lr": 0.001})), 2)


@pytest.fixture
def home(prepared_home, tmp_path):
    """A home with prepared digits and no records."""
    from timetrial.suite.inputs import open_inputs

    open_inputs(resolve(["workload=digits_mlp"]).workload, prepared_home)
    (tmp_path / "data").symlink_to(prepared_home / "data")
    return tmp_path


def test_arms_are_interleaved_seed_by_seed():
    plans = study_plans(STUDY)
    assert [(p.algorithm.name, p.seed) for p in plans] == [("adamw", 0), ("lion", 0), ("adamw", 1), ("lion", 1)]
    assert plans[1].algorithm.hyperparameters["lr"] == 0.001
    assert {p.study for p in plans} == {"mine"}


def test_a_study_runs_only_what_is_missing(home):
    plans = study_plans(STUDY, SHORT)
    run_study(plans[:3], home)
    assert missing(plans, home) == plans[3:]
    run_study(missing(plans, home), home)
    assert missing(plans, home) == []
    assert len(list((home / "records").iterdir())) == 4


def test_records_of_another_study_do_not_count(home):
    plan = resolve(["workload=digits_mlp", *SHORT, "study=other"])
    run_study([plan], home)
    wanted = study_plans(STUDY, SHORT)
    assert missing(wanted, home) == wanted


def test_the_demo_is_three_algorithms_and_a_pruned_set_on_three_seeds():
    plans = study_plans(load_study("demo"))
    assert len(plans) == 12
    assert len({p.algorithm.name for p in plans}) == 3
    assert {p.keep_fraction for p in plans} == {1.0, 0.5}
    assert len(study_plans(load_study("demo", seeds=5))) == 20


def test_unknown_studies_and_no_seeds_are_refused():
    with pytest.raises(UnknownName, match="did you mean 'demo'"):
        load_study("demoo")
    with pytest.raises(ConfigError, match="seeds: expected at least 1"):
        load_study("demo", seeds=0)


def test_the_python_face_runs_a_trial_and_makes_a_board(home):
    options = {"home": home, "loader": "torch", "workload.budget.examples": 1000}
    record = timetrial.run("digits_mlp", algorithm="adamw", curation="random", keep_fraction=0.5, seed=3, **options)
    assert record.status in (Status.HIT, Status.MISSED)
    assert record.entry.name == "adamw + random 0.5"
    board = timetrial.board([record])
    assert board.sections[0].rows[0].n == 1
    with pytest.raises(timetrial.TimetrialError, match="unknown workload"):
        timetrial.run("digits", home=home)
