"""Greedy and matching methods against brute force: submodular sets, k-center, herding, gradient matching, neighbourhood scores.

Properties 11 (density pruning by temperature), 12 (balanced sampling) and 18 (greedy selection) of the list in test_curation_trial.py.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from timetrial.data_pipelines.clusters import Clusters
from timetrial.data_pipelines.curation.class_distance import class_mean_distance, class_median_distance
from timetrial.data_pipelines.curation.context import make_context
from timetrial.data_pipelines.curation.density import DensityPruning, complexity
from timetrial.data_pipelines.curation.geometry import herd, k_center
from timetrial.data_pipelines.curation.glister import glister
from timetrial.data_pipelines.curation.gradient_matching import craig, gradient_gram, match_gradient
from timetrial.data_pipelines.curation.hierarchical import balanced_sizes
from timetrial.data_pipelines.curation.interface import Pool, curate
from timetrial.data_pipelines.curation.neighbourhood import contrast, message_passing, spread
from timetrial.data_pipelines.curation.quantization import graph_cut_bins
from timetrial.data_pipelines.curation.samplers import water_fill
from timetrial.data_pipelines.curation.scores import probabilities, residuals
from timetrial.data_pipelines.curation.submodular import cosine_similarities, facility_location, graph_cut, log_determinant

PATIENT = settings(deadline=None)  # machines are shared: how long an example takes is no property of the code
SEEDS = st.integers(0, 10_000)


def rows(n, d, seed, integers=False):
    rng = np.random.default_rng(seed)
    return rng.integers(-2, 3, size=(n, d)).astype(np.float32) + 3.0 if integers else rng.normal(size=(n, d)).astype(np.float32)


def value_of(similarity, chosen):
    return similarity[list(chosen)].max(axis=0).sum() if len(chosen) else 0.0


def naive_greedy(gain, count, budget):
    chosen = []
    for _ in range(budget):
        gains = [-math.inf if i in chosen else gain(chosen, i) for i in range(count)]
        chosen.append(int(np.argmax(gains)))
    return chosen


@PATIENT
@given(SEEDS, st.integers(1, 12), st.booleans())
def test_lazy_greedy_chooses_exactly_what_plain_greedy_chooses(seed, budget, ties):
    similarity = cosine_similarities(rows(14, 3, seed, integers=ties)).astype(np.float64)
    if ties:
        similarity = np.round(similarity, 1)
    covered = lambda chosen: similarity[chosen].max(axis=0) if chosen else np.zeros(len(similarity))  # noqa: E731
    expected = naive_greedy(lambda chosen, i: np.maximum(similarity[i] - covered(chosen), 0.0).sum(), 14, budget)
    assert facility_location(similarity, budget).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_facility_location_is_within_one_minus_one_over_e_of_the_optimum(seed, budget):
    similarity = cosine_similarities(rows(11, 3, seed))
    best = max(value_of(similarity, subset) for subset in itertools.combinations(range(11), budget))
    assert value_of(similarity, facility_location(similarity, budget)) >= (1 - 1 / math.e) * best - 1e-6


def test_facility_location_finds_one_of_every_cluster_first():
    centres = np.eye(4)[np.repeat(np.arange(4), [50, 20, 5, 2])]
    data = centres + 0.01 * rows(77, 4, 0)
    chosen = facility_location(cosine_similarities(data), 4)
    assert sorted(centres[chosen].argmax(axis=1)) == [0, 1, 2, 3]


@PATIENT
@given(SEEDS, st.integers(1, 8))
def test_graph_cut_chooses_what_its_definition_says(seed, budget):
    similarity = cosine_similarities(rows(9, 3, seed)).astype(np.float64)

    def cut(chosen):
        return similarity[:, chosen].sum() - similarity[np.ix_(chosen, chosen)].sum()

    expected = naive_greedy(lambda chosen, i: cut([*chosen, i]) - cut(chosen), 9, budget)
    found = graph_cut(similarity, budget).tolist()
    values = [cut(expected[: k + 1]) - cut(found[: k + 1]) for k in range(budget)]
    assert np.abs(values).max() < 1e-6  # equal gains may be told apart by rounding


@PATIENT
@given(SEEDS, st.integers(1, 7))
def test_log_determinant_follows_the_determinants_greedy_path(seed, budget):
    data = rows(9, 4, seed).astype(np.float64)
    kernel = data @ data.T / 4

    def log_det(chosen):
        return np.linalg.slogdet(kernel[np.ix_(chosen, chosen)] + 1e-3 * np.eye(len(chosen)))[1] if chosen else 0.0

    expected = naive_greedy(lambda chosen, i: log_det([*chosen, i]) - log_det(chosen), 9, budget)
    assert log_det(log_determinant(kernel, budget).tolist()) == pytest.approx(log_det(expected), abs=1e-6)


def test_log_determinant_prefers_an_orthogonal_vector_to_a_copy():
    data = np.array([[1.0, 0], [1.0, 0], [0, 0.5]])
    assert log_determinant(data @ data.T, 2).tolist() == [0, 2]


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_k_center_is_within_twice_the_optimal_radius(seed, budget):
    data = rows(10, 2, seed)
    distance = np.linalg.norm(data[:, None] - data[None], axis=2)
    best = min(distance[list(subset)].min(axis=0).max() for subset in itertools.combinations(range(10), budget))
    assert distance[k_center(data, budget, first=seed % 10)].min(axis=0).max() <= 2 * best + 1e-4


def test_k_center_takes_every_point_once_even_among_copies():
    data = np.repeat(rows(3, 2, 0), 4, axis=0)
    assert sorted(k_center(data, 12, first=5)) == list(range(12))


@PATIENT
@given(SEEDS)
def test_herding_follows_the_mean_better_than_random_at_every_size_up_to_half(seed):  # beyond, outliers are all that is left
    data = rows(60, 5, seed).astype(np.float64) + 3
    order = herd(data, 60)
    assert sorted(order) == list(range(60))
    errors = [np.linalg.norm(data[order[:k]].mean(axis=0) - data.mean(axis=0)) for k in range(1, 31)]
    draws = np.random.default_rng(seed).permuted(np.tile(np.arange(60), (30, 1)), axis=1)
    for k in range(1, 31):
        by_chance = np.mean([np.linalg.norm(data[d[:k]].mean(axis=0) - data.mean(axis=0)) for d in draws])
        assert errors[k - 1] < by_chance


def test_herding_takes_the_smallest_distance_not_the_largest():
    data = rows(40, 3, 1).astype(np.float64)
    centred = data - data.mean(axis=0)
    assert herd(data, 1)[0] == np.linalg.norm(centred, axis=1).argmin()


def gradients(n, seed):
    rng = np.random.default_rng(seed)
    y, h = rng.integers(3, size=n), rng.normal(size=(n, 4))
    r = residuals(probabilities(rng.normal(size=(n, 3))), y)
    return r, h, np.stack([np.outer(a, np.append(b, 1.0)).ravel() for a, b in zip(r, h, strict=True)])


def test_gradient_products_need_no_gradients():
    r, h, full = gradients(12, 0)
    assert gradient_gram(r, h) == pytest.approx(full @ full.T)


@PATIENT
@given(SEEDS, st.integers(1, 10))
def test_craigs_weights_are_the_sizes_of_what_its_medoids_stand_for(seed, budget):
    r, h, full = gradients(15, seed)
    chosen, weights = craig(gradient_gram(r, h), budget)
    assert weights.sum() == 15
    assert len(set(chosen)) == budget
    distance = np.linalg.norm(full[:, None] - full[None, chosen], axis=2)
    assert np.bincount(distance.argmin(axis=1), minlength=budget).tolist() == weights.tolist()


def test_with_everything_chosen_the_mean_gradient_is_matched():
    r, h, full = gradients(20, 3)
    chosen, weights = match_gradient(gradient_gram(r, h), 20, ridge=1e-9)
    assert weights @ full[chosen] == pytest.approx(full.mean(axis=0), abs=1e-4)


@PATIENT
@given(SEEDS, st.integers(1, 12), st.sampled_from([1e-3, 0.1, 1.0]))
def test_the_weights_of_matching_pursuit_are_the_non_negative_least_squares_solution(seed, budget, ridge):
    r, h, full = gradients(15, seed)
    chosen, weights = match_gradient(gradient_gram(r, h), budget, ridge)
    system = np.vstack([full[chosen].T, math.sqrt(ridge) * np.eye(budget)])
    exact, _ = nnls(system, np.concatenate([full.mean(axis=0), np.zeros(budget)]))
    objective = lambda w: np.square(system @ w - np.concatenate([full.mean(axis=0), np.zeros(budget)])).sum()  # noqa: E731
    assert objective(weights) == pytest.approx(objective(exact), rel=1e-6, abs=1e-9)


def test_matching_pursuit_beats_random_subsets_with_equal_weights():
    r, h, full = gradients(200, 5)
    chosen, weights = match_gradient(gradient_gram(r, h), 10, ridge=1e-3)
    ours = np.linalg.norm(weights @ full[chosen] - full.mean(axis=0))
    rng = np.random.default_rng(0)
    by_chance = [np.linalg.norm(full[rng.choice(200, 10, replace=False)].mean(axis=0) - full.mean(axis=0)) for _ in range(100)]
    assert ours < min(by_chance)


def test_matching_in_blocks_chooses_as_many():
    r, h, _ = gradients(50, 6)
    chosen, weights = match_gradient(gradient_gram(r, h), 23, ridge=1.0, block=5)
    assert len(set(chosen)) == len(weights) == 23


def test_the_first_gain_of_glister_is_the_product_with_the_held_out_gradient():
    r, h, full = gradients(20, 7)
    rng = np.random.default_rng(8)
    held_logits, held_h, held_y = rng.normal(size=(9, 3)), rng.normal(size=(9, 4)), rng.integers(3, size=9)
    held = residuals(probabilities(held_logits), held_y)
    held_gradient = np.mean([np.outer(a, np.append(b, 1.0)).ravel() for a, b in zip(held, held_h, strict=True)], axis=0)
    chosen = glister(r, h, held_logits, held_h, held_y, 5, learning_rate=0.1, rounds=1)
    assert chosen.tolist() == np.argsort(-(full @ held_gradient), kind="stable")[:5].tolist()


def test_glister_updates_the_held_out_gradient_as_a_real_step_would():
    """Round two must rank by the gradient at the stepped head, computed here from the head's own weights."""
    rng = np.random.default_rng(9)
    head, h, y = rng.normal(size=(3, 5)), rng.normal(size=(30, 4)), rng.integers(3, size=30)
    held_h, held_y = rng.normal(size=(12, 4)), rng.integers(3, size=12)
    with_one = lambda x: np.hstack([x, np.ones((len(x), 1))])  # noqa: E731
    r = residuals(probabilities(with_one(h) @ head.T), y)
    first, second = np.split(glister(r, h, with_one(held_h) @ head.T, held_h, held_y, 8, learning_rate=2.0, rounds=2), 2)
    stepped = head - 2.0 * r[first].T @ with_one(h)[first] / 4
    held_gradient = residuals(probabilities(with_one(held_h) @ stepped.T), held_y).T @ with_one(held_h) / 12
    gain = np.einsum("nc,nd,cd->n", r, with_one(h), held_gradient)
    gain[first] = -np.inf
    assert second.tolist() == np.argsort(-gain, kind="stable")[:4].tolist()
    unmoved = glister(r, h, with_one(held_h) @ head.T, held_h, held_y, 8, learning_rate=0.0, rounds=2)
    assert unmoved[4:].tolist() != second.tolist()


