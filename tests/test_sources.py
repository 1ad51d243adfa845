"""Sources: official bytes in, arrays as their headers say out."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.data_pipelines.dataset import FieldKind, prepare
from timetrial.data_pipelines.sources import get_source, list_sources
from timetrial.data_pipelines.sources.cifar10 import statistics
from timetrial.data_pipelines.sources.tinyshakespeare import rows
from timetrial.suite.errors import ChecksumMismatch, ConfigError, UnknownName


def layout(dataset):
    return {
        split: {name: (field.kind, field.values.dtype.name, field.values.shape) for name, field in about.fields.items()}
        for split, about in dataset.splits.items()
    }


def values(dataset, split, name):
    return np.asarray(dataset.splits[split].fields[name].values)


# --- all of them ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_sources())
def test_a_source_says_what_it_is_and_where_it_comes_from(name):
    source = get_source(name)
    header = import_module(f"timetrial.data_pipelines.sources.{name}").__doc__
    assert source.name == name
    assert source.version >= 1
    assert source.licence and source.citation
    for part in ("Size ", "Licence: ", "Checksum: ", "Source ", "Gives ", "Splits ", "Facts "):
        assert part in header, part
    for file in source.files:
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.digest)
        assert file.url.startswith("https://")
        assert file.size_bytes > 0
    assert len({file.name for file in source.files}) == len(source.files)


def test_sources_are_listed_in_order():
    assert list(list_sources()) == sorted(set(list_sources()))


def test_an_unknown_source_names_the_nearest():
    with pytest.raises(UnknownName, match="unknown data source 'cifar'; did you mean 'cifar10'"):
        get_source("cifar")


# --- digits -----------------------------------------------------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn(prepared_home):
    from sklearn.datasets import load_digits

    dataset = prepare(get_source("digits"), {}, prepared_home)
    assert layout(dataset) == {
        "train": {"pixels": (FieldKind.ARRAY, "float32", (1437, 64)), "label": (FieldKind.INT, "int64", (1437,))},
        "test": {"pixels": (FieldKind.ARRAY, "float32", (360, 64)), "label": (FieldKind.INT, "int64", (360,))},
    }
    assert dataset.facts == {"classes": 10}
    official = load_digits()
    pairs = [(*row, label) for row, label in zip(official.data / 16, official.target, strict=True)]
    for split in ("train", "test"):
        mine = [(*row, label) for row, label in zip(values(dataset, split, "pixels"), values(dataset, split, "label"), strict=True)]
        remaining = iter(pairs)
        assert all(pair in remaining for pair in mine)  # a subsequence: official order
    both = np.concatenate([values(dataset, split, "pixels") for split in ("train", "test")])
    assert Counter(map(bytes, both)) == Counter(map(bytes, (official.data / 16).astype(np.float32)))
    assert np.bincount(values(dataset, "test", "label")).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_cifar10_is_complete_and_in_official_order(prepared_home, mirror):
    dataset = prepare(get_source("cifar10"), {}, prepared_home)
    assert layout(dataset) == {
        "train": {"image": (FieldKind.IMAGE, "uint8", (50000, 32, 32, 3)), "label": (FieldKind.INT, "int64", (50000,))},
        "test": {"image": (FieldKind.IMAGE, "uint8", (10000, 32, 32, 3)), "label": (FieldKind.INT, "int64", (10000,))},
    }
    official = np.load(mirror / "cifar10" / "meta" / "labels.npz")
    for split in ("train", "test"):
        np.testing.assert_array_equal(values(dataset, split, "label"), official[split])
    assert dataset.facts["classes"] == 10
    assert dataset.facts["class_names"][6] == "frog"  # the first picture of all
    assert values(dataset, "train", "label")[0] == 6
    assert values(dataset, "train", "image")[0, 0, 0].tolist() == [59, 62, 63]
    np.testing.assert_allclose(dataset.facts["mean"], [0.4914, 0.4822, 0.4465], atol=5e-5)  # as every recipe prints them
    np.testing.assert_allclose(dataset.facts["std"], [0.2470, 0.2435, 0.2616], atol=5e-5)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 5), st.integers(2, 5))
def test_patch_statistics_equal_a_loop_over_all_patches(seed, n, height, width):
    images = np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    facts = statistics(images)
    pixels = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(facts["mean"], pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(facts["std"], pixels.std(0), rtol=1e-9)
    normalised = (images / 255 - pixels.mean(0)) / pixels.std(0)
    patches = [
        normalised[i, y : y + 2, x : x + 2].transpose(2, 0, 1).ravel()
        for i in range(n)
        for y in range(height - 1)
        for x in range(width - 1)
    ]
    np.testing.assert_allclose(facts["patch_covariance"], sum(np.outer(p, p) for p in patches) / len(patches), atol=1e-8)


class Bomb:
    """What a hostile pickle looks like: loading it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.data
def test_a_pickle_with_another_checksum_is_never_loaded(tmp_path, mirror, monkeypatch):
    batches = tmp_path / "mirror" / "cifar10" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for path in (mirror / "cifar10" / "cifar-10-batches-py").iterdir():
        (batches / path.name).symlink_to(path)
    size = (batches / "test_batch").stat().st_size
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    (batches / "test_batch").unlink()
    (batches / "test_batch").write_bytes(bomb + bytes(size - len(bomb)))
    monkeypatch.setenv("TIMETRIAL_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(ChecksumMismatch, match="test_batch: expected md5 40351d587109b95175f43aff81a1287e"):
        prepare(get_source("cifar10"), {}, tmp_path / "home")
    assert not (tmp_path / "exploded").exists()


# --- tiny Shakespeare -------------------------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize("block", [64, 100])
def test_shakespeare_is_cut_as_nanogpt_cuts_it(prepared_home, mirror, block):
    text = (mirror / "tinyshakespeare" / "input.txt").read_text()
    dataset = prepare(get_source("tinyshakespeare"), {"block": block}, prepared_home)
    vocabulary = dataset.facts["vocabulary"]
    assert vocabulary == sorted(set(text))
    border = int(len(text) * 0.9)  # nanoGPT, data/shakespeare_char/prepare.py
    assert border == 1_003_854
    parts = {"train": text[:border], "validation": text[border : border + 55_770], "test": text[border + 55_770 :]}
    for split, part in parts.items():
        tokens = values(dataset, split, "tokens")
        assert tokens.dtype == np.uint8
        assert tokens.shape == (len(part) // block - 1, 2 * block)
        read = "".join(vocabulary[token] for token in [*tokens[:, :block].ravel(), *tokens[-1, block:]])
        assert read == part[: len(read)]
        assert len(part) - len(read) < block


@given(st.integers(1, 20), st.integers(0, 200))
def test_random_windows_of_rows_are_uniform_windows_of_the_text(block, extra):
    text = np.arange(2 * block + extra)
    seen = Counter(tuple(row[offset : offset + block + 1]) for row in rows(text, block) for offset in range(block))
    starts = sorted(window[0] for window in seen)
    assert set(seen.values()) == {1}
    assert starts == list(range(len(starts)))
    assert all(window == tuple(range(window[0], window[0] + block + 1)) for window in seen)


@pytest.mark.parametrize("block", [0, -1, 6])
def test_a_block_must_fit_the_text(block):
    with pytest.raises(ConfigError, match=f"option block: expected 1 to 5 for 10 tokens, given {block}"):
        rows(np.arange(10), block)
