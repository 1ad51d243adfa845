"""Test quality without the pictures that are in the training split as well: as if they had never been in the test split."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from timetrial.data_pipelines.known_copies import known_copies
from timetrial.suite import inputs as inputs_module
from timetrial.suite.assembly import Assembly
from timetrial.suite.config import resolve
from timetrial.suite.evaluate import Evaluator
from timetrial.suite.inputs import Examples, open_inputs
from timetrial.suite.trial import run_trial

SHORT = ["workload=digits_mlp", "loader=torch", "workload.budget.examples=2000", "workload.budget.charged_seconds=1000"]


@pytest.fixture(scope="module")
def inputs(prepared_home):
    return open_inputs(resolve(SHORT).workload, prepared_home)


def measured(inputs):
    """What an untrained model scores on the test split, and a function that measures other examples of it."""
    plan = resolve(SHORT)
    seeds = {"model": 1, "algorithm": 2, "augmentation": 3}
    assembly = Assembly(plan, inputs, seeds)
    evaluator = Evaluator(inputs, assembly.model(1), assembly.device, assembly.fabric.autocast)
    try:
        yield evaluator.measure(inputs.test)
        yield evaluator.measure(inputs.validation)
        yield evaluator.measure(Examples(inputs.test.split, np.setdiff1d(inputs.test.ids, inputs.known_copies)))
    finally:
        evaluator.close()


@pytest.mark.parametrize("copies", [[0], list(range(0, 300, 7)), list(range(200))])
def test_the_cleaned_test_set_is_the_test_set_without_the_copies(inputs, monkeypatch, copies):
    monkeypatch.setattr(inputs_module, "known_copies", lambda source: np.array(copies) if source == "digits" else None)
    plain, validation, without = measured(inputs)
    assert plain.others["cleaned_accuracy"] == pytest.approx(without.quality, abs=1e-12)
    assert validation.others == {} == without.others
    monkeypatch.undo()
    untouched, *_ = measured(inputs)
    assert untouched.quality == plain.quality and untouched.others == {}


def test_the_record_holds_both(inputs, monkeypatch, tmp_path):
    monkeypatch.setattr(inputs_module, "known_copies", lambda source: np.arange(50))
    record, _ = run_trial(resolve(SHORT), tmp_path, inputs=inputs)
    found = record.result.test_measures_at_end["cleaned_accuracy"]
    right_or_wrong = record.result.test_quality_at_end * len(inputs.test) - found * (len(inputs.test) - 50)
    assert -1e-6 <= right_or_wrong <= 50 + 1e-6


@pytest.mark.data
def test_the_lists_are_those_of_cifair(mirror):
    with (mirror / "cifar10/meta/cifair_duplicates_cifar10.csv").open() as stream:
        listed = {int(row["TestID"]) for row in csv.DictReader(stream)}
    for source in ("cifar10", "cifar10n", "cifar10_terms", "cifar10_corrupted"):
        assert known_copies(source).tolist() == sorted(listed)
    assert len(listed) == 286
    assert known_copies("digits").size == 0
