"""Sources: official bytes in, arrays as their headers say out."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import pickle
import re
import tarfile
import wave
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.data_pipelines.dataset import FieldKind, prepare
from timetrial.data_pipelines.fetch import fetch
from timetrial.data_pipelines.sources import get_source, list_sources
from timetrial.data_pipelines.sources.cifar10 import channel_statistics, patch_covariance
from timetrial.data_pipelines.sources.common import byte_rows, overlapping_rows, padded, read_members
from timetrial.suite.errors import ChecksumMismatch, ConfigError, DataError, UnknownName


def layout(dataset):
    return {
        split: {name: (field.kind, field.values.dtype.name, field.values.shape) for name, field in about.fields.items()}
        for split, about in dataset.splits.items()
    }


def opened(prepared_home, name, **options):
    return prepare(get_source(name), options, prepared_home)


def texts(dataset, split, name, length):
    rows, lengths = values(dataset, split, name), values(dataset, split, length)
    assert all(not row[count:].any() for row, count in zip(rows, lengths, strict=True))
    return [bytes(row[:count]).decode() for row, count in zip(rows, lengths, strict=True)]


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
    for part in ("Size ", "Licence:", "Checksum:", "Source ", "Gives ", "Splits ", "Facts "):
        assert part in header, part
    for file in source.files:
        assert file.url.startswith("https://")
        if file.digest is not None:  # otherwise decode checks the content
            assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.digest)
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
        split: {
            "image": (FieldKind.IMAGE, "uint8", (n, 32, 32, 3)),
            "label": (FieldKind.INT, "int64", (n,)),
            "term": (FieldKind.INT, "int64", (n,)),
        }
        for split, n in {"train": 50000, "test": 10000}.items()
    }
    official = np.load(mirror / "cifar10" / "meta" / "labels.npz")
    for split in ("train", "test"):
        np.testing.assert_array_equal(values(dataset, split, "label"), official[split])
    assert dataset.facts["classes"] == 10
    assert dataset.facts["class_names"][6] == "frog"  # the first picture of all
    assert values(dataset, "train", "label")[0] == 6
    assert values(dataset, "train", "image")[0, 0, 0].tolist() == [59, 62, 63]
    names = lzma.decompress((mirror / "cifar10" / "meta" / "filenames.txt.xz").read_bytes()).decode().split("\n")
    terms = [dataset.facts["terms"][term] for split in ("train", "test") for term in values(dataset, split, "term")]
    assert all(name.startswith(f"{term}_s_") for name, term in zip(names, terms, strict=True))
    assert len(set(terms[:50000])) == 389
    np.testing.assert_allclose(dataset.facts["mean"], [0.4914, 0.4822, 0.4465], atol=5e-5)  # as every recipe prints them
    np.testing.assert_allclose(dataset.facts["std"], [0.2470, 0.2435, 0.2616], atol=5e-5)


@pytest.mark.data
def test_cifar10_with_the_labels_of_people_is_as_noisy_as_published(mirror):
    source = get_source("cifar10n")
    files = fetch(source.files, mirror, mirror=mirror)
    splits, facts = source.decode(files, {"people": "worse"})
    assert facts["noise"] == pytest.approx(0.4021, abs=5e-5)
    assert np.mean(splits["train"]["label"].values != splits["train"]["true_label"].values) == facts["noise"]
    np.testing.assert_array_equal(splits["test"]["label"].values, splits["test"]["true_label"].values)
    np.testing.assert_array_equal(splits["train"]["true_label"].values, np.load(mirror / "cifar10" / "meta" / "labels.npz")["train"])
    with pytest.raises(UnknownName, match="did you mean 'worse'"):
        source.decode(files, {"people": "worst"})


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 5), st.integers(2, 5))
def test_patch_statistics_equal_a_loop_over_all_patches(seed, n, height, width):
    images = np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    pixels = images.reshape(-1, 3).astype(float)
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(0), rtol=1e-9)
    normalised = (images - pixels.mean(0)) / pixels.std(0)
    corners = [(i, y, x) for i in range(n) for y in range(height - 1) for x in range(width - 1)]
    patches = [normalised[i, y : y + 2, x : x + 2].transpose(2, 0, 1).ravel() for i, y, x in corners]
    expected = sum(np.outer(patch, patch) for patch in patches) / len(patches)
    np.testing.assert_allclose(patch_covariance(images, mean, std), expected, atol=1e-8)


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
    seen = Counter(tuple(row[offset : offset + block + 1]) for row in overlapping_rows(text, block) for offset in range(block))
    starts = sorted(window[0] for window in seen)
    assert set(seen.values()) == {1}
    assert starts == list(range(len(starts)))
    assert all(window == tuple(range(window[0], window[0] + block + 1)) for window in seen)


@pytest.mark.parametrize("block", [0, -1, 6])
def test_a_block_must_fit_the_text(block):
    with pytest.raises(ConfigError, match=f"option block: expected 1 to 5 for 10 tokens, given {block}"):
        overlapping_rows(np.arange(10), block)


# --- speech -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_spoken_digits_are_split_by_speaker(prepared_home, mirror):
    dataset = opened(prepared_home, "fsdd")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 2000, "validation": 500, "test": 500}
    heard = {split: set(values(dataset, split, "speaker").tolist()) for split in dataset.splits}
    assert dataset.facts["speakers"][4] == "theo"
    assert heard == {"train": {0, 1, 2, 3}, "validation": {5}, "test": {4}}
    for split, i in (("train", 0), ("validation", 17), ("test", 499)):
        digit, speaker, take, length = (int(values(dataset, split, name)[i]) for name in ("digit", "speaker", "take", "length"))
        with wave.open(str(mirror / "fsdd" / "recordings" / f"{digit}_{dataset.facts['speakers'][speaker]}_{take}.wav")) as recording:
            samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2")
        assert length == min(len(samples), 8192)
        np.testing.assert_array_equal(values(dataset, split, "waveform")[i], padded([samples], 8192, np.int16)[0])


@pytest.mark.data
@pytest.mark.parametrize(("source", "option"), [("fsdd", "samples"), ("newsgroups20", "bytes"), ("tinyshakespeare", "block")])
def test_a_row_without_room_is_refused(tmp_path, source, option):
    with pytest.raises(ConfigError, match=f"option {option}"):
        opened(tmp_path, source, **{option: 0})


# --- pictures ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_denoising_pictures_lie_in_the_corner(prepared_home, mirror):
    from PIL import Image

    dataset = opened(prepared_home, "bsd400")
    np.testing.assert_array_equal(values(dataset, "train", "image"), np.load(mirror / "bsd400" / "train400.npy"))
    files = sorted((mirror / "bsd400" / "set12").iterdir())
    assert len(files) == len(dataset.splits["test"]) == 12
    for i, file in enumerate(files):
        height, width, image = (values(dataset, "test", name)[i] for name in ("height", "width", "image"))
        np.testing.assert_array_equal(image[:height, :width], np.asarray(Image.open(file)))
        assert not image[height:].any() and not image[:, width:].any()


@pytest.mark.data
def test_every_visible_nucleus_is_there(prepared_home):
    dataset = opened(prepared_home, "nuclei")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 532, "test": 132}
    masks = np.concatenate([values(dataset, split, "mask") for split in ("train", "test")])
    assert sum(len(np.unique(mask[mask > 0])) for mask in masks) == 20_412
    shares = [np.bincount(values(dataset, split, "kind"), minlength=7) / len(dataset.splits[split]) for split in ("train", "test")]
    np.testing.assert_allclose(*shares, atol=0.01)


@pytest.mark.data
def test_no_brain_slice_is_trained_and_tested_on(prepared_home):
    from sklearn.neighbors import NearestNeighbors

    dataset = opened(prepared_home, "brain_mri")
    train, test = (values(dataset, split, "image").reshape(-1, 64 * 64).astype(float) for split in ("train", "test"))
    assert len(test) == 394
    assert len(train) == 2870 - dataset.facts["removed_from_train"]
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train).kneighbors(test)[0] / 64  # root mean square in grey levels
    assert nearest.min() > 5
    assert dataset.facts["test_pictures_in_train"] == 259
    assert dataset.facts["class_names"][2] == "no_tumor"
    assert np.bincount(values(dataset, "test", "label")).tolist() == [100, 115, 105, 74]  # as the folders hold them


@pytest.mark.data
def test_emoji_variants_stay_together(prepared_home):
    dataset = opened(prepared_home, "emoji")
    emoji = {split: values(dataset, split, "emoji") for split in dataset.splits}
    parts = [set(emoji[split].tolist()) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [1311, 300, 300]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    np.testing.assert_array_equal(emoji["shift"], emoji["test"])
    np.testing.assert_array_equal(values(dataset, "shift", "caption"), values(dataset, "test", "caption"))
    assert np.mean(np.any(values(dataset, "shift", "image") != values(dataset, "test", "image"), axis=(1, 2, 3))) > 0.99
    captions = [caption for split in dataset.splits for caption in texts(dataset, split, "caption", "caption_length")]
    assert "keycap: 0; 0, keycap, zero" in captions
    category = dataset.facts["categories"].index("People & Body")
    assert any(c == category and "vulcan" in t for c, t in zip(values(dataset, "train", "category"), captions, strict=False))


# --- graphs -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_molecules_are_whole_graphs(prepared_home):
    dataset = opened(prepared_home, "molhiv")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 32_894, "validation": 4_113, "test": 4_113}
    atoms = bonds = active = 0
    for split in dataset.splits:
        nodes, edges = values(dataset, split, "atom_count"), values(dataset, split, "bond_count")
        for name, counts in {"atoms": nodes, "bonds": edges, "ends": edges}.items():
            rows = values(dataset, split, name)
            assert not rows[np.arange(rows.shape[1]) >= counts[:, None]].any()
        assert nodes.min() > 0
        assert np.all(values(dataset, split, "ends").max(axis=(1, 2)) < nodes)
        assert np.all(values(dataset, split, "atoms").max(axis=(0, 1)) < dataset.facts["atom_values"])
        assert np.all(values(dataset, split, "bonds").max(axis=(0, 1)) < dataset.facts["bond_values"])
        atoms, bonds, active = atoms + nodes.sum(), bonds + edges.sum(), active + values(dataset, split, "label").sum()
    assert (atoms, bonds, active) == (1_048_955, 1_129_451, 1_443)


@pytest.mark.data
def test_cora_is_one_graph(prepared_home):
    dataset = opened(prepared_home, "cora")
    assert np.bincount(values(dataset, "nodes", "part")).tolist() == [2708 - 1640, 140, 500, 1000]
    assert values(dataset, "nodes", "words").sum() == 49_216
    edges = dataset.facts["edges"]
    assert len({tuple(edge) for edge in edges}) == len(edges) == 5278
    assert all(0 <= a < b < 2708 for a, b in edges)
    labels = values(dataset, "nodes", "label")
    assert np.mean([labels[a] == labels[b] for a, b in edges]) == pytest.approx(0.81, abs=0.005)  # papers cite their own topic
    assert np.bincount(labels[values(dataset, "nodes", "part") == 1]).tolist() == [20] * 7


# --- text -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_translations_are_the_official_lines(prepared_home, mirror):
    dataset = opened(prepared_home, "multi30k")
    official = {"train": "train", "validation": "val", "test": "test_2016_flickr", "test_2018_flickr": "test_2018_flickr"}
    for split, file in official.items():
        for language in ("de", "en"):
            lines = gzip.decompress((mirror / "multi30k" / f"{file}.{language}.gz").read_bytes()).decode().split("\n")
            assert texts(dataset, split, language, f"{language}_length") == lines[:-1]
    assert len(dataset.splits["test_2017_flickr"]) == 1000
    assert len(dataset.splits["test_2017_mscoco"]) == 461


@pytest.mark.data
def test_posts_are_cut_and_never_shown(prepared_home, mirror):
    dataset = opened(prepared_home, "newsgroups20")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 11_314, "test": 7_532}
    assert dataset.facts["classes"] == 20
    lines = (mirror / "newsgroups20" / "20news-bydate-noheaders.jsonl").read_text(encoding="utf-8").split("\n")
    entries = [json.loads(line) for line in lines if line]
    for split in dataset.splits:
        official = [entry for entry in entries if entry["split"] == split]
        mine = texts(dataset, split, "text", "length")
        groups = [dataset.facts["groups"][group] for group in values(dataset, split, "group")]
        same = [
            group == entry["group"]
            and f"{entry['subject']}\n\n{entry['body']}".startswith(text)
            and (len(text.encode()) > 2040 or text.endswith(entry["body"]))
            for group, entry, text in zip(groups, official, mine, strict=True)
        ]
        assert all(same), f"{same.count(False)} posts differ"


@pytest.mark.data
def test_wikitext_has_the_published_number_of_words(prepared_home, mirror):
    dataset = opened(prepared_home, "wikitext2", block=100)
    assert dataset.facts["words"] == {"validation": 217_646, "test": 245_569}
    tokens = values(dataset, "test", "tokens")
    text = (mirror / "wikitext2" / "test.txt").read_bytes()
    read = tokens[:, :100].tobytes() + tokens[-1, 100:].tobytes()
    assert text.startswith(read) and len(text) - len(read) < 100


@pytest.mark.data
def test_names_begin_and_end_with_the_mark(prepared_home, mirror):
    dataset = opened(prepared_home, "names")
    official = (mirror / "names" / "names.txt").read_text().split()
    read = {}
    for split in ("train", "test"):
        tokens, lengths = values(dataset, split, "tokens"), values(dataset, split, "length")
        assert tokens.shape[1] == 17
        assert np.all(tokens[:, 0] == 0) and np.all((tokens > 0).sum(axis=1) == lengths)
        read[split] = [
            "".join(dataset.facts["vocabulary"][token] for token in row[1 : 1 + n]) for row, n in zip(tokens, lengths, strict=True)
        ]
    assert len(read["test"]) == 3203
    assert Counter(read["train"] + read["test"]) == Counter(official)
    for part in read.values():
        remaining = iter(official)
        assert all(name in remaining for name in part)  # official order


# --- tables -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_census_rows_are_encoded(prepared_home):
    dataset = opened(prepared_home, "adult")
    assert [int(values(dataset, split, "label").sum()) for split in ("train", "test")] == [7841, 3846]  # as adult.names counts them
    assert values(dataset, "train", "numbers")[0].tolist() == [39, 77516, 13, 2174, 0, 40]
    assert dataset.facts["category_sizes"] == [10, 17, 8, 16, 7, 6, 3, 43]
    for split in ("train", "test"):
        categories = values(dataset, split, "categories")
        assert np.all(categories < dataset.facts["category_sizes"])
        assert categories.min() == 1  # the test part has no value that the training part lacks
    assert values(dataset, "train", "categories")[0, 6] == 2  # Female, Male


@pytest.mark.data
@pytest.mark.parametrize(("table", "sizes"), [("frappe", [13_937, 3_484]), ("criteo", [7_200, 409, 391]), ("avazu", [8_087, 480, 432])])
def test_click_tables_are_encoded(prepared_home, table, sizes):
    dataset = opened(prepared_home, "tabular_ctr", table=table)
    assert [len(split) for split in dataset.splits.values()] == sizes
    train = values(dataset, "train", "categories")
    assert train.min() == 1
    assert (train.max(axis=0) + 1).tolist() == dataset.facts["category_sizes"]
    assert len(dataset.facts["category_names"]) == train.shape[1]
    assert values(dataset, "test", "categories").min() == 0  # values never seen in training
    for split in dataset.splits:
        assert set(values(dataset, split, "label").tolist()) == {0, 1}
    if table == "criteo":
        numbers, missing = values(dataset, "train", "numbers"), values(dataset, "train", "missing")
        assert numbers[0].tolist() == [1, 1, 5, 0, 1382, 4, 15, 2, 181, 1, 2, 0, 2]
        assert missing[0].tolist() == [0] * 11 + [1, 0]
        assert not numbers[missing == 1].any()


@pytest.mark.data
def test_an_unknown_table_names_the_nearest(tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'frappe'"):
        opened(tmp_path, "tabular_ctr", table="frape")


# --- official forms ---------------------------------------------------------------------------------------------------------------------


HEADER = "From: somebody\nSubject: {subject}\n\n"


def official_archive(name, mirror):
    """The official archive's members, made from the mirror: what a user without a mirror downloads."""
    from PIL import Image

    if name == "fsdd":
        return {
            f"free-spoken-digit-dataset-26eb9aaf/recordings/{file.name}": file.read_bytes()
            for file in (mirror / "fsdd" / "recordings").iterdir()
        }
    if name == "bsd400":
        members = {f"DnCNN-e93b2781/testsets/Set12/{file.name}": file.read_bytes() for file in (mirror / "bsd400" / "set12").iterdir()}
        for i, picture in enumerate(np.load(mirror / "bsd400" / "train400.npy"), start=1):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "png", compress_level=1)
            members[f"DnCNN-e93b2781/TrainingCodes/DnCNN_TrainingCodes_v1.0/data/Train400/test_{i:03d}.png"] = buffer.getvalue()
        return members
    lines = (mirror / "newsgroups20" / "20news-bydate-noheaders.jsonl").read_text(encoding="utf-8").split("\n")
    posts = [json.loads(line) for line in lines if line]
    return {
        f"20news-bydate-{post['split']}/{post['group']}/{post['id']}": HEADER.format(**post).encode("latin-1")
        + post["body"].encode("latin-1")
        for post in posts
    }


