"""Scores as pure functions: ranges, hand-made traces, exact identities, and invariance to batch and order.

Properties 15, 16 and 17 (scores) of the list in tests/test_curation_trial.py.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from timetrial.data_pipelines.curation import scores
from timetrial.suite.errors import ConfigError

PATIENT = settings(deadline=None)  # machines are shared: how long an example takes is no property of the code
LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(2, 6)), elements=st.floats(-30, 30))


def random_problem(n=40, classes=4, features=7, seed=0):
    rng = np.random.default_rng(seed)
    return scores.probabilities(rng.normal(size=(n, classes)) * 3), rng.integers(classes, size=n), rng.normal(size=(n, features))


@PATIENT
@given(LOGITS, st.randoms(use_true_random=False))
def test_el2n_lies_between_zero_and_root_two(logits, draw):
    y = np.array([draw.randrange(logits.shape[1]) for _ in logits])
    value = scores.el2n(scores.probabilities(logits), y)
    assert (value >= 0).all()
    assert (value <= math.sqrt(2) + 1e-12).all()


def test_el2n_is_zero_exactly_for_the_one_hot_class_and_root_two_for_certain_error():
    certain = np.eye(3)
    assert scores.el2n(certain, np.arange(3)).tolist() == [0, 0, 0]
    assert scores.el2n(certain, np.array([1, 2, 0])) == pytest.approx(math.sqrt(2))


def test_last_layer_gradient_norm_is_the_norm_of_the_gradient_that_autograd_finds():
    p, y, h = random_problem()
    head = torch.nn.Linear(h.shape[1], p.shape[1]).double()
    features, labels = torch.from_numpy(h), torch.from_numpy(y)
    logits = head(features)
    expected = []
    for i in range(len(y)):
        loss = torch.nn.functional.cross_entropy(logits[i : i + 1], labels[i : i + 1])
        grads = torch.autograd.grad(loss, head.parameters(), retain_graph=True)
        expected.append(math.sqrt(sum(float(g.square().sum()) for g in grads)))
    found = scores.last_layer_gradient_norm(scores.probabilities(logits.detach().numpy()), y, h)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["el2n", "true_margin"])
def test_scores_with_labels_do_not_depend_on_order_or_batch(name):
    p, y, _ = random_problem()
    score = getattr(scores, name)
    order = np.random.default_rng(1).permutation(len(y))
    assert score(p[order], y[order]).tolist() == score(p, y)[order].tolist()
    assert np.concatenate([score(p[:7], y[:7]), score(p[7:], y[7:])]).tolist() == score(p, y).tolist()


def test_uncertainty_scores_agree_on_the_extremes_and_point_the_same_way():
    p = np.array([[1.0, 0.0, 0.0], [0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    assert scores.entropy(p) == pytest.approx([0, -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)), math.log(3)])
    assert scores.least_confidence(p) == pytest.approx([0, 0.3, 2 / 3])
    assert scores.narrow_margin(p) == pytest.approx([-1, -0.5, 0])
    for score in (scores.entropy, scores.least_confidence, scores.narrow_margin):
        assert (np.diff(score(p)) > 0).all()


def test_true_margin_by_hand():
    p = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]])
    assert scores.true_margin(p, np.array([0, 2])) == pytest.approx([0.3, -0.5])


def test_forgetting_counts_right_to_wrong_and_puts_the_never_learned_first():
    traces = {(1, 1, 1, 1): 0, (0, 0, 1, 1): 0, (1, 0, 1, 0): 2, (0, 1, 0, 0): 1, (1, 0, 0, 0): 1, (0, 0, 0, 0): 4}
    correct = np.array(list(traces), dtype=bool).T
    assert scores.forgetting(correct).tolist() == list(traces.values())


@PATIENT
@given(hnp.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 6))))
def test_nothing_is_forgotten_more_often_than_never_learned(correct):
    value = scores.forgetting(correct)
    assert (value <= len(correct)).all()
    assert (value[~correct.any(axis=0)] == len(correct)).all()


def test_aum_of_a_constant_model_is_its_margin_and_hard_examples_score_higher():
    margins = np.tile([0.9, -0.4], (5, 1))
    assert scores.aum(margins).tolist() == pytest.approx([-0.9, 0.4])


def test_dual_is_zero_on_a_constant_trace_and_largest_for_the_uncertain_and_difficult():
    constant, swinging_low, swinging_high = np.full(6, 0.3), np.array([0, 0.4] * 3), np.array([0.6, 1.0] * 3)
    value = scores.dual(np.stack([constant, swinging_low, swinging_high], axis=1), window=3)
    assert value[0] == pytest.approx(0)
    assert value[1] > value[2] > 0


def test_dual_by_hand():
    series = np.array([[0.1], [0.5], [0.9]])
    expected = np.mean([np.std(w, ddof=1) * (1 - np.mean(w)) for w in ([0.1, 0.5], [0.5, 0.9])])
    assert scores.dual(series, window=2) == pytest.approx(expected)


def test_tdds_on_a_three_epoch_hand_trace():
    p = [np.array([[0.5, 0.5]]), np.array([[0.8, 0.2]]), np.array([[0.8, 0.2]])]
    step = abs(0.8 * math.log(0.8 / 0.5)) + abs(0.2 * math.log(0.2 / 0.5))
    changes = np.stack([scores.output_change(p[0], p[1]), scores.output_change(p[1], p[2])])
    assert changes[:, 0] == pytest.approx([step, 0])
    # one window of three epochs: deviations ±step/2 from the mean, and the only window weighs 0.9
    assert scores.tdds(changes, window=3) == pytest.approx([0.9 * step / math.sqrt(2)])
    # windows of two epochs hold one change each: no deviation
    assert scores.tdds(changes, window=2) == pytest.approx([0.0])


def test_tdds_weighs_the_newest_window_most():
    early, late = np.array([0, 1, 0, 0, 0, 0.0]), np.array([0, 0, 0, 0, 1, 0.0])
    value = scores.tdds(np.stack([early, late], axis=1), window=3)
    assert value[1] > value[0] > 0


@pytest.mark.parametrize(("score", "window"), [(scores.dual, 1), (scores.dual, 6), (scores.tdds, 1), (scores.tdds, 7)])
def test_a_window_that_does_not_fit_is_refused(score, window):
    with pytest.raises(ConfigError, match="window"):
        score(np.ones((5, 3)), window=window)


def test_disagreement_is_zero_for_one_opinion_and_log_two_for_two_certain_ones():
    same = np.tile([0.2, 0.8], (3, 4, 1))
    assert scores.disagreement(same) == pytest.approx(0)
    assert scores.disagreement(np.array([[[1.0, 0.0]], [[0.0, 1.0]]])) == pytest.approx([math.log(2)])


def nearest_label(train_x, train_y, x):
    """1-NN on the line, the lower point winning ties; without training points the answer is 0."""
    return train_y[np.abs(train_x - x).argmin()] if len(train_x) else 0


def test_memorization_over_all_subsets_is_the_exact_leave_out_difference():
    x, y = np.array([0.0, 1.0, 2.1, 5.0, 5.2]), np.array([0, 0, 0, 1, 0])  # the last one contradicts its neighbour
    included = np.array([s for s in itertools.product([False, True], repeat=5) if 0 < sum(s) < 5])
    correct = np.array([[nearest_label(x[s], y[s], x[i]) == y[i] for i in range(5)] for s in included])
    exact = [correct[included[:, i], i].mean() - correct[~included[:, i], i].mean() for i in range(5)]
    assert scores.memorization(correct, included) == pytest.approx(exact)
    assert scores.memorization(correct, included).argmax() == 3


def test_the_subsampled_estimator_stays_within_three_standard_errors_and_is_unbiased():
    rng = np.random.default_rng(0)
    p_in, p_out, runs, fraction = 0.9, 0.3, 60, 0.7
    estimates = []
    for _ in range(200):
        included = rng.random((runs, 1)) < fraction
        correct = rng.random((runs, 1)) < np.where(included, p_in, p_out)
        estimates.append(scores.memorization(correct, included)[0])
    error = float(scores.memorization_error(np.float64(p_in), np.float64(p_out), runs, fraction))
    assert np.mean(estimates) == pytest.approx(p_in - p_out, abs=3 * error / math.sqrt(200))
    assert np.std(estimates) == pytest.approx(error, rel=0.2)


def test_memorization_refuses_an_example_that_was_always_in():
    with pytest.raises(ConfigError, match="always in or always out"):
        scores.memorization(np.ones((3, 2), bool), np.array([[1, 1], [1, 0], [1, 0]], bool))