def test_contrast_is_the_mean_symmetric_divergence_by_hand():
    p = np.array([[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]])
    kl = lambda a, b: sum(x * math.log(x / y) for x, y in zip(a, b, strict=True))  # noqa: E731
    both = (kl(p[0], p[1]) + kl(p[1], p[0])) / 2
    assert contrast(p, np.array([[1, 2], [0, 2], [0, 1]])) == pytest.approx([both / 2, both, both / 2])


def test_messages_and_damping_by_hand():
    near, distance = np.array([[1], [0], [1]]), np.array([[0.0], [0.0], [math.log(2)]])
    score = np.array([1.0, 2.0, 4.0])
    assert message_passing(score, near, distance) == pytest.approx([3, 3, 5])
    # taking 2 (score 4) damps its neighbour 1 by 4/2 to 0; then 0 is the largest
    assert spread(score, near, distance, 3, gamma=1.0).tolist() == [2, 0, 1]


def test_d2_takes_one_of_each_pair_of_copies_before_any_second():
    score = np.array([5.0, 5.0, 1.0, 1.0])
    near, distance = np.array([[1], [0], [3], [2]]), np.zeros((4, 1))
    assert set(spread(score, near, distance, 2, gamma=1.0)) == {0, 2}


def test_bins_partition_the_rows_evenly():
    bins = graph_cut_bins(cosine_similarities(rows(43, 4, 0)), 10)
    assert sorted(np.bincount(bins)) == [4] * 7 + [5] * 3
    assert graph_cut_bins(cosine_similarities(rows(3, 4, 0)), 10).tolist() != []


