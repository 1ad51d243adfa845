"""Studies: interleaved, resumable, only what is missing; and the Python face."""

from __future__ import annotations

from dataclasses import replace

import pytest

import timetrial
from timetrial.leaderboards.boards import board
from timetrial.suite import machine_load
from timetrial.suite.config import resolve
from timetrial.suite.errors import ConfigError, UnknownName
from timetrial.suite.protocol import protocol
from timetrial.suite.record import Status, read_record
from timetrial.suite.study import (
    Arm,
    Study,
    chosen_plans,
    expected_seconds,
    finished,
    load_study,
    missing,
    run_study,
    study_plans,
    tuning_plans,
)
from timetrial.suite.tuning import best_trial
from timetrial.suite.verify import verify_set

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


def test_a_disturbed_trial_is_run_again_on_a_calm_machine_and_the_calm_one_counts(home, monkeypatch):
    stolen, waits = iter([0.3, 0.2, 0.0, 0.0]), []
    monkeypatch.setattr(machine_load, "stolen_fraction", lambda before, seconds: next(stolen))
    monkeypatch.setattr(machine_load, "wait_until_calm", lambda limit, patience: waits.append((limit, patience)))
    rule = protocol().disturbance
    plans = [replace(p, workload=replace(p.workload, ranked=True)) for p in study_plans(STUDY, SHORT)[:2]]
    records = run_study(plans, home)
    assert [r.disturbed for r in records] == [True, True, False, False] and waits == [(rule.stolen_fraction, rule.patience_seconds)] * 2
    assert missing(plans, home) == [] and [r.record_id for r, _ in finished(plans, home)] == [r.record_id for r in records[2:]]
    built = board(records)
    assert {i for row in built.sections[0].rows for i in row.record_ids} == {r.record_id for r in records[2:]}
    assert [r.reason.count("the hypervisor kept") for r in built.rejected] == [1, 1]
    assert all(check.passed for check in verify_set(records))


def test_a_machine_that_never_calms_ends_the_repeats_and_the_least_disturbed_trial_counts(home, monkeypatch):
    stolen = iter([0.5, 0.5, 0.2, 0.3])
    monkeypatch.setattr(machine_load, "stolen_fraction", lambda before, seconds: next(stolen))
    monkeypatch.setattr(machine_load, "wait_until_calm", lambda limit, patience: False)
    plan = study_plans(STUDY, SHORT)[0]
    assert len(run_study([plan], home)) == 1, "no seconds rank on digits_mlp"
    ranked = replace(plan, workload=replace(plan.workload, ranked=True), study="ranked")
    records = run_study([ranked], home)
    assert len(records) == 1 + protocol().disturbance.repeats and missing([ranked], home) == []
    assert board(records).sections[0].rows[0].record_ids == (records[1].record_id,)


def test_a_study_has_seeds_of_its_own_and_a_tuned_one_never_those_that_tuned(tmp_path, monkeypatch):
    monkeypatch.setenv("TIMETRIAL_PATH", str(tmp_path))
    (tmp_path / "study").mkdir()
    text = "summary: a test\nworkloads: [digits_mlp]\narms: [{algorithm: adamw}]\nseeds: 2\n"
    for name, own in (("later", "first_seed: 6\n"), ("tuned", "tuning_trials: 2\n"), ("stale", "tuning_trials: 2\nfirst_seed: 0\n")):
        (tmp_path / "study" / f"{name}.yaml").write_text(f"name: {name}\n{text}{own}")
    assert [plan.seed for plan in study_plans(load_study("later"))] == [6, 7]
    assert list(load_study("tuned").seed_range) == [1, 2] and list(load_study("demo").seed_range) == [0, 1, 2]
    with pytest.raises(ConfigError, match="first_seed: expected 1 or more, given 0"):
        load_study("stale")


