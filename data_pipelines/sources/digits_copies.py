"""Digits with planted copies: few pictures, each as often as a power law says, exact or shaken; the right number to keep is known.

Size      up to 20 MB as float32, nothing to download. Licence: CC BY 4.0. Checksum: as for digits.
Source    E. Alpaydin and C. Kaynak (1998), as digits; the copies are made here.
Gives     pixels    ARRAY float32 [64], 0 to 1 for exact copies; shaken ones may leave that range a little
          label     INT, 0 to 9
          original  INT: which of the different pictures this is a copy of
Splits    train: ``unique`` pictures, the classes in proportion, with their copies in random order; validation: 300 others; test: as in
          digits.
Facts     classes = 10; unique
Options   unique: different pictures in train; exponent: of the Zipf law of the number of copies, above 1; most: copies of one picture at
          most; shake: standard deviation of the noise on every copy but the first; seed: of all choices
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError
from ..dataset import Decoded, Field, FieldKind, Source
from ..splits import validation_ids
from . import digits

_VALIDATION_EXAMPLES = 300


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    splits, facts = digits.decode(paths, {})
    pixels, labels = splits["train"]["pixels"].values, splits["train"]["label"].values
    unique, most = options["unique"], options["most"]
    at_most = len(labels) - _VALIDATION_EXAMPLES
    if not 10 <= unique <= at_most or options["exponent"] <= 1 or most < 1 or options["shake"] < 0:
        expected = f"unique from 10 to {at_most}, exponent above 1, most from 1 and shake from 0"
        raise ConfigError(f"digits_copies: expected {expected}, given {dict(options)}")
    held_out = validation_ids(labels, _VALIDATION_EXAMPLES, options["seed"])
    rest = np.setdiff1d(np.arange(len(labels)), held_out)
    chosen = rest[validation_ids(labels[rest], unique, options["seed"])] if unique < len(rest) else rest
    draw = np.random.Generator(np.random.Philox(key=options["seed"]))
    copies = np.minimum(draw.zipf(options["exponent"], unique), most)
    which = np.repeat(np.arange(unique), copies)
    rows = pixels[chosen[which]]
    first = np.concatenate([[0], np.cumsum(copies)[:-1]])
    noise = draw.standard_normal(rows.shape, dtype=np.float32) * np.float32(options["shake"])
    noise[first] = 0
    order = draw.permutation(len(which))
    train = {
        "pixels": Field(FieldKind.ARRAY, (rows + noise)[order]),
        "label": Field(FieldKind.INT, labels[chosen[which]][order]),
        "original": Field(FieldKind.INT, which[order].astype(np.int64)),
    }
    found = {"train": train}
    for name, (values, classes) in {
        "validation": (pixels[held_out], labels[held_out]),
        "test": (splits["test"]["pixels"].values, splits["test"]["label"].values),
    }.items():
        found[name] = {
            "pixels": Field(FieldKind.ARRAY, values),
            "label": Field(FieldKind.INT, classes),
            "original": Field(FieldKind.INT, np.arange(len(classes))),
        }
    return Decoded(found, {**facts, "unique": unique})


SOURCE = Source(
    name="digits_copies",
    version=1,
    licence="CC BY 4.0",
    citation=digits.SOURCE.citation,
    files=(),
    decode=decode,
    options={"unique": 300, "exponent": 1.3, "most": 2000, "shake": 0.0, "seed": 0},
)
