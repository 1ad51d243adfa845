"""BSD400 cut into patches for training, with whole pictures held out for validation and test.

Size      172 MB to download, 16 MB as arrays. Licence: BSDS, non-commercial research. Checksum: as for bsd400.
Source    K. Zhang et al., github.com/cszn/DnCNN; cut here.
Gives     image          ARRAY uint8, grey: train [patch, patch]; validation [180, 180]; test [512, 512], zeros below and to the right of
                         pictures of 256x256
          height, width  INT, rows and columns that count
          picture        INT, position of the picture that it comes from in bsd400's split
Splits    validation: 40 of the 400 training pictures, cut once for all with seed 0; train: the patches of the other 360, side by
          side without overlap, row by row; test: Set12.
Facts     none
Options   patch: side of a patch in pixels; what is left at the right and lower edge is dropped
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError
from ..dataset import Decoded, Field, FieldKind, Source
from ..splits import validation_ids
from . import bsd400

_VALIDATION_EXAMPLES = 40
_VALIDATION_SEED = 0


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    whole = bsd400.decode(paths, {}).splits
    pictures = np.asarray(whole["train"]["image"].values)  # [400, 180, 180]
    patch = options["patch"]
    if not 1 <= patch <= min(pictures.shape[1:]):
        raise ConfigError(f"bsd400_patches: option patch expected 1 to {min(pictures.shape[1:])}, given {patch}")
    validation = validation_ids(len(pictures), _VALIDATION_EXAMPLES, _VALIDATION_SEED)
    train = np.setdiff1d(np.arange(len(pictures)), validation)
    rows, columns = (side // patch for side in pictures.shape[1:])
    patches = pictures[train, : rows * patch, : columns * patch].reshape(len(train), rows, patch, columns, patch).swapaxes(2, 3)
    splits = {
        "train": _fields(patches.reshape(-1, patch, patch), np.repeat(train, rows * columns)),
        "validation": _fields(pictures[validation], validation),
        "test": {**whole["test"], "picture": Field(FieldKind.INT, np.arange(len(whole["test"]["image"])))},
    }
    return Decoded(splits, {})


def _fields(images: np.ndarray, pictures: np.ndarray) -> dict[str, Field]:
    height, width = (np.full(len(images), side, np.int64) for side in images.shape[1:])
    return {
        "image": Field(FieldKind.ARRAY, images),
        "height": Field(FieldKind.INT, height),
        "width": Field(FieldKind.INT, width),
        "picture": Field(FieldKind.INT, pictures),
    }


SOURCE = Source(
    name="bsd400_patches",
    version=1,
    licence=bsd400.SOURCE.licence,
    citation=bsd400.SOURCE.citation,
    files=bsd400.SOURCE.files,
    decode=decode,
    options={"patch": 44},
)
