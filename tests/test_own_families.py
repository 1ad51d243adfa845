"""Each shipped family takes a stranger's data: named in a folder's workload.yaml, classes and shapes inferred, misfits refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from timetrial.data_pipelines.dataset import prepare
from timetrial.data_pipelines.sources import get_source
from timetrial.suite.cli import main
from timetrial.suite.errors import ConfigError, DataError, DataMissing

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch_geometric's import
LEVELS = {"maximize": [0.05 * i for i in range(1, 12)], "minimize": [20.0 - i for i in range(11)]}
SENTENCES = [(f"der {a} {b}", f"the {a} {b}") for a in ("rote", "alte", "junge", "kleine") for b in ("hund", "mann", "baum", "berg", "see")]
PICTURES = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setenv("TIMETRIAL_PATH", "")


def write(folder, task, model, metric, source, options, direction="maximize", held_out=0, **changes):
    definition = {
        "version": 1,
        "tier": "nano",
        "family": "own",
        "summary": "tiny",
        "task": task,
        "data": {"source": source, "options": options, "validation_examples": held_out},
        "model": model,
        "metric": {"name": metric, "direction": direction, "unit": "unit"},
        "ladder": {"levels": LEVELS[direction], "main": LEVELS[direction][5]},
        "budget": {"examples": 48, "charged_seconds": 60.0},
        "evaluation": {"every_examples": 24, "batch_size": 50},
        "batch_size": 8,
    }
    folder.mkdir(exist_ok=True)
    (folder / "workload.yaml").write_text(yaml.safe_dump({**definition, **changes}))
    return folder


def trained(folder, home, *overrides):
    """The record of a few steps on the folder's data, through FFCV."""
    code = main(["run", str(folder), "--no-mlflow", "--quiet", "loader=ffcv", "--home", str(home), *overrides])
    assert code in (0, 3)
    (path,) = (home / "records").glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["status"] in ("hit", "missed") and record["loader"]["kind"] == "FfcvLoader"
    assert np.isfinite(record["result"]["final_quality"])
    return record


def refusal(folder, home, capsys, *overrides):
    assert main(["run", str(folder), "--no-mlflow", "--quiet", "--home", str(home), *overrides]) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and not (home / "records").exists()
    return error


def read(name, path, home, **options):
    return prepare(get_source(name), {"path": str(path), **options}, home)


def field(dataset, split, name):
    return np.asarray(dataset.splits[split].fields[name].values)


# --- image classification: the shipped CNN, whose first layer is made of the training pictures' statistics ------------------------------

CNN = {"widths": [8, 8, 8], "norm": "batch", "norm_momentum": 0.4, "activation": "relu", "logit_scale": 0.1}


def classes(folder, images, count=3):
    folder.mkdir()
    np.savez(folder / "data.npz", image=images, label=np.arange(len(images)) % count)
    augmentation = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    data = {"source": "own_files", "options": {"path": "data.npz"}, "validation_examples": 10, "augmentation": augmentation}
    return write(folder, "cifar10_cnn", CNN, "accuracy", "own_files", {}, data=data)


def test_pictures_by_class_train_the_cnn_with_filters_of_their_own(tmp_path):
    record = trained(classes(tmp_path / "photos", PICTURES), tmp_path / "home")
    assert record["cost"]["parameters"] == 24 * 12 + 24 + 9 * (24 * 8 + 5 * 8 * 8) + 6 * 16 + 3 * 8  # three classes, inferred


def test_the_filters_decorrelate_patches_of_the_own_pictures(tmp_path):
    classes(tmp_path / "photos", PICTURES)
    facts = read("own_files", tmp_path / "photos" / "data.npz", tmp_path / "home").facts
    train = field(read("own_files", tmp_path / "photos" / "data.npz", tmp_path / "home"), "train", "image").astype(np.float64) / 255
    normal = (train - facts["mean"]) / facts["std"]
    patches = np.lib.stride_tricks.sliding_window_view(normal, (2, 2), axis=(1, 2)).reshape(-1, 12)
    np.testing.assert_allclose(patches.T @ patches / len(patches), facts["patch_covariance"], atol=1e-9)


def test_pictures_of_a_size_that_the_cnn_cannot_pool_are_refused(tmp_path, capsys):
    folder = classes(tmp_path / "large", np.repeat(np.repeat(PICTURES, 2, axis=1), 2, axis=2))
    assert "sides from 25 to 48; given ones leave 7x7 to pool" in refusal(folder, tmp_path / "home", capsys)


