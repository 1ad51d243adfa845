"""Proxy training: what curation methods are shown of a model, held against straightforward computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from timetrial.suite.assembly import Assembly
from timetrial.suite.config import resolve
from timetrial.suite.errors import NeedsUnmet
from timetrial.suite.inputs import open_inputs
from timetrial.suite.proxy import ProxyTrainer
from timetrial.suite.seeds import derive_seeds


@pytest.fixture(scope="module")
def assembly(prepared_home):
    plan = resolve(["workload=digits_mlp", "loader=torch"])
    return Assembly(plan, open_inputs(plan.workload, prepared_home), derive_seeds(0))


@pytest.fixture(scope="module")
def train(assembly):
    return ProxyTrainer(assembly)


def test_the_untrained_model_is_measured_without_any_step(assembly, train):
    shown = train(0, seed=4, collect=("logits", "features", "gradient_norms")).last
    model = assembly.model(derive_seeds(4)["model"])
    pool = assembly.inputs.pool
    pixels = torch.from_numpy(np.asarray(pool.split.fields["pixels"].values[pool.ids]))
    labels = torch.from_numpy(np.asarray(pool.split.fields["label"].values[pool.ids]))
    with torch.no_grad():
        logits, hidden = model(pixels), model[:-1](pixels)
    np.testing.assert_allclose(shown.logits, logits, atol=1e-5)
    np.testing.assert_allclose(shown.features, hidden, atol=1e-5)
    np.testing.assert_allclose(shown.losses, cross_entropy(logits, labels, reduction="none"), atol=1e-5)
    for i in (0, 17, 900):  # one example at a time, by plain backward
        model.zero_grad()
        cross_entropy(model(pixels[i : i + 1]), labels[i : i + 1]).backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        assert shown.gradient_norms[i] == pytest.approx(float(norm), rel=1e-4)


def test_every_started_epoch_is_measured_once_in_order(train):
    assert [entry.epoch for entry in train(2.5, seed=0).history] == [1.0, 2.0, 2.5]
    seen = []
    last = train(2, seed=0, every_epoch=seen.append)
    assert [entry.epoch for entry in seen] == [1.0, 2.0]
    assert last.history == (seen[-1],)


def test_training_learns_and_is_a_function_of_its_seed(train):
    first, again, other = (train(3, seed=seed).stack("losses") for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first[-1].mean() < 0.5 * first[0].mean()


def test_a_subset_is_learned_better_than_the_rest(train):
    kept = np.arange(60)
    losses = train(40, seed=0, subset=kept).last.losses
    assert losses[kept].mean() < 0.5 * np.delete(losses, kept).mean()


def test_other_labels_are_trained_on_and_measured(assembly, train):
    wrong = np.zeros(len(assembly.inputs.pool), np.int64)
    shown = train(3, seed=0, labels=wrong, collect=("logits",)).last
    assert (shown.logits.argmax(1) == 0).all()
    assert shown.losses.mean() < 0.1


def test_training_a_proxy_leaves_the_random_state_alone(train):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    train(1, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_examples_are_measured_in_eval_mode_whatever_the_size_of_a_batch(prepared_home):
    losses = []
    for size in (512, 33):
        plan = resolve(["workload=digits_mlp", "loader=torch", f"workload.evaluation.batch_size={size}"])
        parts = Assembly(plan, open_inputs(plan.workload, prepared_home), derive_seeds(0))
        plain = parts.model
        parts.model = lambda seed, plain=plain: nn.Sequential(nn.BatchNorm1d(64), nn.Dropout(0.5), plain(seed))
        losses.append(ProxyTrainer(parts)(1, seed=0).last.losses)
    np.testing.assert_allclose(*losses, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_collected_is_refused_by_name(train):
    with pytest.raises(NeedsUnmet, match="cannot collect hessian; known: features, gradient_norms, logits"):
        train(0, seed=0, collect=("hessian",))
