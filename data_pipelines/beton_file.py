"""Any FFCV file, whoever wrote it: opened with distrust, read row by row, and pruned to some of its rows without touching their bytes.

FFCV believes every pointer in a file. Here a table that ends early, an extent outside the file or an unknown type is a ``DataError``
before anything is read. All of FFCV's own field types are known (``ffcv/types.py``, format version 2).
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from ..suite.errors import DataError, unknown_name
from ..suite.files import atomic_path
from .beton_format import ALLOCATION, ARRAY_ARGUMENTS, DESCRIPTOR, HEADER, IMAGE_RECORD, VERSION, pages_of, read_table

__all__ = ["BetonColumn", "BetonFile"]

_EXTENT = np.dtype([("ptr", "<u8"), ("size", "<u8")])
# type number -> (kind, metadata record, the part of the record that points at data)
_TYPES: Mapping[int, tuple[str, np.dtype[Any], str | None]] = {
    0: ("float", np.dtype("<f8"), None),
    1: ("int", np.dtype("<i8"), None),
    2: ("picture", IMAGE_RECORD, "data_ptr"),
    3: ("bytes", _EXTENT, "ptr"),
    4: ("array", np.dtype("<u8"), ""),
    5: ("json", _EXTENT, "ptr"),
    6: ("array", np.dtype("<u8"), ""),
}
_ENCODED = 0  # mode of a picture that is stored as JPEG


@final
@dataclass(frozen=True, eq=False)
class BetonColumn:
    """One field of a file. ``kind``: ``float``, ``int``, ``picture``, ``bytes``, ``array`` or ``json``.

    ``starts``, ``sizes``: int64 ``[n]``, where each example's data lie in bytes (0 for numbers, which lie in the metadata). ``shape`` and
    ``dtype`` are those of an ``array``. ``pointer`` names the part of the metadata record that holds the start: "" the whole of it.
    """

    name: str
    kind: str
    metadata: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    pointer: str | None
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] | None = None


@final
class BetonFile:
    """An open FFCV file; its data are memory-mapped, its tables are in memory. ``DataError`` when it is damaged or no such file."""

    def __init__(self, path: Path) -> None:
        length = path.stat().st_size
        self._path, self._header = path, read_table(path, HEADER, 1, 0, length)
        version, fields, count = (int(self._header[name][0]) for name in ("version", "num_fields", "num_samples"))
        if version != VERSION or not fields or not count:
            given = f"version {version} with {fields} fields and {count} examples"
            raise DataError(f"{path.name}: expected an FFCV file of version {VERSION} with fields and examples, given {given}")
        self._descriptors = read_table(path, DESCRIPTOR, fields, HEADER.itemsize, length)
        numbers = self._descriptors["type_id"].tolist()
        if unknown := sorted(set(numbers) - set(_TYPES)):
            raise DataError(f"{path.name}: field types {unknown} are not FFCV's own; known: {', '.join(map(str, _TYPES))}")
        record = np.dtype([("", _TYPES[number][1]) for number in numbers], align=True)
        self._metadata = read_table(path, record, count, HEADER.itemsize + self._descriptors.nbytes, length)
        table = int(self._header["alloc_table_ptr"][0])
        if table > length:
            raise DataError(f"{path.name} ends after {length} bytes, its table of extents begins at {table}: truncated")
        extents = read_table(path, ALLOCATION, (length - table) // ALLOCATION.itemsize, table, length)
        self._extents = extents[np.argsort(extents["ptr"], kind="stable")]
        self._bytes = np.memmap(path, np.uint8, "r")
        self.columns: Mapping[str, BetonColumn] = {c.name: c for c in (self._column(i, table) for i in range(fields))}

    def __len__(self) -> int:
        return len(self._metadata)

    def column(self, name: str) -> BetonColumn:
        """A field by name; ``UnknownName`` with the nearest ones."""
        if name not in self.columns:
            raise unknown_name("field of the .beton", name, self.columns)
        return self.columns[name]

    def data(self, name: str, row: int) -> np.ndarray:
        """The bytes of one example's field as they are stored, uint8 ``[size]``."""
        column = self.columns[name]
        return self._bytes[column.starts[row] : column.starts[row] + column.sizes[row]]

    def numbers(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Values of a field of kind ``int``, ``float`` or ``array`` for some rows, ``[k, ...]``."""
        column = self.column(name)
        if column.kind in ("int", "float"):
            return column.metadata[rows]
        out = np.empty((len(rows), *column.shape), column.dtype)
        flat = out.reshape(len(rows), -1).view(np.uint8)
        for i, row in enumerate(rows.tolist()):
            flat[i] = self.data(name, row)
        return out

    def pixels(self, name: str, row: int) -> np.ndarray:
        """One picture, RGB uint8 ``[height, width, 3]``; ``ValueError`` or ``OSError`` when it cannot be decoded."""
        about = self.columns[name].metadata[row]
        if about["mode"] != _ENCODED:
            return self.data(name, row).reshape(int(about["height"]), int(about["width"]), 3)
        from PIL import Image

        with Image.open(io.BytesIO(self.data(name, row).tobytes()), formats=["JPEG"]) as picture:
            return np.asarray(picture.convert("RGB"))

    def text(self, name: str, row: int) -> str:
        """A field of kind ``bytes`` (UTF-8) or ``json`` (a JSON string, or any value as JSON) as text; ``ValueError`` when it is none."""
        stored = self.data(name, row).tobytes().rstrip(b"\0").decode("utf-8")
        if self.columns[name].kind == "json":
            value = json.loads(stored)
            return value if isinstance(value, str) else stored
        return stored

    def prune(self, rows: np.ndarray, path: Path, on_progress: Callable[[float], None] = lambda share: None) -> None:
        """Write some rows (int64 ``[k]``, in this order, repeats allowed) as a new file, atomically; their bytes are copied as they are.

        Pages are as large as in the source. From a file of :func:`~.beton.write_beton` this gives what that makes of the same rows.
        """
        kept = np.asarray(rows, np.int64)
        if kept.ndim != 1 or not kept.size or kept.min() < 0 or kept.max() >= len(self):
            raise DataError(f"rows: expected at least one position from 0 to {len(self) - 1}")
        columns, page_bytes = list(self.columns.values()), int(self._header["page_size"][0])
        sizes = np.stack([column.sizes[kept] for column in columns], axis=1)
        data_start = -(-(HEADER.itemsize + self._descriptors.nbytes + len(kept) * self._metadata.itemsize) // page_bytes) * page_bytes
        totals = sizes.sum(axis=1)
        if int(totals.max()) > page_bytes:
            raise DataError(f"{self._path.name}: an example of {int(totals.max())} bytes does not fit its pages of {page_bytes} bytes")
        pages, starts = pages_of(totals, page_bytes), np.cumsum(sizes, axis=1) - sizes
        for number, (first, last) in enumerate(pages):
            starts[first:last] += data_start + number * page_bytes + (np.cumsum(totals[first:last]) - totals[first:last])[:, None]
        with atomic_path(path) as part, part.open("wb") as stream:
            self._write_tables(stream, kept, starts, data_start + len(pages) * page_bytes)
            stream.write(bytes(data_start - stream.tell()))
            for first, last in pages:
                stream.write(self._page(columns, kept[first:last], starts[first:last] - stream.tell(), page_bytes))
                on_progress(last / len(kept))
            stored = [i for i, column in enumerate(columns) if column.pointer is not None]
            extents = np.zeros((len(kept), len(stored)), ALLOCATION)
            extents["sample_id"] = np.arange(len(kept))[:, None]
            extents["ptr"], extents["size"] = starts[:, stored], sizes[:, stored]
            stream.write(extents.tobytes())

    def _write_tables(self, stream: io.BufferedWriter, kept: np.ndarray, starts: np.ndarray, table_start: int) -> None:
        """Header, field table and metadata of the kept rows, pointers moved."""
        record = self._metadata.dtype  # rows are copied as bytes: numpy would leave what pads the records undefined
        metadata = self._metadata.view(np.uint8).reshape(len(self), record.itemsize)[kept].reshape(-1).view(record)
        header = self._header.copy()
        header["num_samples"], header["alloc_table_ptr"] = len(kept), table_start
        for i, column in enumerate(self.columns.values()):
            if column.pointer == "":
                metadata[f"f{i}"] = starts[:, i]
            elif column.pointer is not None:
                metadata[f"f{i}"][column.pointer] = starts[:, i]
        for block in (header, self._descriptors, metadata):
            stream.write(block.tobytes())

    def _page(self, columns: Sequence[BetonColumn], rows: np.ndarray, starts: np.ndarray, page_bytes: int) -> bytes:
        page = np.zeros(page_bytes, np.uint8)
        for i, column in enumerate(columns):
            if column.pointer is not None:
                for start, row in zip(starts[:, i].tolist(), rows.tolist(), strict=True):
                    stored = self.data(column.name, row)
                    page[start : start + len(stored)] = stored
        return page.tobytes()

    def _column(self, index: int, table: int) -> BetonColumn:
        """A field's extents, each inside the file and as large as its type says."""
        descriptor, metadata = self._descriptors[index], self._metadata[f"f{index}"]
        name = descriptor["name"].tobytes().split(b"\0")[0].decode("ascii", "replace")
        kind, _, pointer = _TYPES[int(descriptor["type_id"])]
        nothing = np.zeros(len(self), np.int64)
        if pointer is None:
            return BetonColumn(name, kind, metadata, nothing, nothing, None)
        starts = (metadata if pointer == "" else metadata[pointer]).astype(np.int64)
        shape, dtype = self._array_type(name, descriptor["arguments"]) if kind == "array" else ((), None)
        if dtype is not None:
            sizes = nothing + min(math.prod(shape) * dtype.itemsize, table + 1)
        elif kind == "picture":
            sizes = np.where(metadata["mode"] == _ENCODED, 0, metadata["height"].astype(np.int64) * metadata["width"] * 3)
            encoded = np.flatnonzero(metadata["mode"] == _ENCODED)
            at = np.minimum(np.searchsorted(self._extents["ptr"], metadata[pointer][encoded]), max(len(self._extents) - 1, 0))
            if len(encoded) and (not len(self._extents) or (self._extents["ptr"][at] != metadata[pointer][encoded]).any()):
                raise DataError(f"{self._path.name}: field {name!r}: a picture points at no extent of the file; it is damaged")
            sizes[encoded] = self._extents["size"][at].astype(np.int64) if len(encoded) else 0
        else:
            sizes = metadata["size"].astype(np.int64)
        wrong = np.flatnonzero((starts < 0) | (sizes < 0) | (sizes > table) | (starts > table - sizes))
        if wrong.size:
            raise DataError(f"{self._path.name}: field {name!r} of example {wrong[0]} lies outside the file; it is damaged or truncated")
        return BetonColumn(name, kind, metadata, starts, sizes, pointer, shape, dtype)

    def _array_type(self, name: str, arguments: np.ndarray) -> tuple[tuple[int, ...], np.dtype[Any]]:
        about = np.frombuffer(arguments.tobytes()[: ARRAY_ARGUMENTS.itemsize], ARRAY_ARGUMENTS)[0]
        text = arguments.tobytes()[ARRAY_ARGUMENTS.itemsize :][: int(about["type_length"])]
        try:
            dtype = np.dtype(json.loads(text)[0][1])
        except (ValueError, TypeError, LookupError):
            raise DataError(f"{self._path.name}: field {name!r}: {text[:40]!r} is no type of numbers") from None
        if dtype.kind not in "biuf":
            raise DataError(f"{self._path.name}: field {name!r}: expected numbers, given {dtype}")
        return tuple(int(side) for side in about["shape"] if side), dtype
