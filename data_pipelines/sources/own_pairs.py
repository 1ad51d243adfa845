"""Your own pairs of sentences for translation, one byte-pair vocabulary for both languages, learned from the training pairs only.

Size      as the files. Licence: yours. Checksum: none to compare with; files that change make another dataset, prepared anew.
Source    ``path``: NAME.csv, NAME.parquet or NAME.jsonl for each split, or one such file, with a column for each language
Gives     de, en  ARRAY int16 [length]: 1 (begin), the tokens of the sentence, 2 (end), zeros after that. The names are those of
                  multi30k_bpe, which the shipped family reads: de is what is translated, en what it is translated to, in any languages.
Splits    As given; what is missing is cut from train. Training pairs of which one is longer than ``length`` are left out; in the other
          splits such sentences are cut.
Facts     vocabulary: what each token stands for, its bytes written as Latin-1; removed_from_train: pairs left out
Options   path; source, target: names of the columns; vocabulary: number of tokens, at most 32,768; length: of a row; validation_fraction,
          test_fraction
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError, DataError
from ..dataset import Decoded, Field, FieldKind, Source
from . import own_files
from ._bpe import BEGIN, END, BytePairs
from .common import padded
from .own_readers import read_splits
from .own_splits import all_splits

_MOST_TOKENS = 2**15  # int16

Pair = tuple[str, str]


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    if options["length"] < 3:
        raise ConfigError(f"own_pairs: option length expected at least 3, given {options['length']}")
    if options["vocabulary"] > _MOST_TOKENS:
        raise ConfigError(f"own_pairs: option vocabulary expected at most {_MOST_TOKENS}, given {options['vocabulary']}")
    given = read_splits(own_files.own_root(options, "own_pairs"))
    texts = all_splits("own_pairs", {split: _pairs(split, columns, options) for split, columns in given.splits.items()}, options)
    codec = BytePairs.learn((text for pair in texts["train"] for text in pair), options["vocabulary"])
    room = options["length"] - 2
    splits, removed = {}, 0
    for split, found in texts.items():
        pairs = [(codec.encode(source), codec.encode(target)) for source, target in found]
        if split == "train":
            kept = [pair for pair in pairs if max(map(len, pair)) <= room]
            pairs, removed = kept, len(pairs) - len(kept)
        if not pairs:
            raise DataError(f"own_pairs: all {removed} training pairs are longer than the {room} tokens that option length leaves")
        splits[split] = {
            name: Field(
                FieldKind.ARRAY,
                padded([np.array([BEGIN, *pair[side][:room], END], np.int16) for pair in pairs], options["length"], np.int16),
            )
            for side, name in enumerate(("de", "en"))
        }
    return Decoded(splits, {"vocabulary": [token.decode("latin-1") for token in codec.tokens], "removed_from_train": removed})


def _pairs(split: str, columns: Mapping[str, Any], options: Mapping[str, Any]) -> list[Pair]:
    names = (options["source"], options["target"])
    absent = [name for name in names if name not in columns]
    if absent:
        raise DataError(f"own_pairs: {split} has no column {absent[0]!r}; options source and target name one of {sorted(columns)} each")
    pairs = list(zip(*(np.asarray(columns[name]).astype(str).tolist() for name in names), strict=True))
    empty = [i for i, pair in enumerate(pairs) if not all(text.strip() for text in pair)]
    if empty:
        raise DataError(f"own_pairs: {split}, row {empty[0]}: a sentence is empty ({len(empty)} such rows)")
    return pairs


SOURCE = Source(
    name="own_pairs",
    version=1,
    licence="the user's",
    citation="the user's own pairs of sentences",
    files=(),
    decode=decode,
    options={
        "path": "",
        "source": "source",
        "target": "target",
        "vocabulary": 2048,
        "length": 40,
        "validation_fraction": 0.1,
        "test_fraction": 0.1,
    },
    identify=own_files.identify,
)
