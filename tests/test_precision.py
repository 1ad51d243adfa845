"""bf16, channels-last and torch.compile are options; compiling is charged as setup; the same seed gives the same curve with each."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from timetrial.suite.assembly import Assembly
from timetrial.suite.config import resolve
from timetrial.suite.inputs import open_inputs
from timetrial.suite.record import read_record
from timetrial.suite.seeds import derive_seeds
from timetrial.suite.trial import run_trial

SHORT = ["workload=digits_mlp", "loader=torch", "workload.budget.examples=2000", "workload.budget.charged_seconds=1000"]


def run(home, prepared_home, *overrides):
    plan = resolve([*SHORT, *overrides])
    return run_trial(plan, home, inputs=open_inputs(plan.workload, prepared_home))


def curve(folder):
    return [(p.examples, p.loss, p.quality) for p in read_record(folder)[1]]


def test_bf16_computes_the_model_in_bf16_and_the_loss_in_float32(prepared_home):
    plan = resolve([*SHORT, "workload.precision=bf16-mixed"])
    assembly = Assembly(plan, open_inputs(plan.workload, prepared_home), derive_seeds(0))
    model = assembly.model(0)
    seen = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    assembly.losses(model)(assembly.dummy_batch(8))
    assert seen == [torch.bfloat16]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_bf16_is_another_curve_and_repeats_bit_for_bit(prepared_home, tmp_path):
    full = curve(run(tmp_path, prepared_home)[1])
    half = [curve(run(tmp_path, prepared_home, "workload.precision=bf16-mixed")[1]) for _ in range(2)]
    assert half[0] == half[1] != full


def test_channels_last_reaches_the_convolutions(prepared_home):
    from torch import nn

    plan = resolve([*SHORT, "workload.channels_last=true"])
    inputs = open_inputs(plan.workload, prepared_home)
    task = replace(inputs.task, build_model=lambda options, facts: nn.Conv2d(3, 8, 3))
    model = Assembly(plan, replace(inputs, task=task), derive_seeds(0)).model(0)
    assert model.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("default")
def test_compile_time_is_charged_as_setup_and_the_curve_stays(prepared_home, tmp_path):
    plain = run(tmp_path, prepared_home)
    compiled = run(tmp_path, prepared_home, "compile=true")
    assert compiled[0].time.wall_seconds["setup"] > 10 * plain[0].time.wall_seconds["setup"]
    assert compiled[0].cost.model_flops_per_example == plain[0].cost.model_flops_per_example
    for (_, loss, _), (_, expected, _) in zip(curve(compiled[1]), curve(plain[1]), strict=True):
        assert loss == pytest.approx(expected, rel=1e-3)
