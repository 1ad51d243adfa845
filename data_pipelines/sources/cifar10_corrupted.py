"""CIFAR-10 with faults that a data set may have, in the training pictures only: wrong labels, copies, rare classes.

Size      170 MB to download, up to 280 MB as arrays. Licence: CC BY-NC 4.0 (labels of people). Checksum: as for cifar10n.
Source    A. Krizhevsky (2009), www.cs.toronto.edu/~kriz/cifar.html; labels of people: J. Wei et al. (2022); faults are made here.
Gives     image       IMAGE uint8 [32, 32, 3]
          label       INT, 0 to 9: what a training algorithm is told
          true_label  INT, 0 to 9: the official label
          original    INT: position in the official split; equal for copies
Splits    validation: 5,000 of the official training pictures, cut with seed 0, the classes in proportion: as workloads on cifar10 do, with
          official labels; train: the others after what the options do to them; test: as in cifar10.
Facts     as cifar10, and wrong_labels: share of train
Options   In the order in which they are done: imbalance: how many times as frequent the first class is as the last one, those between in
          geometric steps; duplicates: copies added, as a share of what is there; labels: official, or people's as in cifar10n (aggre,
          random1, random2, random3, worse); label_noise: share of labels replaced by another class, each as likely; seed: of all choices
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError
from ..dataset import Decoded, Field, FieldKind, Source
from ..splits import shuffled_ids, validation_ids
from . import cifar10, cifar10n

_VALIDATION_EXAMPLES = 5_000
_VALIDATION_SEED = 0


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    _check(options)
    official = cifar10.decode({file.name: paths[file.name] for file in cifar10.SOURCE.files}, {})
    columns = {split: {name: np.asarray(fields[name].values) for name in ("image", "label")} for split, fields in official.splits.items()}
    true = columns["train"]["label"]
    told = true
    if options["labels"] != "official":
        told = np.asarray(cifar10n.decode(paths, {"people": options["labels"]}).splits["train"]["label"].values)
    validation = validation_ids(true, _VALIDATION_EXAMPLES, _VALIDATION_SEED)
    train = _imbalanced(np.setdiff1d(np.arange(len(true)), validation), true, options["imbalance"], options["seed"])
    train = np.concatenate([train, train[shuffled_ids(len(train), options["seed"] + 1)[: round(options["duplicates"] * len(train))]]])
    labels = _noisy(told[train], options["label_noise"], official.facts["classes"], options["seed"] + 2)
    test = columns["test"]
    splits = {
        "train": _fields(columns["train"]["image"], labels, true, train),
        "validation": _fields(columns["train"]["image"], true[validation], true, validation),
        "test": _fields(test["image"], test["label"], test["label"], np.arange(len(test["label"]))),
    }
    return Decoded(splits, {**official.facts, "wrong_labels": float(np.mean(labels != true[train]))})


def _check(options: Mapping[str, Any]) -> None:
    for name, ok, expected in (
        ("label_noise", 0 <= options["label_noise"] <= 1, "0 to 1"),
        ("duplicates", 0 <= options["duplicates"] <= 1, "0 to 1"),
        ("imbalance", options["imbalance"] >= 1, "at least 1"),
    ):
        if not ok:
            raise ConfigError(f"cifar10_corrupted: option {name} expected {expected}, given {options[name]}")


def _imbalanced(ids: np.ndarray, labels: np.ndarray, factor: float, seed: int) -> np.ndarray:
    """Those of ``ids`` that stay, sorted: of class c of C a share of ``factor ** (-c / (C - 1))``, at random."""
    kept = []
    for label in np.unique(labels):
        members = ids[labels[ids] == label]
        share = factor ** (-label / (len(np.unique(labels)) - 1))
        kept.append(members[shuffled_ids(len(members), seed + 1000 * (1 + int(label)))[: round(share * len(members))]])
    return np.sort(np.concatenate(kept))


def _noisy(labels: np.ndarray, share: float, classes: int, seed: int) -> np.ndarray:
    """Labels of which exactly ``share`` are replaced by another class."""
    chosen = shuffled_ids(len(labels), seed)[: round(share * len(labels))]
    steps = 1 + np.random.Philox(key=seed + 1_000_000).random_raw(len(chosen)) % (classes - 1)
    found = labels.copy()
    found[chosen] = (labels[chosen] + steps.astype(np.int64)) % classes
    return found


def _fields(images: np.ndarray, labels: np.ndarray, true: np.ndarray, ids: np.ndarray) -> dict[str, Field]:
    return {
        "image": Field(FieldKind.IMAGE, images[ids]),
        "label": Field(FieldKind.INT, labels),
        "true_label": Field(FieldKind.INT, true[ids]),
        "original": Field(FieldKind.INT, ids.astype(np.int64)),
    }


SOURCE = Source(
    name="cifar10_corrupted",
    version=1,
    licence=cifar10n.SOURCE.licence,
    citation=f"{cifar10.SOURCE.citation} {cifar10n.SOURCE.citation}",
    files=cifar10n.SOURCE.files,
    decode=decode,
    options={"imbalance": 1.0, "duplicates": 0.0, "labels": "official", "label_noise": 0.0, "seed": 0},
)
