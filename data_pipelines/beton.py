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
from pathlib import Path
from typing import Any

import numpy as np

from ..suite.errors import DataError
from ..suite.files import atomic_path
from .dataset import Field, FieldKind
from .jpeg import jpeg_size

__all__ = ["BetonLayout", "ffcv_available", "read_layout", "write_beton"]

_VERSION = 2
_MIN_PAGE_BYTES = 1 << 21
_MAX_PAGE_BYTES = 1 << 31
_NAME_BYTES = 16
_MAX_SIDE = (1 << 16) - 1

_HEADER = np.dtype(
    [("version", "<u2"), ("num_fields", "<u2"), ("page_size", "<u4"), ("num_samples", "<u8"), ("alloc_table_ptr", "<u8")], align=True
)
_DESCRIPTOR = np.dtype([("type_id", "<u1"), ("name", ("<u1", _NAME_BYTES)), ("arguments", ("<u1", 1024))], align=True)
_ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
_ARRAY_ARGUMENTS = np.dtype([("shape", "<u8", 32), ("type_length", "<u8")])
_IMAGE_RECORD = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])

_INT, _IMAGE, _ARRAY = 1, 2, 4
_TYPE_OF_KIND = {FieldKind.INT: _INT, FieldKind.IMAGE: _IMAGE, FieldKind.JPEG: _IMAGE, FieldKind.ARRAY: _ARRAY}
_RECORD_OF_TYPE = {_INT: np.dtype("<i8"), _IMAGE: _IMAGE_RECORD, _ARRAY: np.dtype("<u8")}
_MODE_OF_KIND = {FieldKind.JPEG: 0, FieldKind.IMAGE: 1}
# FFCV hands numpy dtypes on to torch, which lacks some: those travel as the signed type of the same width, bit for bit.
_STORED_AS = {np.dtype(np.uint16): np.int16, np.dtype(np.uint32): np.int32, np.dtype(np.uint64): np.int64}


def ffcv_available() -> bool:
    """Whether FFCV is installed; looks it up without importing it (an import takes seconds)."""
    return importlib.util.find_spec("ffcv") is not None


def write_beton(path: Path, fields: Mapping[str, Field], *, page_size_bytes: int = _MIN_PAGE_BYTES) -> None:
    """Write fields as one FFCV file, atomically: the file is there whole or not at all.

    Any FFCV reader understands it: INT becomes ``IntField``, IMAGE ``RGBImageField`` (raw), JPEG the same with the encoded bytes
    as they are (never encoded again), ARRAY ``NDArrayField``. ``page_size_bytes`` is a power of two from 2 MiB; it grows when an
    example is larger. Raises ``DataError`` for fields that FFCV cannot hold, and ``OSError`` when the disk is full.
    """
    count = _checked_length(fields)
    sizes = np.stack([_sizes(field, count) for field in fields.values()], axis=1)
    totals = sizes.sum(axis=1)
    page_bytes = _page_bytes(page_size_bytes, int(totals.max()))
    descriptors = np.concatenate([_descriptor(name, field) for name, field in fields.items()])
    metadata = np.zeros(count, _metadata_type(descriptors["type_id"]))
    data_start = _round_up(_HEADER.itemsize + descriptors.nbytes + metadata.nbytes, page_bytes)
    pages = _pages(totals, page_bytes)
    starts = np.cumsum(sizes, axis=1) - sizes
    for number, (first, last) in enumerate(pages):
        before = np.cumsum(totals[first:last]) - totals[first:last]
        starts[first:last] += data_start + number * page_bytes + before[:, None]
    for column, (name, field) in enumerate(fields.items()):
        _fill_metadata(name, metadata[f"f{column}"], field, starts[:, column])
    stored = [column for column, field in enumerate(fields.values()) if field.kind is not FieldKind.INT]
    allocations = np.zeros((count, len(stored)), _ALLOCATION)
    allocations["sample_id"] = np.arange(count)[:, None]
    allocations["ptr"], allocations["size"] = starts[:, stored], sizes[:, stored]
    header = np.array((_VERSION, len(fields), page_bytes, count, data_start + len(pages) * page_bytes), _HEADER)
    with atomic_path(path) as part, part.open("wb") as stream:
        for block in (header, descriptors, metadata):
            stream.write(block.tobytes())
        stream.write(bytes(data_start - stream.tell()))
        for number, (first, last) in enumerate(pages):
            inside = starts[first:last] - (data_start + number * page_bytes)
            stream.write(_page(list(fields.values()), inside, sizes[first:last], first, page_bytes))
        stream.write(allocations.tobytes())