# --- restoration ------------------------------------------------------------------------------------------------------------------------

RESTORER = {"width": 8, "depth": 3, "sigma": 25, "upscale": 1, "norm": "batch", "activation": "relu"}


def photos(folder, sizes):
    folder.mkdir(parents=True)
    draw = np.random.default_rng(1)
    for i, (height, width) in enumerate(sizes):
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{i:02}.png")


def test_a_folder_of_pictures_of_any_sizes_trains_a_restorer(tmp_path):
    photos(tmp_path / "restore" / "photos", [(20 + i % 3, 25) for i in range(20)])
    for name, changes in {"denoise": {}, "enlarge": {"upscale": 2}}.items():
        folder = write(tmp_path / "restore", "bsd_denoise", {**RESTORER, **changes}, "psnr", "own_grey", {"path": "photos", "patch": 8})
        trained(folder, tmp_path / name, "++workload.loss.unit=25")


def test_no_picture_is_on_both_sides_of_a_cut_and_patches_lie_side_by_side(tmp_path):
    grey = np.arange(20 * 8 * 12).reshape(20, 8, 12) % 251
    np.savez(tmp_path / "grey.npz", image=grey.astype(np.uint8))
    dataset = read("own_grey", tmp_path / "grey.npz", tmp_path / "home", patch=4)
    assert [len(dataset.splits[split]) for split in ("train", "validation", "test")] == [16 * 6, 2, 2]
    held_out = {field(dataset, split, "image")[i].tobytes() for split in ("validation", "test") for i in range(2)}
    assert len(held_out) == 4
    whole = field(dataset, "train", "image").reshape(16, 2, 3, 4, 4).swapaxes(2, 3).reshape(16, 8, 12)
    assert {*held_out, *(picture.tobytes() for picture in whole)} == {picture.tobytes() for picture in grey.astype(np.uint8)}


def test_pictures_smaller_than_a_patch_or_none_at_all_are_refused(tmp_path):
    photos(tmp_path / "photos", [(20, 20)] * 12)
    with pytest.raises(DataError, match="a picture of 20 pixels a side; a patch has 44"):
        read("own_grey", tmp_path / "photos", tmp_path / "home")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        read("own_grey", tmp_path / "empty", tmp_path / "home")
    with pytest.raises(DataMissing, match="no file or folder"):
        read("own_grey", tmp_path / "gone", tmp_path / "home")


# --- translation ------------------------------------------------------------------------------------------------------------------------

TRANSLATOR = {"length": 12, "width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2, "expansion": 2, "activation": "relu"}
TRANSLATOR |= {"post_norm": False, "dropout": 0.0}


def sentences(path, pairs=SENTENCES):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"source": a, "target": b}) + "\n" for a, b in pairs), encoding="utf-8")


def translation(folder, **options):
    given = {"path": "pairs.jsonl", "vocabulary": 290, "length": 12, **options}
    return write(folder, "multi30k_transformer", TRANSLATOR, "token_loss", "own_pairs", given, "minimize")


def test_pairs_of_sentences_train_a_translator_and_are_translated_at_the_end(tmp_path):
    sentences(tmp_path / "pairs" / "pairs.jsonl")
    record = trained(translation(tmp_path / "pairs"), tmp_path / "home", "++workload.loss.label_smoothing=0.1")
    assert 0 <= record["result"]["test_measures_at_end"]["bleu"] <= 100


def test_tokens_are_those_of_the_sentences(tmp_path):
    sentences(tmp_path / "pairs.jsonl")
    dataset = read("own_pairs", tmp_path / "pairs.jsonl", tmp_path / "home", vocabulary=290, length=12)
    tokens = [token.encode("latin-1") for token in dataset.facts["vocabulary"]]
    found = [
        tuple(b"".join(tokens[token] for token in field(dataset, split, name)[i]).decode() for name in ("de", "en"))
        for split in ("train", "validation", "test")
        for i in range(len(dataset.splits[split]))
    ]
    assert sorted(found) == sorted(SENTENCES)


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        (SENTENCES, {"source": "german"}, "no column 'german'"),
        ([*SENTENCES, ("", "nothing")], {}, "row 20: a sentence is empty"),
        (SENTENCES, {"length": 3}, "are longer than the 1 tokens"),
        (SENTENCES[:4], {}, "cannot be cut"),
        (SENTENCES, {"vocabulary": 9000}, "the text gives at most"),
    ],
)
def test_what_is_no_pair_of_sentences_is_refused(tmp_path, pairs, options, message):
    sentences(tmp_path / "pairs.jsonl", pairs)
    with pytest.raises((DataError, ConfigError), match=message):
        read("own_pairs", tmp_path / "pairs.jsonl", tmp_path / "home", **{"vocabulary": 290, "length": 12, **options})


