"""The selection: which examples of a pool are kept, how often and with what weight; and its file."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, final
from zipfile import BadZipFile

import numpy as np

from ...suite.errors import ConfigError, DataError, UserError
from ...suite.files import atomic_path, object_digest
from .pool import Pool

__all__ = ["Cost", "Selection", "kept_count"]

FORMAT = "timetrial-selection@1"
OPEN_ENCODER = "open_encoder"
"""The track of selections that an encoder trained on other data took part in."""


def kept_count(n: int, keep_fraction: float) -> int:
    """How many of ``n`` examples a keep fraction keeps: the one rounding rule, half up, on the decimal number as written.

    Never below 1. Per-class and per-stratum shares of it are rounded by largest remainder (:func:`.samplers.shares`).
    Raises ``ConfigError`` when the fraction is outside (0, 1] or n is 0.
    """
    if n < 1:
        raise ConfigError("keep_fraction: there is no example to keep")
    if not (isinstance(keep_fraction, (int, float)) and 0 < keep_fraction <= 1):
        raise ConfigError(f"keep_fraction: expected more than 0 and at most 1, given {keep_fraction!r}")
    return max(1, math.floor(n * Fraction(str(float(keep_fraction))) + Fraction(1, 2)))


@dataclass(frozen=True)
class Cost:
    """What an artefact took to make: wall and CPU seconds in all, wall seconds per span. Charged again wherever it is re-used.

    ``ledger``: what was measured of each span (:class:`~.ledger.Ledger`), where it was.
    """

    wall_seconds: float
    cpu_seconds: float
    span_seconds: Mapping[str, float] = field(default_factory=dict)
    ledger: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@final
@dataclass(frozen=True, eq=False)
class Selection:
    """The kept examples of one pool.

    ``ids``: int64 ``[k]``, strictly increasing original ids. ``counts``: int64 ``[k]`` >= 1, how often an example occurs in an
    epoch (None: once). ``weights``: float32 ``[k]`` >= 0, finite, multiplied into the loss (None: one). ``keep_fraction`` is what
    was asked for. ``provenance`` (JSON values) says which method, options and measurements led here. ``cost`` is filled in by
    whoever held the clock. Raises ``DataError`` when the parts contradict each other.
    """

    ids: np.ndarray
    keep_fraction: float
    pool_digest: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    counts: np.ndarray | None = None
    weights: np.ndarray | None = None
    cost: Cost | None = None

    def __post_init__(self) -> None:
        ids = _own(self.ids, np.int64, "ids")
        if ids.size == 0:
            raise DataError("selection: nothing is kept")
        if np.any(np.diff(ids) <= 0):
            raise DataError("selection ids: expected strictly increasing ids; use Selection.of for a raw list")
        object.__setattr__(self, "ids", ids)
        for name, dtype, least in (("counts", np.int64, 1), ("weights", np.float32, 0)):
            if getattr(self, name) is not None:
                values = _own(getattr(self, name), dtype, name)
                if values.shape != ids.shape or not np.isfinite(values).all() or (values < least).any():
                    raise DataError(f"selection {name}: expected {len(ids)} finite values of at least {least}")
                object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls,
        pool: Pool,
        raw_ids: np.ndarray,
        *,
        keep_fraction: float | None = None,
        repeats: str = "refuse",
        provenance: Mapping[str, Any] | None = None,
    ) -> Selection:
        """A selection from a raw list of original ids in any order.

        ``repeats="count"`` turns repeats into ``counts``; by default they are refused, since a repeat is mostly a mistake. Raises
        ``UserError`` on repeats, on ids that the pool does not have, and on anything but integers.
        """
        if repeats not in ("refuse", "count"):
            raise ConfigError(f"repeats: expected 'refuse' or 'count', given {repeats!r}")
        raw = np.asarray(raw_ids)
        if raw.ndim != 1 or raw.size == 0 or not np.issubdtype(raw.dtype, np.integer):
            raise UserError(f"ids: expected a non-empty 1-D list of integers, given {raw.dtype} of shape {raw.shape}")
        ids, counts = np.unique(raw.astype(np.int64), return_counts=True)
        repeated = counts > 1
        if repeated.any() and repeats == "refuse":
            many = int(repeated.sum())
            raise UserError(f"{many} ids are repeated, the first is {ids[repeated][0]}; say repeats='count' if this is meant")
        pool.positions(ids)
        share = len(ids) / len(pool) if keep_fraction is None else keep_fraction
        return cls(ids, share, pool.digest, dict(provenance or {}), counts if repeated.any() else None)

    @property
    def digest(self) -> str:
        """sha256 of what is kept: pool, ids, counts, weights. Two methods that keep the same share it; cost and provenance do not enter."""
        parts = {"pool": self.pool_digest, "ids": _bytes_digest(self.ids)}
        for name in ("counts", "weights"):
            values = getattr(self, name)
            parts[name] = "" if values is None else _bytes_digest(values)
        return object_digest(parts)

    @property
    def epoch_size(self) -> int:
        """Examples of one epoch: ids, repeats counted."""
        return len(self.ids) if self.counts is None else int(self.counts.sum())

    def epoch(self) -> tuple[np.ndarray, np.ndarray | None]:
        """One epoch in id order: ids int64 ``[epoch_size]`` with their repeats, and their weights float32, or None."""
        if self.counts is None:
            return self.ids, self.weights
        return np.repeat(self.ids, self.counts), None if self.weights is None else np.repeat(self.weights, self.counts)

    def checked(self, pool: Pool) -> Selection:
        """This selection, or ``DataError`` when it was made from another pool or another version of the data set."""
        if self.pool_digest != pool.digest:
            ours, theirs = self.pool_digest[:12], pool.digest[:12]
            raise DataError(f"selection was made for pool {ours}, this pool is {theirs}: another data set, version or split")
        pool.positions(self.ids)
        return self

    def with_cost(self, cost: Cost) -> Selection:
        """The same selection, its cost filled in."""
        return replace(self, cost=cost)

    def made_with(self, encoders: Sequence[str]) -> Selection:
        """The same selection; where pretrained encoders were used, its provenance names them and the track that this puts it on."""
        told = {"track": OPEN_ENCODER, "encoders": sorted(set(encoders))} if encoders else {}
        return replace(self, provenance={**self.provenance, **told})

    def write(self, path: Path) -> None:
        """Write one ``.npz`` atomically; equal selections give equal bytes."""
        header: dict[str, Any] = {
            "format": FORMAT,
            "digest": self.digest,
            "pool_digest": self.pool_digest,
            "keep_fraction": self.keep_fraction,
            "provenance": dict(self.provenance),
            "cost": None if self.cost is None else asdict(self.cost),
        }
        arrays = {"ids": self.ids, "header": np.frombuffer(json.dumps(header, sort_keys=True, allow_nan=False).encode(), dtype=np.uint8)}
        for name in ("counts", "weights"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        with atomic_path(path) as part:
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)  # type: ignore[arg-type]  # the stub takes **arrays for its other keyword
            part.write_bytes(buffer.getvalue())

    @classmethod
    def read(cls, path: Path) -> Selection:
        """Read a selection file. ``DataError`` when it is no selection, truncated, altered, or its digest does not fit its ids."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            header = json.loads(arrays["header"].tobytes())
            if header["format"] != FORMAT:
                raise DataError(f"{path}: expected format {FORMAT}, given {header['format']!r}")
            cost = None if header["cost"] is None else Cost(**header["cost"])
            found = cls(
                arrays["ids"],
                header["keep_fraction"],
                header["pool_digest"],
                header["provenance"],
                arrays.get("counts"),
                arrays.get("weights"),
                cost,
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, AttributeError) as problem:
            raise DataError(f"{path}: not a readable selection file: {problem}") from None
        if found.digest != header["digest"]:
            expected, given = header["digest"][:12], found.digest[:12]
            raise DataError(f"{path}: its ids, counts or weights were altered: expected digest {expected}, given {given}")
        return found


def _own(values: Any, dtype: type, name: str) -> np.ndarray:
    """A read-only copy of the wanted dtype; float ids and the like are refused instead of cut."""
    given = np.asarray(values)
    if given.ndim != 1 or (dtype is np.int64 and not np.issubdtype(given.dtype, np.integer)):
        raise DataError(f"selection {name}: expected a 1-D array of {np.dtype(dtype)}, given {given.dtype} of shape {given.shape}")
    own: np.ndarray = given.astype(dtype)
    own.setflags(write=False)
    return own


def _bytes_digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()
