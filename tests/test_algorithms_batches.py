"""Algorithms that choose their batches: growing by a test of variance, large from the start, the hardest of several, in parts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.suite.algorithm import mean_loss
from timetrial.suite.algorithms.adadagrad import wanted_batch_size
from timetrial.suite.algorithms.gradient_chunks import ChunkGradients, chunk_gradients
from timetrial.suite.algorithms.inner import trainable
from timetrial.suite.algorithms.large_minibatch import LargeMinibatch

from .algorithm_rehearsals import BY_SGD, copied, gradients, part, rehearsal, same, sgd

PLAIN = {"lr": 0.05}

# ---------------------------------------------------------------- gradients of parts


@pytest.mark.parametrize("count", [1, 2, 5, 32])
def test_gradients_of_parts_are_those_of_separate_backward_passes(count):
    """Mean and mean squared deviation over k workers, each with its own part; 5 do not divide 32, so parts are unequal."""
    found = sgd(hyperparameters=PLAIN)
    batch = copied(found.next_batch())
    parts = [part(batch, rows) for rows in torch.arange(32).tensor_split(count)]
    workers = [gradients(found, one) for one in parts]
    chunks = chunk_gradients(found.problem, trainable(found.model), batch, count)
    for name, mean in chunks.mean.items():
        together = torch.stack([worker[name] for worker in workers])
        torch.testing.assert_close(mean, together.mean(dim=0), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(chunks.variance[name], together.var(dim=0, correction=0), rtol=1e-3, atol=1e-8)
    assert set(chunks.mean) == set(trainable(found.model))
    assert all(p.grad is None for p in found.model.parameters())


@pytest.mark.parametrize("count", [2, 4, 8])
def test_k_equal_workers_have_the_gradient_of_one_large_batch(count):
    """Exact for a mean loss and a model without batch statistics (Goyal et al., section 2.3)."""
    found = sgd(hyperparameters=PLAIN)
    batch = copied(found.next_batch())
    whole = gradients(found, batch)
    for name, mean in chunk_gradients(found.problem, trainable(found.model), batch, count).mean.items():
        torch.testing.assert_close(mean, whole[name], rtol=1e-4, atol=1e-7)


def test_sgd_on_accumulated_parts_goes_where_sgd_on_whole_batches_goes():
    """``vr_sgd`` with a floor of 1 scales nothing, so only the accumulation is left."""
    table = {"lr": 0.05, "momentum": 0.9}
    plain = sgd(hyperparameters=table).setup().run(20)
    accumulated = rehearsal("vr_sgd", hyperparameters=table, floor=1.0, chunks=4, inner=BY_SGD).setup().run(20)
    assert same(plain, accumulated, rtol=1e-4, atol=1e-5)
    assert not same(plain, rehearsal("vr_sgd", hyperparameters=table, chunks=4, inner=BY_SGD).setup().run(20), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- AdAdaGrad


def test_the_wanted_batch_is_that_of_the_norm_test_on_single_gradients():
    """With parts of one example: the smallest b with Var(g_i) <= eta^2 b |g|^2, the unbiased variance summed over all weights."""
    found = sgd(hyperparameters=PLAIN)
    batch = copied(found.next_batch())
    single = [gradients(found, part(batch, slice(i, i + 1))) for i in range(32)]
    flat = torch.stack([torch.cat([g.flatten() for g in one.values()]) for one in single])
    variance, norm = float(flat.var(dim=0).sum()), float(flat.mean(dim=0).square().sum())
    chunks = chunk_gradients(found.problem, trainable(found.model), batch, 32)
    for eta in (0.3, 1.0, 2.0):
        wanted = wanted_batch_size(chunks, eta)
        assert wanted == pytest.approx(variance / (eta**2 * norm), rel=1e-3)
        for size, passes in ((math.ceil(wanted), True), (math.ceil(wanted) - 1, False)):
            assert (variance <= eta**2 * size * norm) == passes


def test_parts_of_any_size_estimate_the_same_variance_of_single_gradients():
    """Over many draws of independent gradients, whatever number of parts they are averaged in."""
    generator = torch.Generator().manual_seed(0)
    estimates = {count: [] for count in (4, 16, 64)}
    for _ in range(400):
        single = 1.0 + torch.randn(64, 20, generator=generator)
        for count, found in estimates.items():
            means = single.reshape(count, -1, 20).mean(dim=1)
            chunks = ChunkGradients({"w": means.mean(0)}, {"w": means.var(0, correction=0)}, torch.zeros(()), torch.zeros(64), count)
            found.append(wanted_batch_size(chunks, 1.0) * float(means.mean(0).square().sum()))
    for found in estimates.values():
        assert sum(found) / len(found) == pytest.approx(20.0, rel=0.03)


@settings(max_examples=15, deadline=None)
@given(eta=st.floats(0.02, 3.0), every=st.integers(1, 4), largest=st.integers(1, 20))
def test_batches_only_grow_by_multiples_of_the_first_up_to_the_largest(eta, every, largest):
    table = {"lr": 0.1, "eta": eta}
    found = rehearsal("adadagrad", hyperparameters=table, every=every, largest=largest, inner=BY_SGD, batch_size=16).setup()
    sizes = [len(batch) for batch in served(found, 12)]
    assert sizes == sorted(sizes)
    assert all(size % 16 == 0 and size <= 16 * largest for size in sizes)
    assert all(sizes[i] == sizes[i - 1] for i in range(1, 12) if i % every)  # only a test, at every ``every``-th step, changes the size


def served(found, steps):
    """The batches that an algorithm was given in some steps."""
    batches = []
    for _ in range(steps):
        batches.append(copied(found.next_batch()))
        found.take(found.algorithm.step(found.state, batches[-1]))
    return batches


def test_a_failed_test_gives_the_next_step_the_wanted_batch():
    found = rehearsal("adadagrad", hyperparameters={"lr": 0.0, "eta": 0.5}, every=1, chunks=32, largest=1000, inner=BY_SGD).setup()
    first = copied(found.next_batch())
    wanted = wanted_batch_size(chunk_gradients(found.problem, trainable(found.model), first, 32), 0.5)
    report = found.algorithm.step(found.state, first)
    assert report.next_batch_size == 32 * math.ceil(wanted / 32) > 32


def test_batches_that_always_pass_leave_the_inner_algorithm_alone():
    table = {"lr": 0.05, "momentum": 0.9}
    grown = rehearsal("adadagrad", hyperparameters=table | {"eta": 1e6}, inner=BY_SGD).setup().run(25)
    assert grown.next_batch_size == 32
    assert same(grown, sgd(hyperparameters=table).setup().run(25), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- large minibatches


def test_the_rate_follows_the_linear_scaling_rule_after_a_straight_warm_up():
    algorithm = LargeMinibatch(factor=8, warmup=0.2, optimizer="torch.optim.SGD")
    assert [algorithm.rate_factor(t) for t in (0.0, 0.05, 0.1, 0.2, 1.0)] == pytest.approx([1.0, 2.75, 4.5, 8.0, 8.0])
    assert LargeMinibatch(factor=8, warmup=0.0, optimizer="torch.optim.SGD").rate_factor(0.0) == 8.0


def test_after_warm_up_a_step_is_an_sgd_step_of_the_large_batch_at_k_times_the_rate():
    found = rehearsal(
        "large_minibatch", hyperparameters={"lr": 0.01}, factor=4, warmup=0.05, schedule={"name": "constant"}, batch_size=16
    ).setup()
    found.run(3)
    before, batch = found.weights(), copied(found.next_batch())
    whole = gradients(found, batch)
    found.algorithm.step(found.state, batch)
    assert len(batch) == 64
    for name, gradient in whole.items():
        torch.testing.assert_close(found.weights()[name], before[name] - 4 * 0.01 * gradient, rtol=1e-5, atol=1e-6)


def test_one_large_step_goes_where_k_small_steps_go():
    """To first order: the gap, relative to the way gone, is proportional to the rate (Goyal et al., section 2.1); of a smooth model."""

    def gap(rate):
        small = sgd("tokens", hyperparameters={"lr": rate}, batch_size=16).setup()
        large = sgd("tokens", hyperparameters={"lr": 4 * rate}, batch_size=64).setup()
        start = small.weights()
        small.run(4), large.run(1)
        moved, off = (
            torch.cat([(a - b).flatten() for a, b in zip(x.values(), y.values(), strict=True)])
            for x, y in ((large.weights(), start), (small.weights(), large.weights()))
        )
        return float(off.norm() / moved.norm())

    assert gap(0.02) < 0.02
    assert gap(0.2) == pytest.approx(10 * gap(0.02), rel=0.2)


# ---------------------------------------------------------------- hardest mini-batches


@pytest.mark.parametrize("candidates", [2, 3, 5])
def test_the_mini_batch_of_highest_mean_loss_is_trained_on(candidates):
    found = rehearsal("hardest_minibatch", hyperparameters={"lr": 0.05}, candidates=candidates, inner=BY_SGD).setup()
    plain = sgd(hyperparameters={"lr": 0.05}).setup()
    for _ in range(6):
        drawn = [copied(plain.next_batch()) for _ in range(candidates)]
        losses = [float(mean_loss(plain.problem.losses(batch), batch).detach()) for batch in drawn]
        report = plain.algorithm.step(plain.state, drawn[losses.index(max(losses))])
        assert float(found.step().loss) == float(report.loss) == pytest.approx(max(losses))
    assert found.served == 6 * candidates * 32  # every candidate is drawn and paid for
    assert same(found, plain)


def test_a_single_candidate_is_plain_training():
    found = rehearsal("hardest_minibatch", hyperparameters={"lr": 0.05}, candidates=1, inner=BY_SGD).setup().run(6)
    assert same(found, sgd(hyperparameters={"lr": 0.05}).setup().run(6))
