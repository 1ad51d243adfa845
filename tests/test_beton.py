"""FFCV files: readable by FFCV itself, reproducible, whole or not there, and refused when a table differs in one bit."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.data_pipelines import beton, beton_format
from timetrial.data_pipelines.beton import read_layout, write_beton
from timetrial.data_pipelines.dataset import Field, FieldKind
from timetrial.data_pipelines.jpeg import jpeg_size
from timetrial.suite.errors import DataError

from .jpegs import encoded, jpeg_field

RANDOM = np.random.default_rng(0)
NATIVE_READER = """
import sys, hashlib
from ffcv.loader import Loader, OrderOption
loader = Loader(sys.argv[1], batch_size=7, num_workers=1, order=OrderOption.SEQUENTIAL, drop_last=False)
batches = [[part.numpy().copy() for part in batch] for batch in loader]
for parts in zip(*batches):
    print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


def some_fields(count: int = 20) -> dict[str, Field]:
    return {
        "image": Field(FieldKind.IMAGE, RANDOM.integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)),
        "label": Field(FieldKind.INT, RANDOM.integers(-(2**62), 2**62, count)),
        "vector": Field(FieldKind.ARRAY, RANDOM.random((count, 3, 2))),
    }


@st.composite
def field_sets(draw):
    count = draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    fields = {}
    for kind in draw(st.lists(st.sampled_from(list(FieldKind)), min_size=1, max_size=4)):
        name = f"{kind}_{len(fields)}"
        if kind is FieldKind.INT:
            fields[name] = Field(kind, random.integers(-5, 5, count))
        elif kind is FieldKind.IMAGE:
            side = draw(st.sampled_from([1, 3, 600]))
            fields[name] = Field(kind, random.integers(0, 256, (count, side, 4, 3), dtype=np.uint8))
        elif kind is FieldKind.JPEG:
            fields[name] = jpeg_field([encoded(RANDOM, 3 + i, 4) for i in range(count)])
        else:
            dtype = draw(st.sampled_from(["u1", "u2", "i4", "u8", "f2", "f8", "?"]))
            shape = draw(st.sampled_from([(), (3,), (2, 1, 5), (1 << 18,)]))
            fields[name] = Field(kind, random.integers(0, 2, (count, *shape)).astype(dtype))
    return fields


@settings(max_examples=30, deadline=None)
@given(field_sets())
def test_every_byte_is_where_the_layout_says(fields):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.beton"
        write_beton(path, fields)
        layout, data = read_layout(path, fields), np.fromfile(path, np.uint8)
        page_bytes = int(np.frombuffer(data[:24], beton_format.HEADER)["page_size"][0])
        for name, field in fields.items():
            for i, (start, size) in enumerate(zip(layout.starts[name], layout.sizes[name], strict=True)):
                stored = data[start : start + size].tobytes()
                if field.kind is FieldKind.INT:
                    assert stored == b""
                elif field.offsets is not None:
                    assert stored == field.values[field.offsets[i] : field.offsets[i + 1]].tobytes()
                else:
                    assert stored == field.values[i].tobytes()
                assert size == 0 or start // page_bytes == (start + size - 1) // page_bytes, "an example crosses a page"


@pytest.mark.ffcv
@pytest.mark.timeout(120)
def test_ffcv_itself_reads_the_file(tmp_path):
    fields = some_fields()
    write_beton(tmp_path / "x.beton", fields)
    command = [sys.executable, "-W", "ignore", "-c", NATIVE_READER, str(tmp_path / "x.beton")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.split() == [hashlib.sha256(field.values.tobytes()).hexdigest() for field in fields.values()]


def test_types_are_those_of_ffcv():
    pytest.importorskip("ffcv")
    importlib.import_module("timetrial.data_pipelines.ffcv_guards")
    from ffcv import types
    from ffcv.fields import IntField, NDArrayField, RGBImageField
    from ffcv.fields.ndarray import NDArrayArgsType

    assert (types.HeaderType, types.FieldDescType, types.ALLOC_TABLE_TYPE) == (
        beton_format.HEADER,
        beton_format.DESCRIPTOR,
        beton_format.ALLOCATION,
    )
    assert (types.CURRENT_VERSION, NDArrayArgsType) == (beton_format.VERSION, beton_format.ARRAY_ARGUMENTS)
    handlers = {beton._INT: IntField(), beton._IMAGE: RGBImageField(), beton._ARRAY: NDArrayField(np.dtype("f4"), (2,))}
    for number, handler in handlers.items():
        assert types.TYPE_ID_HANDLER[number] is type(handler)
        assert beton._RECORD_OF_TYPE[number] == handler.metadata_type


def test_equal_fields_give_equal_files(tmp_path):
    fields = some_fields(300)
    for name in ("a", "b"):
        write_beton(tmp_path / name, fields)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


class Failing(np.ndarray):
    """An array whose later rows cannot be read, like a file on a disk that dies."""

    def __getitem__(self, key):
        if isinstance(key, slice) and (key.start or 0) > 0:
            raise OSError("the disk has died")
        return super().__getitem__(key)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.beton"
    path.write_bytes(b"before")
    values = np.zeros((40, 300, 300, 3), np.uint8).view(Failing)
    with pytest.raises(OSError, match="the disk has died"):
        write_beton(path, {"image": Field(FieldKind.IMAGE, values)})
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


ZEROS = np.zeros(3, np.int64)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "at least 1"),
        ({"label": Field(FieldKind.INT, ZEROS[:0])}, "at least 1"),
        ({"a": Field(FieldKind.INT, ZEROS), "b": Field(FieldKind.INT, ZEROS[:2])}, "one length"),
        ({"label": Field(FieldKind.INT, ZEROS.astype(np.int32))}, "expected int64"),
        ({"label": Field(FieldKind.INT, ZEROS[:, None])}, "expected int64"),
        ({"image": Field(FieldKind.IMAGE, np.zeros((3, 4, 4, 1), np.uint8))}, "expected uint8"),
        ({"image": Field(FieldKind.IMAGE, np.zeros((3, 4, 4, 3), np.float32))}, "expected uint8"),
        ({"image": Field(FieldKind.IMAGE, np.zeros((3, 0, 4, 3), np.uint8))}, "expected uint8"),
        ({"image": Field(FieldKind.JPEG, np.zeros(3, np.uint8))}, "offsets"),
        ({"image": Field(FieldKind.JPEG, np.zeros(3, np.uint8), np.array([0, 0, 3]))}, "offsets"),
        ({"image": Field(FieldKind.JPEG, np.zeros(3, np.uint8), np.array([0, 3]))}, "example 0: not a JPEG"),
        ({"text": Field(FieldKind.ARRAY, np.array(["a", "b"]))}, "expected numbers"),
        ({"other": Field(FieldKind.ARRAY, np.zeros(3, ">f4"))}, "expected numbers"),
        ({"größe": Field(FieldKind.INT, ZEROS)}, "ASCII"),
        ({"a_name_of_17_char": Field(FieldKind.INT, ZEROS)}, "1 to 16"),
    ],
    ids=str,
)
def test_what_the_format_cannot_hold_is_refused_and_no_file_appears(fields, message, tmp_path):
    with pytest.raises(DataError, match=message):
        write_beton(tmp_path / "x.beton", fields)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 3 << 20, 1 << 20, 1 << 32])
