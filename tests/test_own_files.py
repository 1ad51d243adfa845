"""A user's own files: every form that the source reads, and what it refuses."""

from __future__ import annotations

import gzip
import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from timetrial.data_pipelines.dataset import FieldKind, open_dataset, prepare
from timetrial.data_pipelines.sources import get_source
from timetrial.suite.errors import ConfigError, DataError, DataMissing

OWN_FILES = get_source("own_files")
LABELS = np.array([7, 3, 3, 7, 3, 7, 3, 7, 3, 7])
ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)
PICTURES = np.random.default_rng(0).integers(0, 256, (10, 5, 4, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


@pytest.fixture
def read(tmp_path):
    return lambda path, **options: prepare(OWN_FILES, {"path": str(path), **options}, tmp_path / "home")


def values(dataset, split, name):
    return np.asarray(dataset.splits[split].fields[name].values)


def classes_of(dataset):
    """The facts but for statistics of pictures."""
    return {name: fact for name, fact in dataset.facts.items() if name not in ("mean", "std", "patch_covariance")}


def encoded(field):
    """The files of a field of encoded pictures."""
    return [field.values[a:b].tobytes() for a, b in zip(field.offsets[:-1], field.offsets[1:], strict=True)]


def kinds(dataset):
    return {name: field.kind for name, field in dataset.splits["train"].fields.items()}


# --- arrays -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["npz", "folders of npy"])
def test_arrays_keep_their_order_and_names(folder, read, form):
    for split, part in {"train": slice(0, 6), "valid": slice(6, 8), "test": slice(8, 10)}.items():
        arrays = {"row": ROWS[part], "label": LABELS[part], "count": LABELS[part].astype(np.int8), "image": PICTURES[part]}
        if form == "npz":
            np.savez(folder / f"{split}.npz", **arrays)
        else:
            (folder / split).mkdir()
            for name, array in arrays.items():
                np.save(folder / split / f"{name}.npy", array)
    dataset = read(folder)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "validation": 2, "test": 2}
    assert kinds(dataset) == {"label": FieldKind.INT, "row": FieldKind.ARRAY, "count": FieldKind.INT, "image": FieldKind.IMAGE}
    np.testing.assert_array_equal(values(dataset, "train", "row"), ROWS[:6])
    np.testing.assert_array_equal(values(dataset, "test", "image"), PICTURES[8:])
    np.testing.assert_array_equal(values(dataset, "train", "label"), LABELS[:6] == 7)  # 3 and 7 are classes 0 and 1
    assert classes_of(dataset) == {"classes": 2, "class_names": ["3", "7"]}


def test_grey_pictures_become_three_channels(folder, read):
    np.savez(folder / "train.npz", image=PICTURES[..., 0])
    image = values(read(folder, test_fraction=0.1), "train", "image")
    assert image.shape == (9, 5, 4, 3)
    assert np.all(image == image[..., :1])


def test_fractions_are_no_classes(folder, read):
    np.savez(folder / "train.npz", row=ROWS, label=ROWS[:, 0] / 3)
    dataset = read(folder / "train.npz")
    assert values(dataset, "train", "label").shape == (8, 1)
    assert dataset.facts == {}


def test_idx_files_are_read_as_mnist_publishes_them(folder, read):
    def idx(values):
        return b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()

    grey, labels = PICTURES[..., 0], (LABELS == 7).astype(np.uint8)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(grey[:6])))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels[:6])))
    (folder / "t10k-images.idx3-ubyte").write_bytes(idx(grey[6:]))
    (folder / "t10k-labels.idx1-ubyte").write_bytes(idx(labels[6:]))
    dataset = read(folder)
    np.testing.assert_array_equal(values(dataset, "train", "image"), np.repeat(grey[:6, ..., None], 3, axis=3))
    np.testing.assert_array_equal(values(dataset, "test", "label"), labels[6:])
    for damaged in (b"", b"\0\0\x08\x03", idx(grey)[:-1], idx(grey) + b"!", b"PNG" + idx(grey)[3:]):
        (folder / "t10k-images.idx3-ubyte").write_bytes(damaged)
        with pytest.raises(DataError, match="t10k-images"):
            read(folder)