def test_the_python_face_runs_a_trial_and_makes_a_board(home):
    options = {"home": home, "loader": "torch", "workload.budget.examples": 1000}
    record = timetrial.run("digits_mlp", algorithm="adamw", curation="random", keep_fraction=0.5, seed=3, **options)
    assert record.status in (Status.HIT, Status.MISSED)
    assert record.entry.name == "adamw + random 0.5"
    board = timetrial.board([record])
    assert board.sections[0].rows[0].n == 1
    with pytest.raises(timetrial.TimetrialError, match="unknown workload"):
        timetrial.run("digits", home=home)


TUNED = Study("tuned", "a test", ("digits_mlp",), (Arm("adamw"), Arm("lion")), 2, tuning_trials=3)


def test_tuning_trials_run_point_by_point_on_seed_0_in_a_study_of_their_own():
    plans = tuning_plans(TUNED)
    assert [(p.algorithm.name, p.seed, p.study) for p in plans] == [(name, 0, "tuned/tuning") for name in ("adamw", "lion")] * 3
    assert len({p.digest for p in plans}) == 6
    assert tuning_plans(STUDY) == []


def test_the_chosen_point_of_each_arm_runs_on_fresh_seeds(home):
    plans = tuning_plans(TUNED, SHORT)
    with pytest.raises(ConfigError, match="6 of 6 trials of study tuned/tuning are not finished"):
        chosen_plans(TUNED, home, SHORT)
    records = run_study(plans, home)
    chosen = chosen_plans(TUNED, home, SHORT)
    assert [(p.algorithm.name, p.seed, p.study) for p in chosen] == [(n, seed, "tuned") for seed in (1, 2) for n in ("adamw", "lion")]
    for plan, tried in zip(chosen, (records[0::2], records[1::2]), strict=False):
        assert dict(plan.algorithm.hyperparameters) == dict(best_trial(tried).entry.hyperparameters)


def test_tuning_trials_are_left_out_of_every_board(home):
    records = run_study(tuning_plans(TUNED, SHORT)[:1], home)
    table = board(records)
    assert table.n == 0 and "tuning trial" in table.rejected[0].reason


def test_the_reference_is_not_tuned_again(home, monkeypatch):
    from timetrial.suite import config

    frozen = {"algorithm": "nesterov", "hyperparameters": {"lr": 0.05}}
    known = config.definition
    monkeypatch.setattr(config, "definition", lambda g, n: {**known(g, n), "reference": frozen} if g == "workload" else known(g, n))
    study = Study("with", "a test", ("digits_mlp",), (Arm("reference"), Arm("adamw")), 2, tuning_trials=2)
    plans = tuning_plans(study, SHORT)
    assert [p.algorithm.name for p in plans] == ["adamw", "adamw"]
    run_study(plans, home)
    chosen = chosen_plans(study, home, SHORT)
    assert [(p.entry_name, p.seed) for p in chosen] == [("reference", 1), ("adamw", 1), ("reference", 2), ("adamw", 2)]
    assert chosen[0].algorithm.hyperparameters["lr"] == 0.05 and "SGD" in chosen[0].algorithm.options["optimizer"]


def test_the_time_of_a_study_is_forecast_from_earlier_trials(home):
    plans = study_plans(STUDY, SHORT)
    assert expected_seconds(plans, home) == (0.0, 4)
    (record,) = run_study(plans[:1], home)
    assert expected_seconds(plans[1:], home) == (pytest.approx(3 * record.time.outer_seconds), 0)


def test_a_busy_machine_is_told_before_timings_are_taken(home, monkeypatch):
    from timetrial.suite.cli.study import _forecast

    plans = study_plans(STUDY, SHORT)
    for busy, told in ((0.4, True), (0.01, False), (None, False)):
        monkeypatch.setattr(machine_load, "load", lambda seconds, busy=busy: {"busy_fraction": busy})
        lines = _forecast(plans, home)
        assert "4 trials on workloads that never ran here" in lines[0]
        assert any("other programs take 40%" in line for line in lines) is told


