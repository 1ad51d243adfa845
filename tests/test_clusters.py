"""k-means and neighbours against dense arithmetic; near-duplicate search against brute force; stages that survive an interruption."""

from __future__ import annotations

import math

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from timetrial.data_pipelines import near_pairs as module
from timetrial.data_pipelines.clusters import approximate_neighbours, kmeans, nearest_centroids, neighbours, unit_rows
from timetrial.data_pipelines.near_pairs import near_pairs
from timetrial.data_pipelines.shards import Rows, Stages
from timetrial.suite.errors import ConfigError, DataError

PATIENT = settings(deadline=None)  # machines are shared: how long an example takes is no property of the code
SEEDS = st.integers(0, 10_000)


def rows(n=300, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def blobs(n=300, d=8, count=6, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(count, size=n)
    return (10 * rng.normal(size=(count, d))[truth] + 0.1 * rng.normal(size=(n, d))).astype(np.float32), truth


@pytest.fixture
def threads():
    before = faiss.omp_get_max_threads()
    yield faiss.omp_set_num_threads
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("spherical", [False, True])
def test_the_objective_never_worsens_between_iterations(spherical):
    data = unit_rows(rows()) if spherical else rows()
    objective = [kmeans(data, 10, seed=0, spherical=spherical, iterations=i).report["objective"] for i in range(1, 12)]
    steps = np.diff(objective) if spherical else -np.diff(objective)
    assert (steps >= -1e-3).all()
    assert steps.sum() > 0


@PATIENT
@given(SEEDS, st.integers(1, 40), st.booleans())
def test_every_row_belongs_to_its_nearest_centroid(seed, count, spherical):
    data = unit_rows(rows(120, 5, seed)) if spherical else rows(120, 5, seed)
    found = kmeans(data, count, seed=seed, spherical=spherical)
    if spherical:
        value = data @ found.centroids.T
        assert np.linalg.norm(found.centroids, axis=1) == pytest.approx(1, abs=1e-5)
    else:
        value = -np.square(data[:, None].astype(np.float64) - found.centroids[None]).sum(axis=2)
    assert value[np.arange(120), found.labels] == pytest.approx(value.max(axis=1), abs=1e-4)
    assert found.similarities == pytest.approx(value.max(axis=1), abs=1e-4)


def test_as_many_clusters_as_rows_leave_nothing_over():
    data = rows(30)
    found = kmeans(data, 30, seed=0)
    assert sorted(found.labels) == list(range(30))
    assert found.similarities == pytest.approx(0, abs=1e-4)


def test_separated_blobs_are_recovered():
    data, truth = blobs()
    assert [adjusted_rand_score(truth, kmeans(data, 6, seed=seed).labels) for seed in range(5)] == [1.0] * 5


def test_one_and_two_threads_give_the_same_bits(threads):
    data = rows(5000, 32)
    results = []
    for count in (1, 2):
        threads(count)
        results.append(kmeans(data, 50, seed=3))
    assert results[0].centroids.tobytes() == results[1].centroids.tobytes()
    assert results[0].labels.tolist() == results[1].labels.tolist()


def test_another_row_order_is_another_clustering_so_callers_sort_by_id():
    data = rows(1000, 4)
    order = np.random.default_rng(1).permutation(1000)
    shuffled = kmeans(data[order], 30, seed=0).labels
    assert adjusted_rand_score(kmeans(data, 30, seed=0).labels[order], shuffled) < 1.0
    assert kmeans(data[order][np.argsort(order)], 30, seed=0).labels.tolist() == kmeans(data, 30, seed=0).labels.tolist()


def test_sub_sampling_is_explicit_and_in_the_report():
    data = rows(1000, 4)
    assert kmeans(data, 10, seed=0, points_per_centroid=20).report["trained_on"] == 200
    everything = kmeans(data, 10, seed=0, points_per_centroid=1000).report
    assert everything["trained_on"] == everything["rows"] == 1000
    assert "faiss" in everything


@pytest.mark.parametrize("count", [0, 11])
def test_impossible_numbers_of_clusters_are_refused(count):
    with pytest.raises(ConfigError, match="expected 1 to 10"):
        kmeans(rows(10), count, seed=0)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_vectors_without_a_direction_are_named(bad):
    data = rows(10)
    data[7] = bad
    with pytest.raises(DataError, match="the first is row 7"):
        unit_rows(data)


def test_nan_is_refused_by_clustering():
    data = rows(10)
    data[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        kmeans(data, 2, seed=0)


def test_unit_rows_leave_their_input_alone():
    data = rows(5)
    before = data.copy()
    assert np.linalg.norm(unit_rows(data), axis=1) == pytest.approx(1, abs=1e-6)
    assert (data == before).all()


@PATIENT
@given(SEEDS, st.integers(1, 10))
def test_neighbours_are_those_of_brute_force(seed, count):
    data = rows(60, 4, seed)
    near, squared = neighbours(data, count)
    distance = np.square(data[:, None].astype(np.float64) - data[None]).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    assert squared == pytest.approx(np.sort(distance, axis=1)[:, :count], abs=1e-4)
    assert (near != np.arange(60)[:, None]).all()
    assert distance[np.arange(60)[:, None], near] == pytest.approx(squared, abs=1e-4)


def test_among_copies_a_row_is_still_not_its_own_neighbour():
    data = np.repeat(rows(2, 3), 8, axis=0)
    near, squared = neighbours(data, 3)
    assert (near != np.arange(16)[:, None]).all()
    assert (squared == 0).all()


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_approximate_neighbours_report_the_recall_that_they_have(index):
    data = rows(3000, 16)
    exact, _ = neighbours(data, 5)
    recalls = []
    for effort in (1, 64):
        near, _, report = approximate_neighbours(data, 5, index=index, effort=effort, checked=3000)
        true = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(near, exact, strict=True)])
        assert report["recall"] == pytest.approx(true, abs=0.01)
        recalls.append(report["recall"])
    assert recalls[1] > max(recalls[0], 0.95)


def test_approximate_neighbours_know_their_indexes():
    with pytest.raises(ConfigError, match="'ivf' or 'hnsw'"):
        approximate_neighbours(rows(), 3, index="lsh")


def test_nearest_centroids_of_unnormalised_rows_use_the_distance_not_the_raw_product():
    """The largest inner product is the long centroid; the nearest is the short one."""
    found = nearest_centroids(np.array([[1.0, 0.0]]), np.array([[1.0, 0.1], [50.0, 0.0]]))
    assert found.labels.tolist() == [0]


# --- near-duplicate pairs -----------------------------------------------------------------------------------------------------------


def brute_force(data, threshold):
    unit = data.astype(np.float64) / np.linalg.norm(data.astype(np.float64), axis=1, keepdims=True)
    cosine = unit @ unit.T
    return {(int(i), int(j)) for i, j in np.argwhere(np.triu(cosine >= threshold, 1))}, cosine


def as_set(pairs):
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([(2, 0.9995), (3, 0.995), (6, 0.93), (70, 0.4)]), st.integers(1, 40))
def test_with_the_guaranteed_margin_no_pair_is_missed_whatever_the_data(seed, shape, cells):
    width, threshold = shape
    data = rows(250, width, seed) * np.random.default_rng(seed).uniform(0.1, 10, size=(250, 1)).astype(np.float32)
    found = near_pairs(Rows([data]), threshold, cells=cells, reach=1.0, seed=seed)
    true, cosine = brute_force(data, threshold)
    disputed = {(i, j) for i, j in true ^ as_set(found.pairs) if abs(cosine[i, j] - threshold) > 1e-6}
    assert not disputed


