"""Data of the full tier: too large, or under terms too strict, to be fetched here. The layout is fixed; the reader brings the files.

A folder ``$TIMETRIAL_MIRROR/NAME`` holds ``SPLIT/FIELD.npy`` for every split and field in the stated dtype and shape, and ``facts.json``.
With ``synthetic_examples`` n > 0 nothing is read: n seeded random examples a split, of exactly these shapes, for smoke runs and for seeing
what a step costs. They are another dataset with another digest, so no result on them can be taken for one on the real data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError, DataError, DataMissing
from ...suite.files import object_digest
from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import mirror_folder

__all__ = ["SPLITS", "Column", "Terms", "folder_state", "gated_source", "require_folder"]

SPLITS = ("train", "validation", "test")
_SEED = 0
Adjust = Callable[[dict[str, np.ndarray]], None]


@dataclass(frozen=True)
class Column:
    """A field: numpy dtype and shape of one example (``()`` for a class), and whole numbers that synthetic values stay below (0: real
    numbers from 0 to 1)."""

    dtype: str
    shape: tuple[int, ...]
    below: int

    def random(self, count: int, random: np.random.Generator) -> np.ndarray:
        """``[count, *shape]``, seeded: numbers from ``random``."""
        size = (count, *self.shape)
        values = random.integers(0, self.below, size) if self.below else random.random(size, np.float32)
        return values.astype(self.dtype)

    @property
    def kind(self) -> FieldKind:
        """INT for one whole number an example, else ARRAY."""
        return FieldKind.ARRAY if self.shape else FieldKind.INT


@dataclass(frozen=True)
class Terms:
    """What a reader must do for the data: ``sign`` (agreement or account; empty if none), ``download`` (official files) from ``url``."""

    url: str
    licence: str
    sign: str
    download: str
    size_bytes: float

    def missing(self, name: str, expected: str, absent: str) -> DataMissing:
        """The error that says all of it."""
        sign = f"{self.sign}; " if self.sign else ""
        return DataMissing(
            f"{name}: {absent} is not there. {sign}download {self.download} ({self.size_bytes / 1e9:,.0f} GB) from {self.url} "
            f"(licence: {self.licence}) and put it below TIMETRIAL_MIRROR as {name}/ with {expected}; "
            "workload.data.options.synthetic_examples=64 takes random data of the same shapes instead"
        )


def require_folder(name: str, terms: Terms, expected: str) -> Path:
    """``$TIMETRIAL_MIRROR/NAME``; ``DataMissing`` with the terms when it is not there."""
    mirror = mirror_folder()
    if mirror is None:
        raise terms.missing(name, expected, "TIMETRIAL_MIRROR is not set, and its data")
    if not (mirror / name).is_dir():
        raise terms.missing(name, expected, str(mirror / name))
    return mirror / name


def gated_source(
    name: str,
    terms: Terms,
    citation: str,
    columns: Mapping[str, Column],
    facts: Callable[[], Mapping[str, Any]],
    options: Mapping[str, Any] | None = None,
    *,
    adjust: Adjust | None = None,
) -> Source:
    """A source of arrays in a fixed layout.

    ``facts()``: those of synthetic data, and the keys that ``facts.json`` must have. ``adjust`` makes random columns fit each other.
    """
    layout = ", ".join(f"{field}.npy {column.dtype} {[('n'), *column.shape]}".replace("'", "") for field, column in columns.items())
    expected = f"{', '.join(f'{split}/' for split in SPLITS)} each holding {layout}, and facts.json with {', '.join(facts())}"

    def decode(paths: Mapping[str, Path], chosen: Mapping[str, Any]) -> Decoded:
        count = chosen["synthetic_examples"]
        if count < 0:
            raise ConfigError(f"{name}: option synthetic_examples: expected 0 or more, given {count}")
        if count:
            return Decoded({split: _synthetic(columns, count, i, adjust) for i, split in enumerate(SPLITS)}, dict(facts()))
        folder = require_folder(name, terms, expected)
        splits = {split: {field: read(folder / split / f"{field}.npy", column) for field, column in columns.items()} for split in SPLITS}
        return Decoded(splits, _read_facts(folder / "facts.json", facts()))

    def read(path: Path, column: Column) -> Field:
        if not path.is_file():
            raise terms.missing(name, expected, str(path))
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        dtype = np.dtype(np.int64) if column.kind is FieldKind.INT else np.dtype(column.dtype)
        if values.dtype != dtype or values.shape[1:] != column.shape:
            raise DataError(f"{path}: expected {dtype} {['n', *column.shape]}, found {values.dtype} {list(values.shape)}")
        return Field(column.kind, values)

    return Source(
        name=name,
        version=1,
        licence=terms.licence,
        citation=citation,
        files=(),
        decode=decode,
        options={"synthetic_examples": 0, **(options or {})},
        identify=lambda chosen: "synthetic" if chosen["synthetic_examples"] else folder_state(name),
    )


def _synthetic(columns: Mapping[str, Column], count: int, split: int, adjust: Adjust | None) -> dict[str, Field]:
    random = np.random.default_rng([_SEED, split])
    arrays = {field: column.random(count, random) for field, column in columns.items()}
    if adjust is not None:
        adjust(arrays)
    return {field: Field(columns[field].kind, values) for field, values in arrays.items()}


def _read_facts(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        absent = sorted(set(known) - set(found))
    except (OSError, ValueError, TypeError) as problem:
        raise DataError(f"{path}: cannot be read: {problem}") from None
    if absent:
        raise DataError(f"{path}: expected keys {', '.join(sorted(known))}; missing: {', '.join(absent)}")
    return found


def folder_state(name: str) -> str:
    """Names, sizes and times of the files in the mirror: another state is another dataset."""
    mirror = mirror_folder()
    folder = None if mirror is None else mirror / name
    if folder is None or not folder.is_dir():
        return "absent"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return object_digest([[str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns] for path in files])
