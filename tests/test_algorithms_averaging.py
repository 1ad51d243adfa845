"""Averaged weights against closed forms, and schedules of the pictures' size."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.suite.algorithm import Batch
from timetrial.suite.algorithms.input_curriculum import fourier_crop, resize
from timetrial.suite.errors import ConfigError

from .algorithm_rehearsals import BY_SGD, rehearsal, same, sgd

TABLE = {"lr": 0.1, "momentum": 0.9}


def trajectory(name, steps, window, scene="dense", **options):
    """Weights after every step of the wrapped and of the plain training, and the averages evaluated after every step."""
    found = rehearsal(name, scene, hyperparameters=TABLE | {"window": window}, inner=BY_SGD, **options).setup()
    plain, path, averages = sgd(scene, hyperparameters=TABLE).setup(), [], []
    for _ in range(steps):
        found.step(), plain.step()
        assert same(found, plain), "averaging leaves the training alone"
        path.append(plain.weights())
        averages.append(found.algorithm.weights_for_evaluation(found.state))
    return path, averages


@pytest.mark.parametrize("scene", ["dense", "pictures"])
def test_an_exponential_average_is_its_closed_form(scene):
    """A plain mean over the first n steps, then sum_i (1/n) (1 - 1/n)^(t - i) w_i on top of (1 - 1/n)^(t - n) times that mean."""
    n = 8  # 0.2 of 40 steps
    path, averages = trajectory("ema", 20, 0.2, scene)
    for t, average in enumerate(averages, start=1):
        weight = [1 / min(t, n) * (1 - 1 / n) ** max(0, t - n)] * min(t, n) + [(1 - 1 / n) ** (t - i) / n for i in range(n + 1, t + 1)]
        assert sum(weight) == pytest.approx(1.0)
        for name, value in average.items():
            expected = sum(c * w[name].double() for c, w in zip(weight, path, strict=False))
            torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_lawa_is_the_mean_of_the_latest_snapshots(count):
    path, averages = trajectory("lawa", 20, 0.1, count=count)  # a snapshot every 4 of 40 steps
    assert averages[2] is None, "before the first snapshot the model's own weights are evaluated"
    for t in range(4, 21):
        snapshots = [path[s - 1] for s in range(4, t + 1, 4)][-count:]
        for name, value in averages[t - 1].items():
            torch.testing.assert_close(value, torch.stack([snapshot[name] for snapshot in snapshots]).mean(dim=0))


@pytest.mark.parametrize("scene", ["dense", "pictures"])
def test_lookahead_pulls_the_training_back_onto_its_slow_weights(scene):
    """Between pulls it trains as its inner algorithm does; at a pull slow = a slow + (1 - a) fast with a = d^5 p^3, and both are one."""
    found = rehearsal("airbench", scene, hyperparameters=TABLE | {"slow_decay": 0.9}, inner=BY_SGD).setup()
    plain = sgd(scene, hyperparameters=TABLE).setup()
    slow = {name: value for name, value in found.weights().items() if value.is_floating_point()}
    for step in range(1, 21):
        found.step(), plain.step()
        if step % 5 == 0:
            pull = 0.9**5 * (found.problem.progress() + 1 / 40) ** 3  # the progress that the step leads to
            slow = {name: pull * value.double() + (1 - pull) * plain.weights()[name].double() for name, value in slow.items()}
            for name, value in slow.items():
                torch.testing.assert_close(found.weights()[name].double(), value, rtol=1e-5, atol=1e-6)
            plain.model.load_state_dict(found.weights())
        assert same(found, plain)
        evaluated = found.algorithm.weights_for_evaluation(found.state)
        for name, value in evaluated.items():
            torch.testing.assert_close(value.double(), slow[name].double(), rtol=1e-5, atol=1e-6)


def test_lookahead_refuses_a_decay_that_is_none():
    with pytest.raises(ConfigError, match="slow_decay: expected a fraction from 0 to 1, given 1.5"):
        rehearsal("airbench", hyperparameters=TABLE | {"slow_decay": 1.5}, inner=BY_SGD).setup()
    with pytest.raises(ConfigError, match="every: expected at least 1 step, given 0"):
        rehearsal("airbench", every=0).setup()


# ---------------------------------------------------------------- input curricula


def sides_seen(name, stages, full=16, **options):
    """(progress, side) of the pictures that the model was given at every step."""
    found = rehearsal(name, "pictures", hyperparameters={"lr": 0.01}, stages=stages, inner=BY_SGD, **options).setup()
    seen = []
    handle = found.model.register_forward_pre_hook(lambda module, given: seen.append((found.problem.progress(), given[0].shape[-1])))
    found.run(40)
    handle.remove()
    assert [progress for progress, _ in seen] == sorted(progress for progress, _ in seen)
    return seen


@pytest.mark.parametrize("name", ["progressive_resizing", "fourier_crop"])
def test_every_stage_has_its_side_from_its_progress_on(name):
    stages = [[0.0, 0.5], [0.4, 0.75], [0.7, 1.0]]
    for progress, side in sides_seen(name, stages):
        assert side == (8 if progress < 0.4 else 12 if progress < 0.7 else 16)


@pytest.mark.parametrize("name", ["progressive_resizing", "fourier_crop"])
def test_full_sides_only_are_plain_training(name):
    found = rehearsal(name, "pictures", hyperparameters=TABLE, stages=[[0.0, 1.0]], inner=BY_SGD).setup().run(5)
    assert same(found, sgd("pictures", hyperparameters=TABLE).setup().run(5))


@pytest.mark.parametrize("stages", [[[0.1, 0.5]], [[0.0, 0.5], [0.0, 1.0]], [[0.5, 1.0], [0.0, 0.5]], [[0.0, 1.5]]])
def test_stages_out_of_order_or_above_the_full_side_are_refused(stages):
    with pytest.raises(ConfigError, match="stages in order from 0"):
        rehearsal("fourier_crop", "pictures", stages=stages)


SIDES = st.sampled_from([(16, 8), (16, 12), (16, 16), (15, 7), (32, 22)])


def wave(side, row, column, phase):
    """cos of a wave with whole numbers of periods along both axes, [1, 1, side, side]."""
    grid = torch.arange(side, dtype=torch.float64) / side
    return torch.cos(2 * math.pi * (row * grid[:, None] + column * grid[None, :]) + phase)[None, None].float()


@settings(deadline=None)
@given(sides=SIDES, row=st.integers(-7, 7), column=st.integers(-7, 7), phase=st.floats(0, 6.0))
def test_the_fourier_crop_keeps_exactly_the_waves_below_its_own_limit(sides, row, column, phase):
    """Below half of the small side a wave is the same wave on a coarser grid; above it nothing is left."""
    full, small = sides
    cropped = fourier_crop(wave(full, row, column, phase), small)
    highest = max(abs(row), abs(column))
    if highest < small / 2:
        torch.testing.assert_close(cropped, wave(small, row, column, phase), rtol=0, atol=1e-5)
    elif highest > small / 2:
        torch.testing.assert_close(cropped, torch.zeros(1, 1, small, small), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shrink", [fourier_crop, resize])
def test_shrinking_keeps_brightness_and_a_full_side_is_the_picture_itself(shrink):
    image = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shrink(image, 16), image, rtol=0, atol=1e-6)
    torch.testing.assert_close(shrink(image, 8).mean(dim=(2, 3)), image.mean(dim=(2, 3)), rtol=0, atol=1e-2 if shrink is resize else 1e-6)


def test_a_model_that_accepts_no_smaller_side_gets_small_pictures_enlarged_again():
    """The curriculum stays: high frequencies are gone, though the side is the full one."""
    found = rehearsal("fourier_crop", "pictures", hyperparameters={"lr": 0.01}, stages=[[0.0, 0.5], [0.9, 1.0]], inner=BY_SGD)
    plain_losses, seen = found.problem.losses, []

    def picky(batch: Batch):
        if batch["image"].shape[-1] != 16:
            raise ValueError("expected pictures of 16x16")
        seen.append(batch["image"])
        return plain_losses(batch)

    object.__setattr__(found.problem, "losses", picky)
    found.setup()
    batch = found._batch(torch.arange(4))
    found.algorithm.step(found.state, batch)
    torch.testing.assert_close(seen[-1], resize(fourier_crop(batch["image"], 8), 16))
