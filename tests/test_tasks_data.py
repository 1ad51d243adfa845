"""Every shipped workload on its real data: what its page states, the same batches from both loaders, and weights that belong to a seed."""

from __future__ import annotations

import re
from importlib import import_module

import numpy as np
import pytest
import torch

from timetrial.data_pipelines.batcher import Batcher
from timetrial.suite.algorithm import Batch
from timetrial.suite.assembly import Assembly
from timetrial.suite.config import resolve
from timetrial.suite.inputs import open_inputs, prepare_inputs
from timetrial.suite.registry import definition, names
from timetrial.suite.seeds import derive_seeds
from timetrial.suite.trial import run_trial

pytestmark = [
    pytest.mark.data,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),  # torch_geometric's import
]

LEADS = {"cifar10_cnn", "digits_mlp", "shakespeare_gpt"}  # tested with the trial loop
CURATION = {"digits_copies", "perceptron"}  # tested with curation
WORKLOADS = [name for name in names("workload") if name not in LEADS | CURATION and definition("workload", name)["tier"] == "nano"]
UNITS = {"M": 1e6, "G": 1e9}


@pytest.fixture(scope="module", params=WORKLOADS)
def assembly(request, prepared_home):
    plan = resolve([f"workload={request.param}"])
    return Assembly(plan, open_inputs(plan.workload, prepared_home), derive_seeds(0))


def batch_of(assembly, kind, size=8):
    ids = assembly.inputs.pool.ids[:size]
    with assembly.inputs.training_loader(kind, 1, 1, size) as loader:
        batch = Batcher(loader, lambda epoch: (ids, None)).next(size)
        return {name: value.clone() for name, value in batch.fields.items()}


def test_the_page_states_what_an_example_costs(assembly):
    header = import_module(f"timetrial.tasks.{assembly.plan.workload.task}").__doc__
    stated = re.search(r"^Cost    ([\d,]+) parameters; ([\d.]+) ([MG])FLOP and ([\d,]+) bytes an example\.$", header, re.MULTILINE)
    assert stated, header
    model, size = assembly.model(0), assembly.plan.workload.batch_size
    fields = assembly.inputs.dataset.splits["train"].fields
    assert sum(p.numel() for p in model.parameters()) == int(stated[1].replace(",", ""))
    assert assembly.step_flops(model, size).model / size == pytest.approx(float(stated[2]) * UNITS[stated[3]], rel=0.01)
    assert sum(fields[name].values[0].nbytes for name in assembly.inputs.fields) == int(stated[4].replace(",", ""))
    assert "\nExpect  " in header and "\nFrom    " in header


def test_initial_weights_are_a_function_of_the_seed(assembly):
    first, again, other = (assembly.model(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_losses_are_one_finite_number_an_example_and_every_weight_learns(assembly):
    model = assembly.model(0)
    fields = batch_of(assembly, "torch")
    losses = assembly.losses(model)(Batch(torch.arange(8), fields))
    assert losses.shape == (8,) and torch.isfinite(losses).all()
    losses.mean().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.ffcv
def test_both_loaders_serve_the_same_bits(assembly):
    ours, oracle = batch_of(assembly, "ffcv"), batch_of(assembly, "torch")
    assert set(ours) == set(oracle) == set(assembly.inputs.fields)
    for name, value in ours.items():
        assert torch.equal(value, oracle[name]), name


def test_no_split_is_empty_and_no_training_example_is_held_out(assembly):
    inputs = assembly.inputs
    assert min(len(inputs.pool), len(inputs.validation), len(inputs.test)) > 0
    if inputs.validation.split is inputs.pool.split:
        assert np.intersect1d(inputs.pool.ids, inputs.validation.ids).size == 0


COVERING = {"ctr_dlrm", "emoji_clip", "molhiv_gnn", "speech_lstm"}  # rows, pictures with text, graphs, sound; the others take longer


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in COVERING else pytest.mark.slow) for name in WORKLOADS])
def test_a_smoke_run_goes_from_data_to_record(name, prepared_home, tmp_path):
    (tmp_path / "data").symlink_to(prepared_home / "data")
    prepare_inputs(resolve([f"workload={name}"]).workload, prepared_home)
    record, _ = run_trial(resolve([f"workload={name}", "loader=torch"]), tmp_path, smoke=True)
    assert record.status == "smoke", record.status_reason
    assert np.isfinite(record.result.final_quality)
