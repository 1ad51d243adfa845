"""Multi30k as tokens: one byte-pair vocabulary for both languages, learned from the training pairs only.

Size      1.4 MB to download, 5 MB as arrays. Licence: none in the repository; Flickr30k captions: research. Checksum: as for multi30k.
Source    D. Elliott et al., github.com/multi30k/dataset, task 1, raw; encoded here.
Gives     de, en  ARRAY int16 [length]: 1 (begin), the tokens of the line as it is, 2 (end), zeros after that
Splits    As in multi30k. Training pairs of which one is longer than ``length`` are left out (0.7 % at the default); in the other splits
          such lines are cut.
Facts     vocabulary: what each token stands for, its bytes written as Latin-1; removed_from_train: pairs left out
Options   vocabulary: number of tokens; length: of a row
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError
from ..dataset import Decoded, Field, FieldKind, Source
from . import multi30k
from ._bpe import BEGIN, END, BytePairs
from .common import padded

_LANGUAGES = ("de", "en")


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    if options["length"] < 3:
        raise ConfigError(f"multi30k_bpe: option length expected at least 3, given {options['length']}")
    lines = {
        split: {language: _lines(fields[language], fields[f"{language}_length"]) for language in _LANGUAGES}
        for split, fields in multi30k.decode(paths, {}).splits.items()
    }
    codec = BytePairs.learn((line for language in _LANGUAGES for line in lines["train"][language]), options["vocabulary"])
    room = options["length"] - 2
    splits, removed = {}, 0
    for split, texts in lines.items():
        pairs = list(zip(*([codec.encode(line) for line in texts[language]] for language in _LANGUAGES), strict=True))
        if split == "train":
            kept = [pair for pair in pairs if max(map(len, pair)) <= room]
            pairs, removed = kept, len(pairs) - len(kept)
        splits[split] = {
            language: Field(
                FieldKind.ARRAY,
                padded([np.array([BEGIN, *pair[side][:room], END], np.int16) for pair in pairs], options["length"], np.int16),
            )
            for side, language in enumerate(_LANGUAGES)
        }
    return Decoded(splits, {"vocabulary": [token.decode("latin-1") for token in codec.tokens], "removed_from_train": removed})


def _lines(rows: Field, lengths: Field) -> list[str]:
    return [row[:length].tobytes().decode() for row, length in zip(rows.values, lengths.values, strict=True)]


SOURCE = Source(
    name="multi30k_bpe",
    version=1,
    licence=multi30k.SOURCE.licence,
    citation=multi30k.SOURCE.citation,
    files=multi30k.SOURCE.files,
    decode=decode,
    options={"vocabulary": 4096, "length": 40},
)
