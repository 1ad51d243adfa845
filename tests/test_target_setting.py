"""Target setting from end to end: tuned baselines, a reference on fresh seeds, a frozen file that follows from its logs."""

from __future__ import annotations

import json
import lzma
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from timetrial.suite.cli import main
from timetrial.suite.config import resolve, resolve_definition
from timetrial.suite.errors import ConfigError
from timetrial.suite.inputs import open_inputs
from timetrial.suite.protocol import target_protocol
from timetrial.suite.record import Status
from timetrial.suite.registry import config_folders, names, targets_path
from timetrial.suite.study import finished, run_study
from timetrial.suite.target_setting import (
    baseline_plans,
    derive,
    freeze,
    logged_curves,
    logs_path,
    rederive,
    reference_plans,
    target_rules,
    too_costly,
    write_logs,
)
from timetrial.suite.workload import TargetStatus

PUBLISHED = Path(__file__).resolve().parents[1] / "leaderboards" / "published" / "targets"
PROTOCOL = replace(target_protocol(), baselines=("adamw", "nesterov"), tuning_trials=2, reference_seeds=5, evaluation_share=10.0)
YAML = """
version: 1
tier: nano
family: image_classification
summary: digits of my own
task: digits_mlp
data: {source: digits, validation_examples: 300}
metric: {name: accuracy, direction: maximize, unit: fraction}
ladder: {levels: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95], main: 0.9}
budget: {examples: 12000, charged_seconds: 100.0}
evaluation: {every_examples: 500, batch_size: 300}
batch_size: 50
provides: [labels, classifier_head, continuous_input]
"""


def own_workload(place, prepared_home):
    """A workload of one's own in a folder, and a home with its data."""
    folder, home = place / "mine", place / "home"
    folder.mkdir()
    shipped = yaml.safe_load((config_folders()[0] / "workload" / "digits_mlp.yaml").read_text())
    (folder / "workload.yaml").write_text(YAML + yaml.safe_dump({"model": shipped["model"]}))
    open_inputs(resolve(["workload=digits_mlp"]).workload, prepared_home)
    home.mkdir()
    (home / "data").symlink_to(prepared_home / "data")
    return folder, home


@pytest.fixture
def mine(prepared_home, tmp_path, monkeypatch):
    """The workload, known by name, before anything ran on it."""
    folder, home = own_workload(tmp_path, prepared_home)
    monkeypatch.setenv("TIMETRIAL_PATH", str(folder))
    return folder, home


@pytest.fixture(scope="module")
def trained(prepared_home, tmp_path_factory):
    """The logs of a whole target setting and the records it left, once for all: copy them, do not touch them."""
    folder, home = own_workload(tmp_path_factory.mktemp("trained"), prepared_home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIMETRIAL_PATH", str(folder))
        plans = baseline_plans("mine", PROTOCOL, ["loader=torch"])
        run_study(plans, home)
        tuned = finished(plans, home)
        chosen = reference_plans(plans, tuned, PROTOCOL.reference_seeds)
        run_study(chosen, home)
        return write_logs(chosen[0].workload, target_rules(PROTOCOL), tuned, finished(chosen, home)), home / "records"


@pytest.fixture
def settled(mine, trained):
    """The logs of a whole target setting, and a home of its own that holds its records."""
    _, home = mine
    logs, records = trained
    shutil.copytree(records, home / "records")
    return logs, home


def test_baselines_get_the_same_number_of_points_and_the_best_runs_on_fresh_seeds(settled):
    _, home = settled
    plans = baseline_plans("mine", PROTOCOL, ["loader=torch"])
    assert [(p.algorithm.name, p.seed) for p in plans] == [("adamw", 0), ("nesterov", 0)] * 2
    tuned = finished(plans, home)
    best, _ = max(tuned, key=lambda trial: max(min(a.quality, b.quality) for a, b in _pairs(trial[1])))
    chosen = reference_plans(plans, tuned, 5)
    assert [p.seed for p in chosen] == [1, 2, 3, 4, 5]
    assert {(p.algorithm.name, json.dumps(dict(p.algorithm.hyperparameters))) for p in chosen} == {
        (best.entry.algorithm, json.dumps(dict(best.entry.hyperparameters)))
    }


def _pairs(curve):
    return zip(curve, [*curve[1:], curve[-1]], strict=True)


def test_a_provisional_trial_shows_its_whole_curve_though_the_hardest_level_is_passed(mine):
    _, home = mine
    easy = "workload.ladder={levels:[0.01,0.02,0.03,0.04,0.05,0.06,0.07,0.08,0.09,0.1],main:0.1}"
    plan = resolve(["workload=mine", "loader=torch", easy])
    (record,) = run_study([plan], home)
    assert record.status is Status.HIT
    assert finished([plan], home)[0][1][-1].examples == 12000


def test_frozen_targets_follow_from_their_logs_and_become_the_workload(settled, mine):
    logs, home = settled
    path = freeze("mine", logs)
    assert path == mine[0] / "targets.yaml" and rederive("mine") == []
    workload = resolve_definition("workload", "mine")
    assert workload.ladder.status is TargetStatus.FROZEN and len(workload.ladder.levels) >= 10
    assert resolve(["workload=mine"]).workload == workload
    plan = resolve(["workload=mine", "algorithm=reference", "loader=torch"])
    assert plan.entry_name == "reference"
    assert dict(plan.algorithm.hyperparameters) == dict(workload.reference.hyperparameters)
    assert workload.reference.hits == len(workload.reference.seconds_to_target) >= 0.9 * workload.reference.seeds
    whole = statistics.median(curve[-1].charged_seconds for curve in logged_curves("mine")[0])
    own = 1.5 * statistics.median(workload.reference.seconds_to_target)
    assert workload.budget.charged_seconds == pytest.approx(max(own, whole), abs=0.1)
    (record,) = run_study([replace(plan, seed=1, workload=replace(workload, budget=replace(workload.budget, charged_seconds=1e3)))], home)
    assert record.entry.name == "reference" and record.status in (Status.HIT, Status.MISSED)


def test_all_frozen_targets_are_a_table_and_a_page(settled, tmp_path, capsys):
    freeze("mine", settled[0])
    assert main(["targets", "--page", str(tmp_path / "targets.html")]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("mine@1"))
    reference = resolve_definition("workload", "mine").reference
    assert f" {reference.hits}/5 " in row and reference.algorithm in row
    page = (tmp_path / "targets.html").read_text()
    assert "<h2>mine@1</h2>" in page and f"reference: {reference.algorithm}, 5 seeds" in page and "http" not in page.split("<body>")[1]
    own = page.partition('id="mine@1"')[2].partition("</section>")[0]
    assert own.count('class="band"') == 2  # five seeds: an interval, in seconds and in examples


def test_the_committed_page_draws_what_is_frozen(tmp_path, monkeypatch):
    monkeypatch.delenv("TIMETRIAL_PATH", raising=False)
    assert main(["targets", "--page", str(tmp_path / "index.html")]) == 0
    assert (tmp_path / "index.html").read_bytes() == (PUBLISHED / "index.html").read_bytes()


def test_frozen_targets_are_never_set_again(settled):
    freeze("mine", settled[0])
    with pytest.raises(ConfigError, match="frozen in .*targets.yaml; a changed workload is a new version"):
        baseline_plans("mine", PROTOCOL)


def test_an_edited_target_or_log_is_found(settled, capsys):
    path = freeze("mine", settled[0])
    value = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**value, "budget": {"charged_seconds": 99.0}}))
    assert rederive("mine") == ["budget"]
    assert main(["targets", "mine", "--check"]) == 1
    assert "budget do not follow from the logs" in capsys.readouterr().err
    lines = settled[0].splitlines(keepends=True)
    logs_path(path).write_bytes(lzma.compress("".join(lines[:-1]).encode()))
    assert "ladder" in rederive("mine")  # the digest of its evidence is another one
    logs_path(path).write_bytes(b"no archive")
    with pytest.raises(ConfigError, match="cannot be read as the logs"):
        rederive("mine")


