"""The contract suite: good entries pass, and one bad entry a rule is caught by exactly that rule, at its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from timetrial.suite.checks import RULES, Judge, check_entry
from timetrial.suite.checks.probes import Listener
from timetrial.suite.checks.training import Findings, check_training
from timetrial.suite.config import resolve_definition
from timetrial.suite.errors import EntryRefused, UserError
from timetrial.suite.isolation import Limits
from timetrial.suite.registry import names

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.timeout(120)

HEAD = {
    "schema": 1,
    "name": "mine",
    "version": 1,
    "authors": ["A. Person"],
    "summary": "an entry of the tests",
    "licence": "Apache-2.0",
    "ruleset": "external_tuning",
}
GOOD = """import torch
from timetrial.suite.algorithm import StepReport, TrainingAlgorithm, mean_loss
# more imports


class Plain(TrainingAlgorithm):
    def setup(self, model, problem):
        # setup
        parameters = [p for p in model.parameters() if p.requires_grad]
        return {"model": model, "problem": problem, "optimizer": torch.optim.SGD(parameters, lr=0.1, momentum=0.9)}

    def step(self, state, batch):
        # before
        losses = state["problem"].losses(batch)
        loss = mean_loss(losses, batch)
        state["problem"].backward(loss)
        state["optimizer"].step()
        state["optimizer"].zero_grad()
        # after
        return StepReport(loss.detach(), losses.detach())

    def weights_for_evaluation(self, state):
        # evaluation
        return None

    def state_dict(self, state):
        return {"optimizer": state["optimizer"].state_dict()}

    def load_state_dict(self, state, payload):
        state["optimizer"].load_state_dict(payload["optimizer"])
"""

# rule -> (text that is replaced, by what, how the line that is named begins)
BAD = {
    "loads": ("# more imports", "import no_such_module_anywhere", "import no_such"),
    "runs": ("# after", "raise RuntimeError('step 1 fails')", "raise RuntimeError"),
    "reports_its_step": ("return StepReport(loss.detach(), losses.detach())", "return StepReport(loss)", "def step"),
    "no_peeking": ("# before", "import sys; workload = sys._getframe(1).f_code", "import sys; workload"),
    "no_workload_names": ("# before", "special = 'cifar10_cnn' in str(state)", "special"),
    "name_invisible": (
        "# before",
        "state['optimizer'].param_groups[0]['lr'] = 0.01 * len(next(iter(state['problem'].kinds)))",
        "def step",
    ),
    "no_clock": ("# before", "import time; began = time.perf_counter()", "import time"),
    "no_network": ("# more imports", "import socket; s = socket.socket(); s.connect_ex(('127.0.0.1', 9))", "import socket"),
    "no_files_after_setup": ("# before", "open(__file__).close()", "open("),
    "same_seed_same_curve": (
        "# setup",
        "import secrets; torch.nn.init.constant_(list(model.parameters())[-1], secrets.randbelow(10**6))",
        "def step",
    ),
    "no_global_random": ("# before", "noise = torch.rand(3)", "noise"),
    "batch_not_kept": ("# before", "state['last'] = batch", "def step"),
    "batch_not_changed": ("# after", "next(iter(batch.fields.values())).zero_()", "next(iter(batch"),
    "structure_unchanged": ("# before", "state['model'].extra = torch.nn.Identity()", "state['model'].extra"),
    "harness_unchanged": ("# setup", "torch.nn.functional.relu = lambda x: x", "def step"),
    "owns_every_parameter": ("if p.requires_grad]", "if p.requires_grad][1:]", "def step"),
    "steps_train": ("lr=0.1", "lr=0.0", "def step"),
    "state_round_trip": (
        'return {"optimizer": state["optimizer"].state_dict()}',
        "state['optimizer'].param_groups[0]['lr'] *= 0.5; return {'optimizer': state['optimizer'].state_dict()}",
        "def step",
    ),
    "resume_equals_straight": (
        "# before",
        "state['n'] = state.get('n', 0) + 1; state['optimizer'].param_groups[0]['lr'] = 0.1 / state['n']",
        "def step",
    ),
    "evaluation_undisturbed": ("# evaluation", "next(state['model'].parameters()).data.mul_(1.5)", "def step"),
    "no_thread_left": ("# setup", "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()", "def step"),
    "readable_code": ("# before", "eval('1 + 1')", "eval"),
    "time_limit": ("# before", "while True: pass", "while True"),
    "memory_limit": ("# before", "kept = [torch.ones(2**24) for _ in range(10**6)]", "kept"),
}  # fmt: skip


@pytest.fixture
def entry(tmp_path):
    def write(code=None, **manifest):
        default = {"algorithm": {"target": "algorithm.Plain"}} if code else {}
        (tmp_path / "entry.yaml").write_text(yaml.safe_dump(HEAD | default | manifest))
        if code:
            (tmp_path / "algorithm.py").write_text(code)
        return tmp_path

    return write


def test_a_good_entry_passes_every_rule_that_applies(entry):
    report = check_entry(entry(GOOD))
    report.raise_if_refused()
    automatic = {rule.name for rule in RULES if rule.judge is Judge.AUTOMATIC}
    assert automatic - set(report.passed) == {"selection_valid"} and not report.undecided
    assert report.of("steps_train") is True and report.of("selection_valid") is None
    assert sorted(path.name for path in entry(GOOD).iterdir()) == ["algorithm.py", "entry.yaml"], "checking writes nothing"


def test_an_entry_without_code_passes(entry):
    report = check_entry(entry(algorithm={"optimizer": "torch.optim.NAdam", "schedule": {"name": "linear"}}, hyperparameters={"lr": 0.01}))
    assert report.accepted, report.violations


OPTIMIZER = """import torch


