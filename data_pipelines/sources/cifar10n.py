"""CIFAR-10N: CIFAR-10 with the training labels that people gave on Amazon Mechanical Turk, mistakes included.

Size      as cifar10, and 0.15 MB of labels. Licence: CC BY-NC 4.0. Checksum: as cifar10; sha256 of the mirror's labels, made from the
          official CIFAR-10_human.pt (a pickle).
Source    J. Wei et al., Learning with Noisy Labels Revisited (2022), github.com/UCSC-REAL/cifar-10-100n.
Gives     image, term  as cifar10
          label        INT, 0 to 9: what people said (train), what is true (test)
          true_label   INT, 0 to 9: the official label
Splits    as cifar10
Facts     as cifar10, and noise: share of wrong training labels
Options   people: aggre (majority of three, 9 % wrong), random1, random2, random3 (one person, 17 to 18 %), worse (a wrong one where there
          is any, 40 %)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import unknown_name
from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from . import cifar10

_LABELS = RemoteFile(
    name="cifar10n_human_labels.npz",
    url="https://github.com/UCSC-REAL/cifar-10-100n/blob/main/data/CIFAR-10_human.pt",
    digest="sha256:6024485a143efa682792c21d7f2adfdef5a374dce699bb2fcd4d62cd55cc4852",
    size_bytes=149_520,
    mirror="cifar10/meta/cifar10n_human_labels.npz",
    form="the official pickle as plain arrays",
)
_PEOPLE = {
    "aggre": "aggre_label",
    "worse": "worse_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
}


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    if options["people"] not in _PEOPLE:
        raise unknown_name("labels of cifar10n", options["people"], _PEOPLE)
    splits, facts = cifar10.decode(paths, {})
    with np.load(paths[_LABELS.name], allow_pickle=False) as labels:
        said = labels[_PEOPLE[options["people"]]].astype(np.int64)  # [50000], in official order
    noisy = {split: {**fields, "true_label": fields["label"]} for split, fields in splits.items()}
    noisy["train"]["label"] = Field(FieldKind.INT, said)
    return Decoded(noisy, {**facts, "noise": float(np.mean(said != noisy["train"]["true_label"].values))})


SOURCE = Source(
    name="cifar10n",
    version=1,
    licence="CC BY-NC 4.0",
    citation="J. Wei et al. Learning with Noisy Labels Revisited: A Study Using Real-World Human Annotations. ICLR 2022.",
    files=(*cifar10.SOURCE.files, _LABELS),
    decode=decode,
    options={"people": "worse"},
)
