"""The entry format: a folder that says what it is, refused with the key that is wrong, imported without touching anybody else's names."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
import yaml

from timetrial.suite.algorithm import TrainingAlgorithm
from timetrial.suite.config import instantiate, resolve_definition
from timetrial.suite.entry import read_entry
from timetrial.suite.entry_code import MAX_FILE_BYTES, code_digest
from timetrial.suite.errors import ConfigError, EntryRefused, UnknownName, UserError
from timetrial.suite.protocol import protocol
from timetrial.suite.record import Ruleset, read_record
from timetrial.suite.trial import run_trial
from timetrial.suite.tuning import tuning_points
from timetrial.suite.verify import folder_digest, rerun, verify_folder

HEAD = {
    "schema": 1,
    "name": "mine",
    "version": 1,
    "authors": ["A. Person"],
    "summary": "an entry of the tests",
    "licence": "Apache-2.0",
    "ruleset": "external_tuning",
}
OPTIMIZER = {"algorithm": {"optimizer": "torch.optim.SGD", "schedule": {"name": "cosine"}}, "hyperparameters": {"lr": 0.1}}
LR = {"low": 0.001, "high": 0.1, "scale": "log"}
CODE = """
import torch
from timetrial.suite.algorithm import StepReport, TrainingAlgorithm, mean_loss
from .helper import RATE

class Plain(TrainingAlgorithm):
    def setup(self, model, problem):
        return {"problem": problem, "optimizer": torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE)}

    def step(self, state, batch):
        losses = state["problem"].losses(batch)
        loss = mean_loss(losses, batch)
        state["problem"].backward(loss)
        state["optimizer"].step()
        state["optimizer"].zero_grad()
        return StepReport(loss.detach(), losses.detach())

    def state_dict(self, state):
        return {"optimizer": state["optimizer"].state_dict()}

    def load_state_dict(self, state, payload):
        state["optimizer"].load_state_dict(payload["optimizer"])
"""


@pytest.fixture
def entry(tmp_path):
    """Writes an entry's folder from manifest keys and files."""

    def write(files=None, folder="entry", **manifest):
        place = tmp_path / folder
        place.mkdir()
        (place / "entry.yaml").write_text(yaml.safe_dump({key: value for key, value in (HEAD | manifest).items() if value is not None}))
        for name, text in (files or {}).items():
            (place / name).write_text(text)
        return place

    return write


@pytest.fixture
def coded(entry):
    return entry({"algorithm.py": CODE, "helper.py": "RATE = 0.1\n"}, algorithm={"target": "algorithm.Plain"})


def test_an_optimizer_and_a_table_are_an_entry(entry):
    found = read_entry(entry(**OPTIMIZER))
    plan = found.plan("digits_mlp", seed=3)
    assert plan.algorithm.options == {"optimizer": "torch.optim.SGD", "schedule": {"name": "cosine"}}
    assert (plan.entry_name, plan.seed, dict(plan.algorithm.hyperparameters), found.has_code) == ("mine", 3, {"lr": 0.1}, False)


def test_a_class_in_the_folder_is_an_entry_and_sees_its_neighbours(coded):
    path = list(sys.path)
    found = read_entry(coded)
    made = instantiate(found.algorithm.target, {}, TrainingAlgorithm)
    assert type(made).__name__ == "Plain" and found.has_code
    assert sys.path == path and "algorithm" not in sys.modules and "helper" not in sys.modules


def test_entries_with_files_of_the_same_name_do_not_meet(entry, coded):
    other = entry({"algorithm.py": CODE, "helper.py": "RATE = 0.2\n"}, "other", algorithm={"target": "algorithm.Plain"})
    rates = [
        sys.modules[cls.__module__].RATE
        for cls in (type(instantiate(read_entry(f).algorithm.target, {}, TrainingAlgorithm)) for f in (coded, other))
    ]
    assert rates == [0.1, 0.2]


def test_a_shipped_algorithm_with_other_hyperparameters_is_an_entry(entry):
    plan = read_entry(entry(algorithm={"name": "adamw"}, hyperparameters={"lr": 0.5})).plan("digits_mlp", 0)
    assert plan.algorithm.name == "mine" and plan.algorithm.hyperparameters["lr"] == 0.5 and "betas" in plan.algorithm.hyperparameters


def test_curation_alone_trains_with_the_reference_algorithm(entry):
    plan = read_entry(entry(curation={"name": "random", "keep_fraction": 0.5})).plan("digits_mlp", 0)
    assert (plan.algorithm.name, plan.curation.name, plan.keep_fraction) == ("adamw", "random", 0.5)


