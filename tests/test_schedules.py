"""Schedules: factors of the learning rate over the budget, held against torch's own schedulers."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from timetrial.suite.algorithms.schedules import schedule
from timetrial.suite.errors import ConfigError, UnknownName

NAMES = ("constant", "linear", "cosine", "trapezoidal", "one_cycle", "cyclic")
STEPS = 1000


def torch_factors(make):
    """The factors that a torch scheduler gives at steps 0 to STEPS - 1, for a learning rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it wants to see the optimizer step
        for _ in range(STEPS):
            factors.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"name": "constant"}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0)),
        ({"name": "linear", "final": 0.1}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, total_iters=STEPS)),
        ({"name": "cosine", "final": 0.05}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.05)),
        (
            {"name": "cyclic", "cycles": 4, "final": 0.2},
            lambda o: lr_scheduler.CyclicLR(o, 0.2, 1.0, step_size_up=STEPS // 8, cycle_momentum=False),
        ),
    ],
)
def test_a_schedule_is_torchs_scheduler_of_that_name(options, make):
    factor = schedule(options)
    assert [factor(step / STEPS) for step in range(STEPS)] == pytest.approx(torch_factors(make), abs=1e-9)


def test_one_cycle_is_torchs_one_cycle():
    """torch puts the peak and the end half a step elsewhere; over a thousand steps that is less than a percent."""
    factor = schedule({"name": "one_cycle", "warmup": 0.3})
    expected = torch_factors(lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=STEPS + 1, pct_start=0.3, final_div_factor=1e9))
    assert [factor(step / STEPS) for step in range(STEPS)] == pytest.approx(expected, abs=0.01)


def test_trapezoidal_rises_holds_and_falls():
    factor = schedule({"name": "trapezoidal", "warmup": 0.1, "cooldown": 0.2, "final": 0.5})
    assert [factor(t) for t in (0.0, 0.05, 0.1, 0.5, 0.8)] == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0])
    assert [factor(t) for t in (0.9, 1.0)] == pytest.approx([0.75, 0.5])


def test_a_straight_warmup_may_start_above_zero():
    factor = schedule({"name": "linear", "warmup": 0.25, "start": 0.2, "final": 0.07})
    assert [factor(t) for t in (0.0, 0.125, 0.25, 0.625, 1.0)] == pytest.approx([0.2, 0.6, 1.0, 0.535, 0.07])


def test_trapezoidal_without_cooldown_is_constant_to_the_end():
    assert schedule({"name": "trapezoidal", "cooldown": 0.0})(1.0) == 1.0


@given(
    name=st.sampled_from(NAMES),
    warmup=st.floats(0.0, 0.5),
    cooldown=st.floats(0.0, 0.5),
    final=st.floats(0.0, 1.0),
    cycles=st.integers(1, 5),
    progress=st.floats(-0.5, 1.5),
)
def test_every_factor_lies_between_0_and_1(name, warmup, cooldown, final, cycles, progress):
    factor = schedule({"name": name, "warmup": warmup, "cooldown": cooldown, "final": final, "cycles": cycles})
    assert -1e-12 <= factor(progress) <= 1 + 1e-12


@given(name=st.sampled_from(NAMES), warmup=st.floats(0.05, 0.9), final=st.floats(0.0, 1.0))
def test_a_warmup_rises_and_meets_its_shape(name, warmup, final):
    factor = schedule({"name": name, "warmup": warmup, "final": final, "cooldown": 0.05})
    rising = [factor(warmup * i / 20) for i in range(20)]
    assert rising == sorted(rising)
    if name != "cyclic":  # whose triangles begin at the bottom
        assert factor(warmup * (1 - 1e-9)) == pytest.approx(factor(warmup), abs=1e-6) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["linear", "cosine", "trapezoidal", "one_cycle"])
def test_a_schedule_ends_at_its_final_factor_and_stays_there(name):
    factor = schedule({"name": name, "final": 0.25})
    assert factor(1.0) == factor(1.3) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "cosin"}, UnknownName, "did you mean 'cosine'"),
        ({"name": "cosine", "warm_up": 0.1}, ConfigError, "did you mean 'warmup'"),
        ({"name": "cosine", "warmup": 1.5}, ConfigError, "warmup: expected a fraction from 0 to 1, given 1.5"),
        ({"name": "linear", "final": -0.1}, ConfigError, "final: expected a fraction"),
        ({"name": "trapezoidal", "warmup": 0.6, "cooldown": 0.6}, ConfigError, "more than the whole budget"),
        ({"name": "cyclic", "cycles": 0}, ConfigError, "cycles: expected at least 1, given 0"),
    ],
)
def test_wrong_options_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        schedule(options)