@dataclass(frozen=True)
class BetonLayout:
    """Where each example lies in a file that has passed the structural check.

    ``count`` examples. ``starts`` and ``sizes``: for every field with data (all but INT) int64 ``[n]``, bytes from the beginning of
    the file. ``columns``: field name to FFCV's column name (``f0``, ``f1``, …) in the metadata.
    """

    count: int
    columns: Mapping[str, str]
    starts: Mapping[str, np.ndarray]
    sizes: Mapping[str, np.ndarray]


def read_layout(path: Path, fields: Mapping[str, Field]) -> BetonLayout:
    """Check that a file is a whole FFCV file that holds these fields, and say where the examples lie.

    Looks at everything that FFCV trusts blindly (version, field types, shapes, every pointer and size against the file's length);
    the content itself is covered by the digests of the dataset. Raises ``DataError``, ``DataMissing`` is the caller's.
    """
    length = path.stat().st_size
    header = _read(path, _HEADER, 1, 0, length)[0]
    if header["version"] != _VERSION or header["num_fields"] != len(fields):
        raise DataError(
            f"{path.name} is not the FFCV file of this dataset: expected format {_VERSION} with {len(fields)} fields, "
            f"given format {header['version']} with {header['num_fields']}"
        )
    count = _checked_length(fields)
    if header["num_samples"] != count:
        raise DataError(f"{path.name} holds {header['num_samples']} examples, the dataset {count}")
    descriptors = _read(path, _DESCRIPTOR, len(fields), _HEADER.itemsize, length)
    for found, (name, field) in zip(descriptors, fields.items(), strict=True):
        if found.tobytes() != _descriptor(name, field).tobytes():
            raise DataError(f"{path.name}: field {name!r} is stored with another name, type or shape than the dataset's")
    metadata = _read(path, _metadata_type(descriptors["type_id"]), count, _HEADER.itemsize + descriptors.nbytes, length)
    stored = [name for name, field in fields.items() if field.kind is not FieldKind.INT]
    table_start = int(header["alloc_table_ptr"])
    table = _read(path, _ALLOCATION, count * len(stored), table_start, length)
    if table_start + table.nbytes != length:
        raise DataError(f"{path.name} is {length} bytes long, expected {table_start + table.nbytes}: truncated or overwritten")
    columns = {name: f"f{i}" for i, name in enumerate(fields)}
    starts, sizes = {}, {}
    for i, name in enumerate(stored):
        pointers = metadata[columns[name]]
        if fields[name].kind is not FieldKind.ARRAY:
            pointers = pointers["data_ptr"]
        expected = _sizes(fields[name], count)
        mine = table[i :: len(stored)]
        whole = (
            (mine["ptr"] == pointers)
            & (mine["size"] == expected)
            & (pointers >= metadata.nbytes)
            & (pointers + mine["size"] <= table_start)
        )
        if not whole.all():
            raise DataError(
                f"{path.name}: field {name!r} of example {int(np.argmin(whole))} points outside its place: truncated or overwritten"
            )
        starts[name], sizes[name] = pointers.astype(np.int64), expected
    return BetonLayout(count, columns, starts, sizes)


def _checked_length(fields: Mapping[str, Field]) -> int:
    """Number of examples; refuses what the format cannot hold before a byte is written."""
    lengths = {name: len(field) for name, field in fields.items()}
    if not fields or len(set(lengths.values())) != 1 or min(lengths.values()) == 0:
        raise DataError(f"an FFCV file needs fields of one length, at least 1; given {lengths}")
    for name, field in fields.items():
        _check_field(name, field)
    return next(iter(lengths.values()))


def _check_field(name: str, field: Field) -> None:
    values = field.values
    if not (name.isascii() and 0 < len(name) <= _NAME_BYTES):
        raise DataError(f"field name {name!r}: FFCV keeps 1 to {_NAME_BYTES} ASCII characters")
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
        fine, expected = values.dtype == np.uint8 and values.ndim == 1 and field.offsets is not None, "uint8 [bytes] with offsets"
    else:
        fine = values.dtype.kind in "biuf" and values.dtype.isnative and values.ndim <= 32 and 0 not in values.shape
        expected = "numbers of a fixed shape"
    if not fine:
        raise DataError(f"field {name!r} of kind {field.kind}: expected {expected}, given {values.dtype} {list(values.shape)}")