class Own(torch.optim.SGD):
    def step(self, closure=None):
        # step
        return super().step(closure)
"""


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        (OPTIMIZER, None, None),
        (OPTIMIZER.replace("# step", "torch.rand(1)"), "no_global_random", 6),
        (
            OPTIMIZER.replace("# step", "self.n = getattr(self, 'n', 0) + 1; self.param_groups[0]['lr'] = 0.1 / self.n"),
            "resume_equals_straight",
            5,
        ),
        (OPTIMIZER.replace("torch.optim.SGD", "torch.nn.Linear"), "loads", None),
        (OPTIMIZER.replace("class Own", "class Other"), "loads", None),
    ],
)
def test_an_optimizer_class_in_the_folder_is_checked_like_any_code(entry, text, rule, line):
    own = {"optimizer": "own.Own", "schedule": {"name": "linear"}}
    folder = entry(algorithm=own, hyperparameters={"lr": 0.1})
    (folder / "own.py").write_text(text)
    report = check_entry(folder)
    assert {v.rule for v in report.violations} == ({rule} if rule else set()), report.violations
    if line is not None:
        assert [(v.file, v.line) for v in report.violations] == [("own.py", line)]


@pytest.mark.parametrize("rule", BAD)
def test_a_bad_entry_is_caught_by_its_rule_at_its_line(entry, rule):
    old, new, begins = BAD[rule]
    assert GOOD.count(old) == 1
    code = GOOD.replace(old, new)
    report = check_entry(entry(code), Limits(seconds=30.0 if rule == "time_limit" else 60.0, memory_bytes=2**31))
    assert {violation.rule for violation in report.violations} == {rule}, [str(v) for v in report.violations]
    (violation,) = report.violations
    assert violation.file == "algorithm.py" and code.splitlines()[violation.line - 1].strip().startswith(begins), violation
    assert not report.accepted
    with pytest.raises(EntryRefused, match=rule):
        report.raise_if_refused()


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    return Listener(tmp_path_factory.mktemp("nothing"))


@pytest.mark.parametrize("name", names("algorithm"))
def test_every_shipped_algorithm_keeps_the_contract(listener, name):
    """In this process, since its code is trusted; the suite has no false alarm on any of them."""
    findings = Findings(Path("no-such-folder"), ("entry.yaml", 1))
    check_training(resolve_definition("algorithm", name), listener, findings)
    assert [str(violation) for violation in findings.violations] == []
    assert "steps_train" in findings.checked or findings.undecided


def test_a_syntax_error_is_named_with_its_line(entry):
    (violation,) = check_entry(entry(GOOD.replace("# before", "def (:"))).violations
    assert (violation.rule, violation.line) == ("loads", 13)


def test_a_wrong_manifest_is_a_violation_not_an_exception(entry):
    (violation,) = check_entry(entry(GOOD, lisence="MIT")).violations
    assert violation.rule == "manifest" and "lisence" in violation.message


def test_an_unknown_need_and_a_need_that_no_scene_meets(entry):
    unknown = check_entry(entry(GOOD, algorithm={"target": "algorithm.Plain", "needs": ["images"]}))
    assert [v.rule for v in unknown.violations] == ["needs_can_be_met"]
    unmet = check_entry(entry(GOOD, algorithm={"target": "algorithm.Plain", "needs": ["two_processes"]}))
    assert unmet.accepted and "two_processes" in unmet.undecided["steps_train"]


def test_a_crash_is_a_result(entry):
    (violation,) = check_entry(entry(GOOD.replace("# before", "import os; os.abort()"))).violations
    assert violation.rule == "runs" and "SIGABRT" in violation.message and violation.line == 13


def test_no_folder_is_the_callers_mistake(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        check_entry(tmp_path / "nowhere")


CURATION = """import numpy as np
from timetrial.data_pipelines.curation.interface import CurationMethod, Selection, kept_count


class Brightest(CurationMethod):
    def select(self, pool, keep_fraction, context):
        light = pool.field("image").mean(axis=(1, 2, 3))
        chosen = np.argsort(-light, kind="stable")[: kept_count(len(pool), keep_fraction)]
        return Selection(np.sort(pool.ids[chosen]), keep_fraction, pool.digest)
"""


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("", "", None),
        ("kept_count(len(pool), keep_fraction)]", "7]", "selection_valid"),
        ("-light", "-pool.labels", "selection_valid"),
        ("-light", "np.random.random(len(pool))", "no_global_random"),
    ],
)
def test_a_curation_method_is_checked_too(tmp_path, old, new, rule):
    manifest = HEAD | {"curation": {"target": "method.Brightest", "keep_fraction": 0.5}}
    (tmp_path / "entry.yaml").write_text(yaml.safe_dump(manifest))
    (tmp_path / "method.py").write_text(CURATION.replace(old, new) if old else CURATION)
    report = check_entry(tmp_path)
    if rule is None:
        assert report.accepted and report.of("selection_valid"), report.violations
    else:
        assert rule in {violation.rule for violation in report.violations}


def test_every_automatic_rule_has_a_bad_entry_that_it_catches():
    elsewhere = {"manifest", "needs_can_be_met", "selection_valid"}
    assert set(BAD) | elsewhere == {rule.name for rule in RULES if rule.judge is Judge.AUTOMATIC}


def test_rules_md_and_the_rule_table_are_equal():
    text = (ROOT / "RULES.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (.+?) \|$", text, flags=re.MULTILINE)
    assert rows == [(rule.name, rule.concern.value, rule.judge.value, rule.what) for rule in RULES]
