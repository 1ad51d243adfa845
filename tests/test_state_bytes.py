"""A record says how many bytes of state an algorithm keeps beside the model: what papers on memory make claims about."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from timetrial.suite.checkpoint import tensor_bytes
from timetrial.suite.config import resolve
from timetrial.suite.inputs import open_inputs
from timetrial.suite.trial import run_trial

SHORT = ["workload=digits_mlp", "loader=torch", "workload.budget.examples=640", "workload.evaluation.every_examples=320"]
COUNTER_BYTES, NUMBER_BYTES = 4, 4


@pytest.fixture(scope="module")
def inputs(prepared_home):
    return open_inputs(resolve(SHORT).workload, prepared_home)


@pytest.fixture
def cost(inputs, tmp_path):
    """The cost in the record of a short trial, by algorithm and overrides."""
    return lambda algorithm, *more: run_trial(resolve([*SHORT, f"algorithm={algorithm}", *more]), tmp_path, inputs=inputs)[0].cost


def weights(width):
    """Shapes [out, in] of digits_mlp's weights but the head's, and of the head's; each has a bias."""
    return [(width, 64), (width, width)], (10, width)


def kept(width, of_matrix, of_head=None, of_bias=lambda n: n):
    """Numbers of state for all of digits_mlp, given those for an m x n matrix (the head, too, unless it is told apart) and for n biases."""
    hidden, head = weights(width)
    return sum(of_matrix(*shape) for shape in hidden) + (of_head or of_matrix)(*head) + sum(of_bias(m) for m, _ in [*hidden, head])


def copies(count):
    """``count`` numbers for each weight."""
    return lambda width: kept(width, lambda m, n: count * m * n, of_bias=lambda n: count * n)


def galore(rank_fraction):
    """Of m x n with m <= n a basis of m r and two moments of n r numbers (Zhao et al., arXiv 2403.03507, table 1); the rest as Adam."""

    def of_matrix(*shape):
        short, long = sorted(shape)
        rank = round(rank_fraction * short)
        return short * rank + 2 * long * rank

    return lambda width: kept(width, of_matrix, of_head=lambda m, n: 2 * m * n, of_bias=lambda n: 2 * n)


def adafactor(width):
    """A row and a column of each matrix (Shazeer and Stern, arXiv 1804.04235, section 3): sublinear in its entries."""
    return kept(width, lambda m, n: m + n)


def adam_mini(width):
    """A momentum, and one second moment for each row of a matrix and each vector (Zhang et al., arXiv 2406.16793, algorithm 1)."""
    return kept(width, lambda m, n: m * n + m, of_bias=lambda n: n + 1)


# Lion: one momentum where Adam has two (Chen et al., arXiv 2302.06675, section 3.2).
RULES = {"adamw": copies(2), "heavy_ball": copies(1), "nesterov": copies(1), "lion": copies(1)}
RULES |= {"adafactor": adafactor, "adam_mini": adam_mini, "galore": galore(0.25)}


def test_tensors_are_counted_once_wherever_they_are():
    tensor = torch.zeros(10)
    assert tensor_bytes({"a": tensor, "b": [tensor, (np.zeros(3),)], "lr": 0.1}) == 40 + 24


@pytest.mark.parametrize("width", [32, 128])
@pytest.mark.parametrize("algorithm", sorted(RULES))
def test_a_rule_keeps_as_many_numbers_as_its_paper_says(cost, algorithm, width):
    found = cost(algorithm, f"workload.model.width={width}")
    assert found.parameters == kept(width, lambda m, n: m * n)
    beyond = found.optimizer_state_bytes - NUMBER_BYTES * RULES[algorithm](width)
    assert beyond in (0, COUNTER_BYTES * 6), "at most a counter of steps for each of the six tensors"


@pytest.mark.parametrize("rank_fraction", [0.125, 0.5])
def test_galores_state_follows_its_rank(cost, rank_fraction):
    found = cost("galore", f"rank_fraction={rank_fraction}").optimizer_state_bytes
    assert found == NUMBER_BYTES * galore(rank_fraction)(128)


def test_the_claims_are_savings():
    """At 4,096 wide, in shares of Adam's state: what the formulas above, which records meet, say of a large model."""
    share = {name: rule(4096) / RULES["adamw"](4096) for name, rule in RULES.items()}
    assert share["adafactor"] < 0.001
    assert share["galore"] == pytest.approx(0.25 * 3 / 2, rel=0.02)
    assert share["adam_mini"] == pytest.approx(0.5, rel=0.001)
    assert share["lion"] == 0.5
