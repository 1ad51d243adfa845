"""Prepared datasets: whole or not there, verified before use, the same for every process and machine."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.data_pipelines import dataset as dataset_module
from timetrial.data_pipelines import integrity
from timetrial.data_pipelines.dataset import Decoded, Field, FieldKind, Source, open_dataset, prepare
from timetrial.data_pipelines.splits import shuffled_ids, validation_ids
from timetrial.suite.errors import ChecksumMismatch, ConfigError, DataError, DataMissing, UnknownName

IMAGES = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
LABELS = np.array([0, 1, 2, 0, 1, 2])
ROWS = np.linspace(0, 1, 6 * 5, dtype=np.float32).reshape(6, 5)


def decode(paths, options):
    fields = {
        "image": Field(FieldKind.IMAGE, IMAGES),
        "label": Field(FieldKind.INT, LABELS + options["shift"]),
        "row": Field(FieldKind.ARRAY, ROWS),
    }
    return Decoded(
        {"train": fields, "test": {name: Field(f.kind, f.values[:2]) for name, f in fields.items()}}, {"classes": 3, "names": ["a", "b"]}
    )


def toy(decode=decode, **changes):
    about = {"name": "toy", "version": 1, "licence": "none", "citation": "none", "files": (), "decode": decode, "options": {"shift": 0}}
    return Source(**about | changes)


TOY = toy()


@pytest.fixture(autouse=True)
def without_mirror(monkeypatch):
    monkeypatch.delenv("TIMETRIAL_MIRROR", raising=False)


@pytest.fixture(params=["ffcv", "no ffcv"])
def ffcv(request, monkeypatch):
    """Both kinds of machine. FFCV files are written without FFCV, so that its absence and presence can be played anywhere."""
    monkeypatch.setattr(dataset_module, "ffcv_available", lambda: request.param == "ffcv")
    return request.param == "ffcv"


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def data_files(home):
    """Everything in the home but the lock."""
    return [name for name in files_in(home) if not name.endswith(".lock")]


def folder_of(home):
    (folder,) = (home / "data").glob("toy@*")
    return folder


# --- preparing and opening --------------------------------------------------------------------------------------------------------------


def test_a_prepared_dataset_opens_as_it_was_decoded(tmp_path, ffcv):
    prepare(TOY, {}, tmp_path)
    dataset = open_dataset(TOY, {}, tmp_path)
    assert (dataset.name, dataset.version) == ("toy", 1)
    assert dataset.facts == {"classes": 3, "names": ["a", "b"]}
    assert list(dataset.splits) == ["train", "test"]
    train = dataset.splits["train"]
    assert (len(train), len(dataset.splits["test"])) == (6, 2)
    for name, expected in {"image": IMAGES, "label": LABELS, "row": ROWS}.items():
        values = train.fields[name].values
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == expected.dtype
        assert isinstance(values, np.memmap)
        assert not values.flags.writeable
    assert (train.beton is not None and train.beton.is_file()) == ffcv


def test_encoded_pictures_keep_their_borders(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "ffcv_available", lambda: False)
    encoded = Field(FieldKind.JPEG, np.arange(10, dtype=np.uint8), np.array([0, 3, 3, 10]))
    source = toy(lambda paths, options: Decoded({"train": {"image": encoded}}, {}))
    image = prepare(source, {}, tmp_path).splits["train"].fields["image"]
    assert len(image) == 3
    np.testing.assert_array_equal(image.values, encoded.values)
    np.testing.assert_array_equal(image.offsets, encoded.offsets)


def test_what_is_not_prepared_names_the_command(tmp_path):
    with pytest.raises(DataMissing, match=r"dataset toy@1 .*timetrial prepare"):
        open_dataset(TOY, {}, tmp_path)
    assert files_in(tmp_path) == []


def test_preparing_twice_decodes_once(tmp_path, ffcv):
    decoded = []
    source = toy(lambda paths, options: decoded.append(1) or decode(paths, options))
    first, second = prepare(source, {}, tmp_path), prepare(source, {}, tmp_path)
    assert len(decoded) == 1
    assert first.digest == second.digest


def test_the_digest_is_of_the_content(tmp_path, monkeypatch):
    def digest(home, source, ffcv, **options):
        monkeypatch.setattr(dataset_module, "ffcv_available", lambda: ffcv)
        return prepare(source, options, tmp_path / home).digest

    base = digest("a", TOY, True)
    assert digest("b", TOY, True) == base
    assert digest("c", TOY, False) == base  # with or without FFCV files
    others = {
        digest("d", TOY, False, shift=1),
        digest("e", toy(version=2), False),
        digest("f", toy(lambda paths, options: Decoded(decode(paths, options).splits, {"classes": 4})), False),
        digest("g", toy(lambda paths, options: Decoded({"train": decode(paths, options).splits["train"]}, {})), False),
    }
    assert len(others | {base}) == 5


def test_ffcv_files_are_added_when_ffcv_arrives(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "ffcv_available", lambda: False)
    before = prepare(TOY, {}, tmp_path)
    monkeypatch.setattr(dataset_module, "ffcv_available", lambda: True)
    after = prepare(toy(decode=None), {}, tmp_path)  # from the arrays: nothing is fetched or decoded again
    assert before.splits["train"].beton is None
    assert all(split.beton.is_file() for split in after.splits.values())
    assert after.digest == before.digest


def test_options_have_their_own_datasets(tmp_path, ffcv):
    for shift in (0, 5):
        prepare(TOY, {"shift": shift}, tmp_path)
    np.testing.assert_array_equal(open_dataset(TOY, {"shift": 5}, tmp_path).splits["train"].fields["label"].values, LABELS + 5)
    np.testing.assert_array_equal(open_dataset(TOY, {}, tmp_path).splits["train"].fields["label"].values, LABELS)


@pytest.mark.parametrize("act", [prepare, open_dataset])
def test_options_are_checked_before_anything_is_touched(tmp_path, act):
    with pytest.raises(UnknownName, match="did you mean 'shift'"):
        act(TOY, {"shfit": 1}, tmp_path)
    with pytest.raises(ConfigError, match="option shift expected int, given str '1'"):
        act(TOY, {"shift": "1"}, tmp_path)
    assert files_in(tmp_path) == []


# --- what a source may not give ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no examples"),
        ({"row": Field(FieldKind.ARRAY, np.zeros((0, 3)))}, "no examples"),
        ({"row": Field(FieldKind.ARRAY, ROWS), "label": Field(FieldKind.INT, LABELS[:5])}, "unequal length: .*'row': 6, 'label': 5"),
        ({"label": Field(FieldKind.INT, LABELS.astype(np.int32))}, r"'label' of kind int cannot be int32 \[6\]"),
        ({"image": Field(FieldKind.IMAGE, IMAGES[..., 0])}, r"'image' of kind image cannot be uint8 \[6, 4, 4\]"),
        ({"image": Field(FieldKind.IMAGE, IMAGES.astype(np.float32))}, "cannot be float32"),
        ({"row": Field(FieldKind.ARRAY, np.array([["a"], ["b"]]))}, "'row' of kind array cannot be <U1"),
        ({"row": Field(FieldKind.ARRAY, np.array([[None]]))}, "cannot be object"),
        ({"image": Field(FieldKind.JPEG, np.zeros(3, np.uint8))}, "'image' of kind jpeg"),
        ({"../up": Field(FieldKind.INT, LABELS)}, "'../up' is no name"),
        ({"seventeen_letters": Field(FieldKind.INT, LABELS)}, "is no name"),
    ],
)
def test_fields_that_cannot_be_served_are_refused(tmp_path, fields, message):
    with pytest.raises(DataError, match=f"toy, split 'train': .*{message}"):
        prepare(toy(lambda paths, options: Decoded({"train": fields}, {})), {}, tmp_path)
    assert data_files(tmp_path) == []


# --- damage -----------------------------------------------------------------------------------------------------------------------------


def flip(path, position):
    """Change one bit in place and set the time of the last write back, as a failing disk would."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