def _sizes(field: Field, count: int) -> np.ndarray:
    """int64 ``[n]``: bytes of data of each example (0 for INT, which lives in the metadata)."""
    if field.kind is FieldKind.INT:
        return np.zeros(count, np.int64)
    if field.offsets is not None:
        return np.diff(field.offsets).astype(np.int64)
    return np.full(count, field.values[:1].nbytes, np.int64)


def _descriptor(name: str, field: Field) -> np.ndarray:
    """FFCV's field descriptor ``[1]``: type, name and, for arrays, shape and dtype."""
    descriptor = np.zeros(1, _DESCRIPTOR)
    descriptor["type_id"] = _TYPE_OF_KIND[field.kind]
    encoded = np.frombuffer(name.encode("ascii"), np.uint8)
    descriptor["name"][0, : len(encoded)] = encoded
    if field.kind is FieldKind.ARRAY:
        shape = field.values.shape[1:] or (1,)
        dtype = np.dtype(_STORED_AS.get(field.values.dtype, field.values.dtype))
        arguments = np.zeros(1, _ARRAY_ARGUMENTS)
        text = np.frombuffer(json.dumps(dtype.descr).encode("ascii"), np.uint8)
        arguments["shape"][0, : len(shape)] = shape
        arguments["type_length"] = len(text)
        packed = np.concatenate([arguments.view(np.uint8), text])
        descriptor["arguments"][0, : len(packed)] = packed
    return descriptor


def _fill_metadata(name: str, column: np.ndarray, field: Field, starts: np.ndarray) -> None:
    """Write one field's metadata in place: its value (INT), or where its data is and how large the picture."""
    if field.kind is FieldKind.INT:
        column[:] = field.values
    elif field.kind is FieldKind.ARRAY:
        column[:] = starts
    else:
        column["mode"], column["data_ptr"] = _MODE_OF_KIND[field.kind], starts
        if field.offsets is None:
            column["height"], column["width"] = field.values.shape[1:3]
        else:
            for i, (first, last) in enumerate(zip(field.offsets[:-1], field.offsets[1:], strict=True)):
                try:
                    column["height"][i], column["width"][i] = jpeg_size(field.values[first:last])
                except ValueError as error:
                    raise DataError(f"field {name!r} of example {i}: {error}") from error


def _pages(totals: np.ndarray, page_bytes: int) -> list[tuple[int, int]]:
    """Consecutive examples ``first .. last - 1`` page by page; an example never crosses a page."""
    ends = np.cumsum(totals)
    if ends[-1] == 0:
        return []
    pages, first = [], 0
    while first < len(totals):
        begin = ends[first] - totals[first]
        last = int(np.searchsorted(ends, begin + page_bytes, side="right"))
        pages.append((first, last))
        first = last
    return pages


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


def _page_bytes(wanted: int, largest: int) -> int:
    if wanted < _MIN_PAGE_BYTES or wanted > _MAX_PAGE_BYTES or wanted & (wanted - 1):
        raise DataError(f"page_size_bytes must be a power of two from {_MIN_PAGE_BYTES} to {_MAX_PAGE_BYTES}, given {wanted}")
    while wanted < largest:
        wanted *= 2
    if wanted > _MAX_PAGE_BYTES:
        raise DataError(f"an example of {largest} bytes is larger than the largest FFCV page ({_MAX_PAGE_BYTES} bytes)")
    return wanted


def _metadata_type(type_ids: Any) -> np.dtype[Any]:
    return np.dtype([("", _RECORD_OF_TYPE[int(type_id)]) for type_id in type_ids], align=True)


def _read(path: Path, dtype: np.dtype[Any], count: int, offset: int, length: int) -> np.ndarray:
    """Read ``count`` records at ``offset``; raises ``DataError`` when the file ends before they do."""
    if offset + count * dtype.itemsize > length:
        raise DataError(f"{path.name} ends after {length} bytes, in the middle of its tables: truncated or not an FFCV file")
    return np.fromfile(path, dtype=dtype, count=count, offset=offset)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
