"""The teacher–student perceptron: theory against its golden tables, and the whole chain of curation against the theory.

The tables come from an independent derivation checked by exact simulation; they tell a keep-hard sampler from a keep-easy one.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import linprog

from timetrial.data_pipelines.curation.context import make_context
from timetrial.data_pipelines.curation.controls import Reversed
from timetrial.data_pipelines.curation.interface import Pool, ProxyEpoch, ProxyRun, curate
from timetrial.data_pipelines.curation.random import Random
from timetrial.data_pipelines.curation.scored import ProxyScore
from timetrial.data_pipelines.curation.theory import crossover, max_margin, predict, predict_imperfect
from timetrial.suite.errors import ConfigError

# alpha: overlap, margin, error
TABLE_A = {
    0.5: (0.512148, 1.256380, 0.328850),
    1: (0.671358, 0.786550, 0.265711),
    2: (0.829758, 0.454578, 0.188479),
    4: (0.936927, 0.243293, 0.113657),
    8: (0.981751, 0.124483, 0.060904),
    16: (0.995242, 0.062641, 0.031065),
    32: (0.998797, 0.031372, 0.015613),
    64: (0.999698, 0.015692, 0.007817),
    128: (0.999925, 0.007847, 0.003910),
}
# (alpha_total, keep_fraction): error of easy, random, hard
TABLE_B = {
    (0.5, 0.5): (0.31176, 0.37626, 0.44182),
    (1, 0.5): (0.25019, 0.32885, 0.40573),
    (1, 0.25): (0.27001, 0.37626, 0.47118),
    (2, 0.75): (0.17838, 0.22158, 0.20685),
    (2, 0.5): (0.18183, 0.26571, 0.32105),
    (4, 0.75): (0.11030, 0.14284, 0.11403),
    (4, 0.5): (0.11731, 0.18848, 0.13610),
    (4, 0.25): (0.14302, 0.26571, 0.39871),
    (8, 0.75): (0.06105, 0.07964, 0.06090),
    (8, 0.5): (0.06792, 0.11366, 0.06099),
    (8, 0.25): (0.08967, 0.18848, 0.10513),
    (8, 0.1): (0.13200, 0.28787, 0.46896),
    (16, 0.5): (0.03659, 0.06090, 0.03106),
    (16, 0.25): (0.05153, 0.11366, 0.03118),
    (16, 0.1): (0.08374, 0.21422, 0.36999),
    (32, 0.25): (0.02786, 0.06090, 0.01561),
    (32, 0.1): (0.04905, 0.13598, 0.01614),
    (32, 0.05): (0.07372, 0.21422, 0.43164),
    (64, 0.1): (0.02700, 0.07506, 0.00782),
    (64, 0.05): (0.04309, 0.13598, 0.00809),
}
# keep_fraction: alpha_total where easy = hard, where random = hard
TABLE_C = {0.75: (7.566, 1.583), 0.5: (5.048, 2.907), 0.25: (8.441, 6.825), 0.1: (20.11, 18.74), 0.05: (39.96, 38.70)}


@pytest.mark.parametrize("alpha", TABLE_A)
def test_without_pruning(alpha):
    found = predict(alpha)
    assert (found.overlap, found.margin, found.error) == pytest.approx(TABLE_A[alpha], abs=1.5e-6)


def test_the_error_falls_as_half_over_alpha():
    assert predict(128).error * 128 == pytest.approx(0.5004, abs=1e-4)


@pytest.mark.parametrize(("alpha", "keep_fraction"), TABLE_B)
def test_with_a_perfect_probe(alpha, keep_fraction):
    found = [predict(alpha, keep_fraction, keep).error for keep in ("easy", "random", "hard")]
    assert found == pytest.approx(TABLE_B[alpha, keep_fraction], abs=1e-5)
    assert found[0] < found[1]  # easy always beats random


@pytest.mark.parametrize("keep_fraction", TABLE_C)
def test_hard_overtakes_where_the_table_says(keep_fraction):
    easy, random = TABLE_C[keep_fraction]
    assert crossover(keep_fraction, "easy", "hard", easy / 1.5, easy * 1.5) == pytest.approx(easy, rel=2e-4)
    assert crossover(keep_fraction, "random", "hard", random / 1.5, random * 1.5) == pytest.approx(random, rel=4e-4)


@pytest.mark.parametrize(("alpha", "keep", "error"), [(2, "easy", 0.1892), (2, "hard", 0.3245), (8, "easy", 0.0875)])
def test_with_a_probe_ten_degrees_off(alpha, keep, error):
    assert predict_imperfect(alpha, 0.5, keep, math.radians(10)).error == pytest.approx(error, abs=5e-5)


def test_a_perfect_probe_is_the_limit_of_an_imperfect_one():
    assert predict_imperfect(2, 0.5, "easy", 1e-4).error == pytest.approx(predict(2, 0.5, "easy").error, abs=1e-5)


@pytest.mark.parametrize(("keep", "keep_fraction", "problem"), [("simple", 0.5, "keep: expected"), ("easy", 0.0, "keep_fraction")])
def test_what_the_theory_is_not_about_is_refused(keep, keep_fraction, problem):
    with pytest.raises(ConfigError, match=problem):
        predict(2, keep_fraction, keep)


def test_the_max_margin_student_is_optimal():
    """Held against a linear programme in three dimensions: no direction near the found one has a larger smallest margin."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = np.sign(x @ [1.0, 2.0, -1.0])
    w = max_margin(x, y)
    margins = (x * y[:, None]) @ w
    assert margins.min() > 0
    # for fixed gradient direction w, maximise t with (y x)·u >= t and u in the unit ball's tangent plane at w
    signed = np.hstack([-(x * y[:, None]), np.ones((40, 1))])
    bound = linprog([0, 0, 0, -1], A_ub=signed, b_ub=np.zeros(40), A_eq=[[*w, 0]], b_eq=[1.0], bounds=[(None, None)] * 4)
    assert margins.min() == pytest.approx(-bound.fun, rel=1e-6)