EVERY_FILE = [
    "manifest.json",
    *(f"{split}{rest}" for split in ("train", "test") for rest in (".beton", "/image.npy", "/label.npy", "/row.npy")),
]


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A home with the toy dataset, FFCV files included, verified and remembered as such."""
    monkeypatch.setattr(dataset_module, "ffcv_available", lambda: True)
    monkeypatch.setattr(integrity, "_SETTLED_NS", 0)
    prepare(TOY, {}, tmp_path)
    assert files_in(folder_of(tmp_path)) == sorted([*EVERY_FILE, "verified.json"])
    return tmp_path


@pytest.mark.parametrize("name", EVERY_FILE)
@pytest.mark.parametrize("position", [0, -1])
def test_a_flipped_bit_is_refused_and_preparing_again_mends_it(whole, name, position):
    digest = open_dataset(TOY, {}, whole).digest
    flip(folder_of(whole) / name, position)
    with pytest.raises(DataError, match=f"{name} ?.*timetrial prepare|{name}: expected"):
        open_dataset(TOY, {}, whole)
    assert prepare(TOY, {}, whole).digest == digest
    assert open_dataset(TOY, {}, whole).digest == digest


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_truncated_file_is_refused(whole, name):
    path = folder_of(whole) / name
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match=name):
        open_dataset(TOY, {}, whole)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_missing_file_is_refused(whole, name):
    (folder_of(whole) / name).unlink()
    with pytest.raises(DataMissing if name == "manifest.json" else DataError, match="timetrial prepare"):
        open_dataset(TOY, {}, whole)


def test_a_file_of_another_dataset_is_refused(whole):
    prepare(TOY, {"shift": 1}, whole)
    ours, theirs = (whole / "data" / open_folder(TOY, options, whole) for options in ({}, {"shift": 1}))
    shutil.copy2(theirs / "train.beton", ours / "train.beton")
    with pytest.raises(ChecksumMismatch, match=r"train\.beton: expected sha256"):
        open_dataset(TOY, {}, whole)


def test_the_folder_of_another_dataset_is_refused(whole):
    prepare(TOY, {"shift": 1}, whole)
    ours, theirs = (whole / "data" / open_folder(TOY, options, whole) for options in ({}, {"shift": 1}))
    shutil.rmtree(ours)
    shutil.copytree(theirs, ours)
    with pytest.raises(DataError, match=r"manifest\.json: expected .*'shift': 0.* found .*'shift': 1"):
        open_dataset(TOY, {}, whole)


def open_folder(source, options, home):
    return open_dataset(source, options, home).splits["train"].beton.parent.name


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"seal": 1}', "\x00\xff", '{"seal": "x", "splits": 3}'])
def test_a_manifest_of_anything_else_is_refused(whole, content):
    (folder_of(whole) / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=r"manifest\.json"):
        open_dataset(TOY, {}, whole)


# --- digests remembered by file identity ------------------------------------------------------------------------------------------------


def remembered(folder, name, digest):
    """Put a false digest into the stamp: whoever trusts the stamp returns it."""
    stamp = json.loads((folder / "verified.json").read_text())
    stamp[name][-1] = digest
    (folder / "verified.json").write_text(json.dumps(stamp))


def test_a_file_is_hashed_once_and_again_whenever_its_identity_differs(tmp_path, monkeypatch):
    monkeypatch.setattr(integrity, "_SETTLED_NS", 0)
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    truth = integrity.digests(tmp_path, ["file"])["file"]
    remembered(tmp_path, "file", "from the stamp")
    assert integrity.digests(tmp_path, ["file"]) == {"file": "from the stamp"}
    before = path.stat()
    path.write_bytes(b"abc")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert integrity.digests(tmp_path, ["file"]) == {"file": truth}


def test_a_file_written_just_now_is_not_remembered(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    integrity.digests(tmp_path, ["file"])
    assert not (tmp_path / "verified.json").exists() or json.loads((tmp_path / "verified.json").read_text()) == {}


@pytest.mark.parametrize("content", ["", "[]", '{"file": 3}', '{"file": []}', "\x00\xff"])
def test_a_broken_stamp_is_ignored(tmp_path, content):
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "verified.json").write_text(content, encoding="latin-1")
    assert integrity.digests(tmp_path, ["file"])["file"].startswith("ba7816bf")  # FIPS 180-4's example


# --- interruption -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["decode toy", "write toy", "write train.beton", "write test.beton"])
@pytest.mark.parametrize("problem", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_prepare_leaves_nothing_and_the_next_one_succeeds(tmp_path, monkeypatch, stage, problem):
    monkeypatch.setattr(dataset_module, "ffcv_available", lambda: True)

    def interrupt(what, done, total):
        if what == stage:
            raise problem

    with pytest.raises(problem):
        prepare(TOY, {}, tmp_path, on_progress=interrupt)
    assert data_files(tmp_path) == []
    assert len(prepare(TOY, {}, tmp_path).splits["train"]) == 6


CHILD = """
import sys, time
from pathlib import Path
from timetrial.data_pipelines.dataset import prepare
from timetrial.data_pipelines.sources import get_source

