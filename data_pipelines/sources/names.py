"""Names: the 32,033 most common first names of the United States, lower case.

Size      0.2 MB; 0.8 MB as rows. Licence: MIT (repository; names of the US Social Security Administration). Checksum: sha256 of the
          file at the commit below.
Source    A. Karpathy, github.com/karpathy/makemore 988aa59e.
Gives     tokens  ARRAY uint8 [17]: 0, the letters as 1 to 26, zeros to the end: 0 both begins and ends a name
          length  INT, letters (2 to 15)
Splits    There is no official cut. test: 3,203 names, cut once for all with seed 0; train: the others. Both keep the official order,
          which is by frequency.
Facts     vocabulary: the end mark (as ".") and the 26 letters
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from ..splits import validation_ids
from .common import padded

_FILE = RemoteFile(
    name="names.txt",
    url="https://raw.githubusercontent.com/karpathy/makemore/988aa59e4d8fefa526d06f3b453ad116258398d4/names.txt",
    digest="sha256:0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
    size_bytes=228_145,
    mirror="names/names.txt",
)
_TEST_EXAMPLES = 3203
_TEST_SEED = 0


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    names = paths[_FILE.name].read_text().split()
    lengths = np.array([len(name) for name in names], np.int64)
    letters = [np.frombuffer(b"\0" + bytes(ord(letter) - ord("a") + 1 for letter in name), np.uint8) for name in names]
    tokens = padded(letters, int(lengths.max()) + 2, np.uint8)
    test = validation_ids(len(names), _TEST_EXAMPLES, _TEST_SEED)
    train = np.setdiff1d(np.arange(len(names)), test)
    splits = {
        name: {"tokens": Field(FieldKind.ARRAY, tokens[ids]), "length": Field(FieldKind.INT, lengths[ids])}
        for name, ids in {"train": train, "test": test}.items()
    }
    return Decoded(splits, {"vocabulary": [".", *ascii_lowercase]})


SOURCE = Source(
    name="names",
    version=1,
    licence="MIT",
    citation="A. Karpathy. makemore. 2022. github.com/karpathy/makemore",
    files=(_FILE,),
    decode=decode,
)
