"""What each field of a split looks like in the file and at the model, given an augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..suite.errors import ConfigError, unknown_name
from .augment import Augmentation
from .fields import Field, FieldKind, Split

__all__ = ["Column", "columns_of"]

_IMAGE = "image"
_TOKENS = "tokens"


@dataclass(frozen=True)
class Column:
    """One field on its way to the model, where it arrives as ``[n, *shape]`` of ``dtype``.

    ``augmentation`` is what applies to this field alone; ``table`` ``[3, 256]`` maps its pixel values (pictures only).
    """

    name: str
    field: Field
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    augmentation: Augmentation
    table: np.ndarray | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored example, the same for all (not so for JPEG)."""
        return int(self.field.values[:1].nbytes)

    @property
    def served_bytes(self) -> int:
        """Bytes of one example as it is served."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def is_cropped(self) -> bool:
        """Whether pictures are cropped and resized, rather than served at their own size."""
        return self.augmentation.resized_crop is not None

    @property
    def is_windowed(self) -> bool:
        """Whether rows of tokens are cut."""
        return self.augmentation.window is not None


def columns_of(split: Split, names: Sequence[str] | None, augmentation: Augmentation) -> tuple[Column, ...]:
    """The columns to serve (``names`` None: all). Raises ``ConfigError`` when the augmentation does not fit, ``UnknownName`` for a name."""
    names = list(split.fields) if names is None else list(names)
    for name in names:
        if name not in split.fields:
            raise unknown_name("field", name, split.fields)
    if not names:
        raise ConfigError("a loader serves at least one field, given none")
    if augmentation.concerns_images and not (_IMAGE in names and split.fields[_IMAGE].kind in (FieldKind.IMAGE, FieldKind.JPEG)):
        raise ConfigError(f"the augmentation is for pictures in a field {_IMAGE!r}; served are {', '.join(names)}")
    if augmentation.window is not None and not (_TOKENS in names and split.fields[_TOKENS].kind is FieldKind.ARRAY):
        raise ConfigError(f"a window is cut from rows in a field {_TOKENS!r}; served are {', '.join(names)}")
    return tuple(_column(name, split.fields[name], augmentation) for name in names)


def _column(name: str, field: Field, augmentation: Augmentation) -> Column:
    if field.kind in (FieldKind.IMAGE, FieldKind.JPEG):
        # A mask beside the picture moves with it and keeps its values.
        mine = replace(augmentation, window=None) if name == _IMAGE else replace(augmentation, window=None, mean=None, std=None, cutout=0)
        return _picture(name, field, mine)
    values = field.values
    if name == _TOKENS and augmentation.window is not None:
        if values.ndim != 2 or values.dtype.kind not in "iu" or values.shape[1] < augmentation.window:
            raise ConfigError(
                f"a window of {augmentation.window} tokens needs integer rows at least that long, given {values.dtype} {values.shape[1:]}"
            )
        return Column(
            name,
            field,
            (augmentation.window,),
            np.dtype(np.int64),
            replace(Augmentation(train=augmentation.train), window=augmentation.window),
        )
    return Column(name, field, values.shape[1:], values.dtype, Augmentation())


def _picture(name: str, field: Field, augmentation: Augmentation) -> Column:
    side = augmentation.resized_crop
    if side is not None:
        shape = (side, side)
    elif field.kind is FieldKind.IMAGE:
        shape = field.values.shape[1:3]
    else:
        raise ConfigError(f"field {name!r} holds encoded pictures of any size: resized_crop must say what size they become")
    augmentation.check_image(*shape)
    return Column(name, field, (3, *shape), augmentation.dtype, augmentation, augmentation.table(3))
