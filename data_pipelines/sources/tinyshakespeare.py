"""Tiny Shakespeare: 1,115,394 characters of his plays, 65 kinds, in one text file.

Size      1.1 MB; 2.2 MB as rows. Licence: the text is in the public domain, the repository MIT. Checksum: sha256 of the official file.
Source    A. Karpathy, github.com/karpathy/char-rnn (2015).
Gives     tokens  ARRAY uint8 [2 * block]: row i holds the characters i * block to i * block + 2 * block - 1 of its split, as indices
                  into the vocabulary. Rows overlap by half, so that a window of block + 1 characters at a random offset from 0 to
                  block - 1 of a random row is a window at a random offset of the text. The window at offset 0 of every row
                  covers the text once. Up to block - 1 characters at the end of a split that fill no row are left out.
Splits    The cut of nanoGPT, whose validation part is the last tenth: train: the first nine tenths (1,003,854 characters);
          validation and test: the first and the second half of the rest (55,770 each). No row crosses a border.
Facts     vocabulary: the 65 characters in the order of their code points
Options   block: characters that a model reads at once
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from .common import overlapping_rows

_FILE = RemoteFile(
    name="input.txt",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    digest="sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    size_bytes=1_115_394,
    mirror="tinyshakespeare/input.txt",
)


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    characters = np.frombuffer(paths[_FILE.name].read_bytes(), np.uint8)  # ASCII: one byte a character
    vocabulary, tokens = np.unique(characters, return_inverse=True)
    first, second = len(tokens) * 9 // 10, len(tokens) * 19 // 20
    parts = {"train": tokens[:first], "validation": tokens[first:second], "test": tokens[second:]}
    splits = {
        name: {"tokens": Field(FieldKind.ARRAY, overlapping_rows(part.astype(np.uint8), options["block"]))} for name, part in parts.items()
    }
    return Decoded(splits, {"vocabulary": [chr(code) for code in vocabulary]})


SOURCE = Source(
    name="tinyshakespeare",
    version=1,
    licence="public domain",
    citation="A. Karpathy. The Unreasonable Effectiveness of Recurrent Neural Networks. 2015. github.com/karpathy/char-rnn",
    files=(_FILE,),
    decode=decode,
    options={"block": 64},
)