def test_inseparable_examples_have_no_student():
    with pytest.raises(ConfigError, match="cannot be separated"):
        max_margin(np.array([[1.0, 0], [1.0, 0]]), np.array([1, -1]))


def perfect_probe(teacher, x):
    """A proxy model that is the teacher: its margin is the example's difficulty."""
    logits = np.stack([np.zeros(len(x)), x @ teacher], axis=1).astype(np.float32)
    return lambda epochs, seed, *, collect=(), every_epoch=None, **_: (
        every_epoch(ProxyEpoch(epochs, np.zeros(len(x), np.float32), logits)) or ProxyRun(())
    )


def chain(method, dimensions, alpha, keep_fraction, seed):
    """Pool, score, sampler, selection, student, error: everything that a trial does, with an exact learner."""
    rng = np.random.default_rng([seed, dimensions])
    teacher = rng.normal(size=dimensions)
    teacher /= np.linalg.norm(teacher)
    x = rng.normal(size=(int(alpha * dimensions), dimensions))
    pool = Pool(np.arange(len(x)), {"x": x, "label": (x @ teacher > 0).astype(int)}, data_digest="perceptron", label="label")
    context = make_context(pool, rng, train_proxy=perfect_probe(teacher, x))
    kept = pool.positions(curate(method, pool, keep_fraction, context).ids)
    student = max_margin(x[kept], np.sign(x[kept] @ teacher))
    return math.acos(np.clip(student @ teacher, -1, 1)) / math.pi


METHODS = {"easy": lambda: Reversed("margin"), "random": Random, "hard": lambda: ProxyScore("margin")}


@pytest.mark.parametrize(("dimensions", "alpha", "keep_fraction"), [(100, 4, 0.5), (100, 8, 0.25), (60, 16, 0.25)])
def test_the_whole_chain_arrives_where_the_theory_says(dimensions, alpha, keep_fraction):
    means = {}
    for keep, make in METHODS.items():
        errors = [chain(make(), dimensions, alpha, keep_fraction, seed) for seed in range(10)]
        means[keep] = np.mean(errors)
        noise = np.std(errors, ddof=1) / math.sqrt(len(errors))
        assert abs(means[keep] - predict(alpha, keep_fraction, keep).error) <= 4 * noise + 1 / dimensions
    if alpha == 16:  # abundant: hard wins; this is what a reversed sampler would fail
        assert means["hard"] < means["easy"] < means["random"]


def test_when_data_are_scarce_easy_wins():
    easy, hard = (np.mean([chain(METHODS[keep](), 100, 2, 0.5, seed) for seed in range(6)]) for keep in ("easy", "hard"))
    assert easy < hard