def report(what, done, total):
    print(what, flush=True)
    if what == sys.argv[2]:
        time.sleep(float(sys.argv[3]))

print("digest", prepare(get_source("digits"), {}, Path(sys.argv[1]), on_progress=report).digest, flush=True)
"""


def child(home, stage, seconds):
    return subprocess.Popen([sys.executable, "-c", CHILD, str(home), stage, str(seconds)], stdout=subprocess.PIPE, text=True)


def test_a_killed_prepare_is_cleared_away_by_the_next_one(tmp_path):
    with child(tmp_path, "write digits", 60) as process:
        for line in process.stdout:
            if line == "write digits\n":
                process.send_signal(signal.SIGKILL)
    assert list((tmp_path / "data").glob(".digits@*.part"))
    with child(tmp_path, "", 0) as process:
        output = process.stdout.read()
    assert "digest" in output
    assert not list((tmp_path / "data").glob(".digits@*.part"))


def test_of_two_processes_one_prepares_and_the_other_waits(tmp_path):
    with child(tmp_path, "decode digits", 1.0) as first, child(tmp_path, "decode digits", 1.0) as second:
        outputs = [first.stdout.read(), second.stdout.read()]
    digests = {output.splitlines()[-1] for output in outputs}
    assert len(digests) == 1
    assert digests.pop().startswith("digest ")
    assert sum("write digits" in output for output in outputs) == 1
    assert sum("wait for another process that prepares digits" in output for output in outputs) == 1


# --- the disk ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged_home():
    """A home outside pytest's private folder and, as root, the rights of nobody: only so does a read-only folder refuse."""
    home = Path(tempfile.mkdtemp(prefix="timetrial-"))
    is_root = os.geteuid() == 0

    @contextlib.contextmanager
    def read_only():
        folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        if is_root:
            os.seteuid(65534)
        try:
            yield
        finally:
            if is_root:
                os.seteuid(0)
            for folder in folders:
                folder.chmod(0o755)

    home.chmod(0o755)
    yield home, read_only
    shutil.rmtree(home)


