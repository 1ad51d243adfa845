"""Brain tumour MRI: 3,264 magnetic resonance slices in four classes, reduced to 64x64 grey pixels.

Size      13 MB as arrays. Licence: none in the repository. Checksum: sha256 of the mirror's files; the official pictures are of all sizes.
Source    S. Bhuvaji et al. (2020), kaggle.com/datasets/sartajbhuvaji/brain-tumor-classification-mri.
Gives     image  ARRAY uint8 [64, 64]
          label  INT, index into the class names
Splits    The official folders Training and Testing in official order, after a repair: two thirds of the test pictures also lie in
          Training. Every training picture that differs from a test picture by less than 5 grey levels (root mean square; none
          differs by 5 to 12) is left out of train. What is alike within one part stays.
Facts     classes = 4; class_names; removed_from_train: pictures left out; test_pictures_in_train: test pictures that they repeated
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile

_URL = "https://www.kaggle.com/datasets/sartajbhuvaji/brain-tumor-classification-mri"
_FORM = "the official pictures, grey and reduced to 64x64"
_ALIKE_GREY_LEVELS = 5


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    images = np.load(paths["images.npy"], allow_pickle=False)  # [3264, 64, 64]
    parts, names = zip(*(entry.split("/") for entry in json.loads(paths["labels.json"].read_text())), strict=True)
    class_names = sorted(set(names))
    labels = np.array([class_names.index(name) for name in names], np.int64)
    in_test = np.array(parts) == "Testing"
    repeated = alike(images[~in_test], images[in_test])
    train = np.flatnonzero(~in_test)[~repeated]
    splits = {
        name: {"image": Field(FieldKind.ARRAY, images[ids]), "label": Field(FieldKind.INT, labels[ids])}
        for name, ids in {"train": train, "test": np.flatnonzero(in_test)}.items()
    }
    facts = {
        "classes": len(class_names),
        "class_names": class_names,
        "removed_from_train": int(repeated.sum()),
        "test_pictures_in_train": int(alike(images[in_test], images[~in_test]).sum()),
    }
    return Decoded(splits, facts)


def alike(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of ``pictures`` uint8 ``[n, H, W]`` are all but the same as one of ``others``: bool ``[n]``."""
    return np.any(_squared_differences(pictures, others) < _ALIKE_GREY_LEVELS**2, axis=1)


def _squared_differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean squared differences ``[n, m]`` between pictures uint8 ``[n, H, W]`` and ``[m, H, W]``; whole numbers before the mean: exact."""
    a, b = (pictures.reshape(len(pictures), -1).astype(np.float64) for pictures in (one, other))
    squares: np.ndarray = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return squares / a.shape[1]


SOURCE = Source(
    name="brain_mri",
    version=1,
    licence="none stated",
    citation="S. Bhuvaji, A. Kadam, P. Bhumkar, S. Dedge, S. Kanchan. Brain Tumor Classification (MRI). Kaggle, 2020.",
    files=(
        RemoteFile(
            "images.npy",
            _URL,
            "sha256:2925c120965d2139aec5e27642fcdee76e91320ad5d983e7b2d19a8b4f3ccec1",
            13_369_472,
            "brain_mri/images.npy",
            form=_FORM,
        ),
        RemoteFile(
            "labels.json",
            _URL,
            "sha256:f7443d0de547c764aa13a2de7b022ab5dd4c929809be375913e3c2c1e8f8abf3",
            85_657,
            "brain_mri/labels.json",
            form=_FORM,
        ),
    ),
    decode=decode,
)