def test_class_distances_by_hand():
    vectors = np.array([[1.0, 0], [0, 1.0], [1.0, 0], [-1.0, 0]], dtype=np.float32)
    y = np.array([0, 0, 1, 1])
    assert class_mean_distance(vectors[:2], y[:2]) == pytest.approx(1 - math.sqrt(0.5))
    assert class_median_distance(np.array([[0.0], [1.0], [5.0]]), np.zeros(3, int)) == pytest.approx([1, 0, 4])


def tree_of(parents, leaves):
    """Two levels: ``leaves`` sizes, and the parent of each leaf."""
    labels = np.repeat(np.arange(len(leaves)), leaves)
    blank = np.zeros((1, 1), np.float32)
    level = lambda labels, count: Clusters(np.repeat(blank, count, 0), np.asarray(labels), np.zeros(len(labels)), False, {})  # noqa: E731
    return [level(labels, len(leaves)), level(parents, max(parents) + 1)]


@PATIENT
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.data())
def test_balanced_sizes_are_exact_feasible_and_max_min_fair_at_every_node(leaves, data):
    parents = [data.draw(st.integers(0, 2)) for _ in leaves]
    parents[0] = 0
    budget = data.draw(st.integers(1, sum(leaves)))
    parts = balanced_sizes(tree_of(parents, leaves), budget)
    assert parts.sum() == budget
    assert (parts <= leaves).all()
    children = [np.flatnonzero(np.array(parents) == node) for node in range(max(parents) + 1)]
    sizes = np.array(leaves)
    assert sorted(parts[c].sum() for c in children) == sorted(water_fill(np.array([sizes[c].sum() for c in children]), budget))
    for c in children:
        assert sorted(parts[c]) == sorted(water_fill(sizes[c], int(parts[c].sum()))) if len(c) else True


