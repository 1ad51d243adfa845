"""Pools with a known right answer, as workloads: planted copies by a power law, and the perceptron that theory is about."""

from __future__ import annotations

import math

import numpy as np
import pytest

from timetrial.data_pipelines.curation.selection import Selection
from timetrial.data_pipelines.curation.theory import max_margin, predict
from timetrial.data_pipelines.dataset import prepare
from timetrial.data_pipelines.sources import get_source
from timetrial.suite.config import resolve
from timetrial.suite.errors import ConfigError
from timetrial.suite.inputs import open_inputs
from timetrial.suite.trial import run_trial

LARS = ["algorithm=lars", "lr=1", "momentum=0", "weight_decay=0", "trust_coefficient=0.012", "loader=torch"]


def fields(home, name, **options):
    splits = prepare(get_source(name), options, home).splits
    return {split: {key: np.asarray(field.values) for key, field in found.fields.items()} for split, found in splits.items()}


# --- copies of digits -------------------------------------------------------------------------------------------------------------------


def test_copies_are_planted_by_a_power_law_and_no_picture_is_in_two_splits(prepared_home):
    found = fields(prepared_home, "digits_copies")
    train = found["train"]
    counts = np.bincount(train["original"])
    assert len(counts) == len(np.unique(train["pixels"], axis=0)) == 300
    assert 20_000 < len(train["label"]) < 200_000
    assert counts.max() == 2000 and np.median(counts) < 30 and np.sort(counts)[-30:].sum() > 0.4 * counts.sum()
    for original in range(300):
        assert len(np.unique(train["label"][train["original"] == original])) == 1
    seen = {split: {row.tobytes() for row in part["pixels"]} for split, part in found.items()}
    assert not seen["train"] & seen["validation"] and not seen["train"] & seen["test"]
    assert len(found["validation"]["label"]) == 300 and len(found["test"]["label"]) == 360


def test_shaken_copies_stay_near_and_one_stays_exact(prepared_home):
    exact, shaken = (fields(prepared_home, "digits_copies", exponent=2.0, shake=shake)["train"] for shake in (0.0, 0.02))
    assert np.array_equal(exact["original"], shaken["original"])
    moved = np.abs(shaken["pixels"] - exact["pixels"]).max(axis=1)
    assert (moved == 0).sum() == 300
    assert moved.max() < 0.2


@pytest.mark.parametrize(
    ("options", "message"), [({"unique": 2000}, "unique from 10"), ({"exponent": 1.0}, "exponent above 1"), ({"most": 0}, "most")]
)
def test_impossible_copies_are_refused(prepared_home, options, message):
    with pytest.raises(ConfigError, match=message):
        fields(prepared_home, "digits_copies", **options)


@pytest.mark.parametrize(
    ("workload", "curation"),
    [("digits_copies", ["curation=exact_dedup"]), ("digits_copies-shaken", ["curation=near_dedup"])],
)
def test_deduplication_finds_the_right_number_and_learns_more(prepared_home, tmp_path, workload, curation):
    plan = [f"workload={workload}", "algorithm=nesterov", "loader=torch", "workload.data.options.most=60"]
    inputs = open_inputs(resolve(plan).workload, prepared_home)
    everything, _ = run_trial(resolve(plan), tmp_path, inputs=inputs)
    kept, folder = run_trial(resolve([*plan, *curation]), tmp_path, inputs=inputs)
    assert kept.selected.kept_examples == pytest.approx(300, abs=3 if "shaken" in workload else 0)
    originals = np.asarray(inputs.pool.split.fields["original"].values)[Selection.read(folder / "selection.npz").ids]
    assert len(np.unique(originals)) >= 297
    assert kept.result.final_quality > everything.result.final_quality + 0.02


def test_the_cheapest_sufficient_deduplication_depends_on_the_pool(prepared_home, tmp_path):
    plan = ["workload=digits_copies-shaken", "algorithm=nesterov", "loader=torch", "workload.data.options.most=60"]
    record, _ = run_trial(resolve([*plan, "curation=exact_dedup"]), tmp_path, inputs=open_inputs(resolve(plan).workload, prepared_home))
    assert record.selected.kept_examples == record.selected.pool_examples  # no two rows are equal


# --- the perceptron ---------------------------------------------------------------------------------------------------------------------


def test_the_teacher_labels_the_examples(prepared_home):
    dataset = prepare(get_source("perceptron"), {"dimensions": 30, "held_out": 50}, prepared_home)
    teacher = np.array(dataset.facts["teacher"])
    assert np.linalg.norm(teacher) == pytest.approx(1)
    for name, split in dataset.splits.items():
        x, label = (np.asarray(split.fields[field].values) for field in ("x", "label"))
        assert np.array_equal(x @ teacher > 0, label == 1)
        assert len(label) == (240 if name == "train" else 50)
    with pytest.raises(ConfigError, match="dimensions from 2"):
        prepare(get_source("perceptron"), {"dimensions": 1}, prepared_home)


@pytest.fixture
def perceptron(prepared_home, tmp_path, monkeypatch):
    """Run the workload on what a teacher's probe would keep; gives the test error, and that of the exact separator of largest margin."""
    monkeypatch.chdir(tmp_path)
    inputs = open_inputs(resolve(["workload=perceptron"]).workload, prepared_home)
    teacher = np.array(inputs.dataset.facts["teacher"])
    x = np.asarray(inputs.pool.split.fields["x"].values, np.float64)
    hardest = np.argsort(np.abs(x @ teacher), kind="stable")

    def run(keep, keep_fraction):
        budget = round(keep_fraction * len(x))
        overrides = ["curation=random", f"keep_fraction={keep_fraction}"]
        if keep != "random":
            np.save("kept.npy", hardest[:budget] if keep == "hard" else hardest[-budget:])
            pool = inputs.pool.pool_of(("x", "label"), "label")
            digest = Selection.of(pool, np.load("kept.npy")).digest
            overrides = ["curation=ids", "file=kept.npy", f"digest={digest}", f"keep_fraction={keep_fraction}"]
        record, folder = run_trial(resolve(["workload=perceptron", *LARS, *overrides]), tmp_path, inputs=inputs)
        ids = Selection.read(folder / "selection.npz").ids
        exact = max_margin(x[ids], np.sign(x[ids] @ teacher))
        return record.result.test_quality_at_end, math.acos(float(exact @ teacher)) / math.pi

    return run


@pytest.mark.parametrize("keep_fraction", [0.75, 0.5])
def test_a_trial_arrives_at_the_separator_of_largest_margin_where_the_theory_says(perceptron, keep_fraction):
    errors = {keep: perceptron(keep, keep_fraction) for keep in ("easy", "random", "hard")}
    for keep, (trained, exact) in errors.items():
        assert trained == pytest.approx(exact, abs=0.012)  # 0.003 of it is the test set's
        assert trained == pytest.approx(predict(8, keep_fraction, keep).error, abs=0.03)  # one seed of 100 dimensions
    assert errors["easy"][0] < errors["random"][0]
    assert errors["hard"][0] < errors["random"][0]
