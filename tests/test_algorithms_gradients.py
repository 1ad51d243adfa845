"""Algorithms that change gradients: signal-to-noise ratios, noise, adversarial inputs made with stale weights."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from timetrial.suite.algorithm import mean_loss
from timetrial.suite.algorithms.inner import trainable
from timetrial.suite.algorithms.vrgd import signal_to_noise

from .algorithm_rehearsals import BY_SGD, copied, gradients, part, rehearsal, same, sgd

# ---------------------------------------------------------------- VRGD


def ratios(workers, floor):
    """Jiang et al.: squared mean over variance of k workers (0 where no worker has a gradient), over its mean in the layer, cut."""
    ratio = (workers.mean(dim=0) ** 2 / workers.var(dim=0, correction=0)).nan_to_num(nan=0.0)
    return (ratio / ratio.mean()).clamp(floor, 1.0)


@pytest.mark.parametrize(("chunks", "floor"), [(2, 0.1), (4, 0.1), (8, 0.3), (8, 1.0)])
def test_a_vr_sgd_step_is_the_mean_of_k_workers_times_their_signal_to_noise(chunks, floor):
    found = rehearsal("vr_sgd", hyperparameters={"lr": 0.1}, chunks=chunks, floor=floor, inner=BY_SGD).setup()
    batch, before = copied(found.next_batch()), found.weights()
    workers = [gradients(found, part(batch, rows)) for rows in torch.arange(32).tensor_split(chunks)]
    found.algorithm.step(found.state, batch)
    for name in before:
        each = torch.stack([worker[name] for worker in workers])
        expected = before[name] - 0.1 * each.mean(dim=0) * ratios(each.double(), floor).float()
        torch.testing.assert_close(found.weights()[name], expected, rtol=1e-4, atol=1e-6)


def test_momentum_averages_the_ratios_over_steps_with_corrected_bias():
    """beta3 of the paper's VR-Adam: after t steps sum_i (1 - beta) beta^(t - i) r_i / (1 - beta^t)."""
    beta, chunks = 0.9, 4
    found = rehearsal("vr_adam", hyperparameters={"lr": 0.1}, chunks=chunks, momentum=beta, inner=BY_SGD).setup()
    running = {}
    for step in range(1, 6):
        batch, before = copied(found.next_batch()), found.weights()
        workers = [gradients(found, part(batch, rows)) for rows in torch.arange(32).tensor_split(chunks)]
        found.algorithm.step(found.state, batch)
        for name in before:
            each = torch.stack([worker[name] for worker in workers])
            running[name] = beta * running.get(name, 0.0) + (1 - beta) * ratios(each.double(), 0.1).float()
            expected = before[name] - 0.1 * each.mean(dim=0) * running[name] / (1 - beta**step)
            torch.testing.assert_close(found.weights()[name], expected, rtol=1e-3, atol=1e-6)


gradient_arrays = arrays("float32", (6, 3), elements=st.floats(-1e3, 1e3, width=32))


@given(mean=gradient_arrays, deviation=gradient_arrays, floor=st.floats(0.0, 1.0))
def test_ratios_are_finite_and_between_floor_and_1_for_all_gradients(mean, deviation, floor):
    ratio = signal_to_noise(torch.from_numpy(mean), torch.from_numpy(deviation).square(), floor)
    assert torch.isfinite(ratio).all()
    assert (ratio >= torch.tensor(floor)).all() and (ratio <= 1).all()


@given(scale=st.floats(1e-3, 1e3))
def test_ratios_do_not_depend_on_the_scale_of_the_loss(scale):
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.randn(8, 5, generator=generator), torch.rand(8, 5, generator=generator)
    torch.testing.assert_close(signal_to_noise(scale * mean, scale**2 * variance, 0.1), signal_to_noise(mean, variance, 0.1))


def test_where_all_weights_are_alike_nothing_is_scaled():
    assert torch.equal(signal_to_noise(torch.full((7,), 3.0), torch.full((7,), 2.0), 0.1), torch.ones(7))
    assert torch.equal(signal_to_noise(torch.zeros(7), torch.zeros(7), 0.1), torch.ones(7))


# ---------------------------------------------------------------- gradient noise


