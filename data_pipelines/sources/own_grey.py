"""Your own pictures in grey for restoration: training pictures cut into patches, whole pictures held out, as in bsd400_patches.

Size      as the files. Licence: yours. Checksum: none to compare with; files that change make another dataset, prepared anew.
Source    ``path``: a folder of pictures of any sizes, or one with a folder for each of train, validation and test; or arrays, NAME.npz with
          ``image`` uint8 [n, H, W] or [n, H, W, 3]
Gives     image          ARRAY uint8, grey: train [patch, patch]; validation and test [H, W] of the largest picture, an even number of
                         pixels, zeros below and to the right of smaller ones
          height, width  INT, rows and columns that count
          picture        INT, position of the picture that it comes from in its split
Splits    As given; otherwise whole pictures are cut from train before any patch is, so that no picture is on both sides.
Facts     none
Options   path; patch: side of a patch in pixels, what is left at the right and lower edge is dropped; validation_fraction, test_fraction
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError, DataError
from ..dataset import Decoded, Field, FieldKind, Source
from . import own_files
from .own_readers import Pictures, read_splits
from .own_splits import all_splits


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    if options["patch"] < 2:
        raise ConfigError(f"own_grey: option patch expected at least 2, given {options['patch']}")
    given = read_splits(own_files.own_root(options, "own_grey"))
    pictures = {}
    for split, columns in given.splits.items():
        if "image" not in columns:
            raise DataError(f"own_grey: {split} has no pictures; found {sorted(columns)}")
        pictures[split] = _grey(columns["image"])
    splits = all_splits("own_grey", pictures, options)
    side = options["patch"]
    small = min(min(picture.shape) for picture in splits["train"])
    if small < side:
        raise DataError(f"own_grey: train has a picture of {small} pixels a side; a patch has {side}")
    patches, owners = [], []
    for number, picture in enumerate(splits["train"]):
        down, across = (length // side for length in picture.shape)
        cut = picture[: down * side, : across * side].reshape(down, side, across, side).swapaxes(1, 2)
        patches.append(cut.reshape(-1, side, side))
        owners += [number] * (down * across)
    fields = {"train": _fields(list(np.concatenate(patches)), owners)}
    return Decoded(fields | {split: _fields(found, range(len(found))) for split, found in splits.items() if split != "train"}, {})


def _grey(column: np.ndarray | Pictures) -> list[np.ndarray]:
    """Each picture as uint8 ``[H, W]``."""
    from PIL import Image

    if isinstance(column, Pictures):
        found = []
        for path in column.paths:
            with Image.open(path) as picture:
                found.append(np.asarray(picture.convert("L")))
        return found
    if column.dtype != np.uint8 or column.ndim not in (3, 4) or (column.ndim == 4 and column.shape[3] not in (1, 3)):
        raise DataError(f"own_grey: image expected uint8 [n, H, W] or [n, H, W, 1 or 3], given {column.dtype} {list(column.shape)}")
    if column.ndim == 4 and column.shape[3] == 3:
        return [np.asarray(Image.fromarray(picture).convert("L")) for picture in column]
    return list(column.reshape(column.shape[:3]))


def _fields(pictures: list[np.ndarray], owners: Sequence[int]) -> dict[str, Field]:
    shapes = np.array([picture.shape for picture in pictures], np.int64)
    height, width = (length + length % 2 for length in shapes.max(axis=0).tolist())
    images = np.zeros((len(pictures), height, width), np.uint8)
    for row, picture in zip(images, pictures, strict=True):
        row[: picture.shape[0], : picture.shape[1]] = picture
    return {
        "image": Field(FieldKind.ARRAY, images),
        "height": Field(FieldKind.INT, shapes[:, 0].copy()),
        "width": Field(FieldKind.INT, shapes[:, 1].copy()),
        "picture": Field(FieldKind.INT, np.array(owners, np.int64)),
    }


SOURCE = Source(
    name="own_grey",
    version=1,
    licence="the user's",
    citation="the user's own pictures",
    files=(),
    decode=decode,
    options={"path": "", "patch": 44, "validation_fraction": 0.1, "test_fraction": 0.1},
    identify=own_files.identify,
)
