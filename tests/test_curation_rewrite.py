"""A rewritten pool serves what the mask serves (property 23); any FFCV file is read with distrust and pruned byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.data_pipelines.beton import write_beton
from timetrial.data_pipelines.beton_file import BetonFile
from timetrial.data_pipelines.curation.pool import Pool
from timetrial.data_pipelines.curation.rewrite import gathered, rewrite, rewritten_digest
from timetrial.data_pipelines.curation.selection import Selection
from timetrial.data_pipelines.fields import Field, FieldKind, Split
from timetrial.data_pipelines.loaders import FfcvLoader, TorchLoader
from timetrial.suite.errors import DataError, UnknownName

from .jpegs import encoded, jpeg_field

RANDOM = np.random.default_rng(0)
COUNT = 30


def fields(count=COUNT):
    return {
        "image": Field(FieldKind.IMAGE, RANDOM.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)),
        "photo": jpeg_field([encoded(RANDOM, 8 + i % 3, 9) for i in range(count)]),
        "label": Field(FieldKind.INT, RANDOM.integers(0, 10, count)),
        "vector": Field(FieldKind.ARRAY, RANDOM.random((count, 3, 2))),
    }


def written(folder, given):
    write_beton(folder / "pool.beton", given)
    return Split("train", given, folder / "pool.beton", "digest of the pool")


def epoch(loader, order):
    """The multiset of what a loader serves: label, picture and vector of every example."""
    served = Counter()
    for chunk in loader.serve(order, 0):
        parts = [chunk.fields[name].numpy() for name in ("label", "image", "vector")]
        served.update(tuple(part[i].tobytes() for part in parts) for i in range(len(chunk.ids)))
    return served


# Property 23


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=40), st.sampled_from([TorchLoader, FfcvLoader]))
@pytest.mark.ffcv
@pytest.mark.timeout(120)
def test_mask_and_rewrite_serve_the_same_multiset_and_repeats_are_honoured(listed, kind):
    given_fields = {name: field for name, field in fields().items() if name != "photo"}
    with tempfile.TemporaryDirectory() as folder:
        split = written(Path(folder), given_fields)
        pool = Pool(np.arange(COUNT), {"vector": given_fields["vector"].values}, data_digest=split.digest)
        selection = Selection.of(pool, np.array(listed), repeats="count")
        smaller = rewrite(split, selection, Path(folder) / "kept.beton")
        ids, _ = selection.epoch()
        with kind(split) as mask, kind(smaller, tuple(given_fields)) as own:
            assert epoch(mask, np.random.default_rng(0).permutation(ids)) == epoch(own, np.arange(len(smaller)))
    assert len(smaller) == len(listed)
    assert Counter(smaller.fields["original_id"].values.tolist()) == Counter(listed)


def test_the_rewritten_pool_is_known_by_pool_and_selection_alone(tmp_path):
    split = written(tmp_path, fields())
    pools = [Pool(np.arange(COUNT), {"label": split.fields["label"].values}, data_digest=version) for version in "ab"]
    one, other = (Selection.of(pool, np.array([1, 2, 3])) for pool in pools)
    less = Selection.of(pools[0], np.array([1, 2]))
    assert rewrite(split, one, tmp_path / "x.beton").digest == rewritten_digest(one) == rewritten_digest(Selection.of(pools[0], one.ids))
    assert len({rewritten_digest(s) for s in (one, other, less)}) == 3


def test_weights_travel_with_the_examples_and_nothing_is_rewritten_twice(tmp_path):
    split = written(tmp_path, fields())
    selection = Selection(np.array([4, 9]), 0.1, "p", counts=np.array([1, 2]), weights=np.array([0.5, 2], np.float32))
    smaller = rewrite(split, selection, tmp_path / "x.beton")
    assert smaller.fields["weight"].values[:, 0].tolist() == [0.5, 2, 2]
    assert smaller.fields["original_id"].values.tolist() == [4, 9, 9]
    with pytest.raises(DataError, match="rewritten before"):
        rewrite(smaller, Selection(np.array([0]), 1.0, "p"), tmp_path / "y.beton")
    with pytest.raises(DataError, match="id 99 is outside"):
        rewrite(split, Selection(np.array([99]), 1.0, "p"), tmp_path / "z.beton")


# Any FFCV file


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=40))
def test_pruning_a_file_gives_what_writing_the_kept_rows_gives(rows):
    given_fields = fields()
    with tempfile.TemporaryDirectory() as folder:
        write_beton(Path(folder) / "all.beton", given_fields)
        BetonFile(Path(folder) / "all.beton").prune(np.array(rows), Path(folder) / "kept.beton")
        write_beton(Path(folder) / "expected.beton", gathered(given_fields, np.array(rows)))
        assert (Path(folder) / "kept.beton").read_bytes() == (Path(folder) / "expected.beton").read_bytes()


def test_a_file_is_read_back_as_it_was_written(tmp_path):
    given_fields = fields()
    write_beton(tmp_path / "x.beton", given_fields)
    file = BetonFile(tmp_path / "x.beton")
    rows = np.array([5, 0, 29])
    assert len(file) == COUNT
    assert [column.kind for column in file.columns.values()] == ["picture", "picture", "int", "array"]
    assert file.numbers("label", rows).tolist() == given_fields["label"].values[rows].tolist()
    assert np.array_equal(file.numbers("vector", rows), given_fields["vector"].values[rows])
    assert np.array_equal(file.pixels("image", 5), given_fields["image"].values[5])
    assert file.pixels("photo", 5).shape == (10, 9, 3)
    with pytest.raises(UnknownName, match="did you mean 'label'"):
        file.column("labels")


WRITE_NATIVE = """
import sys, numpy as np, torch
from ffcv.writer import DatasetWriter
from ffcv.fields import *
class Rows:
    def __len__(self): return 12
    def __getitem__(self, number):
        i = int(number)
        text = np.frombuffer(f"text {i}".encode(), np.uint8)
        return np.full((4 + i, 5, 3), i, np.uint8), i, i / 2, text, {"number": i}, np.arange(3, dtype="f4") + i, torch.arange(2) + i
