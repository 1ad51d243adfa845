"""FFCV files (``.beton``, format version 2): written in this process, byte for byte reproducible, and checked before FFCV reads them.

FFCV's own ``DatasetWriter`` hangs for ever when one of its processes fails, leaves half files and shared memory behind, and lays
pages out in the order in which its processes happen to finish. The format itself is plain (``ffcv/types.py``: header, field
descriptors, one metadata record per example, pages of data, a table of allocations), so whole pages are filled from arrays here:
an error is an ordinary exception, equal fields give equal files, and FFCV itself is not even imported.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..suite.errors import DataError
from ..suite.files import atomic_path
from .beton_format import ALLOCATION, ARRAY_ARGUMENTS, DESCRIPTOR, HEADER, IMAGE_RECORD, NAME_BYTES, VERSION, pages_of, read_table
from .fields import Field, FieldKind
from .jpeg import jpeg_size

__all__ = ["BetonLayout", "ffcv_available", "read_layout", "write_beton"]

_MIN_PAGE_BYTES = 1 << 21
_MAX_PAGE_BYTES = 1 << 31
_MAX_SIDE = (1 << 16) - 1

_INT, _IMAGE, _ARRAY = 1, 2, 4
_TYPE_OF_KIND = {FieldKind.INT: _INT, FieldKind.IMAGE: _IMAGE, FieldKind.JPEG: _IMAGE, FieldKind.ARRAY: _ARRAY}
_RECORD_OF_TYPE = {_INT: np.dtype("<i8"), _IMAGE: IMAGE_RECORD, _ARRAY: np.dtype("<u8")}
_MODE_OF_KIND = {FieldKind.JPEG: 0, FieldKind.IMAGE: 1}
# FFCV hands numpy dtypes on to torch, which lacks some: those travel as the signed type of the same width, bit for bit.
_STORED_AS = {np.dtype(np.uint16): np.int16, np.dtype(np.uint32): np.int32, np.dtype(np.uint64): np.int64}


def ffcv_available() -> bool:
    """Whether FFCV is installed; looks it up without importing it (an import takes seconds)."""
    return importlib.util.find_spec("ffcv") is not None


@dataclass(frozen=True)
class BetonLayout:
    """Where the data of each example lies: per field int64 ``[n]``, bytes from the beginning of the file (INT has none: size 0)."""

    starts: Mapping[str, np.ndarray]
    sizes: Mapping[str, np.ndarray]


def write_beton(path: Path, fields: Mapping[str, Field], *, page_size_bytes: int = _MIN_PAGE_BYTES) -> None:
    """Write fields as one FFCV file, atomically: the file is there whole or not at all.

    Any FFCV reader understands it: INT becomes ``IntField``, IMAGE ``RGBImageField`` (raw), JPEG the same with the encoded bytes
    as they are (never encoded again), ARRAY ``NDArrayField``. ``page_size_bytes`` is a power of two from 2 MiB; it grows when an
    example is larger. Raises ``DataError`` for fields that FFCV cannot hold, and ``OSError`` when the disk is full.
    """
    _check_fields(fields)
    tables = _tables(fields, _page_bytes(page_size_bytes, fields))
    for column, (name, field) in enumerate(fields.items()):
        if field.offsets is not None:
            _fill_picture_sizes(name, field, tables.metadata[f"f{column}"])
    with atomic_path(path) as part, part.open("wb") as stream:
        for block in (tables.header, tables.descriptors, tables.metadata):
            stream.write(block.tobytes())
        stream.write(bytes(tables.data_start - stream.tell()))
        for first, last in tables.pages:
            inside = tables.starts[first:last] - stream.tell()
            stream.write(_page(list(fields.values()), inside, tables.sizes[first:last], first, tables.page_bytes))
        stream.write(tables.allocations.tobytes())


def read_layout(path: Path, fields: Mapping[str, Field]) -> BetonLayout:
    """Check that a file is exactly what ``write_beton`` makes of these fields, all but the data itself, and say where that lies.

    FFCV trusts every pointer, size and type in a file; here each must be what it has to be. (Data are covered by the digests that are
    verified when a dataset is opened.) Raises ``DataError``.
    """
    _check_fields(fields)
    length = path.stat().st_size
    found_header = read_table(path, HEADER, 1, 0, length)
    tables = _tables(fields, _page_bytes(int(found_header["page_size"][0]), fields))
    metadata_start = tables.header.nbytes + tables.descriptors.nbytes
    table_start = int(tables.header["alloc_table_ptr"][0])
    metadata = read_table(path, tables.metadata.dtype, len(tables.metadata), metadata_start, length)
    for column, field in enumerate(fields.values()):
        if field.offsets is not None:  # the size of an encoded picture is known to the picture alone
            for side in ("height", "width"):
                tables.metadata[f"f{column}"][side] = np.maximum(metadata[f"f{column}"][side], 1)
    checks = {
        "header": (found_header, tables.header),
        "field table": (read_table(path, DESCRIPTOR, len(fields), tables.header.nbytes, length), tables.descriptors),
        "metadata": (metadata, tables.metadata),
        "allocation table": (read_table(path, ALLOCATION, tables.allocations.size, table_start, length), tables.allocations),
    }
    for name, (found, expected) in checks.items():
        if found.tobytes() != expected.tobytes():
            raise DataError(f"{path.name} is not the FFCV file of this dataset, or is damaged: its {name} differs from what was written")
    if length != table_start + tables.allocations.nbytes:
        raise DataError(f"{path.name} is {length} bytes long, expected {table_start + tables.allocations.nbytes}")
    columns = [(name, np.ascontiguousarray(tables.starts[:, i]), np.ascontiguousarray(tables.sizes[:, i])) for i, name in enumerate(fields)]
    return BetonLayout({name: starts for name, starts, _ in columns}, {name: sizes for name, _, sizes in columns})


@dataclass(frozen=True)
class _Tables:
    """Everything in a file but its data: four tables as they are stored, and what follows from them.

    ``starts`` and ``sizes`` int64 ``[n, fields]`` in bytes; ``pages``: the examples ``first .. last - 1`` of each page.
    """

    header: np.ndarray
    descriptors: np.ndarray
    metadata: np.ndarray
    allocations: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    pages: list[tuple[int, int]]
    data_start: int
    page_bytes: int


def _tables(fields: Mapping[str, Field], page_bytes: int) -> _Tables:
    sizes = np.stack([_sizes(field) for field in fields.values()], axis=1)
    totals = sizes.sum(axis=1)
    descriptors = np.concatenate([_descriptor(name, field) for name, field in fields.items()])
    metadata = np.zeros(len(sizes), np.dtype([("", _RECORD_OF_TYPE[int(kind)]) for kind in descriptors["type_id"]], align=True))
    data_start = -(-(HEADER.itemsize + descriptors.nbytes + metadata.nbytes) // page_bytes) * page_bytes
    pages = pages_of(totals, page_bytes)
    starts = np.cumsum(sizes, axis=1) - sizes
    for number, (first, last) in enumerate(pages):
        before = np.cumsum(totals[first:last]) - totals[first:last]
        starts[first:last] += data_start + number * page_bytes + before[:, None]
    for column, field in enumerate(fields.values()):
        _fill_metadata(metadata[f"f{column}"], field, starts[:, column])
    stored = [column for column, field in enumerate(fields.values()) if field.kind is not FieldKind.INT]
    allocations = np.zeros((len(sizes), len(stored)), ALLOCATION)
    allocations["sample_id"] = np.arange(len(sizes))[:, None]
    allocations["ptr"], allocations["size"] = starts[:, stored], sizes[:, stored]
    header = np.array([(VERSION, len(fields), page_bytes, len(sizes), data_start + len(pages) * page_bytes)], HEADER)
    return _Tables(header, descriptors, metadata, allocations, starts, sizes, pages, data_start, page_bytes)


def _check_fields(fields: Mapping[str, Field]) -> None:
    """Refuse what the format cannot hold."""
    lengths = {name: len(field) for name, field in fields.items()}
    if not fields or len(set(lengths.values())) != 1 or min(lengths.values()) == 0:
        raise DataError(f"an FFCV file needs fields of one length, at least 1; given {lengths}")
    for name, field in fields.items():
        _check_field(name, field)


def _check_field(name: str, field: Field) -> None:
    values = field.values
    if not (name.isascii() and 0 < len(name) <= NAME_BYTES):
        raise DataError(f"field name {name!r}: FFCV keeps 1 to {NAME_BYTES} ASCII characters")
    if field.kind is FieldKind.INT:
        fine, expected = values.dtype == np.int64 and values.ndim == 1, "int64 [n]"
    elif field.kind is FieldKind.IMAGE:
        fine = (
            values.dtype == np.uint8
            and values.ndim == 4
            and values.shape[3] == 3
            and min(values.shape) > 0
            and max(values.shape[1:3]) <= _MAX_SIDE
        )
        expected = "uint8 [n, height, width, 3]"
    elif field.kind is FieldKind.JPEG:
        offsets = field.offsets
        fine = values.dtype == np.uint8 and values.ndim == 1 and offsets is not None and offsets.dtype == np.int64
        fine = fine and offsets is not None and offsets[0] == 0 and offsets[-1] == len(values) and bool((np.diff(offsets) > 0).all())
        expected = "uint8 [bytes] with rising int64 offsets"
    else:
        fine = values.dtype.kind in "biuf" and values.dtype.isnative and values.ndim <= 32 and 0 not in values.shape
        expected = "numbers of a fixed shape"
    if not fine:
        raise DataError(f"field {name!r} of kind {field.kind}: expected {expected}, given {values.dtype} {list(values.shape)}")


def _sizes(field: Field) -> np.ndarray:
    """int64 ``[n]``: bytes of data of each example (0 for INT, which lives in the metadata)."""
    if field.kind is FieldKind.INT:
        return np.zeros(len(field), np.int64)
    if field.offsets is not None:
        return np.diff(field.offsets)
    return np.full(len(field), field.values[:1].nbytes, np.int64)


def _descriptor(name: str, field: Field) -> np.ndarray:
    """FFCV's field descriptor ``[1]``: type, name and, for arrays, shape and dtype."""
    descriptor = np.zeros(1, DESCRIPTOR)
    descriptor["type_id"] = _TYPE_OF_KIND[field.kind]
    encoded = np.frombuffer(name.encode("ascii"), np.uint8)
    descriptor["name"][0, : len(encoded)] = encoded
    if field.kind is FieldKind.ARRAY:
        shape = field.values.shape[1:] or (1,)
        dtype = np.dtype(_STORED_AS.get(field.values.dtype, field.values.dtype))
        arguments = np.zeros(1, ARRAY_ARGUMENTS)
        text = np.frombuffer(json.dumps(dtype.descr).encode("ascii"), np.uint8)
        arguments["shape"][0, : len(shape)] = shape
        arguments["type_length"] = len(text)
        packed = np.concatenate([arguments.view(np.uint8), text])
        descriptor["arguments"][0, : len(packed)] = packed
    return descriptor