def test_noise_has_the_variance_of_the_papers_schedule():
    """eta / (1 + t)^gamma: every step's shift of 100 thousand weights without any other gradient, against a chi-square band of 4 sigma."""
    from .algorithm_problems import Weights, configured, drive

    algorithm, _ = configured("gradient_noise", inner=BY_SGD)
    eta, gamma, model = 0.3, 0.55, Weights(("matrix",))
    model.matrix = torch.nn.Parameter(torch.zeros(400, 250))
    shifts = []
    settings = {"lr": 1.0, "eta": eta, "gamma": gamma}
    for _, before, _, _ in drive(algorithm, settings, lambda step, name, weights: torch.zeros_like(weights), 12, model=model):
        shifts.append((before["matrix"] - model.matrix.detach()).flatten())
    for step, shift in enumerate(shifts):
        expected = eta / (1 + step) ** gamma
        assert float(shift.square().mean()) == pytest.approx(expected, rel=4 * math.sqrt(2 / 100_000))
        assert abs(float(shift.mean())) < 4 * math.sqrt(expected / 100_000)
    correlations = torch.corrcoef(torch.stack(shifts)) - torch.eye(12)
    assert correlations.abs().max() < 5 / math.sqrt(100_000), "the noise of two steps is independent"


def test_without_variance_gradient_noise_is_its_inner_algorithm():
    table = {"lr": 0.05, "momentum": 0.9}
    quiet = rehearsal("gradient_noise", hyperparameters=table | {"eta": 0.0, "gamma": 0.55}, inner=BY_SGD).setup().run(10)
    assert same(quiet, sgd(hyperparameters=table).setup().run(10))
    assert not same(quiet, rehearsal("gradient_noise", hyperparameters=table | {"eta": 1e-4, "gamma": 0.55}, inner=BY_SGD).setup().run(10))


# ---------------------------------------------------------------- concurrent adversarial learning


@pytest.mark.parametrize("scene", ["dense", "pictures"])
def test_without_perturbation_concurrent_adversarial_is_plain_training(scene):
    """Running statistics of batch norm included, which the adversarial pass must not touch."""
    found = rehearsal("concurrent_adversarial", scene, hyperparameters={"lr": 0.05, "epsilon": 0.0}, inner=BY_SGD).setup().run(10)
    assert same(found, sgd(scene, hyperparameters={"lr": 0.05}).setup().run(10), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_the_example_is_made_with_the_weights_of_some_steps_ago(staleness):
    """x' = x + epsilon std(x) sign(grad_x L(w_old, x)), and the step follows the mean of both losses (Liu et al., algorithm 1)."""
    epsilon, rate = 0.2, 0.3
    table = {"lr": rate, "epsilon": epsilon}
    found = rehearsal("concurrent_adversarial", hyperparameters=table, staleness=staleness, inner=BY_SGD).setup()
    oracle, history = sgd(hyperparameters={"lr": rate}).setup(), []
    for _ in range(6):
        batch = copied(oracle.next_batch())
        now = oracle.weights()
        history.append(now)
        oracle.model.load_state_dict(history[max(0, len(history) - 1 - staleness)])
        x = batch["vector"].requires_grad_()
        (slope,) = torch.autograd.grad(mean_loss(oracle.problem.losses(batch), batch), x)
        oracle.model.load_state_dict(now)
        clean = part(batch, slice(None))
        clean.fields["vector"] = x.detach()
        moved = copied(clean)
        moved.fields["vector"] = x.detach() + epsilon * x.detach().std() * slope.sign()
        pair = gradients(oracle, clean), gradients(oracle, moved)
        with torch.no_grad():
            for name, parameter in trainable(oracle.model).items():
                parameter -= rate * (pair[0][name] + pair[1][name]) / 2
        found.step()
        assert same(found, oracle, rtol=1e-4, atol=1e-6)


def test_stale_and_fresh_weights_make_different_trainings():
    table = {"lr": 0.3, "epsilon": 0.2}
    runs = [rehearsal("concurrent_adversarial", hyperparameters=table, staleness=s, inner=BY_SGD).setup().run(4) for s in (0, 1, 2)]
    assert not same(runs[0], runs[1]) and not same(runs[1], runs[2])
