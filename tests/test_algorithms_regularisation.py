"""Regularisers that change the training forward pass and nothing else: multi-sample dropout and stochastic depth."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from timetrial.suite.algorithm import Batch, Problem, StepReport, TrainingAlgorithm, mean_loss, parameter_kinds
from timetrial.suite.algorithms.inner import trainable
from timetrial.suite.algorithms.stochastic_depth import StochasticDepth, survival_probabilities
from timetrial.suite.errors import ConfigError, NeedsUnmet
from timetrial.tasks._transformer import Layer

from .algorithm_rehearsals import BY_SGD, copied, gradients, rehearsal, same, sgd

TABLE = {"lr": 0.05, "momentum": 0.9}
SCENES = ["dense", "pictures", "tokens"]

# ---------------------------------------------------------------- multi-sample dropout


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("samples", [1, 4])
def test_masks_that_drop_nothing_are_plain_training(scene, samples):
    found = rehearsal("multi_sample_dropout", scene, hyperparameters=TABLE | {"drop": 0.0}, samples=samples, inner=BY_SGD).setup().run(8)
    assert same(found, sgd(scene, hyperparameters=TABLE).setup().run(8), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("samples", [1, 3])
def test_a_step_follows_the_mean_of_the_losses_of_its_masks(scene, samples):
    """Against separate passes, each with one of the masks that the generator gives, scaled by 1 / (1 - drop)."""
    drop, rate = 0.4, 0.1
    found = rehearsal("multi_sample_dropout", scene, hyperparameters={"lr": rate, "drop": drop}, samples=samples, inner=BY_SGD).setup()
    oracle = sgd(scene, hyperparameters={"lr": rate}).setup()
    batch = copied(found.next_batch())
    width = oracle.model.head.in_features
    kept = torch.rand(samples * len(batch), width, generator=torch.Generator().manual_seed(0)) >= drop
    each = []
    for mask in kept.split(len(batch)):
        handle = oracle.model.head.register_forward_pre_hook(lambda module, given, mask=mask: (given[0] * mask / (1 - drop),))
        each.append(gradients(oracle, batch))
        handle.remove()
    report = found.algorithm.step(found.state, batch)
    with torch.no_grad():
        for name, parameter in trainable(oracle.model).items():
            parameter -= rate * sum(one[name] for one in each) / samples
    names = trainable(oracle.model)
    for name in names:
        torch.testing.assert_close(found.weights()[name], oracle.weights()[name], rtol=1e-4, atol=1e-6)
    assert report.per_example_loss.shape == (len(batch),)


def test_dropped_inputs_keep_their_expectation():
    """Over many masks the head's mean output is that without masks."""
    found = rehearsal("multi_sample_dropout", hyperparameters={"lr": 0.0, "drop": 0.5}, samples=2000, inner=BY_SGD).setup()
    batch, seen = copied(found.next_batch()), []
    handle = found.model.head.register_forward_hook(lambda module, given, output: seen.append(output.detach()))
    found.algorithm.step(found.state, batch)
    with torch.no_grad():
        mean_loss(found.problem.losses(batch), batch)
    handle.remove()
    masked, plain = seen[0].reshape(2000, len(batch), -1), seen[1]
    deviation = masked.std(dim=0) / 2000**0.5
    assert ((masked.mean(dim=0) - plain).abs() <= 5 * deviation + 1e-5).all()


def test_evaluation_has_no_masks():
    found = rehearsal("multi_sample_dropout", hyperparameters=TABLE | {"drop": 0.5}, inner=BY_SGD).setup().run(3)
    assert not found.model.head._forward_pre_hooks and found.algorithm.weights_for_evaluation(found.state) is None


@pytest.mark.parametrize(("options", "table", "message"), [({"samples": 0}, {"drop": 0.1}, "samples"), ({}, {"drop": 1.0}, "drop: exp")])
def test_impossible_masks_are_refused(options, table, message):
    with pytest.raises(ConfigError, match=message):
        rehearsal("multi_sample_dropout", hyperparameters=TABLE | table, inner=BY_SGD, **options).setup()


# ---------------------------------------------------------------- stochastic depth


class Block(nn.Module):
    """x + tanh(W x); counts how often it computes."""

    residual_block = True

    def __init__(self):
        super().__init__()
        self.linear, self.calls = nn.Linear(6, 6), 0

    def forward(self, x):
        self.calls += 1
        return x + self.linear(x).tanh()


