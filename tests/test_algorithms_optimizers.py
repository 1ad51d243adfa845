"""Optimizers from libraries and our own, followed step by step against their papers' rules, at their shipped hyperparameters."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from pytorch_optimizer.optimizer.muon import base

from timetrial.suite.algorithms.schedules import schedule
from timetrial.suite.config import resolve_definition

from .algorithm_problems import SHAPES, Weights, configured, drive, random_gradients, tangential_gradients
from .algorithm_rehearsals import rehearsal, same
from .optimizer_references import RULES

STEPS = 24
# SOAP's bases are arbitrary where one gradient leaves a side without full rank, and so is GaLore's sign at every new basis.
NOT_ALL = {"soap": ("square",), "adafactor": ("matrix", "vector"), "galore": ("matrix", "conv")}
AS_MATRIX = ("shampoo", "galore")
OPTIONS = {"galore": {"horizon_steps": {"refresh_every": 1.0}}}
SETTINGS = {"shampoo": {"root_every": STEPS + 1}}  # the rule computes its roots at every step
FOLLOWED = sorted(
    "heavy_ball nesterov adagrad adam adamw nadamw radam adafactor lion adamp sgdp lars lamb ademamix soap shampoo adam_mini galore".split()
)


def named(model):
    return list(model.named_parameters())


def follow(name, gradient, rtol=2e-4):
    """Hold every step of a shipped algorithm against its rule, for each tensor that the rule speaks about."""
    algorithm, settings = configured(name, **OPTIONS.get(name, {}))
    settings |= SETTINGS.get(name, {})
    names = NOT_ALL.get(name, tuple(SHAPES))
    steps_of = {"t_alpha_beta3": STEPS, "refresh_every": STEPS, "warmup_steps": max(1, round(0.05 * STEPS))}
    model = Weights(names).double()  # the sign of a singular vector is rounding's to choose
    rules, own = {}, {}
    for key, parameter in model.named_parameters():
        decay = settings.get("weight_decay", 0.0) if key != "vector" else 0.0
        start = parameter.detach().double().clone().numpy()
        own[key] = {**settings, **steps_of, "weight_decay": decay}
        rules[key] = RULES[name](start.reshape(len(start), -1) if name in AS_MATRIX and start.ndim > 2 else start, own[key])
        next(rules[key])
    state = None
    for step, before, state, _ in drive(algorithm, settings, gradient, STEPS, model=model):  # noqa: B007
        for key, parameter in model.named_parameters():
            g = gradient(step, key, before[key]).double().numpy()
            expected = rules[key].send(g.reshape(len(g), -1) if name in AS_MATRIX and g.ndim > 2 else g)
            np.testing.assert_allclose(
                parameter.detach().numpy(), expected.reshape(parameter.shape), rtol=rtol, atol=rtol * 0.1, err_msg=f"{key} at step {step}"
            )
    return algorithm, state, own


@pytest.mark.parametrize("name", FOLLOWED)
def test_an_optimizer_follows_its_papers_rule_step_by_step(name):
    follow(name, random_gradients())


@pytest.mark.parametrize("name", ["adamp", "sgdp"])
def test_projected_optimizers_follow_their_rule_on_a_scale_invariant_loss(name):
    follow(name, tangential_gradients())


@pytest.fixture
def muon_in_double(monkeypatch):
    """The library's Newton-Schulz iteration, at another precision than its bfloat16."""
    monkeypatch.setattr(base, "zero_power_via_newton_schulz_5", partial(base.zero_power_via_newton_schulz_5, dtype=torch.float64))


@pytest.mark.usefixtures("muon_in_double")
def test_muon_follows_its_rule_on_matrices_and_adam_on_the_rest():
    algorithm, settings = configured("muon")
    model = Weights().double()
    adam = {"lr": settings["adamw_lr"], "betas": settings["adamw_betas"], "weight_decay": 0.0}
    rules = {
        key: RULES["muon" if p.ndim > 1 else "adam"](p.detach().numpy().copy(), settings if p.ndim > 1 else adam) for key, p in named(model)
    }
    expected = {key: next(rule) for key, rule in rules.items()}
    gradient = random_gradients()
    for step, before, _, _ in drive(algorithm, settings, gradient, STEPS, model=model):
        for key, p in named(model):
            expected[key] = rules[key].send(gradient(step, key, before[key]).double().numpy())
            np.testing.assert_allclose(p.detach().numpy(), expected[key], rtol=2e-4, atol=2e-5, err_msg=f"{key} at step {step}")


def test_muons_steps_are_nearly_orthogonal_whatever_the_gradients_scale():
    """The claim of the rule: all singular values of a step are about the rate, those of the gradient may lie far apart."""
    algorithm, settings = configured("muon")
    rotation = torch.linalg.qr(random_gradients()(0, "square", torch.ones(4, 4)))[0]
    spread = torch.tensor([10.0, 3.0, 1.0, 0.3])[:, None] * rotation
    settings |= {"weight_decay": 0.0}
    for _, before, _, model in drive(algorithm, settings, lambda step, name, weights: spread, 1, names=("square",)):
        values = torch.linalg.svdvals((model.square.detach() - before["square"]) / settings["lr"])
    assert values.min() > 0.5 and values.max() < 1.3