@pytest.mark.parametrize("algorithm", [{"optimizer": "torch.optim.SGD"}, {"name": "heavy_ball"}])
def test_points_of_a_search_space_are_the_protocol_s_within_the_entry_s_ranges(entry, algorithm):
    found = read_entry(entry(algorithm=algorithm, hyperparameters={"lr": 0.02}, search_space={"lr": LR}))
    points = found.points(5)
    assert len({point["lr"] for point in points}) == 5 and all(0.001 <= point["lr"] <= 0.1 for point in points)
    assert points == tuning_points(found.algorithm, 5) and found.points(3) == points[:3]
    plan = found.plan("digits_mlp", 0, point=points[1])
    assert plan.algorithm.hyperparameters["lr"] == points[1]["lr"] and plan.at_defaults is False
    assert found.plan("digits_mlp", 0).at_defaults is True


def test_listed_points_say_what_differs_from_the_defaults(entry):
    points = [{"lr": 0.1}, {"lr": 0.3, "momentum": 0.5}]
    found = read_entry(entry(algorithm=OPTIMIZER["algorithm"], hyperparameters={"lr": 0.2, "momentum": 0.9}, tuning_points=points))
    assert found.points(5) == ({"lr": 0.1, "momentum": 0.9}, {"lr": 0.3, "momentum": 0.5})


def test_what_lists_nothing_to_tune_is_not_tuned(entry):
    assert read_entry(entry(algorithm={"name": "adamw"})).points(5) == ()


def test_a_range_that_cannot_be_drawn_from_is_refused_before_anything_runs(entry):
    with pytest.raises(ConfigError, match="search_space.momentum: no such hyperparameter; known: lr"):
        read_entry(entry(**OPTIMIZER, search_space={"momentum": LR}))


def test_a_self_tuning_entry_has_the_larger_budget(entry):
    plan = read_entry(entry(algorithm={"name": "prodigy"}, ruleset="self_tuning")).plan("digits_mlp", 1)
    assert plan.ruleset is Ruleset.SELF_TUNING
    assert (
        plan.workload.budget.examples == protocol().self_tuning.budget_factor * resolve_definition("workload", "digits_mlp").budget.examples
    )


OWN_OPTIMIZER = """
import torch

class Halving(torch.optim.SGD):
    def __init__(self, params, lr, weight_decay=0.0):
        super().__init__(params, lr=lr / 2, weight_decay=weight_decay)
"""


