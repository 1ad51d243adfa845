"""The command line over the whole path: data, trial, record, MLflow, board; and what happens when a part of it is broken."""

from __future__ import annotations

import json

import pytest

from timetrial.suite.cli import main

SHORT = ["workload.budget.examples=2000", "workload.budget.charged_seconds=1000", "loader=torch"]


@pytest.fixture
def home(prepared_home, tmp_path):
    """A home of its own with prepared digits."""
    assert main(["prepare", "digits_mlp", "--home", str(prepared_home), "--quiet"]) == 0
    (tmp_path / "data").symlink_to(prepared_home / "data")
    return tmp_path


def run(home, *arguments):
    return main(["run", "digits_mlp", *SHORT, *arguments, "--home", str(home)])


def records(home):
    return sorted((home / "records").iterdir()) if (home / "records").exists() else []


def test_run_reports_one_line_and_where_the_record_is(home, capsys):
    assert run(home, "--no-mlflow", "--quiet") in (0, 3)
    assert capsys.readouterr().out == ""
    assert run(home, "--no-mlflow", "seed=1") in (0, 3)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("digits_mlp · adamw · seed 1: ")
    assert out[1] == f"record: {records(home)[-1]}"


def test_a_missed_target_is_exit_status_3_and_a_hit_is_0(home):
    assert run(home, "--no-mlflow", "--quiet", "horizon=0.1") == 3
    assert run(home, "--no-mlflow", "--quiet", "workload.ladder.main=0.5", "workload.budget.examples=8000") == 0


def test_json_output_is_the_record(home, capsys):
    run(home, "--no-mlflow", "--json")
    assert json.loads(capsys.readouterr().out)["entry"]["algorithm"] == "adamw"


def test_a_dry_run_says_what_would_happen_and_writes_nothing(home, capsys):
    assert run(home, "--dry-run", "algorithm=lion") == 0
    out = capsys.readouterr().out
    assert "2000 examples = 32 steps of 64" in out and "lion" in out and "not known yet" in out
    assert records(home) == []


def test_a_smoke_run_never_reaches_a_board(home, capsys):
    assert run(home, "--smoke", "--no-mlflow", "--quiet") == 0
    main(["leaderboard", "show", "--json", "--home", str(home)])
    board = json.loads(capsys.readouterr().out)
    assert "smoke" in json.dumps(board["rejected"])


def test_a_multirun_is_every_combination(home):
    assert run(home, "-m", "algorithm=adamw,lion", "seed=0,1", "--no-mlflow", "--quiet") == 0
    assert len(records(home)) == 4


def test_one_bad_job_of_a_multirun_leaves_the_others_alone(home, capsys):
    assert run(home, "-m", "lr=-1,0.003", "--no-mlflow", "--quiet") == 1
    assert "Invalid learning rate" in capsys.readouterr().err
    assert any(json.loads((r / "record.json").read_text())["entry"]["hyperparameters"]["lr"] == 0.003 for r in records(home))


def test_an_unreachable_store_costs_a_line_and_mirror_sends_the_record_later(home, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9/")
    assert run(home, "--quiet") in (0, 3)
    assert "not mirrored in MLflow" in capsys.readouterr().err
    assert len(records(home)) == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert main(["mirror", "--home", str(home)]) == 0
    assert main(["leaderboard", "show", "--json", "--home", str(home), "--from", "mlflow"]) == 0
    out = capsys.readouterr().out
    assert '"adamw"' in out


def test_a_study_prints_its_board_and_offers_more_seeds(home, capsys):
    assert main(["study", "demo", "--seeds", "1", *SHORT, "--home", str(home), "--no-mlflow"]) == 0
    captured = capsys.readouterr()
    assert "prototypes" in captured.out and "no interval below n = 5" in captured.out
    assert "1 seeds are too few for intervals: timetrial study demo --seeds 5" in captured.err
    page = home / "boards" / "demo" / "index.html"
    assert page.exists() and "digits_mlp" in page.read_text()
    assert main(["study", "demo", "--seeds", "1", *SHORT, "--home", str(home), "--no-mlflow"]) == 0
    assert "4 trials, 0 to run" in capsys.readouterr().err


@pytest.mark.ffcv
@pytest.mark.timeout(60)
def test_a_damaged_beton_is_refused_before_ffcv_touches_it(tmp_path, capsys):
    home = tmp_path / "home"
    assert main(["prepare", "digits_mlp", "--home", str(home), "--quiet"]) == 0
    beton = next(home.glob("data/*/train.beton"))
    beton.write_bytes(beton.read_bytes()[:-24])
    assert main(["run", "digits_mlp", "--home", str(home), "--no-mlflow"]) == 1
    error = capsys.readouterr().err
    assert "train.beton: expected" in error and "timetrial prepare" in error and len(error.strip().splitlines()) == 1
    assert main(["prepare", "digits_mlp", "--home", str(home), "--quiet"]) == 0
    assert run(home, "--no-mlflow", "--quiet") in (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "digits_mpl"], "did you mean 'digits_mlp'"),
        (["run", "digits_mlp", "sed=1"], "unknown override 'sed'; did you mean 'seed'"),
        (["run", "digits_mlp", "lr=fast"], "lr"),
        (["study", "demoo"], "did you mean 'demo'"),
        (["rnu", "digits_mlp"], "unknown verb 'rnu'; did you mean 'run'"),
        (["run", "digits_mlp", "--sed", "1"], "unknown flag '--sed'"),
    ],
)
def test_a_typo_is_one_line_and_exit_status_1(home, arguments, message, capsys):
    assert main([*arguments, "--home", str(home)]) == 1
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1
