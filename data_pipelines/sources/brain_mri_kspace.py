"""Brain MRI as a scanner in a hurry would give it: some lines of k-space measured, and the whole picture to be restored.

Size      13 MB to download, 24 MB as arrays. Licence: none in the repository. Checksum: as for brain_mri.
Source    S. Bhuvaji et al., kaggle.com/datasets/sartajbhuvaji/brain-tumor-classification-mri; undersampled here as J. Zbontar et al.,
          fastMRI (arXiv 1811.08839, section 4.1.2), undersamples its multicoil pictures.
Gives     measured      ARRAY float16 [64, 64]: magnitude of the inverse Fourier transform of the measured lines, zeros for the others
          image         ARRAY uint8 [64, 64]: what all lines would give
          acceleration  INT, 4 or 8: one line in so many is measured
          label         INT, index into the class names
Splits    test as in brain_mri. validation: 400 pictures of its train, cut with seed 0, the classes in proportion; train: the others that
          differ from all of validation by at least 5 grey levels (root mean square), as brain_mri's do from test.
Facts     classes = 4, class_names, mean and std of ``measured`` over train; removed_from_train: pictures left out here
Options   seed: of the lines
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..splits import validation_ids
from . import brain_mri
from ._kspace import line_masks, zero_filled

_VALIDATION_EXAMPLES = 400
_VALIDATION_SEED = 0
_ACCELERATIONS = (4, 8)
_CENTRE = {4: 0.08, 8: 0.04}


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    pictures = brain_mri.decode(paths, {})
    images, labels = (np.asarray(pictures.splits["train"][name].values) for name in ("image", "label"))
    validation = validation_ids(labels, _VALIDATION_EXAMPLES, _VALIDATION_SEED)
    others = np.setdiff1d(np.arange(len(images)), validation)
    train = others[~brain_mri.alike(images[others], images[validation])]
    test = pictures.splits["test"]
    parts = {
        "train": (images[train], labels[train]),
        "validation": (images[validation], labels[validation]),
        "test": (np.asarray(test["image"].values), np.asarray(test["label"].values)),
    }
    splits = {name: _measure(*part, seed=3 * options["seed"] + i) for i, (name, part) in enumerate(parts.items())}
    measured = splits["train"]["measured"].values.astype(np.float64)
    facts = {
        "classes": pictures.facts["classes"],
        "class_names": pictures.facts["class_names"],
        "mean": float(measured.mean()),
        "std": float(measured.std()),
        "removed_from_train": len(others) - len(train),
    }
    return Decoded(splits, facts)


def _measure(images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Field]:
    accelerations = np.array(_ACCELERATIONS, np.int64)[np.arange(len(images)) % len(_ACCELERATIONS)]
    masks = np.zeros((len(images), images.shape[2]), bool)
    for acceleration in _ACCELERATIONS:
        chosen = accelerations == acceleration
        masks[chosen] = line_masks(int(chosen.sum()), images.shape[2], acceleration, _CENTRE[acceleration], seed + 1_000_000 * acceleration)
    return {
        "measured": Field(FieldKind.ARRAY, zero_filled(images / 255.0, masks).astype(np.float16)),
        "image": Field(FieldKind.ARRAY, images),
        "acceleration": Field(FieldKind.INT, accelerations),
        "label": Field(FieldKind.INT, labels),
    }


SOURCE = Source(
    name="brain_mri_kspace",
    version=1,
    licence=brain_mri.SOURCE.licence,
    citation=brain_mri.SOURCE.citation,
    files=brain_mri.SOURCE.files,
    decode=decode,
    options={"seed": 0},
)
