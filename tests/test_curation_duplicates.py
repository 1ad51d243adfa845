"""Near-duplicates: the three rules and what each guarantees, planted copies, thresholds at equality, independence of order and blocks.

Properties 1 to 6 (near-duplicates) of the list in tests/test_curation_trial.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from timetrial.data_pipelines import duplicates
from timetrial.data_pipelines.clusters import kmeans, unit_rows
from timetrial.data_pipelines.duplicates import Pairs, Rule, exact_copies, group_pairs, nearest_earlier, pair_cosines, survivors
from timetrial.suite.errors import ConfigError

PATIENT = settings(deadline=None)  # machines are shared: how long an example takes is no property of the code
SEEDS = st.integers(0, 10_000)


def blobs(n=400, d=8, count=12, spread=0.25, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, d))
    return unit_rows(centres[rng.integers(count, size=n)] + spread * rng.normal(size=(n, d)))


def one_group(rows):
    return np.zeros(len(rows), dtype=np.int64)


def by_id(n):
    return np.arange(n)


def chain():
    """Six points on a circle, 15 degrees apart; neighbours are duplicates at 16 degrees, next neighbours are not."""
    angles = np.radians(15.0 * np.arange(6))
    return unit_rows(np.stack([np.cos(angles), np.sin(angles)], axis=1)), math.cos(math.radians(16))


@pytest.mark.parametrize(("rule", "kept"), [("any_earlier", [0]), ("leader", [0, 2, 4]), ("component", [0])])
def test_the_three_rules_on_a_chain(rule, kept):
    rows, threshold = chain()
    found, by = survivors(6, group_pairs(rows, one_group(rows), threshold), by_id(6), rule)
    assert np.flatnonzero(found).tolist() == kept
    assert (by[found] == -1).all()
    assert (by[~found] >= 0).all()


@PATIENT
@given(SEEDS, st.floats(0.6, 0.999))
def test_what_each_rule_guarantees(seed, threshold):
    rows = blobs(120, seed=seed)
    pairs = group_pairs(rows, one_group(rows), threshold)
    rank = np.random.default_rng(seed).permutation(120)
    kept = {rule: survivors(120, pairs, rank, rule)[0] for rule in Rule}
    for rule, mask in kept.items():
        if rule is not Rule.COMPONENT:
            assert not (mask[pairs.first] & mask[pairs.second]).any()  # no two kept ones are duplicates
    leader = kept[Rule.LEADER]
    has_kept = np.zeros(120, bool)
    for a, b in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        np.logical_or.at(has_kept, a, leader[b])
    assert has_kept[~leader].all()  # every removed one has a kept duplicate
    graph = coo_array((np.ones(len(pairs)), (pairs.first, pairs.second)), shape=(120, 120))
    count, member = connected_components(graph, directed=False)
    assert kept[Rule.COMPONENT].sum() == count
    assert len(set(member[kept[Rule.COMPONENT]])) == count
    sizes = [kept[rule].sum() for rule in (Rule.COMPONENT, Rule.ANY_EARLIER, Rule.LEADER)]
    assert sizes == sorted(sizes)


@PATIENT
@given(SEEDS)
def test_lower_thresholds_remove_more_under_any_earlier_and_leave_fewer_components(seed):
    rows = blobs(100, seed=seed)
    pairs = group_pairs(rows, one_group(rows), 0.5)
    last = {Rule.ANY_EARLIER: np.ones(100, bool), Rule.COMPONENT: np.ones(100, bool)}
    for threshold in (0.98, 0.9, 0.8, 0.6):
        for rule, before in last.items():
            now = survivors(100, pairs.above(threshold), by_id(100), rule)[0]
            assert (now <= before).all() if rule is Rule.ANY_EARLIER else now.sum() <= before.sum()
            last[rule] = now


@PATIENT
@given(SEEDS)
def test_running_twice_removes_nothing_more(seed):
    rows = blobs(100, seed=seed)
    for rule in Rule:
        kept = survivors(100, group_pairs(rows, one_group(rows), 0.9), by_id(100), rule)[0]
        again = rows[kept]
        pairs = group_pairs(again, one_group(again), 0.9)
        if rule is Rule.COMPONENT:
            assert len(pairs) == 0
        assert survivors(len(again), pairs, by_id(len(again)), rule)[0].all()


@PATIENT
@given(SEEDS, st.integers(1, 60))
def test_pairs_are_those_of_brute_force_and_in_clusters_a_subset_of_them(seed, count):
    rows = blobs(150, seed=seed)
    cosine = rows.astype(np.float64) @ rows.T.astype(np.float64)
    brute = {(i, j) for i, j in np.argwhere(cosine >= 0.9) if i < j}
    everything = group_pairs(rows, one_group(rows), 0.9)
    found = set(zip(everything.first.tolist(), everything.second.tolist(), strict=True))
    disputed = {(i, j) for i, j in brute ^ found if abs(cosine[i, j] - 0.9) > 1e-6}
    assert not disputed
    groups = kmeans(rows, min(count, 150), seed=seed, spherical=True).labels
    inside = group_pairs(rows, groups, 0.9)
    assert set(zip(inside.first.tolist(), inside.second.tolist(), strict=True)) <= found
    if count == 1:
        assert len(inside) == len(everything)


@pytest.mark.parametrize(("count", "noise"), [*((k, 0.0) for k in (1, 5, 20, 100, 300, 400)), *((k, 1e-6) for k in (1, 5, 20, 100))])
def test_planted_copies_are_all_found_whatever_the_number_of_clusters(count, noise):
    """Equal vectors always fall into the same cluster; float noise of 1e-6 may part them only at a border, which is rare."""
    rows = blobs(300, seed=3)
    rng = np.random.default_rng(4)
    which = rng.choice(300, 100, replace=False)
    pool = unit_rows(np.concatenate([rows, rows[which] + noise * rng.normal(size=(100, 8))]))
    groups = kmeans(pool, count, seed=0, spherical=True).labels
    pairs = group_pairs(pool, groups, 0.99999)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    recall = np.mean([(int(w), 300 + i) in found for i, w in enumerate(which)])
    assert recall == 1.0 if noise == 0 else recall >= 0.98


def test_equality_with_the_threshold_counts_and_float16_rounding_would_not_flip_it():
    rows = np.array([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0]], dtype=np.float32)
    exact = pair_cosines(rows, np.array([0]), np.array([1]))[0]
    assert len(group_pairs(rows, one_group(rows), float(exact))) == 2 + 1
    assert len(group_pairs(rows, one_group(rows), np.nextafter(exact, 1))) == 1
    assert pair_cosines(rows, np.array([0]), np.array([2])).tolist() == [1.0]  # a copy is a duplicate at threshold 1
    assert len(group_pairs(rows, one_group(rows), 1.0)) == 1


@PATIENT
@given(SEEDS)
def test_a_copy_has_cosine_one_at_any_length(seed):
    vector = np.random.default_rng(seed).normal(size=(1, 37)).astype(np.float32) * 10 ** np.random.default_rng(seed).uniform(-10, 10)
    assert pair_cosines(np.repeat(vector, 2, axis=0), np.array([0]), np.array([1])).tolist() == [1.0]


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
def test_pairs_do_not_depend_on_the_block_size(monkeypatch, block):
    rows, groups = blobs(200, seed=1), np.arange(200) % 3
    expected = group_pairs(rows, groups, 0.85)
    expected_near = nearest_earlier(rows, groups, by_id(200))
    monkeypatch.setattr(duplicates, "BLOCK", block)
    found = group_pairs(rows, groups, 0.85)
    for name in ("first", "second", "cosine"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
    assert nearest_earlier(rows, groups, by_id(200))[1].tolist() == expected_near[1].tolist()


def test_who_survives_does_not_depend_on_the_order_that_rows_come_in():
    rows = blobs(150, seed=2)
    order = np.random.default_rng(0).permutation(150)
    kept = survivors(150, group_pairs(rows, one_group(rows), 0.9), by_id(150), "leader")[0]
    shuffled = survivors(150, group_pairs(rows[order], one_group(rows), 0.9), order, "leader")[0]
    assert set(order[shuffled]) == set(np.flatnonzero(kept))


@PATIENT
@given(SEEDS)
def test_the_closest_earlier_row_decides_the_any_earlier_rule(seed):
    rows, rank = blobs(90, seed=seed), np.random.default_rng(seed + 1).permutation(90)
    groups = np.arange(90) % 2
    closest, partner = nearest_earlier(rows, groups, rank)
    cosine = rows.astype(np.float64) @ rows.T.astype(np.float64)
    for i in range(90):
        earlier = np.flatnonzero((rank < rank[i]) & (groups == groups[i]))
        if len(earlier) == 0:
            assert (closest[i], partner[i]) == (-1, -1)
        else:
            assert closest[i] == pytest.approx(cosine[i, earlier].max(), abs=1e-6)
            assert partner[i] in earlier
    for threshold in (0.8, 0.95):
        kept = survivors(90, group_pairs(rows, groups, threshold), rank, "any_earlier")[0]
        assert kept.tolist() == (closest < threshold).tolist()


def test_exact_copies_point_to_the_first_of_their_bytes():
    rows = np.array([[1, 2], [3, 4], [1, 2], [3, 4], [5, 6]], dtype=np.uint8)
    assert exact_copies(rows).tolist() == [0, 1, 0, 1, 4]
    assert exact_copies(np.zeros((3, 2, 2), np.float32)).tolist() == [0, 0, 0]
    assert exact_copies(rows, np.array([0, 0, 1, 0, 0])).tolist() == [0, 1, 2, 1, 4]  # equal in all columns, not in one


def test_pairs_come_sorted_and_once():
    pairs = Pairs.of(np.array([3, 1, 1, 0]), np.array([1, 3, 0, 1]), np.array([0.9, 0.9, 0.8, 0.8]))
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.cosine.tolist()) == ([0, 1], [1, 3], [0.8, 0.9])


@pytest.mark.parametrize("threshold", [1.01, -2, float("nan")])
def test_a_threshold_that_is_no_cosine_is_refused(threshold):
    with pytest.raises(ConfigError, match="threshold"):
        group_pairs(blobs(10), one_group(blobs(10)), threshold)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match="any_earlier, leader, component"):
        survivors(2, group_pairs(blobs(2), np.zeros(2), 0.9), by_id(2), "first")
