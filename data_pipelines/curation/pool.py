"""The pool: the training examples that a curation method may choose from, and nothing else.

A pool is made by the harness from one split and the ids that remain once the validation examples are cut away. Every row that
it hands out is addressed by a position *inside* the pool, so no call reaches a validation or a test example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from ...suite.errors import DataError, NeedsUnmet, UserError, unknown_name
from ...suite.files import object_digest

__all__ = ["Pool"]

Ids = np.ndarray


@final
class Pool:
    """Examples under their original ids; arrays are gathered from the memory-mapped split when they are first asked for.

    ``ids``: int64 ``[n]``, strictly increasing. ``arrays`` maps a field's name to the whole split's array (dimension 0 is the
    id). ``label`` names the field that holds the class (int64 ``[n]``). ``facts`` are the data set's (classes, vocabulary …).
    ``data_digest`` identifies the version of the split. Raises ``DataError`` when ids and arrays do not fit each other.
    """

    def __init__(
        self,
        ids: Ids,
        arrays: Mapping[str, np.ndarray],
        *,
        data_digest: str,
        label: str | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        given = np.asarray(ids)
        if given.ndim != 1 or given.size == 0 or not np.issubdtype(given.dtype, np.integer):
            raise DataError(f"pool ids: expected a non-empty 1-D integer array, given {given.dtype} of shape {given.shape}")
        own = given.astype(np.int64)
        if np.any(np.diff(own) <= 0) or own[0] < 0:
            raise DataError("pool ids: expected non-negative, strictly increasing ids")
        for name, array in arrays.items():
            if len(array) <= own[-1]:
                raise DataError(f"pool field {name!r}: id {own[-1]} is outside its {len(array)} rows")
        if label is not None and label not in arrays:
            raise DataError(f"pool label {label!r} is none of the fields {sorted(arrays)}")
        own.setflags(write=False)
        self._ids, self._arrays, self._label = own, dict(arrays), label
        self._facts, self._data_digest, self._labels_open = dict(facts or {}), data_digest, True
        self._gathered: dict[str, np.ndarray] = {}
        self._read = [0]  # shared by all views of this pool

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        """Original ids, int64 ``[n]``, strictly increasing, read-only."""
        return self._ids

    @property
    def read_bytes(self) -> int:
        """Bytes of examples that this pool and its views have handed out so far; what is kept for the next call counts once."""
        return self._read[0]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is known about the data set as a whole."""
        return dict(self._facts)

    @property
    def digest(self) -> str:
        """Identity of the pool: the split's version and the ids. Selections carry it and fit no other pool."""
        ids_digest = hashlib.sha256(self._ids.astype("<i8").tobytes()).hexdigest()
        return object_digest({"data": self._data_digest, "ids": ids_digest})

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the fields that are inputs of the model: all but the label, in the data set's order."""
        return tuple(name for name in self._arrays if name != self._label)

    @property
    def has_labels(self) -> bool:
        """Whether :attr:`labels` can be read from this view."""
        return self._label is not None and self._labels_open

    @property
    def labels(self) -> np.ndarray:
        """Classes, int64 ``[n]``. ``NeedsUnmet`` when the pool has none or the method did not declare ``needs_labels``."""
        if self._label is None:
            raise NeedsUnmet("this pool has no labels")
        if not self._labels_open:
            raise NeedsUnmet("labels are withheld: the method does not declare needs_labels")
        return self._gather(self._label).astype(np.int64, copy=False)

    def field(self, name: str) -> np.ndarray:
        """An input's rows, aligned with :attr:`ids`, read-only and kept for the next call. The label is no input."""
        return self._gather(self._known(name))

    def rows(self, name: str, positions: np.ndarray | slice) -> np.ndarray:
        """Some rows of an input, by position in the pool (0 to n-1): for work in pieces, where :meth:`field` would not fit in memory."""
        picked = self._ids[positions] if isinstance(positions, slice) else self._ids[self._checked(positions)]
        rows = np.asarray(self._arrays[self._known(name)][picked])
        self._read[0] += rows.nbytes
        return rows

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Where original ids lie in the pool, int64; ``UserError`` names the first id that is not in it."""
        wanted = np.asarray(ids, dtype=np.int64)
        found = np.searchsorted(self._ids, wanted)
        missing = (found == len(self)) | (self._ids[np.minimum(found, len(self) - 1)] != wanted)
        if missing.any():
            raise UserError(f"{int(missing.sum())} ids are not in the pool of {len(self)} examples, the first is {wanted[missing][0]}")
        return found

    def without_labels(self) -> Pool:
        """A view whose labels cannot be read; what a method gets that does not declare ``needs_labels``."""
        view = object.__new__(Pool)
        view.__dict__.update(self.__dict__)
        view._labels_open = False
        view._arrays = {name: self._arrays[name] for name in self.inputs}
        view._gathered = {name: rows for name, rows in self._gathered.items() if name != self._label}
        return view

    def relabelled(self, labels: np.ndarray) -> Pool:
        """This pool with other labels, int64 ``[n]``: negative controls shuffle them. The digest stays: the examples are the same."""
        if self._label is None or len(labels) != len(self):
            raise DataError(f"relabelled: expected {len(self)} labels of a labelled pool, given {len(labels)}")
        view = object.__new__(Pool)
        view.__dict__.update(self.__dict__)
        view._gathered = self._gathered | {self._label: np.asarray(labels, dtype=np.int64)}
        return view

    def _known(self, name: str) -> str:
        if name not in self.inputs:
            raise unknown_name("pool field", name, self.inputs)
        return name

    def _checked(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        where = np.asarray(positions)
        if where.dtype == bool and len(where) == len(self):
            where = np.flatnonzero(where)
        if where.size and (not np.issubdtype(where.dtype, np.integer) or where.min() < 0 or where.max() >= len(self)):
            raise UserError(f"positions: expected integers from 0 to {len(self) - 1}")
        return where.astype(np.int64)

    def _gather(self, name: str) -> np.ndarray:
        if name not in self._gathered:
            array = self._arrays[name]
            whole = len(array) == len(self)
            rows = array.view() if whole else np.asarray(array[self._ids])
            rows.setflags(write=False)
            self._read[0] += rows.nbytes
            self._gathered[name] = rows
        return self._gathered[name]