pictures = RGBImageField(write_mode="proportion", compress_probability=0.5)
kinds = dict(p=pictures, i=IntField(), f=FloatField(), b=BytesField(), j=JSONField(),
             a=NDArrayField(np.dtype("f4"), (3,)), t=TorchTensorField(torch.int64, (2,)))
DatasetWriter(sys.argv[1], kinds, num_workers=1).from_indexed_dataset(Rows())
"""
READ_NATIVE = """
import sys
from ffcv.reader import Reader
from ffcv.loader import Loader, OrderOption
from ffcv.fields.decoders import *
loader = Loader(sys.argv[1], batch_size=3, num_workers=1, order=OrderOption.SEQUENTIAL, drop_last=False,
                pipelines=dict(i=[IntDecoder()], f=[FloatDecoder()], a=[NDArrayDecoder()], p=None, b=None, j=None, t=None))
print([[part.reshape(len(part), -1)[:, -1].tolist() for part in batch] for batch in loader])
"""


@pytest.mark.ffcv
@pytest.mark.timeout(180)
def test_a_file_by_ffcv_itself_is_read_in_all_its_types_and_ffcv_reads_the_pruned_one(tmp_path):
    def run(script, name):
        command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / name)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    run(WRITE_NATIVE, "native.beton")
    file = BetonFile(tmp_path / "native.beton")
    file.prune(np.array([3, 8, 11, 8]), tmp_path / "kept.beton")
    kept = BetonFile(tmp_path / "kept.beton")
    modes = set()
    for new, old in enumerate([3, 8, 11, 8]):
        assert kept.pixels("p", new).shape == (4 + old, 5, 3)
        assert abs(kept.pixels("p", new).astype(int) - old).max() <= 3
        assert (kept.text("b", new), json.loads(kept.text("j", new))) == (f"text {old}", {"number": old})
        modes.add(int(kept.columns["p"].metadata[new]["mode"]))
    assert modes <= {0, 1}
    rows = np.arange(4)
    assert kept.numbers("t", rows).tolist() == [[3, 4], [8, 9], [11, 12], [8, 9]]
    assert kept.numbers("f", rows).tolist() == [1.5, 4, 5.5, 4]
    assert json.loads(run(READ_NATIVE, "kept.beton")) == [[[3, 8, 11], [1.5, 4, 5.5], [5, 10, 13]], [[8], [4], [10]]]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_an_error_or_reads_inside_itself(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.beton"
        write_beton(path, fields(4))
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        else:
            tables = [*range(24), *range(24, 24 + 4 * 1042 + 4 * 48), *range(len(content) - 4 * 3 * 24, len(content))]
            for _ in range(data.draw(st.integers(1, 4))):
                content[data.draw(st.sampled_from(tables))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        try:
            file = BetonFile(path)
        except DataError:
            return
        for name, column in file.columns.items():
            assert all(len(file.data(name, row)) == column.sizes[row] for row in range(min(len(file), 8)))


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "truncated or not"), (b"no FFCV file, but long enough", "expected an FFCV file of version 2")]
)
def test_what_is_no_ffcv_file_is_named(tmp_path, content, message):
    (tmp_path / "x.beton").write_bytes(content)
    with pytest.raises(DataError, match=message):
        BetonFile(tmp_path / "x.beton")
