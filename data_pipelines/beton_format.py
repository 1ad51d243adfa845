"""FFCV's file format, version 2, as numpy types (``ffcv/types.py``), and what writing, checking and pruning such files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..suite.errors import DataError

__all__ = ["ALLOCATION", "ARRAY_ARGUMENTS", "DESCRIPTOR", "HEADER", "IMAGE_RECORD", "NAME_BYTES", "VERSION", "pages_of", "read_table"]

VERSION = 2
NAME_BYTES = 16

HEADER = np.dtype(
    [("version", "<u2"), ("num_fields", "<u2"), ("page_size", "<u4"), ("num_samples", "<u8"), ("alloc_table_ptr", "<u8")], align=True
)
DESCRIPTOR = np.dtype([("type_id", "<u1"), ("name", ("<u1", NAME_BYTES)), ("arguments", ("<u1", 1024))], align=True)
ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
ARRAY_ARGUMENTS = np.dtype([("shape", "<u8", 32), ("type_length", "<u8")])
IMAGE_RECORD = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])


def pages_of(totals: np.ndarray, page_bytes: int) -> list[tuple[int, int]]:
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


def read_table(path: Path, dtype: np.dtype[Any], count: int, offset: int, length: int) -> np.ndarray:
    """Read ``count`` records at ``offset``; raises ``DataError`` when the file ends before they do."""
    if offset + count * dtype.itemsize > length:
        raise DataError(f"{path.name} ends after {length} bytes, in the middle of its tables: truncated or not an FFCV file")
    return np.fromfile(path, dtype=dtype, count=count, offset=offset)
