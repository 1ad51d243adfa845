"""Submitting: the README's example from folder to place, refusals before training, and trials of entries that crash, hang or eat memory."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from timetrial.suite import qualification
from timetrial.suite.cli import main
from timetrial.suite.entry import read_entry
from timetrial.suite.files import file_digest
from timetrial.suite.protocol import protocol, protocol_round
from timetrial.suite.qualification import run_entry_trial, unmet
from timetrial.suite.record import Ruleset, Status, read_record, write_record
from timetrial.suite.registry import names
from timetrial.suite.tuning import best_trial
from timetrial.suite.verify import verify_folder

from .synthetic_records import trial, workload

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.timeout(180)
REHEARSAL = ["--workloads", "digits_mlp", "--seeds", "1", "--no-mlflow"]


@pytest.fixture
def example(tmp_path):
    """The entry as the README shows it."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Submit your own")[2]
    folder = tmp_path / "my_entry"
    folder.mkdir()
    for language, name in (("yaml", "entry.yaml"), ("python", "algorithm.py")):
        (folder / name).write_text(re.search(rf"```{language}\n(.+?)```", section, flags=re.DOTALL)[1])
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TIMETRIAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def edited(folder, old, new):
    path = folder / "algorithm.py"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return folder


def with_manifest(folder, **changes):
    path = folder / "entry.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def studies(home, *names):
    """Records by study, in the order in which they started."""
    found = sorted((record for record, _ in records(home)), key=lambda record: record.started_at)
    return [[record for record in found if record.study == name] for name in names]


def records(home):
    return [read_record(path.parent) for path in sorted((home / "records").glob("*/record.json"))]


