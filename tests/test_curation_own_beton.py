"""``timetrial curate`` on FFCV files: read by what their fields are, pruned byte for byte, resumed; and `.beton` made of other inputs."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

import timetrial
from timetrial.data_pipelines import own_beton
from timetrial.data_pipelines.beton import write_beton
from timetrial.data_pipelines.beton_file import BetonColumn, BetonFile
from timetrial.data_pipelines.curation.rewrite import gathered
from timetrial.data_pipelines.fields import Field, FieldKind
from timetrial.data_pipelines.own_beton import open_own_data
from timetrial.data_pipelines.own_curation import curate_own_data
from timetrial.data_pipelines.own_data import read_own_data
from timetrial.suite import cli
from timetrial.suite.errors import ConfigError, DataError, UnknownName, UserError

from .jpegs import jpeg_field
from .test_curation_own_data import paint, vectors


def pictures(count=40, copies=8):
    """Different patterns, the last ``copies`` of which repeat the first ones, as raw pictures and as JPEG of another size."""
    rng = np.random.default_rng(0)
    raw = np.kron(rng.integers(0, 256, (count, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    raw[count - copies :] = raw[:copies]
    return raw


def picture_file(path, kind):
    raw = pictures()
    field = Field(FieldKind.IMAGE, raw) if kind == "raw" else jpeg_field([jpeg(picture) for picture in raw])
    fields = {"label": Field(FieldKind.INT, np.arange(len(raw)) % 3), "image": field}
    write_beton(path, fields)
    return fields


def jpeg(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((48, 40)).save(stream, "JPEG", quality=95)
    return np.frombuffer(stream.getvalue(), np.uint8)


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: cli.main(["curate", *map(str, words), "--home", str(tmp_path / "home")])


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_a_file_of_pictures_is_deduplicated_and_its_other_fields_come_along(command, tmp_path, kind, capsys):
    fields = picture_file(tmp_path / "all.beton", kind)
    assert command("all.beton", "--method", "near_dedup", "threshold=0.98", "--out", "kept", "--out-beton", "kept.beton") == 0
    assert "kept 32 of 40, dropped 8" in capsys.readouterr().out
    ids = np.load(tmp_path / "kept" / "ids.npy")
    assert ids.tolist() == list(range(32))
    write_beton(tmp_path / "expected.beton", gathered(fields, ids))
    assert (tmp_path / "kept.beton").read_bytes() == (tmp_path / "expected.beton").read_bytes()
    summary = json.loads((tmp_path / "kept" / "summary.json").read_text())
    assert summary["spans"]["rewrite"] > 0
    assert summary["seconds"] >= sum(summary["spans"].values())


def test_vectors_in_a_file_are_those_of_the_array(tmp_path):
    rows = vectors()
    np.save(tmp_path / "v.npy", rows)
    write_beton(tmp_path / "v.beton", {"x": Field(FieldKind.ARRAY, rows), "id": Field(FieldKind.INT, np.arange(len(rows)))})
    own = open_own_data(tmp_path / "v.beton", tmp_path / "s")
    assert (own.kind, own.names[3]) == ("vectors", "row 3")
    assert np.array_equal(own.pool.field("x"), read_own_data(tmp_path / "v.npy", tmp_path / "t").pool.field("x"))
    assert curate_own_data(own, "near_dedup").selection.ids.tolist() == list(range(360))


def test_memory_is_kept_to_for_a_file_as_for_an_array(tmp_path):
    write_beton(tmp_path / "v.beton", {"x": Field(FieldKind.ARRAY, vectors())})
    own = open_own_data(tmp_path / "v.beton", tmp_path / "s")
    assert isinstance(own.pool.field("x").base, np.memmap)  # nothing of it lies in memory
    with pytest.raises(ConfigError, match="holds about"):
        curate_own_data(own, "prototypes", memory_bytes=10_000)
    assert len(curate_own_data(own, "near_dedup", memory_bytes=10_000).selection) == 360


def test_texts_that_ffcv_wrote_are_deduplicated(tmp_path, monkeypatch):
    texts = ["one two three", "four five six", "one two three", "  ", "seven"]
    monkeypatch.setattr(own_beton, "BetonFile", lambda path: Told(texts))
    (tmp_path / "t.beton").write_bytes(b"stands in for FFCV's BytesField")
    own = open_own_data(tmp_path / "t.beton", tmp_path / "s")
    assert (own.kind, own.unreadable) == ("texts", (("row 3", "empty"),))
    assert curate_own_data(own, "exact_dedup").selection.ids.tolist() == [0, 1, 4]


class Told:
    """A file with one field of texts."""

    def __init__(self, texts):
        self.texts, nothing = texts, np.zeros(len(texts), np.int64)
        self.columns = {"text": BetonColumn("text", "bytes", nothing, nothing, nothing, "ptr")}

    def __len__(self):
        return len(self.texts)

    def text(self, name, row):
        return self.texts[row]


def test_an_interrupted_reading_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(own_beton, "BLOCK", 8)
    picture_file(tmp_path / "p.beton", "jpeg")
    seen = []

    def stop(stage, share):
        if share >= 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_own_data(tmp_path / "p.beton", tmp_path / "s", on_progress=stop)
    scaled = own_beton._scaled
    monkeypatch.setattr(own_beton, "_scaled", lambda file, name, start, *rest: seen.append(start) or scaled(file, name, start, *rest))
    own = open_own_data(tmp_path / "p.beton", tmp_path / "s")
    assert seen == [24, 32]
    assert np.array_equal(own.pool.field("image"), open_own_data(tmp_path / "p.beton", tmp_path / "fresh").pool.field("image"))
    seen.clear()
    open_own_data(tmp_path / "p.beton", tmp_path / "s")
    assert seen == []


def test_pictures_that_cannot_be_decoded_are_listed_and_left_out(tmp_path):
    fields = picture_file(tmp_path / "p.beton", "jpeg")
    at = int(BetonFile(tmp_path / "p.beton").columns["image"].starts[5])
    content = bytearray((tmp_path / "p.beton").read_bytes())
    content[at : at + 400] = bytes(400)
    (tmp_path / "p.beton").write_bytes(content)
    own = open_own_data(tmp_path / "p.beton", tmp_path / "s")
    assert own.unreadable == (("row 5", "could not be decoded"),)
    assert len(own.pool) == len(fields["label"]) - 1


def test_a_folder_of_pictures_becomes_an_ffcv_file_with_jpeg_files_as_they_are(tmp_path):
    folder = paint(tmp_path / "photos")
    result = timetrial.curate(folder, "random", keep_fraction=0.7, home=tmp_path / "home", out_beton=tmp_path / "kept.beton")
    file, names = BetonFile(tmp_path / "kept.beton"), result.data.names
    ids = file.numbers("original_id", np.arange(len(file)))
    assert ids.tolist() == result.selection.ids.tolist()
    for row, i in enumerate(ids.tolist()):
        if names[i].endswith(".jpg"):
            assert file.data("image", row).tobytes() == (folder / names[i]).read_bytes()
        else:
            with Image.open(folder / names[i]) as picture:
                assert np.abs(file.pixels("image", row).astype(int) - np.asarray(picture)).mean() < 8
    assert not list((tmp_path / "home").rglob("encoded"))


def test_vectors_become_an_ffcv_file(tmp_path):
    np.save(tmp_path / "v.npy", vectors())
    timetrial.curate(tmp_path / "v.npy", home=tmp_path / "home", out_beton=tmp_path / "kept.beton")
    file = BetonFile(tmp_path / "kept.beton")
    assert np.array_equal(file.numbers("x", np.arange(len(file))), vectors()[:360])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["two.beton"], "--column is one of one, two"),
        (["two.beton", "--column", "three"], "unknown field of the .beton 'three'"),
        (["two.beton", "--column", "label"], "neither pictures, vectors nor texts"),
        (["labels.beton"], "holds no pictures, vectors or texts"),
        (["two.beton", "--column", "one", "--out-beton", "two.beton"], "is the input"),
        (["two.beton", "--column", "one", "--out-beton", "kept.ffcv"], "expected the name of a .beton file"),
        (["t.txt", "--method", "exact_dedup", "--out-beton", "kept.beton"], "texts are not written as .beton"),
        (["broken.beton"], "truncated or not an FFCV file"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing_behind(command, tmp_path, capsys, words, message):
    label = Field(FieldKind.INT, np.arange(9))
    array = Field(FieldKind.ARRAY, np.random.default_rng(0).random((9, 3), dtype=np.float32))
    write_beton(tmp_path / "two.beton", {"label": label, "one": array, "two": array})
    write_beton(tmp_path / "labels.beton", {"label": label})
    (tmp_path / "broken.beton").write_bytes(b"no")
    (tmp_path / "t.txt").write_text("one\ntwo\n")
    before = (tmp_path / "two.beton").read_bytes()
    assert command(*words) == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "home") == ["broken.beton", "labels.beton", "t.txt", "two.beton"]
    assert (tmp_path / "two.beton").read_bytes() == before


def test_errors_have_their_kind(tmp_path):
    (tmp_path / "x.beton").write_bytes(bytes(100))
    with pytest.raises(DataError):
        open_own_data(tmp_path / "x.beton", tmp_path)
    with pytest.raises(UserError, match="no such file"):
        open_own_data(tmp_path / "y.beton", tmp_path)
    write_beton(tmp_path / "z.beton", {"label": Field(FieldKind.INT, np.arange(3))})
    with pytest.raises(UnknownName):
        open_own_data(tmp_path / "z.beton", tmp_path, column="x")