def _fill_metadata(column: np.ndarray, field: Field, starts: np.ndarray) -> None:
    """Write one field's metadata in place: its value (INT), or where its data is and (raw pictures) how large it is."""
    if field.kind is FieldKind.INT:
        column[:] = field.values
    elif field.kind is FieldKind.ARRAY:
        column[:] = starts
    else:
        column["mode"], column["data_ptr"] = _MODE_OF_KIND[field.kind], starts
        if field.offsets is None:
            column["height"], column["width"] = field.values.shape[1:3]


def _fill_picture_sizes(name: str, field: Field, column: np.ndarray) -> None:
    """Write the size of each encoded picture in place, from its own header."""
    offsets = np.asarray(field.offsets)
    for i, (first, last) in enumerate(pairwise(offsets)):
        try:
            column["height"][i], column["width"][i] = jpeg_size(field.values[first:last])
        except ValueError as error:
            raise DataError(f"field {name!r} of example {i}: {error}") from error


def _page(fields: Sequence[Field], starts: np.ndarray, sizes: np.ndarray, first: int, page_bytes: int) -> bytes:
    """The bytes of one page: examples from ``first`` on, at ``starts`` ``[k, fields]`` within the page."""
    page = np.zeros(page_bytes, np.uint8)
    count, stride = len(starts), int(sizes[0].sum())
    for column, field in enumerate(fields):
        if field.kind is FieldKind.INT:
            continue
        if all(other.offsets is None for other in fields):
            size = int(sizes[0, column])
            rows = np.ascontiguousarray(field.values[first : first + count]).reshape(count, -1).view(np.uint8)
            page[: count * stride].reshape(count, stride)[:, starts[0, column] : starts[0, column] + size] = rows
        else:
            for i in range(count):
                page[starts[i, column] : starts[i, column] + sizes[i, column]] = _example_bytes(field, first + i)
    return page.tobytes()


def _example_bytes(field: Field, index: int) -> np.ndarray:
    if field.offsets is not None:
        return field.values[field.offsets[index] : field.offsets[index + 1]]
    return np.ascontiguousarray(field.values[index : index + 1]).reshape(-1).view(np.uint8)


def _page_bytes(wanted: int, fields: Mapping[str, Field]) -> int:
    """The page size: ``wanted``, or the next power of two that holds the largest example."""
    if not _MIN_PAGE_BYTES <= wanted <= _MAX_PAGE_BYTES or wanted & (wanted - 1):
        raise DataError(
            f"the page size of an FFCV file is a power of two from {_MIN_PAGE_BYTES} to {_MAX_PAGE_BYTES} bytes, given {wanted}"
        )
    largest = int(np.sum([_sizes(field) for field in fields.values()], axis=0).max())
    if largest > _MAX_PAGE_BYTES:
        raise DataError(f"an example of {largest} bytes is larger than the largest FFCV page ({_MAX_PAGE_BYTES} bytes)")
    while wanted < largest:
        wanted *= 2
    return wanted