def test_page_sizes_that_ffcv_refuses_are_refused(size, tmp_path):
    with pytest.raises(DataError, match="power of two"):
        write_beton(tmp_path / "x.beton", some_fields(), page_size_bytes=size)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path, fields = (
        tmp_path_factory.mktemp("beton") / "x.beton",
        some_fields() | {"photo": jpeg_field([encoded(RANDOM, 4, 4) for _ in range(20)])},
    )
    write_beton(path, fields)
    return path.read_bytes(), fields, read_layout(path, fields)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_in_a_table_is_noticed(written, data):
    """Everywhere but in the pictures' own bytes, which the digests of the dataset cover, and the sizes of encoded pictures."""
    content, fields, layout = written
    record = np.dtype([("", beton._RECORD_OF_TYPE[kind]) for kind in (beton._IMAGE, beton._INT, beton._ARRAY, beton._IMAGE)], align=True)
    metadata_start = beton_format.HEADER.itemsize + len(fields) * beton_format.DESCRIPTOR.itemsize
    metadata_end = metadata_start + 20 * record.itemsize
    table_start = len(content) - 3 * 20 * beton_format.ALLOCATION.itemsize
    position = data.draw(st.one_of(st.integers(0, metadata_end - 1), st.integers(table_start, len(content) - 1)))
    damaged = bytearray(content)
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.beton"
        path.write_bytes(damaged)
        try:
            found = read_layout(path, fields)
        except DataError:
            return
        inside = (position - metadata_start) % record.itemsize - record.fields["f3"][1]
        assert metadata_start <= position < metadata_end and 1 <= inside <= 4, f"byte {position} is not checked"
        assert all((found.starts[name] == layout.starts[name]).all() for name in fields)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_truncated_or_extended_file_is_refused(written, data):
    content, fields, _ = written
    length = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(len(content) - 2000, len(content) - 1), st.just(None)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.beton"
        path.write_bytes(content + b"\0" if length is None else content[:length])
        with pytest.raises(DataError, match=r"x\.beton"):
            read_layout(path, fields)


def test_another_datasets_file_is_refused(written, tmp_path):
    content, fields, _ = written
    (tmp_path / "x.beton").write_bytes(content)
    others = [
        {name: fields[name] for name in ("image", "label", "vector")},
        {**fields, "label": Field(FieldKind.INT, fields["label"].values + 1)},
        {**fields, "vector": Field(FieldKind.ARRAY, fields["vector"].values.reshape(20, 6))},
        {("picture" if name == "image" else name): field for name, field in fields.items()},
    ]
    for other in others:
        with pytest.raises(DataError):
            read_layout(tmp_path / "x.beton", other)


JPEG_VARIANTS = [{}, {"progressive": True}, {"mode": "L"}, {"exif": b"Exif\0\0" + bytes(3000)}, {"comment": b"!" * 500}]


@pytest.mark.parametrize("options", JPEG_VARIANTS, ids=["baseline", "progressive", "grey", "exif", "comment"])
def test_the_size_of_a_jpeg_is_read_from_its_header(options):
    assert jpeg_size(encoded(RANDOM, 37, 5, **options)) == (37, 5)


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x89PNG\r\n", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\x00\x10JFIF"], ids=repr)
def test_what_is_no_jpeg_is_refused(content):
    with pytest.raises(ValueError, match="not a JPEG"):
        jpeg_size(np.frombuffer(content, np.uint8))
