"""The realiser that writes a smaller data set: the kept examples, repeats in full, as arrays and FFCV file of their own.

Training on a rewritten split serves the same examples in every epoch as training on the whole split with the selection's ids as a mask;
it costs one pass over the kept bytes and gains where the mask's random reads are slow (disks, object stores).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...suite.errors import DataError
from ...suite.files import object_digest
from ..beton import ffcv_available, write_beton
from ..fields import Field, FieldKind, Split
from .selection import Selection

__all__ = ["ORIGINAL_ID", "WEIGHT", "gathered", "rewrite", "rewritten_digest"]

ORIGINAL_ID, WEIGHT = "original_id", "weight"
"""Fields that a rewritten split has beside its own: int64 ``[k]``, and float32 ``[k, 1]`` where the selection has weights."""


def rewritten_digest(selection: Selection) -> str:
    """Identity of a pool that was rewritten by a selection: a function of the pool's and the selection's digests alone."""
    return object_digest({"pool": selection.pool_digest, "selection": selection.digest})


def rewrite(split: Split, selection: Selection, path: Path) -> Split:
    """The selection's epoch as a split of its own, in id order; its FFCV file is written to ``path`` where FFCV is installed.

    ``DataError`` when the split has a field of a name that is used here, or lacks a selected id.
    """
    ids, weights = selection.epoch()
    if ids[-1] >= len(split):
        raise DataError(f"selection: id {ids[-1]} is outside the {len(split)} examples of split {split.name!r}")
    if taken := {ORIGINAL_ID, WEIGHT} & set(split.fields):
        raise DataError(f"split {split.name!r} has a field {sorted(taken)[0]!r} already: it was rewritten before")
    fields: dict[str, Field] = {**gathered(split.fields, ids), ORIGINAL_ID: Field(FieldKind.INT, ids)}
    if weights is not None:
        fields[WEIGHT] = Field(FieldKind.ARRAY, weights[:, None])
    if ffcv_available():
        write_beton(path, fields)
    return Split(split.name, fields, path if ffcv_available() else None, rewritten_digest(selection))


def gathered(fields: Mapping[str, Field], ids: np.ndarray) -> dict[str, Field]:
    """Rows ``ids`` (int64 ``[k]``, repeats allowed) of every field, in that order; encoded pictures stay as they are encoded."""
    found = {}
    for name, field in fields.items():
        if field.offsets is None:
            found[name] = Field(field.kind, np.ascontiguousarray(field.values[ids]))
            continue
        starts, sizes = field.offsets[:-1][ids], np.diff(field.offsets)[ids]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        values = np.empty(int(offsets[-1]), field.values.dtype)
        for start, low, high in zip(starts.tolist(), offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            values[low:high] = field.values[start : start + high - low]
        found[name] = Field(field.kind, values, offsets)
    return found