def planted(n=4000, width=48, seed=0):
    """Clustered rows, five in a hundred of them with a near-duplicate of cosine 0.95 to 0.99."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, width + 1) ** -0.5
    centres = rng.normal(size=(60, width)) * spectrum
    data = centres[rng.integers(60, size=n)] + 0.7 * rng.normal(size=(n, width)) * spectrum
    data /= np.linalg.norm(data, axis=1, keepdims=True)
    copies, source = np.arange(n - n // 20, n), rng.integers(n - n // 20, size=n // 20)
    cosine = rng.uniform(0.95, 0.99, n // 20)[:, None]
    other = rng.normal(size=(n // 20, width))
    other -= np.einsum("nd,nd->n", other, data[source])[:, None] * data[source]
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    data[copies] = cosine * data[source] + np.sqrt(1 - cosine**2) * other
    return data.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_planted_near_duplicates_are_found_by_comparing_a_small_share_of_all_pairs(seed):
    data = planted(seed=seed)
    found = near_pairs(Rows([data]), 0.95, seed=seed)
    true, _ = brute_force(data, 0.95)
    recall = len(true & as_set(found.pairs)) / len(true)
    assert recall >= 0.99
    assert found.report["recall"] == pytest.approx(recall, abs=0.02)
    assert found.report["share_compared"] < 0.05
    assert len(as_set(found.pairs) - true) <= 1  # what is found is real


def test_near_duplicates_are_the_same_for_one_and_two_threads(threads):
    data, found = planted(), []
    for count in (1, 2):
        threads(count)
        found.append(near_pairs(Rows([data]), 0.95))
    one, two = (f.pairs for f in found)
    assert np.array_equal(one.first, two.first) and np.array_equal(one.second, two.second) and np.array_equal(one.cosine, two.cosine)


def test_too_low_a_recall_on_the_sample_widens_the_margin_to_the_guarantee():
    data = rows(600, 8)  # no clusters: every cell's border is full of rows
    narrow = near_pairs(Rows([data]), 0.9, cells=40, reach=0.01)
    true, _ = brute_force(data, 0.9)
    assert narrow.report["reach"] == 1.0
    assert as_set(narrow.pairs) == true


def test_the_report_tells_the_recall_when_the_margin_alone_would_not_do(monkeypatch):
    data = rows(600, 8)
    monkeypatch.setattr(module, "ENOUGH", 0.0)
    poor = near_pairs(Rows([data]), 0.9, cells=40, reach=0.01)
    true, _ = brute_force(data, 0.9)
    recall = len(true & as_set(poor.pairs)) / len(true)
    assert poor.report["recall"] == pytest.approx(recall, abs=0.01) and recall < 0.95


@pytest.mark.parametrize(("noise", "more"), [(0.45, True), (0.001, False)])
def test_more_directions_are_compared_only_where_few_let_too_many_other_pairs_through(noise, more):
    rng = np.random.default_rng(0)
    data = unit_rows(rng.normal(size=(30, 256)))[rng.integers(30, size=3000)] + noise * unit_rows(rng.normal(size=(3000, 256)))
    data[:100] = data[100:200] + 0.05 * unit_rows(rng.normal(size=(100, 256)))
    found = near_pairs(Rows([data]), 0.95, reach=1.0)
    assert (found.report["directions"] > module.DIMENSIONS) is more
    assert as_set(found.pairs) == brute_force(data, 0.95)[0]


def test_shards_and_chunks_do_not_change_the_pairs(monkeypatch):
    data = planted(1500)
    whole = near_pairs(Rows([data]), 0.95)
    parts = near_pairs(Rows(np.split(data, [10, 500, 501])), 0.95)
    assert as_set(whole.pairs) == as_set(parts.pairs)
    monkeypatch.setattr(module, "CHUNK", 100)
    assert as_set(near_pairs(Rows([data]), 0.95).pairs) == as_set(whole.pairs)


def test_an_interrupted_search_goes_on_where_it_stopped(tmp_path):
    data = planted(1500)
    shards = Rows(np.split(data, 3))
    expected = near_pairs(shards, 0.95)

    def stop(stage, share):
        if stage == "assign":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        near_pairs(shards, 0.95, scratch=tmp_path, on_progress=stop)
    resumed = near_pairs(shards, 0.95, scratch=tmp_path)
    assert resumed.report["stages_reused"] >= 5  # directions, centroids and three projected shards
    assert as_set(resumed.pairs) == as_set(expected.pairs)
    assert not list(tmp_path.glob(".*"))


def test_half_a_stage_is_not_mistaken_for_a_whole_one(tmp_path):
    stages = Stages(tmp_path)
    stages.run("a", lambda: np.arange(10))
    path = tmp_path / "a.npy"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="not a finished stage"):
        stages.run("a", lambda: np.arange(10))


def test_a_row_without_direction_is_named_before_anything_is_compared():
    data = rows(100)
    data[42] = 0
    with pytest.raises(DataError, match="zero or not finite"):
        near_pairs(Rows([data]), 0.9)


@pytest.mark.parametrize("wrong", [{"threshold": 1.1}, {"threshold": -0.1}, {"reach": 0.0}, {"cells": 1000}])
def test_what_cannot_be_searched_for_is_refused(wrong):
    with pytest.raises(ConfigError):
        near_pairs(Rows([rows(50)]), **{"threshold": 0.9, **wrong})


WIDE, EMPTY = np.zeros((2, 4), np.float32), np.zeros((0, 3), np.float32)


@pytest.mark.parametrize("shards", [[], [WIDE[0]], [EMPTY], [WIDE, WIDE[:, :3]], [WIDE.astype(int)], [WIDE, WIDE.astype(np.float64)]])
def test_shards_that_do_not_fit_together_are_refused(shards):
    with pytest.raises(DataError, match="vectors"):
        Rows(shards)


@PATIENT
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_rows_over_shards_are_rows_of_the_whole(sizes, data):
    whole = np.arange(sum(sizes) * 2, dtype=np.float32).reshape(-1, 2)
    shards = Rows(np.split(whole, np.cumsum(sizes)[:-1]))
    wanted = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=12)), dtype=np.int64)
    assert shards.take(wanted).tolist() == whole[wanted].tolist()
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    pieces = list(shards.chunks(3, start, stop))
    assert np.concatenate([np.empty((0, 2)), *(p for _, p in pieces)]).tolist() == whole[start:stop].tolist()
    assert all(whole[first].tolist() == piece[0].tolist() for first, piece in pieces)


def test_float16_rows_are_compared_in_full_precision():
    """At cosine 0.9 a float16 product is off by 1e-3; the decision must be that of the rows themselves."""
    data = planted(800).astype(np.float16)
    true, cosine = brute_force(data.astype(np.float64), 0.95)
    found = as_set(near_pairs(Rows([data]), 0.95, reach=1.0).pairs)
    assert all(abs(cosine[i, j] - 0.95) < 1e-6 for i, j in true ^ found)
    assert math.isclose(len(found), len(true), abs_tol=1)


def test_cells_whose_centroids_coincide_share_their_rows(monkeypatch):
    """Squared distances to equal centroids differ by rounding on some CPUs; no border lies between them all the same."""
    rng = np.random.default_rng(0)
    low = (unit_rows(rng.normal(size=(1, 65))) + 1e-4 * rng.normal(size=(500, 65))).astype(np.float32)
    space = module._Space(np.zeros(65, np.float32), np.eye(65, 64, dtype=np.float32), np.repeat(low[:1], 2, axis=0), 0.1)
    exact = faiss.knn

    def rounded(rows, heads, count):
        squared, cell = exact(rows, heads, count)
        return squared + np.float32([0.0, 1e-7]), cell

    monkeypatch.setattr(faiss, "knn", rounded)
    own, guest, cell = module._assign(low, space, 0.1, complete=True)
    found = {*enumerate(own.tolist()), *zip(guest.tolist(), cell.tolist(), strict=True)}
    assert found == {(row, c) for row in range(500) for c in (0, 1)}