class Residual(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.blocks, self.head = nn.Sequential(*(Block() for _ in range(depth))), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.blocks(x))


class Recorder(TrainingAlgorithm):
    """An inner algorithm that computes the losses and updates nothing."""

    def setup(self, model, problem):
        return problem

    def step(self, state, batch):
        losses = state.losses(batch)
        return StepReport(losses.mean().detach(), losses.detach())

    def state_dict(self, state):
        return {}

    def load_state_dict(self, state, payload):
        pass


def skipping(model, survival, inner=None):
    """Stochastic depth over a model, its state and a batch, with the head's outputs as losses."""
    batch = Batch(torch.arange(4), {"x": torch.randn(4, 6, generator=torch.Generator().manual_seed(1))})
    given = Problem(
        losses=lambda b: model(b["x"])[:, 0],
        backward=lambda loss: loss.backward(),
        next_batch=lambda: batch,
        dummy_batch=batch,
        progress=lambda: 0.0,
        kinds=parameter_kinds(model),
        hyperparameters={"lr": 0.1, "survival": survival},
        generator=torch.Generator().manual_seed(0),
        batch_size=4,
        step_count=10,
    )
    algorithm = StochasticDepth(inner=BY_SGD)
    if inner is not None:
        algorithm.inner = inner
    return algorithm, algorithm.setup(model, given), batch


def test_survival_falls_on_a_straight_line_to_that_of_the_last_block():
    assert survival_probabilities(4, 0.5) == pytest.approx([0.875, 0.75, 0.625, 0.5])
    assert survival_probabilities(3, 1.0) == [1.0, 1.0, 1.0]
    depth = 54  # the paper: at one half, about three quarters of the blocks compute
    assert sum(survival_probabilities(depth, 0.5)) / depth == pytest.approx(0.75, abs=0.01)


def test_blocks_compute_as_often_as_their_survival_says_and_else_cost_nothing():
    torch.manual_seed(0)
    model, steps = Residual(4), 2000
    algorithm, state, batch = skipping(model, 0.4, Recorder())
    for _ in range(steps):
        algorithm.step(state, batch)
    for block, chance in zip(model.blocks, survival_probabilities(4, 0.4), strict=True):
        assert block.calls / steps == pytest.approx(chance, abs=5 * (chance * (1 - chance) / steps) ** 0.5)


def test_the_expected_output_of_a_block_is_the_blocks_own():
    torch.manual_seed(0)
    model = Residual(1)
    algorithm, state, batch = skipping(model, 0.3, Recorder())
    plain = model(batch["x"])[:, 0].detach()
    drawn = torch.stack([algorithm.step(state, batch).per_example_loss for _ in range(4000)])
    assert ((drawn.mean(dim=0) - plain).abs() < 5 * drawn.std(dim=0) / 4000**0.5).all()
    direct = model.head(batch["x"])[:, 0].detach()
    for value in drawn:  # either the block is not there, or its branch is 1 / 0.3 times as large: nothing in between
        assert torch.allclose(value, direct, atol=1e-5) or torch.allclose(value, direct + (plain - direct) / 0.3, atol=1e-5)


def test_survival_of_one_is_plain_training_and_evaluation_is_never_touched():
    torch.manual_seed(0)
    model = Residual(3)
    twin = copy.deepcopy(model)
    algorithm, state, batch = skipping(model, 1.0)
    base, base_state, _ = skipping(twin, 1.0)
    base.inner.step(base_state.inner, batch)
    algorithm.step(state, batch)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    algorithm, state, batch = skipping(model, 0.01)
    algorithm.step(state, batch)
    for block in model.blocks:
        assert "forward" not in vars(block)


def test_a_model_without_residual_blocks_is_refused_by_name():
    with pytest.raises(NeedsUnmet, match="needs residual_blocks"):
        skipping(nn.Sequential(nn.Linear(6, 3)), 0.5)
    with pytest.raises(ConfigError, match="survival: expected"):
        skipping(Residual(2), 0.0)


def test_a_transformer_that_normalises_after_its_branches_cannot_be_skipped():
    assert Layer(8, 2, 2).residual_block and not Layer(8, 2, 2, post_norm=True).residual_block
