"""Reading a user's files: which splits a path holds, and the columns of each, in the forms listed in ``own_files``."""

from __future__ import annotations

import gzip
import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...suite.errors import DataError

__all__ = ["Given", "Pictures", "read_splits", "split_paths"]

_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test", "t10k": "test"}
_TABLES = frozenset({".parquet", ".csv", ".jsonl"})
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_IDX = re.compile(r"(.+)-(images|labels)[-.]idx\d-ubyte(\.gz)?")
_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class Pictures:
    """Picture files, sorted by class and name."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Given:
    """Columns by split and name. ``is_table``: they are columns of rows (numbers or words ``[n]``), not arrays of any shape."""

    splits: Mapping[str, Mapping[str, np.ndarray | Pictures]]
    is_table: bool


def split_paths(root: Path) -> dict[str, Path]:
    """The file or folder of each split; one without split names is one split, train. ``DataError`` when a split has several."""
    if not root.is_dir():
        return {"train": root}
    named = [path for path in sorted(root.iterdir()) if path.name.partition(".")[0] in _SPLITS and not path.name.endswith(".npy")]
    parts = {_SPLITS[path.name.partition(".")[0]]: path for path in named}
    if len(parts) < len(named):
        raise DataError(f"{root}: several files for one split: {[path.name for path in named]}")
    return parts or {"train": root}


def read_splits(root: Path) -> Given:
    """Everything that a file or folder holds, by split (:func:`split_paths`). ``DataError`` when it is unclear."""
    idx = [path for path in root.iterdir() if _IDX.fullmatch(path.name)] if root.is_dir() else []
    if idx:
        return Given(_read_idx(idx), is_table=False)
    parts = split_paths(root)
    tables = {path.suffix in _TABLES for path in parts.values()}
    if len(tables) > 1:
        raise DataError(f"{root}: tables beside other forms: {[path.name for path in parts.values()]}")
    return Given({split: _read(path) for split, path in parts.items()}, is_table=tables.pop())


def _read(path: Path) -> Mapping[str, np.ndarray | Pictures]:
    try:
        if path.suffix in _TABLES:
            return _read_table(path)
        if path.suffix in (".npz", ".npy"):
            return _read_arrays(path)
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as problem:
        raise DataError(f"{path}: cannot be read: {' '.join(str(problem).split())}") from problem
    if path.is_dir():
        arrays = sorted(path.glob("*.npy"))
        if arrays:
            return {name: column for file in arrays for name, column in _read(file).items()}
        return _read_pictures(path)
    known = sorted({".npz", ".npy", *_TABLES})
    raise DataError(
        f"{path}: expected a file ending in {', '.join(known)}, IDX files, or a folder with a folder of pictures for each class"
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {path.stem: loaded}
    with loaded:
        return {name: loaded[name] for name in loaded}


def _read_pictures(path: Path) -> dict[str, np.ndarray | Pictures]:
    files = sorted(file for file in path.glob("*/*") if file.suffix.lower() in _PICTURES)
    unlabelled = sorted(file for file in path.glob("*") if file.suffix.lower() in _PICTURES)
    if unlabelled and not files:
        return {"image": Pictures(tuple(unlabelled))}
    if not files:
        raise DataError(f"{path}: holds no FIELD.npy, no pictures and no CLASS/picture ({', '.join(sorted(_PICTURES))})")
    return {"image": Pictures(tuple(files)), "label": np.array([file.parent.name for file in files])}


def _read_table(path: Path) -> dict[str, np.ndarray]:
    import pandas as pd

    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
    elif path.suffix == ".csv":
        frame = pd.read_csv(path, encoding="utf-8")
    else:
        lines = path.read_text(encoding="utf-8").split("\n")
        frame = pd.DataFrame([json.loads(line) for line in lines if line.strip()])
    columns = {}
    for name in frame:
        column = frame[name]
        if pd.api.types.is_bool_dtype(column):
            columns[str(name)] = column.to_numpy(np.int64)
        elif pd.api.types.is_numeric_dtype(column):
            columns[str(name)] = column.to_numpy(np.float64, na_value=np.nan) if column.hasnans else column.to_numpy()
        else:
            columns[str(name)] = column.fillna("").astype(str).to_numpy(np.str_)
    return columns


def _read_idx(files: list[Path]) -> dict[str, dict[str, np.ndarray | Pictures]]:
    """The format of MNIST's authors: two zero bytes, type, number of dimensions, big-endian sizes, values."""
    splits: dict[str, dict[str, np.ndarray | Pictures]] = {}
    for path in files:
        match = _IDX.fullmatch(path.name)
        if match is None or match[1] not in _SPLITS:
            raise DataError(f"{path}: expected a name that begins with one of {sorted(_SPLITS)}")
        try:
            content = gzip.decompress(path.read_bytes()) if match[3] else path.read_bytes()
        except (OSError, EOFError) as problem:
            raise DataError(f"{path}: cannot be read: {problem}") from problem
        if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES or len(content) < 4 + 4 * content[3]:
            raise DataError(f"{path}: is no IDX file")
        sizes = np.frombuffer(content, ">u4", content[3], 4).tolist()
        start, dtype = 4 + 4 * content[3], np.dtype(_IDX_DTYPES[content[2]])
        if len(content) != start + math.prod(sizes) * dtype.itemsize:
            raise DataError(f"{path}: expected {start + math.prod(sizes) * dtype.itemsize} bytes, found {len(content)}")
        values = np.frombuffer(content, dtype, offset=start).reshape(sizes).astype(dtype.newbyteorder("="))
        splits.setdefault(_SPLITS[match[1]], {})["image" if match[2] == "images" else "label"] = values
    return splits