def test_a_tight_lonely_cluster_is_less_complex_than_a_wide_one():
    centroids = np.eye(3, dtype=np.float32)
    labels = np.repeat([0, 1, 2], 4)
    similarities = np.repeat([0.99, 0.7, 0.9], 4).astype(np.float32)
    found = complexity(Clusters(centroids, labels, similarities, True, {}))
    assert found[1] > found[2] > found[0] > 0
    assert complexity(Clusters(centroids[:1], np.zeros(3, int), np.ones(3, np.float32), True, {})).tolist() == [1.0]


@pytest.mark.parametrize(("temperature", "sizes"), [(1e6, [50, 50, 50]), (1e-6, [100, 25, 25])])
def test_a_hot_allocation_is_even_and_a_cold_one_fills_the_most_complex_cluster(temperature, sizes):
    """Budget 150 of three blobs of 100: cold, the others stay at their lower bound of half an even share."""
    rng = np.random.default_rng(0)
    spread = np.repeat([0.1, 0.005, 0.005], 100)[:, None]
    x = (np.repeat(np.eye(3, 6), 100, axis=0) + spread * np.clip(rng.normal(size=(300, 6)), -2, 2)).astype(np.float32)
    pool = Pool(np.arange(300), {"x": x}, data_digest="blobs")
    method = DensityPruning(embedder="raw", clusters=3, temperature=temperature)
    kept = curate(method, pool, 0.5, make_context(pool, np.random.default_rng(0))).ids
    assert np.bincount(kept // 100).tolist() == sizes
