"""WikiText-2, validation and test parts: 217,646 and 245,569 words of Wikipedia's good and featured articles.

Size      2.4 MB; 4.8 MB as rows. Licence: CC BY-SA. Checksum: sha256 of the files at the commit below; word counts as published.
Source    S. Merity et al., Pointer Sentinel Mixture Models (2016); files of github.com/pytorch/examples 77f55b91.
Gives     tokens  ARRAY uint8 [2 * block]: bytes of the text, in rows that overlap by half (as in tinyshakespeare)
Splits    The official validation and test. There is no train split here: the training part is to be had from no address that could be
          checked. These two are for judging models that were trained on other text.
Facts     words: number of words of each split (separated by spaces, with one end mark a line, as the paper counts)
Options   block: bytes that a model reads at once
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from .common import overlapping_rows

_URL = "https://raw.githubusercontent.com/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8/word_language_model/data/wikitext-2"
_PARTS = {"validation": "valid.txt", "test": "test.txt"}


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    texts = {split: paths[file].read_bytes() for split, file in _PARTS.items()}
    splits = {
        split: {"tokens": Field(FieldKind.ARRAY, overlapping_rows(np.frombuffer(text, np.uint8), options["block"]))}
        for split, text in texts.items()
    }
    return Decoded(splits, {"words": {split: len(text.split()) + text.count(b"\n") for split, text in texts.items()}})


SOURCE = Source(
    name="wikitext2",
    version=1,
    licence="CC BY-SA",
    citation="S. Merity, C. Xiong, J. Bradbury, R. Socher. Pointer Sentinel Mixture Models. ICLR 2017.",
    files=(
        RemoteFile(
            "valid.txt",
            f"{_URL}/valid.txt",
            "sha256:f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            1_121_681,
            "wikitext2/valid.txt",
        ),
        RemoteFile(
            "test.txt",
            f"{_URL}/test.txt",
            "sha256:d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            1_256_449,
            "wikitext2/test.txt",
        ),
    ),
    decode=decode,
    options={"block": 256},
)