def test_the_published_studies_follow_the_protocol():

    rules, algorithms, matrix = protocol(), load_study("nano_algorithms"), load_study("nano_matrix")
    assert algorithms.tuning_trials == rules.tuning.trials and algorithms.seeds == rules.full.seeds
    assert set(algorithms.workloads) == set(rules.full.workloads)
    assert len(algorithms.arms) >= 11 and algorithms.arms[0] == Arm("reference")
    cells = {(arm.algorithm, arm.curation, arm.keep_fraction) for arm in matrix.arms}
    others = [load_study("nano_curation_core"), algorithms]
    assert all(set(matrix.seed_range).isdisjoint(other.seed_range) for other in others), "a board counts a seed of an entry once"
    assert set(others[0].seed_range).isdisjoint(algorithms.seed_range)
    assert len(cells) == len(matrix.arms) == len({a for a, _, _ in cells}) * len({(c, k) for _, c, k in cells}) == 16


def test_the_published_study_of_curation_asks_nothing_of_a_core_workload_that_it_lacks():
    from timetrial.leaderboards.curation import CONTROLS

    study = load_study("nano_curation_core")
    assert set(study.workloads) == set(protocol().full.workloads) and study.seeds == protocol().full.seeds
    assert len({arm.curation for arm in study.arms} - CONTROLS - {"all"}) >= 10 and {arm.algorithm for arm in study.arms} == {"reference"}
    lacking = {
        (p.workload.name, p.curation.name): set(p.curation.needs) - {*p.workload.provides, *p.provides}
        for p in study_plans(study)[: len(study.workloads) * len(study.arms)]
    }
    assert not {cell: needs for cell, needs in lacking.items() if needs}


def test_points_that_were_tuned_on_the_base_run_on_hidden_variants(home, capsys):
    from timetrial.suite.study import on_workloads

    run_study(tuning_plans(TUNED, SHORT), home)
    chosen = chosen_plans(TUNED, home, SHORT)
    moved = on_workloads(chosen, "tuned-hidden7", {"digits_mlp": "digits_mlp-hidden7"}, SHORT)
    assert {p.workload.name for p in moved} == {"digits_mlp-hidden7"} and {p.study for p in moved} == {"tuned-hidden7"}
    assert [(p.algorithm, p.seed) for p in moved] == [(p.algorithm, p.seed) for p in chosen]


def test_the_command_moves_a_study_to_hidden_variants(home, capsys):
    from timetrial.suite.cli import main

    assert main(["study", "demo", "variants.seed=7", "--dry-run", "--home", str(home)]) == 0
    out = capsys.readouterr()
    assert out.out.count("digits_mlp-hidden7@1") == 12 and "study demo-hidden7" in out.err


def test_a_tuned_study_goes_workload_by_workload_and_runs_on_some_of_them_alone(home, capsys, monkeypatch):
    from timetrial.suite.cli import main

    monkeypatch.setenv("TIMETRIAL_PATH", str(home))
    (home / "study").mkdir(parents=True)
    text = "name: two\nsummary: a test\nworkloads: [digits_copies, digits_mlp]\narms: [{algorithm: adamw}]\nseeds: 2\ntuning_trials: 2\n"
    (home / "study" / "two.yaml").write_text(text)
    command = ["study", "two", *SHORT, "--home", str(home), "--no-mlflow", "--quiet"]
    assert main([*command, "--workload", "digits_mlp"]) == 0
    assert [r.workload.name for r in ordered(home)] == ["digits_mlp"] * 4
    capsys.readouterr()
    assert main([*command, "--dry-run"]) == 0
    told = capsys.readouterr()
    assert told.out.count("digits_copies@1") == 2 and "digits_mlp@1" not in told.out
    assert main(command) == 0
    assert [(r.workload.name, r.study) for r in ordered(home)[4:]] == [("digits_copies", s) for s in ("two/tuning",) * 2 + ("two",) * 2]
    assert main([*command, "--workload", "cifar10_cnn"]) == 1
    assert "digits_copies, digits_mlp" in capsys.readouterr().err


def ordered(home):
    return sorted((read_record(path)[0] for path in (home / "records").iterdir()), key=lambda record: record.started_at)
