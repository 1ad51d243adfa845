"""Examples from elsewhere behind a dataset's training split: the track on which an entry brings data of its own, real or synthetic.

``SOURCE+outside`` is a source with one more option, ``path``: an ``.npz`` with arrays named as the fields of the training split, rows as
they are there; whole numbers that the task does not read may be left out and become -1. Ids go on where the official ones end. Validation
and test stay as they are, and a copy of any official example is refused: what is held out must not come in again.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..suite.errors import ConfigError, UserError
from ..suite.files import file_digest
from ..suite.registry import OUTSIDE
from .dataset import Decoded, Source
from .duplicates import exact_copies
from .fields import Field, FieldKind

__all__ = ["OUTSIDE_EXAMPLES", "OUTSIDE_FIELDS", "with_outside"]

UNKNOWN = np.int64(-1)
OUTSIDE_EXAMPLES = "outside_examples"
"""The fact that tells how many of the training examples, the last ones, are no official ones."""
OUTSIDE_FIELDS = "outside_fields"
"""The fact that names the fields which they came with."""


def with_outside(source: Source) -> Source:
    """The same source with examples from elsewhere behind its training split. ``ConfigError`` for a source of the user's own files."""
    if source.identify is not None:
        raise ConfigError(f"{source.name}{OUTSIDE}: {source.name} reads your own files already; put the examples there")

    def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
        given = _read(_path(options))
        splits, facts = source.decode(paths, {name: options[name] for name in source.options})
        extended = _extended(splits["train"], given)
        _refuse_copies(splits, given)
        count = len(next(iter(given.values())))
        return Decoded({**splits, "train": extended}, {**facts, OUTSIDE_EXAMPLES: count, OUTSIDE_FIELDS: sorted(given)})

    def identify(options: Mapping[str, Any]) -> str:
        return file_digest(_path(options))

    return replace(source, decode=decode, options={**source.options, "path": ""}, identify=identify)


def _path(options: Mapping[str, Any]) -> Path:
    path = Path(str(options["path"]))
    if not path.is_file():
        raise ConfigError(f"outside examples: option path expected an .npz file, there is none at {str(path)!r}")
    return path


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            given = {name: file[name] for name in sorted(file)}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as problem:
        raise UserError(f"{path.name}: expected an .npz of plain arrays: {problem}") from None
    lengths = {name: len(array) if array.ndim else 0 for name, array in given.items()}
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        raise UserError(f"{path.name}: expected as many rows in every array, one at least; given {lengths}")
    return given


def _extended(train: Mapping[str, Field], given: Mapping[str, np.ndarray]) -> dict[str, Field]:
    """The official columns with the given rows behind them; ``UserError`` names the first that does not fit."""
    absent = {name for name, column in train.items() if name not in given}
    if not set(given) <= set(train) or any(train[name].kind is not FieldKind.INT for name in absent):
        raise UserError(f"outside examples: expected the fields {', '.join(sorted(train))}, given {', '.join(sorted(given))}")
    found, count = {}, len(next(iter(given.values())))
    for name, column in train.items():
        own = column.values
        if name in absent:
            found[name] = Field(column.kind, np.concatenate([own, np.full(count, UNKNOWN)]))
            continue
        rows = given[name]
        if column.offsets is not None:
            raise UserError(f"outside examples: field {name!r} holds encoded pictures of any size, behind which none can be added")
        if rows.dtype != own.dtype or rows.shape[1:] != own.shape[1:]:
            wanted, found_row = (f"{array.dtype} {list(array.shape[1:])}" for array in (own, rows))
            raise UserError(f"outside examples: field {name!r} expected {wanted} a row, given {found_row}")
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            raise UserError(f"outside examples: field {name!r} holds NaN or infinity")
        if column.kind is FieldKind.INT and (unknown := np.setdiff1d(rows, own)).size:
            raise UserError(f"outside examples: field {name!r} holds {unknown[0]}, which no official training example has")
        found[name] = Field(column.kind, np.concatenate([own, rows]))
    return found


def _refuse_copies(splits: Mapping[str, Mapping[str, Field]], given: Mapping[str, np.ndarray]) -> None:
    """``UserError`` when a given example has the same inputs, bit for bit, as an official one of any split."""
    inputs = [name for name, column in splits["train"].items() if column.kind is not FieldKind.INT] or sorted(given)
    parts = [*({name: fields[name].values for name in inputs} for fields in splits.values()), given]
    group = exact_copies(*(np.concatenate([part[name] for part in parts]) for name in inputs))
    ends = np.cumsum([len(part[inputs[0]]) for part in parts[:-1]])
    official, own = group[: ends[-1]], group[ends[-1] :]
    copies = np.flatnonzero(np.isin(own, official))
    if copies.size:
        split = list(splits)[int(np.searchsorted(ends, np.flatnonzero(official == own[copies[0]])[0], side="right"))]
        raise UserError(f"outside examples: {len(copies)} are copies of official ones, the first is row {copies[0]}, which is in {split!r}")
