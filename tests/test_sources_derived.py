"""What sources derive from official data: byte pairs, spectrograms, undersampled k-space."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.data_pipelines.dataset import prepare
from timetrial.data_pipelines.sources import get_source
from timetrial.data_pipelines.sources._bpe import _WORD, BytePairs
from timetrial.data_pipelines.sources._kspace import line_masks, zero_filled
from timetrial.data_pipelines.sources._spectrogram import log_mel, mel_filters
from timetrial.suite.errors import ConfigError

TEXTS = ["the cat sat on the mat, the cat ate", "that hat! that cat? äöü", "then there they"]
ROOM = 3 + 256


def learned_slowly(texts, merges):
    """Byte pairs as their definition has it: count all pairs anew for every merge."""
    words = [([3 + b for b in word.encode()], n) for word, n in Counter(w for t in texts for w in _WORD.findall(t)).items()]
    found = []
    for token in range(ROOM, ROOM + merges):
        counts = Counter()
        for word, n in words:
            for pair in pairwise(word):
                counts[pair] += n
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        found.append(best)
        joined = []
        for word, n in words:
            out = []
            for part in word:
                if out and (out[-1], part) == best:
                    out[-1] = token
                else:
                    out.append(part)
            joined.append((out, n))
        words = joined
    return tuple(found)


def test_merges_are_those_of_counting_anew_every_time():
    assert BytePairs.learn(TEXTS, ROOM + 25).merges == learned_slowly(TEXTS, 25)


@settings(max_examples=60)
@given(st.text())
def test_any_text_survives_its_encoding(text):
    codec = BytePairs.learn(TEXTS, ROOM + 20)
    tokens = codec.encode(text)
    assert codec.decode(tokens) == text
    assert all(2 < token < codec.size for token in tokens)


def test_a_vocabulary_that_the_text_cannot_fill_is_refused():
    with pytest.raises(ConfigError, match="gives at most"):
        BytePairs.learn(["ab"], 1000)
    with pytest.raises(ConfigError, match="expected at least 259"):
        BytePairs.learn(TEXTS, 100)


@pytest.mark.parametrize(("acceleration", "centre"), [(4, 0.08), (8, 0.04)])
def test_exactly_so_many_lines_are_measured_and_the_centre_always(acceleration, centre):
    masks = line_masks(50, 64, acceleration, centre, seed=1)
    block = round(64 * centre)
    assert (masks.sum(axis=1) == 64 // acceleration).all()
    assert masks[:, 32 - block // 2 : 32 - block // 2 + block].all()
    assert len(np.unique(masks, axis=0)) > 40
    assert np.array_equal(masks, line_masks(50, 64, acceleration, centre, seed=1))


def test_all_lines_give_the_picture_and_the_middle_one_its_rows_means():
    pictures = np.random.default_rng(0).random((2, 8, 8))
    np.testing.assert_allclose(zero_filled(pictures, np.ones((2, 8), bool)), pictures, atol=1e-12)
    middle = np.zeros((2, 8), bool)
    middle[:, 4] = True
    np.testing.assert_allclose(zero_filled(pictures, middle), np.repeat(pictures.mean(axis=2, keepdims=True), 8, axis=2), atol=1e-12)


def test_a_tone_is_loudest_in_the_band_around_it():
    rate, hop, bands = 8000, 128, 40
    filters = mel_filters(rate, 2 * hop, bands)
    for frequency in (300.0, 1000.0, 3000.0):
        found = log_mel(np.sin(2 * np.pi * frequency * np.arange(4096) / rate), rate, hop, bands)
        assert found.shape == (32, bands)
        nearest = filters[:, round(frequency / rate * 2 * hop)].argmax()
        assert (abs(found[2:-2].argmax(axis=1) - nearest) <= 1).all()
    assert log_mel(np.zeros(10), rate, hop, bands).shape == (1, bands)
    assert (log_mel(np.zeros(1000), rate, hop, bands) == -100).all()


def column(dataset, split, name):
    return np.asarray(dataset.splits[split].fields[name].values)


@pytest.mark.data
def test_strings_of_digits_are_of_one_speaker_and_say_what_stands_there(prepared_home):
    dataset = prepare(get_source("fsdd_strings"), {}, prepared_home)
    speakers = {split: set(column(dataset, split, "speaker").tolist()) for split in dataset.splits}
    assert len(speakers["train"]) == 4 and speakers["train"].isdisjoint(speakers["validation"] | speakers["test"])
    for split in dataset.splits:
        digits = column(dataset, split, "digits")
        lengths = (digits > 0).sum(axis=1)
        assert digits.max() == 10 and lengths.max() == 5 and lengths.min() >= 1
        assert (np.diff((digits > 0).astype(int), axis=1) <= 0).all()  # zeros only after the end


@pytest.mark.data
def test_held_out_texts_and_pictures_are_not_trained_on(prepared_home):
    posts = prepare(get_source("newsgroups20_bpe"), {"vocabulary": 2048, "block": 64}, prepared_home)
    assert posts.facts["vocabulary_size"] == 2048
    trained = {row.tobytes() for row in column(posts, "train", "tokens")}
    shared = sum(row.tobytes() in trained for row in column(posts, "validation", "tokens"))
    assert shared <= 0.01 * len(posts.splits["validation"])
    emoji = prepare(get_source("emoji_bpe"), {}, prepared_home)
    ids = {split: set(column(emoji, split, "emoji").tolist()) for split in emoji.splits}
    assert ids["train"].isdisjoint(ids["validation"] | ids["test"]) and ids["validation"].isdisjoint(ids["test"])
    brain = prepare(get_source("brain_mri_kspace"), {}, prepared_home)
    from timetrial.data_pipelines.sources.brain_mri import alike

    for split in ("validation", "test"):
        assert not alike(column(brain, split, "image"), column(brain, "train", "image")).any()


@pytest.mark.data
def test_search_terms_of_cifar10_belong_to_their_classes(prepared_home):
    dataset = prepare(get_source("cifar10_terms"), {}, prepared_home)
    terms, classes = dataset.facts["terms"], dataset.facts["class_names"]
    assert len(terms) == 390 and terms[0] == "" and len(set(terms)) == 390
    term, label = column(dataset, "train", "term"), column(dataset, "train", "label")
    assert terms[np.bincount(term).argmax()] == "tabby_cat"
    for index, name in zip(dataset.facts["class_terms"], classes, strict=True):
        assert terms[index] == name
        assert (label[term == index] == classes.index(name)).mean() > 0.95
