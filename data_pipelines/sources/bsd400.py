"""BSD400 and Set12: 400 grey training pictures of 180x180 pixels, and the twelve pictures that denoisers are tested on.

Size      172 MB to download (the authors' whole repository), 16 MB as arrays. Licence: none stated by the repository; the Berkeley
          pictures are for non-commercial research. Checksum: sha256 over the pixels of the official commit e93b2781.
Source    K. Zhang et al., Beyond a Gaussian Denoiser (2017), github.com/cszn/DnCNN; from the Berkeley segmentation set, D. Martin et
          al. (2001).
Gives     image   ARRAY uint8, grey: train [180, 180]; test [512, 512], seven pictures of 256x256 and five of 512x512 in the upper left
                  corner, zeros elsewhere
          height  INT, rows that count
          width   INT, columns that count
Splits    train: Train400; test: Set12, both in the order of the file names. Validation is cut from train.
Facts     none
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import DataError
from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from .common import read_members, require_content

_TRAIN = "TrainingCodes/DnCNN_TrainingCodes_v1.0/data/Train400/"
_TEST = "testsets/Set12/"
_SHA256 = "05940486a02378c95aaafc2bea008b6d970ea2f7d50928f16b855eee6eb71afc"
_PICTURES = RemoteFile(
    name="pictures.tar.gz",
    url="https://github.com/cszn/DnCNN/archive/e93b27812d3ff523a3a79d19e5e50d233d7a8d0a.tar.gz",
    digest=None,
    size_bytes=None,
    mirror="bsd400",
)


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    train, test = _pictures(paths[_PICTURES.name])
    require_content("bsd400", _SHA256, [*train, *test])
    side = max(max(picture.shape) for picture in test)
    corner = np.zeros((len(test), side, side), np.uint8)
    for row, picture in zip(corner, test, strict=True):
        row[: picture.shape[0], : picture.shape[1]] = picture
    return Decoded({"train": _fields(np.stack(train), train), "test": _fields(corner, test)}, {})


def _fields(images: np.ndarray, pictures: list[np.ndarray]) -> dict[str, Field]:
    shapes = np.array([picture.shape for picture in pictures], np.int64)
    return {
        "image": Field(FieldKind.ARRAY, images),
        "height": Field(FieldKind.INT, shapes[:, 0].copy()),
        "width": Field(FieldKind.INT, shapes[:, 1].copy()),
    }


def _pictures(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Training and test pictures, uint8 ``[H, W]`` each, from the official archive or from a mirror folder that holds them decoded."""
    if path.is_dir():
        stacked = np.load(path / "train400.npy", allow_pickle=False)
        tests = read_members(path, lambda name: name.startswith("set12/"))
        return list(stacked), [_grey(content) for content in tests.values()]
    files = read_members(path, lambda name: name.endswith(".png") and name.startswith((_TRAIN, _TEST)))
    train, test = ([_grey(content) for name, content in files.items() if name.startswith(part)] for part in (_TRAIN, _TEST))
    if not (train and test):
        raise DataError(f"{path}: holds no {_TRAIN} or no {_TEST}")
    return train, test


def _grey(content: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("L"))


SOURCE = Source(
    name="bsd400",
    version=1,
    licence="BSDS: non-commercial research",
    citation="K. Zhang et al. Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising. IEEE TIP 26, 2017.",
    files=(_PICTURES,),
    decode=decode,
)