def test_a_reference_that_tuning_did_not_choose_is_refused(settled):
    lines = [json.loads(line) for line in settled[0].splitlines()]
    for line in lines[-5:]:
        line["hyperparameters"] = {**line["hyperparameters"], "lr": 1e-9}
    with pytest.raises(ConfigError, match="not .* at the point that tuning chose"):
        derive("\n".join(map(json.dumps, lines)))


def test_workloads_without_frozen_targets_have_no_reference(mine):
    with pytest.raises(ConfigError, match="none before its targets are frozen: timetrial targets mine"):
        resolve(["workload=mine", "algorithm=reference"])
    with pytest.raises(ConfigError, match="are not frozen"):
        rederive("mine")


def test_costly_evaluations_stop_the_procedure(settled, mine):
    _, home = settled
    records = [record for record, _ in finished(baseline_plans("mine", PROTOCOL, ["loader=torch"]), home)]
    assert too_costly(records, 100.0) is None
    assert "evaluate less often" in too_costly(records, 1e-6)


def test_trials_that_the_seconds_cut_off_choose_nothing(mine):
    _, home = mine
    plans = baseline_plans("mine", PROTOCOL, ["loader=torch", "workload.budget.charged_seconds=0.01"])[:2]
    run_study(plans, home)
    with pytest.raises(ConfigError, match="2 of 2 trials ended before 12000 examples: raise budget.charged_seconds above 0.01"):
        reference_plans(plans, finished(plans, home), 5)


def test_the_command_lists_what_it_will_run(mine, capsys, monkeypatch):
    folder, home = mine
    monkeypatch.delenv("TIMETRIAL_PATH")
    assert main(["targets", str(folder), "--dry-run", "--home", str(home)]) == 0
    rows = capsys.readouterr().out.splitlines()
    protocol = target_protocol()
    assert len(rows) == len(protocol.baselines) * protocol.tuning_trials
    assert len(protocol.baselines) >= 4 and protocol.reference_seeds >= 20


FROZEN = [name for name in names("workload") if targets_path(name).is_file()]


@pytest.mark.parametrize("workload", FROZEN)
def test_every_shipped_frozen_target_follows_from_its_logs(workload):
    assert rederive(workload) == []
    found = resolve_definition("workload", workload)
    assert found.reference.hits >= 0.9 * found.reference.seeds
    assert found == resolve([f"workload={workload}"]).workload


def test_a_frozen_base_leaves_its_variants_provisional(settled, mine):
    folder, _ = mine
    freeze("mine", settled[0])
    (folder / "variants.yaml").write_text("variants: {wide: {batch_size: 60}}\n")
    variant = resolve_definition("workload", "mine-wide")
    assert variant.ladder.status is TargetStatus.PROVISIONAL and variant.reference is None and variant.budget.charged_seconds == 100.0
    shutil.copy(folder / "targets.yaml", folder / "targets-wide.yaml")
    assert resolve_definition("workload", "mine-wide").ladder.status is TargetStatus.FROZEN
