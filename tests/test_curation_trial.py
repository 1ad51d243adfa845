"""Curation inside a trial: its selection stays with the record and can be trained on again; its seconds add up.

The properties that curation must have, and where each is tested (here: 24, ledger; 25, negative controls
always run, their flags on boards in test_curation_board):

1 to 6   near-duplicates: copies, brute force, recall, rules, order, rounding      test_curation_duplicates, test_clusters
7, 8     MinHash and its banding; duplicates that people found                     test_curation_copies, test_contamination
9, 10    clustering; out of core equals in core                                    test_clusters
11 to 14 budgets and allocators                                                    test_curation_samplers; 11, 12: test_curation_greedy
15 to 17 scores; in eval mode, without augmentation                                test_curation_scores, test_proxy, test_loaders
18       greedy selection                                                          test_curation_greedy
19       scaling-law fits                                                          test_scaling
20, 21   dynamic methods                                                           test_curation_dynamic
22       delivered ids are the planned ones                                        test_loaders, test_batcher
23       mask and rewrite                                                          test_curation_rewrite
26       boards are pure functions of records                                      test_boards, test_claims, test_curation_page
tables   the perceptron's theory; the whole chain against it                       test_curation_perceptron, test_curation_pools
"""

from __future__ import annotations

import json
import shutil

import pytest

from timetrial.data_pipelines.curation.selection import Selection
from timetrial.suite.config import resolve
from timetrial.suite.inputs import open_inputs
from timetrial.suite.record import read_record
from timetrial.suite.registry import definition
from timetrial.suite.study import load_study
from timetrial.suite.trial import run_trial

SHORT = ["workload=digits_mlp", "loader=torch", "workload.budget.examples=2000", "workload.budget.charged_seconds=1000"]
CONTROLS = {"random", "random_score", "input_norm", "label_shuffled", "reversed", "rs2"}


@pytest.fixture(scope="module")
def inputs(prepared_home):
    return open_inputs(resolve(SHORT).workload, prepared_home)


@pytest.fixture
def run(inputs, tmp_path):
    return lambda *overrides: run_trial(resolve([*SHORT, *overrides]), tmp_path, inputs=inputs)


def learned(folder):
    return [(p.examples, p.train_loss, p.quality) for p in read_record(folder)[1]]


def test_the_selection_of_a_record_trains_the_same_again_and_is_charged_again(run, tmp_path, monkeypatch):
    record, folder = run("curation=semdedup", "keep_fraction=0.5")
    made = Selection.read(folder / "selection.npz")
    assert (made.digest, len(made)) == (record.selected.digest, record.selected.kept_examples)
    assert made.cost.wall_seconds == pytest.approx(record.time.wall_seconds["curate"])
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "selection.npz", "kept.npz")
    options = ("curation.options.file=kept.npz", f"curation.options.digest={made.digest[:12]}")
    again, other = run("curation=ids", "keep_fraction=0.5", *options)
    assert again.selected.digest == record.selected.digest
    assert learned(other) == learned(folder)
    assert again.time.wall_seconds["curate"] >= made.cost.wall_seconds


def test_the_record_tells_what_was_measured_while_choosing(run):
    record, folder = run("curation=near_dedup", "keep_fraction=0.5")
    search = json.loads((folder / "record.json").read_text())["selected"]["provenance"]["search"]
    assert search["recall"] >= 0.99
    assert record.selected.provenance["search"] == search


@pytest.mark.parametrize("curation", ["semdedup", "el2n", "prototypes", "herding"])
def test_the_spans_of_a_selection_add_up_to_its_bucket(run, curation):
    def unaccounted(seed):
        record, _ = run(f"curation={curation}", "keep_fraction=0.5", f"seed={seed}")
        spans = sum(seconds for name, seconds in record.time.span_seconds.items() if name.startswith("curate/"))
        whole = record.time.wall_seconds["curate"]
        assert spans <= whole + 1e-9
        return (whole - spans) / record.time.outer_seconds

    # Three tries: of a trial of a fifth of a second one switch to another process would be 5 %.
    assert any(unaccounted(seed) <= 0.02 for seed in range(3))


def test_the_ledger_of_a_record_says_what_each_span_cost(run, tmp_path, monkeypatch):
    record, folder = run("curation=semdedup", "keep_fraction=0.5")
    ledger = record.selected.ledger
    assert set(ledger) == {"embed", "cluster", "dedup"}
    for name, line in ledger.items():
        assert line.wall_seconds == pytest.approx(record.time.span_seconds[f"curate/{name}"], abs=0.01)
        assert line.cpu_seconds >= 0 and line.peak_memory_bytes > 2**20
    assert ledger["embed"].read_bytes >= record.selected.pool_examples * 64  # every pixel at least once
    assert ledger["cluster"].read_bytes == 0
    assert read_record(folder)[0].selected.ledger == ledger
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "selection.npz", "kept.npz")
    again, _ = run("curation=ids", "keep_fraction=0.5", "file=kept.npz", f"digest={record.selected.digest[:12]}")
    assert again.selected.ledger == ledger


def test_a_trial_on_all_data_leaves_no_selection_behind(run):
    assert not (run()[1] / "selection.npz").exists()


def test_the_study_of_curation_runs_the_negative_controls_at_every_keep_fraction():
    arms = [arm for arm in definition("study", "nano_curation")["arms"] if "curation" in arm]
    for fraction in sorted({arm["keep_fraction"] for arm in arms}):
        assert {arm["curation"] for arm in arms if arm["keep_fraction"] == fraction} >= CONTROLS
    assert sorted({arm["keep_fraction"] for arm in arms}) == [0.1, 0.5]
    assert len({arm["curation"] for arm in arms} - CONTROLS) >= 12


@pytest.mark.parametrize("name", ["nano_curation", "nano_scaling"])
def test_every_arm_of_a_curation_study_is_trained_by_the_reference_for_the_same_time_and_does_not_rank(name):
    arms = definition("study", name)["arms"]
    assert "curation" not in arms[0]  # all of the data, which every budget and claim is relative to
    assert {arm["algorithm"] for arm in arms} == {"reference"}
    budgets = {(arm["overrides"]["workload.budget.charged_seconds"], arm["overrides"]["workload.ranked"]) for arm in arms}
    assert len(budgets) == 1 and not any(ranked for _, ranked in budgets)
    assert load_study(name).seeds >= 3
    overrides = [f"{key}={value}" for key, value in arms[-1]["overrides"].items()]
    assert not resolve(["workload=cifar10_cnn", *overrides]).workload.ranked