@pytest.mark.data
@pytest.mark.parametrize("name", ["bsd400", "fsdd", "newsgroups20"])
def test_the_official_archive_gives_what_the_mirror_gives(tmp_path, prepared_home, mirror, name, monkeypatch):
    source = get_source(name)
    archive = tmp_path / "downloads" / name / source.files[0].name
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for member, content in official_archive(name, mirror).items():
            about = tarfile.TarInfo(member)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    monkeypatch.delenv("TIMETRIAL_MIRROR")
    ours = prepare(source, {}, tmp_path)
    monkeypatch.setenv("TIMETRIAL_MIRROR", str(mirror))
    assert ours.digest == prepare(source, {}, prepared_home).digest


@pytest.mark.parametrize("name", ["bsd400", "fsdd", "newsgroups20"])
@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no archive either")])
def test_a_damaged_archive_is_refused_and_discarded(tmp_path, name, content, monkeypatch):
    monkeypatch.delenv("TIMETRIAL_MIRROR", raising=False)
    source = get_source(name)
    archive = tmp_path / "downloads" / name / source.files[0].name
    archive.parent.mkdir(parents=True)
    archive.write_bytes(content)
    with pytest.raises(DataError):
        prepare(source, {}, tmp_path)
    assert not archive.exists()


@pytest.mark.parametrize(
    ("name", "file"), [("molhiv", "molhiv/graphs.npz"), ("bsd400", "bsd400/train400.npy"), ("fsdd", "fsdd/recordings/0_theo_0.wav")]
)
def test_a_damaged_mirror_is_refused_in_one_line(tmp_path, name, file, monkeypatch):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_bytes(b"nothing of the kind")
    monkeypatch.setenv("TIMETRIAL_MIRROR", str(tmp_path))
    with pytest.raises(DataError, match=name) as caught:
        prepare(get_source(name), {}, tmp_path / "home")
    assert "\n" not in str(caught.value)


def test_members_of_an_archive_are_those_of_the_folder(tmp_path):
    for name in ("a.txt", "inner/b.txt", "inner/c.bin"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_text(name)
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "folder", "top-folder")
    for path in (tmp_path / "folder", tmp_path / "archive.tar.gz"):
        assert read_members(path, lambda name: name.endswith(".txt")) == {"a.txt": b"a.txt", "inner/b.txt": b"inner/b.txt"}


@given(st.lists(st.text(), min_size=1, max_size=5), st.integers(1, 20))
def test_text_rows_are_cut_between_characters(given_texts, width):
    rows, lengths = byte_rows(given_texts, width)
    assert rows.shape == (len(given_texts), width)
    for text, row, length in zip(given_texts, rows, lengths, strict=True):
        read = bytes(row[:length]).decode()
        assert text.startswith(read)
        assert not row[length:].any()
        assert read == text or len((read + text[len(read)]).encode()) > width
