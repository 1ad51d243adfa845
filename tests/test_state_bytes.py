"""A record says how many bytes of state an algorithm keeps beside the model: what papers on memory make claims about."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from timetrial.suite.checkpoint import tensor_bytes
from timetrial.suite.config import resolve
from timetrial.suite.inputs import open_inputs
from timetrial.suite.trial import run_trial

SHORT = ["workload=digits_mlp", "loader=torch", "workload.budget.examples=2000", "workload.budget.charged_seconds=1000"]
COUNTER_BYTES, MOST_TENSORS = 4, 100


@pytest.fixture(scope="module")
def inputs(prepared_home):
    return open_inputs(resolve(SHORT).workload, prepared_home)


@pytest.fixture
def cost(inputs, tmp_path):
    return lambda algorithm: run_trial(resolve([*SHORT, f"algorithm={algorithm}"]), tmp_path, inputs=inputs)[0].cost


def test_tensors_are_counted_once_wherever_they_are():
    tensor = torch.zeros(10)
    assert tensor_bytes({"a": tensor, "b": [tensor, (np.zeros(3),)], "lr": 0.1}) == 40 + 24


@pytest.mark.parametrize(("algorithm", "copies"), [("adamw", 2), ("heavy_ball", 1), ("nesterov", 1), ("lion", 1)])
def test_moments_take_as_many_copies_of_the_parameters_as_the_rule_keeps(cost, algorithm, copies):
    found = cost(algorithm)
    beyond = found.optimizer_state_bytes - copies * 4 * found.parameters
    assert 0 <= beyond <= COUNTER_BYTES * MOST_TENSORS


@pytest.mark.parametrize("algorithm", ["adafactor", "adam_mini"])
def test_rules_that_save_memory_keep_less_than_adamw(cost, algorithm):
    assert cost(algorithm).optimizer_state_bytes < 0.75 * cost("adamw").optimizer_state_bytes