def test_text_in_another_encoding_and_sentences_longer_than_the_model_are_refused(tmp_path, capsys):
    sentences(tmp_path / "pairs" / "pairs.jsonl")
    folder = translation(tmp_path / "pairs", length=20)
    error = refusal(folder, tmp_path / "home", capsys, "++workload.loss.label_smoothing=0.1", "workload.model.length=4")
    assert "tokens is longer than the model's 4" in error
    (tmp_path / "pairs" / "pairs.jsonl").write_bytes('{"source": "Tür", "target": "door"}\n'.encode("latin-1"))
    assert "utf-8" in refusal(folder, tmp_path / "home", capsys).lower()


# --- graph classification ---------------------------------------------------------------------------------------------------------------

NETWORK = {"width": 8, "depth": 2, "dropout": 0.0, "activation": "relu", "virtual_node": True}


def ring(size, closed=True):
    edges = [[i, i + 1] for i in range(size - 1)] + ([[size - 1, 0]] if closed else [])
    return {"nodes": [[i % 3, 1] for i in range(size)], "edges": edges, "label": "ring" if closed else "chain"}


def graphs(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


RINGS = [ring(3 + i % 5, bool(i % 2)) for i in range(40)]


@pytest.mark.parametrize(("kinds", "metric"), [(2, "average_precision"), (3, "accuracy")])
def test_graphs_of_two_or_more_classes_train_a_graph_network(tmp_path, kinds, metric):
    lines = [{**graph, "label": i % kinds} for i, graph in enumerate(RINGS)]
    graphs(tmp_path / "rings" / "graphs.jsonl", lines)
    folder = write(tmp_path / "rings", "molhiv_gnn", NETWORK, metric, "own_graphs", {"path": "graphs.jsonl"})
    record = trained(folder, tmp_path / "home")
    assert set(record["result"]["test_measures_at_end"]) == {"roc_auc"}


def test_graphs_are_read_as_they_are_written(tmp_path):
    alone = {"nodes": [[2, 1]], "edges": [], "label": "chain"}
    joined = {"nodes": [[0, 0], [1, 1]], "edges": [[0, 1]], "edge_features": [[4]], "label": "chain"}
    graphs(tmp_path / "train.jsonl", [alone, joined, ring(4)])
    graphs(tmp_path / "test.jsonl", [ring(3)])
    dataset = read("own_graphs", tmp_path, tmp_path / "home", validation_fraction=0.0)
    assert dataset.facts == {"classes": 2, "class_names": ["chain", "ring"], "atom_values": [3, 2], "bond_values": [5]}
    assert field(dataset, "train", "atom_count").tolist() == [1, 2, 4] and field(dataset, "train", "bond_count").tolist() == [0, 1, 4]
    assert field(dataset, "train", "bonds")[1, 0].tolist() == [4] and field(dataset, "train", "label").tolist() == [0, 0, 1]
    assert field(dataset, "test", "ends")[0, :3].tolist() == [[0, 1], [1, 2], [2, 0]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({**ring(3), "edges": [[0, 7]]}, "an edge ends at node 7; the nodes are 0 to 2"),
        ({**ring(3), "nodes": []}, "without nodes"),
        ({**ring(3), "nodes": [[0.5], [1], [2]]}, "whole numbers from 0"),
        ({**ring(3), "nodes": [[0], [1, 2], [2]]}, "whole numbers from 0"),
        ({**ring(3), "nodes": [[0], [1], [2]]}, "from 1 to 2 features"),
        ({**ring(3), "edge_features": [[1]]}, "3 edges, but edge_features for 1"),
        ({"nodes": [[1]]}, "expected an object with nodes, edges, label"),
        ([1, 2], "expected an object"),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path, line, message):
    graphs(tmp_path / "graphs.jsonl", [*RINGS, line])
    with pytest.raises(DataError, match=message):
        read("own_graphs", tmp_path / "graphs.jsonl", tmp_path / "home")


def test_a_class_that_train_does_not_have_is_refused(tmp_path):
    graphs(tmp_path / "train.jsonl", RINGS)
    graphs(tmp_path / "test.jsonl", [{**ring(3), "label": "knot"}])
    with pytest.raises(DataError, match="'knot' is none of the 2 classes"):
        read("own_graphs", tmp_path, tmp_path / "home")


# --- image and text ---------------------------------------------------------------------------------------------------------------------

TOWERS = {"widths": [8, 8], "text_width": 8, "embedding": 8, "norm": "batch", "activation": "relu", "temperature": 0.1}
WORDS = ["a red kite", "a blue boat", "one green leaf", "the grey stone", "an old wooden chair"]


def captions(folder, rows, side=32):
    photos(folder / "photos", [(40, 36)] * len(rows))
    lines = [{"file": f"photos/{i:02}.png", **row} for i, row in enumerate(rows)]
    graphs(folder / "captions.jsonl", lines)
    options = {"path": "captions.jsonl", "vocabulary": 280, "length": 16, "side": side}
    augmentation = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    data = {"source": "own_captions", "options": options, "validation_examples": 0, "augmentation": augmentation}
    return write(folder, "emoji_clip", TOWERS, "recall_at_1", "own_captions", options, data=data)


@pytest.mark.parametrize("labelled", [True, False])
def test_pictures_with_captions_train_two_towers(tmp_path, labelled):
    rows = [{"caption": WORDS[i % 5], **({"label": "thing" if i % 2 else "plant"} if labelled else {})} for i in range(40)]
    record = trained(captions(tmp_path / "album", rows), tmp_path / "home")
    assert set(record["result"]["test_measures_at_end"]) == ({"zero_shot_accuracy"} if labelled else set())


def test_equal_captions_share_a_group(tmp_path):
    captions(tmp_path / "album", [{"caption": WORDS[i % 5]} for i in range(40)])
    dataset = read("own_captions", tmp_path / "album" / "captions.jsonl", tmp_path / "home", vocabulary=280, length=16)
    tokens, groups = (np.concatenate([field(dataset, split, name) for split in dataset.splits]) for name in ("tokens", "emoji"))
    assert sorted(np.unique(groups)) == list(range(5))
    assert all((tokens[i] == tokens[j]).all() == (groups[i] == groups[j]) for i in range(40) for j in range(40))


def test_captions_without_pictures_and_pictures_of_an_odd_size_are_refused(tmp_path, capsys):
    rows = [{"caption": WORDS[i % 5]} for i in range(20)]
    folder = captions(tmp_path / "album", rows, side=31)
    assert "pictures of 31x31: expected even sides of at least 4" in refusal(folder, tmp_path / "home", capsys)
    (folder / "photos" / "03.png").unlink()
    assert "03.png: cannot be read" in refusal(folder, tmp_path / "home", capsys)
    graphs(folder / "captions.jsonl", [{"file": "photos/01.png", "caption": " "}])
    assert "row 0: the caption is empty" in refusal(folder, tmp_path / "home", capsys)
    graphs(folder / "captions.jsonl", [{"file": "photos/01.png", "text": "a"}])
    assert "expected columns file (or arrays image) and caption" in refusal(folder, tmp_path / "home", capsys)


# --- every family -----------------------------------------------------------------------------------------------------------------------


def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path, capsys):
    model = {"width": 4, "depth": 1, "fold": 2, "norm": "group", "activation": "relu"}
    (tmp_path / "cells").mkdir()
    np.savez(tmp_path / "cells" / "data.npz", image=PICTURES, mask=np.zeros((60, 16, 16), np.int16))
    folder = write(tmp_path / "cells", "nuclei_unet", model, "iou", "own_files", {"path": "data.npz"}, held_out=10, loss={"dice": 1.0})
    assert "task 'nuclei_unet' cannot take data of own_files" in refusal(folder, tmp_path / "home", capsys)


def test_an_option_that_the_model_needs_is_named(tmp_path, capsys):
    graphs(tmp_path / "rings" / "graphs.jsonl", RINGS)
    model = {name: value for name, value in NETWORK.items() if name != "width"}
    folder = write(tmp_path / "rings", "molhiv_gnn", model, "average_precision", "own_graphs", {"path": "graphs.jsonl"})
    assert "'width'" in refusal(folder, tmp_path / "home", capsys)


def test_a_batch_larger_than_the_data_and_an_empty_split_are_refused(tmp_path, capsys):
    graphs(tmp_path / "rings" / "train.jsonl", RINGS)
    folder = write(tmp_path / "rings", "molhiv_gnn", NETWORK, "average_precision", "own_graphs", {"path": "."}, batch_size=100)
    assert "batch_size: expected at most the pool's" in refusal(folder, tmp_path / "home", capsys)
    (folder / "test.jsonl").write_text("\n")
    assert "test holds no examples" in refusal(folder, tmp_path / "home", capsys)