def test_a_home_that_cannot_be_written_is_refused_in_one_line(unprivileged_home, ffcv):
    home, read_only = unprivileged_home
    with read_only(), pytest.raises(DataError, match=r"Permission denied.*TIMETRIAL_HOME") as caught:
        prepare(TOY, {}, home)
    assert "\n" not in str(caught.value)
    assert files_in(home) == []


def test_a_prepared_home_may_be_read_only(unprivileged_home, monkeypatch):
    home, read_only = unprivileged_home
    monkeypatch.setattr(dataset_module, "ffcv_available", lambda: False)
    prepare(TOY, {}, home)
    monkeypatch.setattr(dataset_module, "ffcv_available", lambda: True)  # even where FFCV files would be added
    (folder_of(home) / "verified.json").unlink(missing_ok=True)
    before = files_in(home)
    with read_only():
        assert open_dataset(TOY, {}, home).digest == prepare(TOY, {}, home).digest
    assert files_in(home) == before


def test_a_home_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(DataMissing):
        open_dataset(TOY, {}, tmp_path / "home")
    with pytest.raises(DataError, match="Not a directory"):
        prepare(TOY, {}, tmp_path / "home")


def test_a_full_disk_is_noticed_before_writing(tmp_path, monkeypatch, ffcv):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(DataError, match="toy: no space"):
        prepare(TOY, {}, tmp_path)
    assert data_files(tmp_path) == []


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path, ffcv):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250, limits[1]))  # writing beyond 250 bytes fails as on a full disk
    try:
        with pytest.raises(DataError, match="TIMETRIAL_HOME"):
            prepare(TOY, {}, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert data_files(tmp_path) == []
    prepare(TOY, {}, tmp_path)


# --- cutting splits ---------------------------------------------------------------------------------------------------------------------


def test_the_shuffle_is_pinned_for_ever():
    assert shuffled_ids(10, 0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert shuffled_ids(10, 1).tolist() == [3, 5, 2, 9, 7, 0, 8, 6, 1, 4]


@given(st.integers(0, 300), st.integers(0, 2**64 - 1))
def test_a_shuffle_is_a_permutation(n, seed):
    assert sorted(shuffled_ids(n, seed).tolist()) == list(range(n))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=200), st.data(), st.integers(0, 1000))