def test_an_optimizer_class_of_its_own_is_an_entry_with_code(entry, prepared_home, tmp_path):
    own = {"optimizer": "halving.Halving", "schedule": {"name": "linear"}}
    found = read_entry(entry({"halving.py": OWN_OPTIMIZER}, algorithm=own, hyperparameters={"lr": 0.2})).snapshot(tmp_path / "home")
    twin = read_entry(entry(folder="twin", **OPTIMIZER | {"algorithm": {**own, "optimizer": "torch.optim.SGD"}}))
    assert found.has_code and not twin.has_code
    record, folder = run_trial(found.plan("digits_mlp", 1), prepared_home)
    same, _ = run_trial(twin.plan("digits_mlp", 1), prepared_home)
    assert record.result.final_loss == same.result.final_loss is not None
    assert record.entry.source_digest == folder_digest(folder / "source") == found.digest
    with pytest.raises(UserError, match="give --run-code"):
        rerun(*read_record(folder), folder, prepared_home, run_code=False)
    again = rerun(*read_record(folder), folder, prepared_home, run_code=True)
    assert all(check.passed for check in again), again


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"lisence": "MIT"}, "unknown key 'lisence'; did you mean 'licence'"),
        ({"licence": None}, "key 'licence' is missing"),
        ({"schema": 2}, "schema: expected 1.*given 2"),
        ({"schema": None}, "key 'schema' is missing"),
        ({"version": "one"}, "version: .*given 'one'"),
        ({"name": "a b"}, "name: expected letters"),
        ({"name": "../up"}, "name: expected letters"),
        ({"ruleset": "fast"}, "ruleset: .*given 'fast'"),
        ({"algorithm": None}, "expected an algorithm, a curation, or both"),
        ({"algorithm": {}}, "expected exactly one of optimizer, target, name; given none"),
        ({"algorithm": {"name": "adamw", "optimizer": "torch.optim.SGD"}}, "given optimizer, name"),
        ({"algorithm": {"optimiser": "torch.optim.SGD"}}, "unknown key 'algorithm.optimiser'; did you mean 'optimizer'"),
        ({"algorithm": {"target": "algorithm.Plain"}}, "found no algorithm.py"),
        ({"algorithm": {"target": "../../up.Plain"}}, "expected FILE.CLASS"),
        ({"curation": {"ids": "kept.npz"}}, "found no kept.npz"),
        ({"ruleset": "self_tuning"}, "self_tuning: has no hyperparameters"),
        ({"ruleset": "self_tuning", "hyperparameters": {}, "tuning_points": [{"lr": 0.1}]}, "self_tuning: has no tuning_points"),
        ({"ruleset": "self_tuning", "hyperparameters": {}, "search_space": {"lr": LR}}, "self_tuning: has no search_space"),
        ({"tuning_points": [{"lr": 0.1}] * 6}, "at most 5 tuning_points"),
        ({"tuning_points": [{"lr": 0.1}], "search_space": {"lr": LR}}, "not both"),
        ({"tuning_points": [{"lr": 0.1}, {"rate": 0.1}]}, "tuning_points.1.rate: no such hyperparameter; known: lr"),
        ({"tuning_points": {"lr": 0.1}}, "tuning_points: "),
        ({"points": [{"lr": 0.1}]}, "unknown key 'points'; did you mean 'tuning_points'"),
        ({"algorithm": None, "curation": {"name": "random", "keep_fraction": 0.5}}, "hyperparameters: goes with an algorithm"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_key(entry, manifest, said):
    with pytest.raises(EntryRefused, match=said):
        read_entry(entry(**(OPTIMIZER | manifest)))


def test_a_shipped_name_that_does_not_exist_gets_the_nearest(entry):
    with pytest.raises(UnknownName, match="adamw"):
        read_entry(entry(algorithm={"name": "adamv"}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "expected a mapping, given list"),
        ("", "expected a mapping, given NoneType"),
        ("\x00", "not valid YAML"),
        ("a: " + "[" * 5000, "not valid YAML"),
        ("a: &a [1, 1]\n" + "".join(f"{y}: &{y} [*{x}, *{x}]\n" for x, y in pairwise("abcdefghijklmnop")), "at most 10000 values"),
        ("a: &a [*a]", "at most 10000 values"),
        ("a: !!python/object/apply:os.system [x]", "not valid YAML"),
        ("hyperparameters: {lr: .nan}", "hyperparameters: expected finite numbers"),
        ("hyperparameters: {lr: 2026-01-01}", "hyperparameters: expected finite numbers"),
        ("authors: 2026-99-99", "not valid YAML"),
        ("a: x" + 2**18 * "x", "bytes; expected at most"),
    ],
)
def test_a_manifest_that_is_no_plain_mapping_is_refused(tmp_path, text, said):
    (tmp_path / "entry.yaml").write_text(text)
    with pytest.raises(EntryRefused, match=said):
        read_entry(tmp_path)


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(EntryRefused, match="no entry.yaml"):
        read_entry(tmp_path)
    with pytest.raises(EntryRefused, match="no such folder"):
        read_entry(tmp_path / "nowhere")


def test_links_and_large_files_are_refused(coded, tmp_path):
    (coded / "data").symlink_to(tmp_path)
    with pytest.raises(EntryRefused, match="data: a link"):
        read_entry(coded)
    (coded / "data").unlink()
    with (coded / "large").open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(EntryRefused, match="large: "):
        read_entry(coded)


def test_a_snapshot_stays_when_the_folder_is_edited(coded, tmp_path):
    kept = read_entry(coded).snapshot(tmp_path / "home")
    (coded / "helper.py").write_text("RATE = 9.0\n")
    assert (kept.folder / "helper.py").read_text() == "RATE = 0.1\n"
    assert code_digest(kept.folder) == kept.digest != read_entry(coded).digest


def test_caches_are_no_part_of_an_entry(coded):
    before = code_digest(coded)
    (coded / "__pycache__").mkdir()
    (coded / "__pycache__" / "x.pyc").write_bytes(b"x")
    (coded / ".hidden").write_text("x")
    assert code_digest(coded) == before


def test_a_target_outside_package_and_entries_is_refused():
    with pytest.raises(ConfigError, match="below timetrial"):
        instantiate("os.system", {}, TrainingAlgorithm)


def test_a_record_holds_the_source_that_ran_and_can_be_run_again(coded, prepared_home, tmp_path):
    found = read_entry(coded).snapshot(tmp_path / "home")
    record, folder = run_trial(found.plan("digits_mlp", 0), prepared_home)
    assert record.entry.name == "mine" and record.status.value in ("hit", "missed"), record.status_reason
    assert sorted(path.name for path in (folder / "source").iterdir()) == ["algorithm.py", "entry.yaml", "helper.py"]
    assert record.entry.source_digest == folder_digest(folder / "source") == found.digest
    assert all(check.passed for check in verify_folder(folder))
    again = rerun(*read_record(folder), folder, prepared_home, run_code=True)
    assert all(check.passed for check in again), again
