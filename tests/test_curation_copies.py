"""Deduplication by name: planted copies of vectors, pictures and texts; the real duplicates of CIFAR-10.

Properties 7 (MinHash) and 8 (ciFAIR) of the list in tests/test_curation_trial.py.
"""

from __future__ import annotations

import csv
import pickle

import numpy as np
import pytest
from scipy.ndimage import zoom

from timetrial.data_pipelines.curation.context import make_context
from timetrial.data_pipelines.curation.copies import ExactDedup, MinHashDedup, NearDedup, PerceptualDedup, shingles
from timetrial.data_pipelines.curation.interface import Pool, curate
from timetrial.data_pipelines.embed import pca
from timetrial.data_pipelines.near_pairs import near_pairs
from timetrial.data_pipelines.shards import Rows
from timetrial.suite.errors import ConfigError, NeedsUnmet


def choose(method, pool, keep_fraction=1.0, **services):
    notes = {}
    context = make_context(pool, np.random.default_rng(0), note=notes.__setitem__, **services)
    return curate(method, pool, keep_fraction, context), notes


def zipf_copies(jitter, unique=300, seed=0):
    """Distinct rows, copied by a power law; the right answer is their number."""
    rng = np.random.default_rng(seed)
    source = rng.permutation(np.repeat(np.arange(unique), np.minimum(rng.zipf(1.6, size=unique), 200)))
    rows = rng.normal(size=(unique, 64)).astype(np.float32)[source]
    x = np.zeros((len(rows) + 10, 64), np.float32)
    x[10:] = rows + jitter * rng.normal(size=rows.shape)
    return Pool(np.arange(10, len(x)), {"x": x}, data_digest="zipf"), source


CASES = [(ExactDedup, 0, True), (NearDedup, 0, True), (NearDedup, 0.02, True), (ExactDedup, 0.02, False)]


@pytest.mark.parametrize(("method", "jitter", "exact"), CASES)
def test_the_cheapest_sufficient_dedup_depends_on_the_pool(method, jitter, exact):
    pool, source = zipf_copies(jitter)
    chosen, notes = choose(method(), pool)
    assert len(chosen) == (300 if exact else len(pool))
    if exact:
        assert len(set(source[pool.positions(chosen.ids)])) == 300
        of = notes["duplicate_of"]
        removed = np.flatnonzero(of >= 0)
        assert len(removed) == len(pool) - 300
        assert (source[removed] == source[pool.positions(of[removed])]).all()
        assert (of[removed] < pool.ids[removed]).all()  # the lower id has precedence


def test_below_keep_fraction_one_copies_go_first_and_then_a_random_part():
    pool, source = zipf_copies(0)
    few, _ = choose(ExactDedup(), pool, 0.03)
    kept = source[pool.positions(few.ids)]
    assert len(set(kept)) == len(kept) < 300
    many, _ = choose(ExactDedup(), pool, 0.9)
    assert len(set(source[pool.positions(many.ids)])) == 300


