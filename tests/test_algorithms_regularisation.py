"""Regularisers that change the training forward pass and nothing else: multi-sample dropout and stochastic depth."""

from __future__ import annotations

import pytest
import torch

from timetrial.suite.algorithm import mean_loss
from timetrial.suite.algorithms.inner import trainable
from timetrial.suite.errors import ConfigError

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