# --- pictures ---------------------------------------------------------------------------------------------------------------------------


def test_a_folder_of_pictures_is_sorted_by_class(folder, read):
    for split, part in {"train": range(6), "test": range(6, 10)}.items():
        for i in part:
            path = folder / split / ("cat" if LABELS[i] == 3 else "dog") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PICTURES[i]).save(path)
    dataset = read(folder)
    assert classes_of(dataset) == {"classes": 2, "class_names": ["cat", "dog"]}
    np.testing.assert_array_equal(values(dataset, "train", "label"), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(values(dataset, "train", "image"), PICTURES[[1, 2, 4, 0, 3, 5]])


def test_pictures_of_many_sizes_must_be_jpeg(folder, read):
    paths = []
    for i in range(5):
        for name in ("a", "b"):
            (folder / name).mkdir(exist_ok=True)
            paths.append(folder / name / f"{i}.jpg")
            Image.fromarray(np.tile(PICTURES[i], (1, i + 2, 1))).save(paths[-1])
    dataset = read(folder)
    train = dataset.splits["train"].fields["image"]
    assert train.kind is FieldKind.JPEG
    assert (len(train), len(dataset.splits["test"])) == (8, 2)
    pixels = [np.asarray(Image.open(io.BytesIO(file))).reshape(-1, 3) / 255 for file in encoded(train)]
    mean = np.mean([picture.mean(axis=0) for picture in pixels], axis=0)
    np.testing.assert_allclose(dataset.facts["mean"], mean)  # every picture counts as much, however large
    np.testing.assert_allclose(dataset.facts["std"], np.sqrt(np.mean([(p**2).mean(axis=0) for p in pixels], axis=0) - mean**2))
    contents = {path.read_bytes() for path in paths}
    assert contents.issuperset(encoded(train))
    Image.fromarray(PICTURES[0]).save(folder / "a" / "9.png")
    with pytest.raises(DataError, match="pictures of 6 sizes"):
        read(folder)


def test_a_jpeg_that_is_cut_off_is_told_before_any_training(folder, read):
    for i in range(6):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(np.tile(PICTURES[i], (9, i + 2, 1))).save(folder / "ab"[i % 2] / f"{i}.jpg")
    for path in folder.glob("*/*.jpg"):
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="picture 0 of train cannot be read"):
        read(folder, test_fraction=0.34)


# --- rows -------------------------------------------------------------------------------------------------------------------------------

TABLE = [
    {"age": 30, "height": 1.5, "town": "Ulm", "text": "grüß dich", "label": "yes"},
    {"age": 40, "height": None, "town": "Bonn", "text": "", "label": "no"},
    {"age": 50, "height": 1.75, "town": None, "text": "b" * 50, "label": "yes"},
    {"age": 60, "height": 2.0, "town": "Ulm", "text": "c", "label": "no"},
]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_rows_become_numbers_categories_and_text(folder, read, form):
    import pandas as pd

    tables = {"train": TABLE, "test": [{**TABLE[0], "town": "Rome", "height": 1.0}]}
    for split, rows in tables.items():
        frame = pd.DataFrame(rows)
        if form == "csv":
            frame.to_csv(folder / f"{split}.csv", index=False)
        elif form == "jsonl":
            (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
        else:
            frame.to_parquet(folder / f"{split}.parquet")
    dataset = read(folder, bytes=10)
    assert dataset.facts == {
        "classes": 2,
        "class_names": ["no", "yes"],
        "number_names": ["age", "height"],
        "number_mean": pytest.approx([45.0, 1.75]),
        "number_std": pytest.approx([np.std([30, 40, 50, 60]), np.std([1.5, 1.75, 2.0])]),
        "category_names": ["town"],
        "category_sizes": [3],
    }
    assert values(dataset, "train", "numbers").tolist() == [[30, 1.5], [40, 0], [50, 1.75], [60, 2]]
    assert values(dataset, "train", "missing").tolist() == [[0, 0], [0, 1], [0, 0], [0, 0]]
    assert values(dataset, "train", "categories").tolist() == [[2], [1], [0], [2]]
    assert values(dataset, "test", "categories").tolist() == [[0]]  # Rome is not in train
    assert values(dataset, "train", "label").tolist() == [1, 0, 1, 0]
    assert values(dataset, "train", "length").tolist() == [10, 0, 10, 1]
    assert bytes(values(dataset, "train", "text")[0][:10]).decode() == "grüß dic"


def test_a_file_of_rows_alone_is_cut_for_a_test_split(folder, read):
    lines = [json.dumps({"text": f"line {i}", "label": i % 2}) for i in range(20)]
    (folder / "all.jsonl").write_text("\n".join(lines))
    dataset = read(folder / "all.jsonl", test_fraction=0.3)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 14, "test": 6}
    assert np.bincount(values(dataset, "test", "label")).tolist() == [3, 3]