def test_the_example_of_the_readme_is_checked_trained_and_placed_under_either_ruleset(example, home, capsys):
    assert main(["submit", str(example), *REHEARSAL, "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [(p["workload"], p["place"], p["of"], p["trials"], p["ranked"]) for p in found["places"]] == [("digits_mlp@1", 1, 1, 1, False)]
    assert "1 trials; how long they take is not known here yet, about" in said.err
    assert found["chosen"] == {"digits_mlp": {"lr": 0.003, "decay": 0.9}} and found["failed"] == 0
    ((record, _),) = records(home)
    assert record.entry.name == "sign_momentum" and record.study == "submit-sign_momentum" and record.status is Status.HIT
    assert record.seed == 1 and record.entry.at_defaults is True and record.ruleset is Ruleset.EXTERNAL_TUNING
    folder = home / "records" / record.record_id
    assert {path.name for path in (folder / "source").iterdir()} == {"entry.yaml", "algorithm.py"}
    assert all(check.passed for check in verify_folder(folder))
    assert main(["submit", str(example), *REHEARSAL]) == 0
    said = capsys.readouterr()
    assert "from its record" in said.err and "->" in said.out and "no rank" in said.out
    assert len(records(home)) == 1
    # Without hyperparameters it is another entry, of another ruleset, on a board of its own.
    for name, value in (("lr", "0.003"), ("decay", "0.9")):
        edited(example, f'problem.hyperparameters["{name}"]', value)
    with_manifest(example, ruleset="self_tuning", hyperparameters={})
    assert main(["submit", str(example), *REHEARSAL, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ruleset"] == "self_tuning" and [(p["of"], p["trials"]) for p in found["places"]] == [(1, 1)]
    assert sorted(record.ruleset for record, _ in records(home)) == ["external_tuning", "self_tuning"]


def test_tuning_trials_on_seed_0_choose_the_point_of_the_fresh_seeds(example, home, capsys):
    """The first of two points learns nothing: every started trial has its record, the best of them ranks, and only on fresh seeds."""
    with_manifest(example, tuning_points=[{"lr": 1e-9}, {"lr": 0.003}])
    assert main(["submit", str(example), "--workloads", "digits_mlp", "--seeds", "2", "--no-mlflow", "--json"]) == 0
    said = capsys.readouterr()
    found, (tuning, fresh) = json.loads(said.out), studies(home, "submit-sign_momentum/tuning", "submit-sign_momentum")
    assert "4 trials (2 to tune on seed 0, 2 on fresh seeds)" in said.err
    assert [record.seed for record in tuning] == [0, 0] and [record.seed for record in fresh] == [1, 2]
    assert [record.entry.hyperparameters["lr"] for record in tuning] == [1e-9, 0.003]
    best = best_trial(tuning).entry.hyperparameters
    assert best["lr"] == 0.003 and found["chosen"] == {"digits_mlp": dict(best)}
    assert {record.entry.hyperparameters["lr"] for record in fresh} == {best["lr"]}
    assert [(p["trials"], p["of"]) for p in found["places"]] == [(2, 1)]
    assert main(["submit", str(example), "--workloads", "digits_mlp", "--seeds", "2", "--no-mlflow"]) == 0
    assert "[tuning 1/2] digits_mlp seed 0: missed, from its record" in capsys.readouterr().err and len(records(home)) == 4


def test_a_search_space_gets_the_protocol_s_number_of_trials_and_no_more(example, home, capsys):
    with_manifest(example, search_space={"lr": {"low": 0.001, "high": 0.01, "scale": "log"}})
    assert main(["submit", str(example), "--dry-run"]) == 0
    trials, chosen = protocol().tuning.trials, protocol_round("qualification")
    tuning, fresh = trials * len(chosen.workloads), chosen.seeds * len(chosen.workloads)
    assert f"{tuning + fresh} trials ({tuning} to tune on seed 0, {fresh} on fresh seeds)" in capsys.readouterr().err
    assert main(["submit", str(example), "--dry-run", "--tuning", str(trials + 1)]) == 1
    assert f"--tuning: expected 0 to {trials}" in capsys.readouterr().err
    assert main(["submit", str(example), "--dry-run", "--tuning", "0"]) == 0
    assert f"{fresh} trials;" in capsys.readouterr().err


def test_where_no_tuning_trial_comes_to_its_end_nothing_ranks_and_all_are_recorded(example, home, capsys):
    """It fails where the contract suite does not look: in longer trainings."""
    with_manifest(example, tuning_points=[{"lr": 0.003}, {"lr": 0.001}])
    late = "        if state['problem'].step_count > 100:\n            raise RuntimeError('late')\n        problem, losses ="
    edited(example, "        problem, losses =", late)
    assert main(["submit", str(example), *REHEARSAL, "--json"]) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["chosen"] == {"digits_mlp": None} and found["places"] == [] and found["failed"] == 2
    assert "none of its 2 tuning trials came to its end" in said.err
    assert [record.status for record in studies(home, "submit-sign_momentum/tuning")[0]] == [Status.FAILED] * 2


def test_the_qualification_takes_under_fifteen_minutes():
    """At what whole trials of the references took on two CPU cores, evaluations included, with the start of every process."""
    seconds = {"cifar10_cnn": 38.0, "shakespeare_gpt": 33.0, "ctr_dlrm": 15.0}
    chosen = protocol_round("qualification")
    each = sum(seconds[name] + qualification.START_SECONDS for name in chosen.workloads)
    assert (protocol().tuning.trials + chosen.seeds) * each < 15 * 60


def test_a_broken_rule_is_refused_before_any_training(example, home, capsys):
    edited(example, "        problem, losses =", "        print(torch.rand(1))\n        problem, losses =")
    assert main(["submit", str(example), *REHEARSAL]) == 1
    said = capsys.readouterr().err
    assert "algorithm.py:11: no_global_random" in said and not (home / "records").exists()


@pytest.mark.parametrize(
    ("action", "rule"),
    [
        ("while True: pass", "time_limit"),
        ("import os; os._exit(3)", "runs"),
        ("import no_such_module_anywhere", "runs"),
        ("[torch.ones(2**24) for _ in range(10**6)]", "memory_limit"),
        ("kept = [bytearray(2**24) for _ in range(10**6)]", "memory_limit"),
        ("import threading; threading.Thread(target=lambda: threading.Event().wait(), daemon=True).start()", "no_thread_left"),
    ],
)
def test_what_starts_late_fails_its_trial_with_the_rule_and_nothing_else(example, home, monkeypatch, action, rule):
    """After more steps than the contract suite takes: the host goes on, the record says which rule, other records stay."""
    other, points = trial(workload(), record_id="other")
    write_record(home / "records" / "other", other, points, "")
    before = {path: file_digest(path) for path in (home / "records").rglob("*") if path.is_file()}
    monkeypatch.setattr(qualification, "EVALUATION_FACTOR", 0.0)
    monkeypatch.setattr(qualification, "SLACK_SECONDS", 8.0 if rule == "time_limit" else 60.0)
    edited(
        example,
        "        problem, losses =",
        f"        if state['problem'].progress() > 0.5:\n            {action}\n        problem, losses =",
    )
    entry = read_entry(example).snapshot(home)
    ran = run_entry_trial(entry, "digits_mlp", 0, home, memory_bytes=2**31)
    assert ran.status is Status.FAILED and ran.reason is not None and ran.reason.startswith(f"{rule}: "), ran.reason
    assert {path: file_digest(path) for path in before} == before
    record, _ = read_record(ran.folder)
    assert record.status is Status.FAILED and record.entry.source_digest == entry.digest and record.status_reason
    assert all(check.passed for check in verify_folder(ran.folder) if check.name != "seeds")


def test_check_prints_violations_and_runs_a_smoke_trial(example, home, capsys):
    assert main(["check", str(example), "--run"]) == 0
    assert "digits_mlp: smoke" in capsys.readouterr().out
    edited(example, "        problem, losses =", "        state['last'] = batch\n        problem, losses =")
    assert main(["check", str(example), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [violation["rule"] for violation in found["violations"]] == ["batch_not_kept"] and found["accepted"] is False


def test_a_file_of_an_entry_never_stands_in_for_a_module(example, home):
    (example / "random.py").write_text("raise SystemExit('the wrong random')\n")
    trial = run_entry_trial(read_entry(example).snapshot(home), "digits_mlp", 0, home, smoke=True)
    assert trial.status is Status.SMOKE, trial.reason


def test_no_folder_and_no_seed_are_user_errors(example, home, capsys):
    assert main(["check", str(example / "nowhere")]) == 1
    assert main(["submit", str(example), "--workloads", "digits_mlp", "--seeds", "0"]) == 1
    assert "--seeds: expected at least 1" in capsys.readouterr().err


def test_a_dry_run_trains_nothing(example, home, capsys):
    assert main(["submit", str(example), "--dry-run"]) == 0
    assert "9 trials" in capsys.readouterr().err and not home.joinpath("records").exists()


def test_the_protocol_names_ranking_workloads_that_exist():
    for name in ("qualification", "full"):
        chosen = protocol_round(name)
        assert set(chosen.workloads) <= set(names("workload")) and "digits_mlp" not in chosen.workloads and chosen.seeds > 0
    assert len(protocol_round("qualification").workloads) == 3


def test_a_workload_that_lacks_a_declared_need_is_left_out_by_name(example, home, capsys):
    path = example / "entry.yaml"
    value = yaml.safe_load(path.read_text())
    value["algorithm"]["needs"] = ["image_input"]
    path.write_text(yaml.safe_dump(value))
    assert unmet(read_entry(example).plan("digits_mlp", 0)) == ["image_input"]
    assert main(["submit", str(example), *REHEARSAL]) == 1
    assert "digits_mlp: left out, it does not provide image_input" in capsys.readouterr().err
