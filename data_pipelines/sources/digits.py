"""Optical recognition of handwritten digits: 1,797 grey 8x8 pictures, bundled with scikit-learn, so that nothing is downloaded.

Size      0.5 MB as float32. Licence: CC BY 4.0. Checksum: of the decoded arrays, since there is no file of its own.
Source    E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository 80, the test part of the original;
          official address https://archive.ics.uci.edu/dataset/80.
Gives     pixels  ARRAY float32 [64], 0 to 1 (16 grey levels), rows first
          label   INT, 0 to 9
Splits    There is no official cut. test: 360 pictures, the classes in proportion, cut once for all with seed 0; train: the other
          1,437. Both keep the official order.
Facts     classes = 10
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ChecksumMismatch
from ..dataset import Decoded, Field, FieldKind, Source
from ..splits import validation_ids

_TEST_EXAMPLES = 360
_TEST_SEED = 0
_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    from sklearn.datasets import load_digits  # a second of import that only this source needs

    bunch = load_digits()
    levels, labels = bunch.data.astype(np.uint8), bunch.target.astype(np.int64)  # [1797, 64] 0..16, [1797]
    given = hashlib.sha256(levels.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    if given != _SHA256:
        raise ChecksumMismatch(f"scikit-learn's digits are not the known ones: expected sha256 {_SHA256}, found {given}")
    test = validation_ids(labels, _TEST_EXAMPLES, _TEST_SEED)
    train = np.setdiff1d(np.arange(len(labels)), test)
    splits = {
        name: {
            "pixels": Field(FieldKind.ARRAY, levels[ids].astype(np.float32) / np.float32(16)),
            "label": Field(FieldKind.INT, labels[ids]),
        }
        for name, ids in {"train": train, "test": test}.items()
    }
    return Decoded(splits, {"classes": 10})


SOURCE = Source(
    name="digits",
    version=1,
    licence="CC BY 4.0",
    citation="E. Alpaydin and C. Kaynak. Optical Recognition of Handwritten Digits. UCI Repository, 1998. doi:10.24432/C50P49",
    files=(),
    decode=decode,
)