def test_a_validation_cut_keeps_every_class_in_proportion(labels, data, seed):
    count = data.draw(st.integers(1, len(labels) - 1))
    labels = np.array(labels) * 7 - 3  # classes need not be 0, 1, 2 ...
    try:
        ids = validation_ids(labels, count, seed)
    except ConfigError as refusal:
        assert "leave a class without a training example" in str(refusal)
        return
    assert ids.dtype == np.int64
    assert ids.tolist() == sorted(set(ids.tolist()))
    assert len(ids) == count
    assert ids[0] >= 0 and ids[-1] < len(labels)
    for label in np.unique(labels):
        share, exact = np.sum(labels[ids] == label), np.sum(labels == label) * count / len(labels)
        assert abs(share - exact) < 1
        assert np.sum(np.delete(labels, ids) == label) > 0
    np.testing.assert_array_equal(ids, validation_ids(labels, count, seed))


def test_a_cut_without_labels_is_uniform_and_depends_on_the_seed():
    cuts = np.stack([validation_ids(20, 5, seed) for seed in range(400)])
    counts = np.bincount(cuts.ravel(), minlength=20)
    assert counts.sum() == 2000
    assert counts.min() > 60 and counts.max() < 145  # 100 expected, standard deviation 8.7
    assert len({tuple(cut) for cut in cuts}) >= 370  # of 15,504 possible ones


@pytest.mark.parametrize("count", [0, -1, 10, 11])
def test_a_cut_needs_examples_on_both_sides(count):
    with pytest.raises(ConfigError, match=f"expected 1 to 9 of 10 examples, given {count}"):
        validation_ids(10, count, 0)


def test_labels_must_be_classes():
    with pytest.raises(ConfigError, match=r"integer labels \[n\], given float64 \[3\]"):
        validation_ids(np.array([0.0, 1.0, 1.0]), 1, 0)