def test_prodigy_follows_its_rule_with_one_distance_for_all_weights():
    """On a quadratic, where the distance grows from 1e-6 by several powers of ten."""
    algorithm, settings = configured("prodigy")
    model = Weights().double()
    decay = np.concatenate([np.full(p.numel(), settings["weight_decay"] if p.ndim > 1 else 0.0) for _, p in named(model)])
    together = {**settings, "weight_decay": decay}

    def flat():
        return torch.cat([p.detach().flatten() for _, p in named(model)]).numpy().copy()

    rule = RULES["prodigy"](flat(), together)
    expected = next(rule)
    for step, before, _, _ in drive(algorithm, settings, lambda step, name, weights: weights.clone(), 200, model=model):
        expected = rule.send(torch.cat([w.flatten() for w in before.values()]).numpy())
        np.testing.assert_allclose(flat(), expected, rtol=2e-4, atol=2e-5, err_msg=f"at step {step}")
    assert 0.01 < together["d"] < 10


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_schedule_free_trains_at_y_and_evaluates_at_x(name):
    algorithm, state, own = follow(f"schedule_free_{name}", random_gradients())
    for key, x in algorithm.weights_for_evaluation(state).items():
        np.testing.assert_allclose(x.numpy(), own[key]["x"], rtol=1e-4, atol=1e-5)


def test_the_parity_test_can_fail():
    """A rule with another momentum is told apart at once."""
    with pytest.raises(AssertionError, match="at step"):
        RULES["wrong"] = lambda w, h: RULES["heavy_ball"](w, {**h, "momentum": 0.8})
        algorithm, settings = configured("heavy_ball")
        rule = RULES["wrong"](Weights().matrix.detach().double().numpy(), settings)
        next(rule)
        gradient = random_gradients()
        for step, before, _, model in drive(algorithm, settings, gradient, 5):
            expected = rule.send(gradient(step, "matrix", before["matrix"]).double().numpy())
            np.testing.assert_allclose(model.matrix.detach().numpy(), expected, rtol=1e-3, err_msg=f"at step {step}")


def learn(name, scene="dense", hyperparameters=None, **options):
    table = dict(resolve_definition("algorithm", name).hyperparameters) | (hyperparameters or {})
    return rehearsal(name, scene, hyperparameters=table, **options).setup().run(12)


WHOLE = [[0.0, 1.0]]
COSINE = {"hyperparameters": {"lr": 0.05}, "schedule": {"name": "cosine"}}


@pytest.mark.parametrize(
    ("left", "right", "rounding"),
    [
        (("adam", {}), ("adamw", {"hyperparameters": {"weight_decay": 0.0}}), False),
        (("gradient_noise", {"hyperparameters": {"eta": 0.0}}), ("adamw", {}), False),
        (("hardest_minibatch", {"candidates": 1}), ("adamw", {}), False),
        (("large_minibatch", {"factor": 1, "warmup": 0.0}), ("nesterov", COSINE), False),
        (("progressive_resizing", {"scene": "pictures", "stages": WHOLE}), ("nesterov", {"scene": "pictures"}), False),
        (("fourier_crop", {"scene": "pictures", "stages": WHOLE}), ("nesterov", {"scene": "pictures"}), False),
        (("ema", {}), ("lawa", {}), False),
        (("ema", {}), ("adamw", {"schedule": {"name": "constant", "warmup": 0.05}}), False),
        (("multi_sample_dropout", {"hyperparameters": {"drop": 0.0}}), ("adamw", {}), True),
        (("vr_sgd", {"floor": 1.0}), ("heavy_ball", {"hyperparameters": {"lr": 0.4}}), True),
    ],
)
def test_names_coincide_where_their_files_say_so(left, right, rounding):
    """So that nobody takes two rows of a board for two findings."""
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if rounding else {}
    assert same(learn(left[0], **left[1]), learn(right[0], **right[1]), **tolerance)


def test_a_rate_factor_belongs_to_its_kind_of_parameter():
    found = rehearsal("heavy_ball", "dense", rate_factors={"bias": 8.0}, schedule={"name": "constant"}).setup()
    plain = rehearsal("heavy_ball", "dense", schedule={"name": "constant"}).setup()
    start = {name: value.clone() for name, value in found.weights().items()}
    found.step(), plain.step()
    for name, value in found.weights().items():
        moved, expected = value - start[name], plain.weights()[name] - start[name]
        torch.testing.assert_close(moved, 8 * expected if name.endswith("bias") else expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["heavy_ball", "adamw", "muon"])
@pytest.mark.parametrize("shape", ["constant", "linear", "cosine", "trapezoidal", "one_cycle", "cyclic"])
def test_every_schedule_drives_every_group_of_any_optimizer(optimizer, shape):
    """A step's rate is the group's own times the schedule at the progress that the step leads to."""
    options = {"name": shape, "warmup": 0.2, "cycles": 2}
    found = rehearsal(optimizer, "pictures", schedule=options, steps_in_budget=20).setup()
    groups = found.state.optimizer.param_groups
    base, factor = [group["lr"] for group in groups], schedule(options)
    for _ in range(20):
        found.step()
        leads_to = found.problem.progress() + 1 / 20
        assert [group["lr"] for group in groups] == pytest.approx([rate * factor(leads_to) for rate in base])
