"""Columns and splits: what sources hand to writers, loaders and pools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

__all__ = ["Field", "FieldKind", "Split"]


class FieldKind(StrEnum):
    """How the values of a field are laid out and which FFCV field holds them."""

    IMAGE = "image"
    INT = "int"
    ARRAY = "array"
    JPEG = "jpeg"


@dataclass(frozen=True)
class Field:
    """One column of a split.

    ``kind`` IMAGE: ``values`` uint8 ``[n, H, W, 3]``. INT: int64 ``[n]``. ARRAY: any fixed shape and dtype, ``[n, ...]``.
    JPEG: ``values`` uint8 ``[total bytes]``, encoded RGB images of any sizes back to back; ``offsets`` int64 ``[n + 1]``
    says where each begins and ends. For the other kinds ``offsets`` is None.
    """

    kind: FieldKind
    values: np.ndarray
    offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1


@dataclass(frozen=True)
class Split:
    """Examples in official order: an example's id is its position here. All fields have the same length."""

    name: str
    fields: Mapping[str, Field]
    beton: Path | None
    digest: str

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))