# --- changes and refusals ---------------------------------------------------------------------------------------------------------------


def test_changed_files_are_another_dataset(folder, read, tmp_path):
    np.savez(folder / "train.npz", row=ROWS)
    options = {"path": str(folder)}
    before = read(folder)
    assert open_dataset(OWN_FILES, options, tmp_path / "home").digest == before.digest
    np.savez(folder / "train.npz", row=ROWS + 1, more=ROWS)
    with pytest.raises(DataMissing, match="timetrial prepare"):
        open_dataset(OWN_FILES, options, tmp_path / "home")
    assert read(folder).digest != before.digest


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train.npz": {"row": ROWS, "label": LABELS}, "test.npz": {"row": ROWS, "label": LABELS + 1}},
            "test has the label .*4.*none of the 2",
        ),
        ({"train.npz": {"row": ROWS, "label": LABELS}, "test.npz": {"row": ROWS}}, r"\['test'\] has no 'label'"),
        ({"train.npz": {"row": ROWS}, "test.npz": {"other": ROWS}}, r"test has \['other'\], train has \['row'\]"),
        ({"train.npz": {"row": ROWS, "label": LABELS[:3]}, "test.npz": {"row": ROWS, "label": LABELS}}, "unequal length"),
        ({"train.npz": {"row": ROWS, "label": ROWS}}, "not one value an example"),
        ({"test.npz": {"row": ROWS}}, "no train split"),
        ({"train.npz": {"row": ROWS}, "train.csv": "a\n1\n"}, "several files for one split"),
        ({"train.npz": {"row": ROWS}, "test.csv": "row\n1\n"}, "tables beside other forms"),
        ({"train.npz": {"row": np.array([{"a": 1}])}}, "train.npz: cannot be read"),
        ({"train.npz": b"no archive"}, "train.npz: cannot be read"),
        ({"train.parquet": b"no table"}, "train.parquet: cannot be read"),
        ({"train.csv": b"text\n\xff\xfe\n"}, "train.csv: cannot be read.*utf-8"),
        ({"train.jsonl": '{"a": 1}\n{"a": \n'}, "train.jsonl: cannot be read"),
        ({"train.csv": "a,b\n"}, "no examples"),
        ({"train.csv": ""}, "train.csv: cannot be read"),
        ({"train.csv": "a,b\n1,2\n1,2,3,4\n"}, "train.csv: cannot be read.* line 3"),
        ({"train.csv": "a\n1\n2\n", "test.csv": "a\nx\n"}, "'a' holds numbers in train and words in test"),
        ({"notes.txt": "nothing"}, "holds no FIELD.npy, no pictures and no CLASS/picture"),
        ({"train.txt": "nothing"}, "train.txt: expected a file ending in"),
        ({"train/cat/a.png": b"no picture"}, "own_files: its files cannot be decoded: cannot identify"),
    ],
)
def test_files_that_make_no_dataset_are_refused_in_one_line(folder, read, files, message):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            np.savez(path, **content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        read(folder)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_cut_is_refused(folder, read):
    np.savez(folder / "train.npz", row=ROWS)
    with pytest.raises(ConfigError, match=r"no test split is given, and option test_fraction 1\.5 cannot be cut"):
        read(folder, test_fraction=1.5)


@pytest.mark.parametrize("path", ["", "/nowhere/at/all"])
def test_a_path_that_is_not_there_is_named(read, path):
    with pytest.raises(DataMissing, match=f"there is no file or folder '{path}'"):
        read(path)
