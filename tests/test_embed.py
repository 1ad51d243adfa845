"""Embedders: what they compute, that labels cannot reach them, and that a cached embedding is charged at what it took to make."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from timetrial.data_pipelines import embed as module
from timetrial.data_pipelines.curation.interface import Pool, ProxyEpoch, ProxyRun
from timetrial.data_pipelines.embed import embed
from timetrial.suite.errors import ConfigError, DataError, NeedsUnmet, UnknownName


def digits_pool(kind="float"):
    digits = load_digits()
    if kind == "image":
        pictures = np.repeat(np.repeat((digits.images * 15).astype(np.uint8), 2, axis=1), 2, axis=2)  # 16x16
        arrays = {"image": np.repeat(pictures[..., None], 3, axis=3)}
    else:
        arrays = {"pixels": digits.data.astype(np.float32) / 16}
    return Pool(np.arange(1400), arrays | {"label": digits.target.astype(np.int64)}, data_digest=f"digits-{kind}", label="label")


class Ledger:
    """Counts what is made and charged, on a clock that the test moves."""

    def __init__(self):
        self.spans, self.charged, self.time = [], [], 0.0

    @contextmanager
    def span(self, name):
        self.spans.append(name)
        self.time += 3.0
        yield

    def run(self, pool, name, cache=None, seed=0, train_proxy=None, **options):
        services = {"now": lambda: self.time, "cpu_now": lambda: 2 * self.time}
        return embed(
            pool, name, options, seed=seed, span=self.span, charge=self.charged.append, cache=cache, train_proxy=train_proxy, **services
        )


def test_raw_is_the_input_with_bytes_scaled_to_one():
    pool = digits_pool("image")
    vectors = Ledger().run(pool, "raw")
    assert vectors.dtype == np.float32
    assert vectors == pytest.approx(pool.field("image").reshape(1400, -1) / 255.0, abs=1e-6)


def test_several_inputs_are_joined():
    arrays = {"a": np.ones((3, 2), np.float32), "tokens": np.ones((3, 5), np.int64), "b": np.full((3, 1, 1), 255, np.uint8)}
    assert Ledger().run(Pool(np.arange(3), arrays, data_digest="x"), "raw").tolist() == [[1.0, 1.0, 1.0]] * 3


@pytest.mark.parametrize("kind", ["float", "image"])
def test_pca_spans_what_scikit_learn_finds(kind):
    pool = digits_pool(kind)
    ours = Ledger().run(pool, "pca", dimensions=10)
    theirs = PCA(n_components=10).fit_transform(Ledger().run(pool, "raw"))
    assert np.abs(ours) == pytest.approx(np.abs(theirs), abs=2e-3 * float(np.abs(theirs).max()))


def test_pca_of_many_dimensions_uses_the_fast_path_and_keeps_the_variance():
    wide = np.random.default_rng(0).normal(size=(300, 1200)) / np.sqrt(np.arange(1, 1201))
    pool = Pool(np.arange(300), {"x": wide.astype(np.float32)}, data_digest="wide")
    kept = Ledger().run(pool, "pca", dimensions=20).var(axis=0).sum()
    assert kept == pytest.approx(PCA(n_components=20).fit_transform(pool.field("x")).var(axis=0).sum(), rel=0.02)


def test_pca_does_not_depend_on_the_chunk(monkeypatch):
    before = Ledger().run(digits_pool(), "pca", dimensions=8)
    monkeypatch.setattr(module, "CHUNK", 100)
    assert Ledger().run(digits_pool(), "pca", dimensions=8) == pytest.approx(before, abs=1e-5)


def test_patch_features_tell_digits_apart_better_than_chance_and_depend_on_the_seed():
    pool = digits_pool("image")
    features = Ledger().run(pool, "patches", filters=16, size=5, stride=2, patch_count=3000)
    assert features.shape == (1400, 4 * 2 * 16)
    rule = KNeighborsClassifier(1).fit(features[:1000], pool.labels[:1000])
    assert rule.score(features[1000:], pool.labels[1000:]) > 0.85
    again = Ledger().run(pool, "patches", filters=16, size=5, stride=2, patch_count=3000)
    other = Ledger().run(pool, "patches", filters=16, size=5, stride=2, patch_count=3000, seed=1)
    assert again.tobytes() == features.tobytes() != other.tobytes()


def test_an_encoder_trained_without_labels_tells_digits_apart_better_than_chance_and_touches_no_global_generator():
    pool, ledger = digits_pool("image"), Ledger()
    before = torch.get_rng_state()
    vectors, again, other = (
        embed(pool, "contrastive", {"epochs": 3.0}, seed=seed, span=ledger.span, charge=ledger.charged.append) for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert vectors.shape == (1400, 128) and vectors.dtype == np.float32
    assert np.array_equal(vectors, again) and not np.array_equal(vectors, other)
    neighbours = KNeighborsClassifier(5).fit(vectors[:1000], pool.labels[:1000])
    assert neighbours.score(vectors[1000:], pool.labels[1000:]) > 0.5


@pytest.mark.parametrize("options", [{"epochs": 0}, {"temperature": 0}, {"learning_rate": -1}])
def test_settings_with_which_an_encoder_learns_nothing_are_refused(options):
    with pytest.raises(ConfigError, match="positive"):
        embed(digits_pool("image"), "contrastive", options, seed=0, span=Ledger().span, charge=print)


def test_model_features_come_from_a_proxy_of_the_asked_length():
    asked = []

    def proxy(epochs, seed, *, collect=(), **_):
        asked.append((epochs, tuple(collect)))
        return ProxyRun((ProxyEpoch(epochs, np.zeros(1400), features=np.ones((1400, 3), np.float32)),))

    assert Ledger().run(digits_pool(), "model", train_proxy=proxy, epochs=2.5).shape == (1400, 3)
    assert asked == [(2.5, ("features",))]
    with pytest.raises(NeedsUnmet, match="only data"):
        Ledger().run(digits_pool(), "model")


def test_labels_change_no_embedding():
    pool = digits_pool()
    relabelled = pool.relabelled(np.zeros(1400, np.int64))
    for name in ("raw", "pca"):
        assert Ledger().run(pool, name).tobytes() == Ledger().run(relabelled.without_labels(), name).tobytes()


def test_a_cached_embedding_is_charged_at_what_it_took_to_make(tmp_path):
    ledger, pool = Ledger(), digits_pool()
    made = ledger.run(pool, "pca", cache=tmp_path)
    assert (ledger.spans, ledger.charged) == (["embed"], [])
    reused = ledger.run(pool, "pca", cache=tmp_path)
    assert reused.tobytes() == made.tobytes()
    assert ledger.spans == ["embed"]
    (cost,) = ledger.charged
    assert (cost.wall_seconds, cost.cpu_seconds, cost.span_seconds) == (3.0, 6.0, {"embed": 3.0})


def test_the_cache_tells_pools_options_and_seeds_apart(tmp_path):
    ledger = Ledger()
    ledger.run(digits_pool(), "pca", cache=tmp_path)
    ledger.run(digits_pool(), "pca", cache=tmp_path, seed=9)  # draws nothing: the same entry
    assert len(ledger.charged) == 1
    ledger.run(digits_pool(), "pca", cache=tmp_path, dimensions=3)
    ledger.run(digits_pool("image"), "pca", cache=tmp_path)
    small = {"filters": 4, "patch_count": 500}
    ledger.run(digits_pool("image"), "patches", cache=tmp_path, **small)
    ledger.run(digits_pool("image"), "patches", cache=tmp_path, seed=1, **small)
    assert len(ledger.charged) == 1
    assert len(list(tmp_path.glob("*.npy"))) == 5


@pytest.mark.parametrize("damage", ["truncate", "flip", "no note", "foreign note"])
def test_a_damaged_cache_entry_is_made_anew(tmp_path, damage):
    ledger, pool = Ledger(), digits_pool()
    made = ledger.run(pool, "pca", cache=tmp_path)
    (path,) = tmp_path.glob("*.npy")
    whole = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(whole[:-100])
    elif damage == "flip":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "no note":
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text(json.dumps({"digest": "x"}))
    assert ledger.run(pool, "pca", cache=tmp_path).tobytes() == made.tobytes()
    assert ledger.charged == []
    assert path.read_bytes() == whole


def test_nothing_is_cached_where_there_is_no_cache_or_no_use(tmp_path):
    Ledger().run(digits_pool(), "raw", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unknown_embedders_and_options_name_the_known_ones():
    with pytest.raises(UnknownName, match="pca"):
        Ledger().run(digits_pool(), "pcs")
    with pytest.raises(ConfigError, match="known: dimensions, fit_examples"):
        Ledger().run(digits_pool(), "pca", dims=3)
    with pytest.raises(ConfigError, match="set by the harness"):
        embed(digits_pool("image"), "patches", {"seed": 3}, seed=0, span=Ledger().span, charge=print)


def test_vectors_that_are_not_finite_are_named():
    pixels = np.ones((5, 2), np.float32)
    pixels[3] = np.nan
    with pytest.raises(DataError, match="example 3 is not finite"):
        Ledger().run(Pool(np.arange(5), {"x": pixels}, data_digest="x"), "raw")


def test_pictures_without_content_have_no_patches():
    blank = Pool(np.arange(5), {"image": np.full((5, 8, 8, 3), 7, np.uint8)}, data_digest="x")
    with pytest.raises(DataError, match="have any content"):
        Ledger().run(blank, "patches", size=3, patch_count=100)


@pytest.mark.parametrize(("name", "need"), [("raw", "image or a float"), ("patches", "image input")])
def test_inputs_that_an_embedder_cannot_read_are_named(name, need):
    tokens = Pool(np.arange(5), {"tokens": np.ones((5, 4), np.int64)}, data_digest="x")
    with pytest.raises(NeedsUnmet, match=need):
        Ledger().run(tokens, name)
