"""From overrides to a checked plan: every typo gets the nearest known name, every wrong value its place."""

from __future__ import annotations

import pytest
import yaml

from timetrial.suite.config import resolve, resolve_definition
from timetrial.suite.errors import ConfigError, UnknownName, UserError
from timetrial.suite.registry import definition, names


@pytest.mark.parametrize("group", ["workload", "algorithm", "curation"])
def test_every_shipped_definition_is_valid_and_named_like_its_file(group):
    for name in names(group):
        assert resolve_definition(group, name).name == name


@pytest.mark.parametrize("workload", names("workload"))
def test_every_shipped_workload_composes(workload):
    plan = resolve([f"workload={workload}"])
    assert plan.workload == resolve_definition("workload", workload)
    assert (plan.algorithm.name, plan.curation.name, plan.seed, plan.keep_fraction) == ("adamw", "all", 0, 1.0)


def test_a_bare_key_means_the_hyperparameter_of_the_chosen_algorithm():
    assert resolve(["workload=digits_mlp", "lr=0.25"]).algorithm.hyperparameters["lr"] == 0.25
    assert resolve(["workload=digits_mlp", "algorithm=nesterov", "momentum=0.5"]).algorithm.hyperparameters["momentum"] == 0.5


def test_plans_are_equal_exactly_when_their_digests_are():
    base = ["workload=digits_mlp", "seed=1"]
    assert resolve(base).digest == resolve([*base, "study=demo"]).digest
    for other in ("seed=2", "lr=0.1", "horizon=0.5", "loader=torch", "workload.budget.examples=100"):
        assert resolve([*base, other]).digest != resolve(base).digest


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["workload=digit_mlp"], UnknownName, "unknown workload 'digit_mlp'; did you mean 'digits_mlp'"),
        (["workload=digits_mlp", "algorithm=adamv"], UnknownName, "unknown algorithm 'adamv'; did you mean .*'adamw'"),
        (["workload=digits_mlp", "curation=randon"], UnknownName, "unknown curation method 'randon'; did you mean 'random'"),
        (["workload=digits_mlp", "lrr=1"], ConfigError, "unknown override 'lrr'; did you mean 'lr'"),
        (["workload=digits_mlp", "momentum=1"], ConfigError, "unknown override 'momentum'"),
        (["workload=digits_mlp", "workload.budget.exampels=3"], ConfigError, "exampels.*did you mean 'workload.budget.examples'"),
        (["workload=digits_mlp", "seed=x"], ConfigError, "seed: .*given 'x'"),
        (["workload=digits_mlp", "seed=-1"], ConfigError, "seed: expected 0 or more, given -1"),
        (["workload=digits_mlp", "keep_fraction=0", "curation=random"], ConfigError, "keep_fraction: expected more than 0"),
        (["workload=digits_mlp", "keep_fraction=0.5"], ConfigError, "'all' keeps everything"),
        (["workload=digits_mlp", "loader=fast"], ConfigError, "loader: input should be 'auto', 'ffcv' or 'torch'"),
        (["workload=digits_mlp", "workload.budget.examples=-3"], ConfigError, "budget.examples: expected more than 0, given -3"),
        (["workload=digits_mlp", "workload.budget.lens=joules"], ConfigError, "deterministic lens only"),
        (["workload=digits_mlp", "seed"], UserError, "override 'seed': expected key=value"),
        (["seed=1"], UserError, "no workload named"),
    ],
)
def test_a_wrong_override_is_refused_in_one_line(overrides, error, message):
    with pytest.raises(error, match=message) as caught:
        resolve(overrides)
    assert "\n" not in str(caught.value)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of a user's own definitions, on TIMETRIAL_PATH: a copy of digits_mlp as ``mine``, changed by ``change``."""

    def write(change):
        value = dict(definition("workload", "digits_mlp"), name="mine")
        change(value)
        (tmp_path / "workload").mkdir(exist_ok=True)
        (tmp_path / "workload" / "mine.yaml").write_text(yaml.safe_dump(value))
        monkeypatch.setenv("TIMETRIAL_PATH", str(tmp_path))

    return write


def test_a_users_own_workload_is_found_by_name(own):
    own(lambda value: value.update(version=7))
    assert resolve(["workload=mine"]).workload.identity == "mine@7"


def test_a_workload_file_takes_the_place_of_a_folder_of_the_same_name(own, tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere" / "mine"
    folder.mkdir(parents=True)
    value = {key: part for key, part in definition("workload", "digits_mlp").items() if key != "name"} | {"version": 3}
    (folder / "workload.yaml").write_text(yaml.safe_dump(value))
    monkeypatch.setenv("TIMETRIAL_PATH", str(folder))
    assert resolve(["workload=mine"]).workload.identity == "mine@3"
    own(lambda value: value.update(version=7))
    assert resolve(["workload=mine"]).workload.identity == "mine@7"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(bugdet={}), r"unknown key 'workload.bugdet'; did you mean 'budget'"),
        (lambda v: v["evaluation"].update(every=1), r"unknown key 'workload.evaluation.every'"),
        (lambda v: v.pop("metric"), "key 'workload.metric' is missing"),
        (lambda v: v["metric"].update(direction="up"), "workload.metric.direction"),
        (lambda v: v["ladder"].update(levels=[0.9, 0.5]), "at least ten distinct levels from easy to hard"),
        (lambda v: v["ladder"].update(main=0.123), "ladder.main: expected one of the levels"),
        (lambda v: v["ladder"].update(status="frozen"), "frozen targets need evidence_digest"),
    ],
)
def test_a_wrong_workload_file_names_the_key(own, change, message):
    own(change)
    with pytest.raises(ConfigError, match=message):
        resolve(["workload=mine"])


def test_a_name_defined_twice_and_a_missing_folder_are_refused(own, tmp_path, monkeypatch):
    own(lambda value: None)
    (tmp_path / "workload" / "digits_mlp.yaml").write_text("name: digits_mlp\n")
    with pytest.raises(ConfigError, match="'digits_mlp' is defined twice"):
        resolve(["workload=mine"])
    monkeypatch.setenv("TIMETRIAL_PATH", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="TIMETRIAL_PATH: .*gone is not a folder"):
        names("workload")