def test_a_search_leaves_nothing_behind_that_a_later_one_would_get_for_free(tmp_path):
    pool, _ = zipf_copies(0.02)
    choose(NearDedup(), pool, cache=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [p.name for p in tmp_path.glob("pca-*")]  # the embedding, with its cost


def test_the_record_of_a_search_says_how_much_it_found():
    pool, _ = zipf_copies(0.02)
    search = choose(NearDedup(), pool)[0].provenance["search"]
    assert search["recall"] >= 0.99
    assert search["checked_pairs"] > 100


@pytest.mark.parametrize("method", [NearDedup, PerceptualDedup, MinHashDedup])
def test_unknown_rules_are_refused(method):
    with pytest.raises(ConfigError, match="any_earlier, leader, component"):
        method(rule="first")


def pictures():
    """Thirty smooth pictures, each with a brighter copy and a copy with a little noise."""
    rng = np.random.default_rng(0)
    base = zoom(rng.uniform(40, 200, size=(30, 6, 6)), (1, 32 / 6, 32 / 6), order=1)
    stack = np.concatenate([base, base + 30, base + 2 * rng.normal(size=base.shape)])
    return np.repeat(np.clip(stack, 0, 255).astype(np.uint8)[..., None], 3, axis=3)


def test_pictures_that_look_alike_are_found_by_their_hash():
    pytest.importorskip("imagehash")
    pool = Pool(np.arange(90), {"image": pictures()}, data_digest="pictures")
    chosen, notes = choose(PerceptualDedup(distance=4), pool)
    removed = notes["duplicate_of"] >= 0
    assert (notes["duplicate_of"][removed] % 30 == np.flatnonzero(removed) % 30).mean() > 0.95
    assert 25 <= len(chosen) <= 35


def test_hashes_of_pictures_need_pictures_and_the_library(monkeypatch):
    with pytest.raises(NeedsUnmet, match="image input"):
        choose(PerceptualDedup(), Pool(np.arange(3), {"x": np.zeros((3, 2), np.float32)}, data_digest="x"))
    monkeypatch.setitem(__import__("sys").modules, "imagehash", None)
    with pytest.raises(NeedsUnmet, match="pip install imagehash"):
        choose(PerceptualDedup(), Pool(np.arange(90), {"image": pictures()}, data_digest="pictures"))


def test_shingles_are_runs_of_words_or_tokens():
    assert shingles("The cat  sat", 2) == {b"the cat", b"cat sat"}
    assert shingles("one", 5) == {b"one"}
    assert shingles(np.array([1, 2, 3]), 2) == {b"1 2", b"2 3"}
    assert shingles("", 3) == {b""}


def sentences(rng, count, words=60):
    return [" ".join(f"w{w}" for w in rng.integers(5000, size=words)) for _ in range(count)]


def test_texts_that_share_most_word_runs_are_found_and_no_others():
    pytest.importorskip("datasketch")
    rng = np.random.default_rng(0)
    originals = sentences(rng, 60)
    edited = [t.replace(t.split()[30], "changed", 1) for t in originals[:20]]  # one word of sixty: 5 of 56 shingles
    rewritten = [" ".join(t.split()[:25] + s.split()[25:]) for t, s in zip(originals[20:40], sentences(rng, 20), strict=True)]
    texts = np.array(originals + edited + rewritten, dtype=object)
    pool = Pool(np.arange(100), {"text": texts}, data_digest="texts")
    chosen, notes = choose(MinHashDedup(threshold=0.7), pool)
    assert sorted(set(range(100)) - set(chosen.ids)) == list(range(60, 80))
    assert notes["duplicate_of"][60:80].tolist() == list(range(20))
    assert notes["similarity"][60:80] == pytest.approx(51 / 61, abs=1e-9)


def test_candidates_follow_the_banding_curve():
    """The share of pairs of similarity s that MinHash proposes is 1 − (1 − s^r)^b, within binomial bounds."""
    datasketch = pytest.importorskip("datasketch")
    rng, permutations, tries = np.random.default_rng(0), 128, 150
    index = datasketch.MinHashLSH(threshold=0.7, num_perm=permutations)
    for shared in (60, 75, 90):
        similarity, hits = shared / (200 - shared), 0
        for turn in range(tries):
            words = [str(w).encode() for w in rng.choice(10**9, 200 - shared, replace=False)]
            a, b = (datasketch.MinHash(num_perm=permutations, seed=turn) for _ in "ab")
            a.update_batch(words[:100])
            b.update_batch(words[100 - shared :])
            own = datasketch.MinHashLSH(num_perm=permutations, params=(index.b, index.r))
            own.insert("a", a)
            hits += bool(own.query(b))
        expected = 1 - (1 - similarity**index.r) ** index.b
        assert hits / tries == pytest.approx(expected, abs=4 * np.sqrt(0.25 / tries))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_the_banding_has_the_least_area_of_false_candidates_of_all_bandings(threshold):
    """Misses above the threshold plus false candidates below it, by brute force over all bands and rows."""
    datasketch = pytest.importorskip("datasketch")
    permutations, grid = 64, np.linspace(0, 1, 2001)

    def area(bands, rows):
        found = 1 - (1 - grid**rows) ** bands
        wrong = np.where(grid < threshold, found, 1 - found)
        return float(((wrong[1:] + wrong[:-1]) / 2 * np.diff(grid)).sum())

    chosen = datasketch.MinHashLSH(threshold=threshold, num_perm=permutations)
    every = [area(b, r) for b in range(1, permutations + 1) for r in range(1, permutations // b + 1)]
    assert area(chosen.b, chosen.r) == pytest.approx(min(every), abs=2e-3)


def test_who_is_a_copy_of_whom_does_not_depend_on_how_texts_are_spread_over_ids():
    pytest.importorskip("datasketch")
    texts = sentences(np.random.default_rng(1), 30)
    texts += [t.replace(t.split()[10], "changed", 1) for t in texts[:15]]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(45)
        pool = Pool(np.arange(45), {"text": np.array(texts, object)[order]}, data_digest=f"order {seed}")
        kept = order[choose(MinHashDedup(threshold=0.7), pool)[0].ids]
        assert sorted(kept % 30) == list(range(30))  # one of every text and its edit


def test_minhash_needs_texts_or_tokens_and_the_library(monkeypatch):
    with pytest.raises(NeedsUnmet, match="texts or tokens"):
        choose(MinHashDedup(), Pool(np.arange(3), {"x": np.zeros((3, 2), np.float32)}, data_digest="x"))
    monkeypatch.setitem(__import__("sys").modules, "datasketch", None)
    with pytest.raises(NeedsUnmet, match="pip install datasketch"):
        choose(MinHashDedup(), Pool(np.arange(3), {"tokens": np.zeros((3, 9), np.int64)}, data_digest="x"))


@pytest.mark.data
def test_the_known_duplicates_between_cifar10s_test_and_training_set_are_found(mirror):
    """ciFAIR lists 249 test pictures that come from the same shot as a training picture (Barz and Denzler 2020, 1902.00423).

    Pixels alone do not see all of them: shifted and recoloured copies need a better embedding. Random pairs are never that close.
    """
    folder = mirror / "cifar10"
    batches = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    data = [pickle.loads((folder / "cifar-10-batches-py" / name).read_bytes(), encoding="bytes")[b"data"] for name in batches]
    with (folder / "meta" / "cifair_duplicates_cifar10.csv").open() as stream:
        listed = {(int(row["TrainID"]), 50_000 + int(row["TestID"])) for row in csv.DictReader(stream) if row["Judgment"] == "1"}
    ids = np.array(sorted({*range(0, 50_000, 4), *(train for train, _ in listed), *range(50_000, 60_000)}))  # a part, for the time it takes
    images = np.concatenate(data).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    pool = Pool(ids, {"image": np.ascontiguousarray(images)}, data_digest="cifar10")
    found = near_pairs(Rows([pca(pool)]), 0.95)
    pairs = zip(ids[found.pairs.first].tolist(), ids[found.pairs.second].tolist(), strict=True)
    across = {(a, b) for a, b in pairs if a < 50_000 <= b}
    assert len(listed & across) / len(listed) > 0.45
    assert found.report["recall"] >= 0.99
    by_chance = 1e-3 * len(listed)  # were the pairs picked at random, this many would be hits at most
    assert len(listed & across) > 50 * by_chance
