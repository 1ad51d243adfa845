"""Emoji with their captions as tokens: byte pairs learned from the training captions, so that unseen words have known parts.

Size      14 MB as arrays. Licence: Noto Apache-2.0, Twemoji CC BY 4.0, names and keywords Unicode-3.0. Checksum: as for emoji.
Source    As emoji; encoded here.
Gives     image     IMAGE uint8 [32, 32, 3]
          tokens    ARRAY int16 [length], zeros after the end; longer captions are cut
          category  INT, index into the categories
          emoji     INT, index of the base emoji: skin-tone variants of one share it
Splits    As emoji, but the skin-tone variants stay in train only: what is held out is 300 emoji without near-duplicates in each of
          validation, test and shift (the test emoji as another vendor draws them, as far as it does).
Facts     categories; category_tokens: their names as rows like ``tokens``; vocabulary_size; mean and std of each channel over train
Options   vocabulary: number of tokens; length: of a row
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from . import emoji
from ._bpe import BytePairs
from .common import padded


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    whole = emoji.decode(paths, {})
    columns = {split: {name: np.asarray(field.values) for name, field in fields.items()} for split, fields in whole.splits.items()}
    for split, held_out in columns.items():
        if split != "train":
            _, first = np.unique(held_out["emoji"], return_index=True)  # a base emoji comes before its variants
            columns[split] = {name: values[np.sort(first)] for name, values in held_out.items()}
    texts = {
        split: [row[:length].tobytes().decode().lower() for row, length in zip(part["caption"], part["caption_length"], strict=True)]
        for split, part in columns.items()
    }
    codec = BytePairs.learn(texts["train"], options["vocabulary"])

    def rows(lines: list[str]) -> np.ndarray:
        return padded([np.array(codec.encode(line), np.int16) for line in lines], options["length"], np.int16)

    splits = {
        split: {
            "image": Field(FieldKind.IMAGE, part["image"]),
            "tokens": Field(FieldKind.ARRAY, rows(texts[split])),
            "category": Field(FieldKind.INT, part["category"]),
            "emoji": Field(FieldKind.INT, part["emoji"]),
        }
        for split, part in columns.items()
    }
    pixels = columns["train"]["image"].reshape(-1, 3).astype(np.float64) / 255
    facts = {
        "categories": whole.facts["categories"],
        "category_tokens": rows([name.lower() for name in whole.facts["categories"]]).tolist(),
        "vocabulary_size": codec.size,
        "mean": pixels.mean(axis=0).tolist(),
        "std": pixels.std(axis=0).tolist(),
    }
    return Decoded(splits, facts)


SOURCE = Source(
    name="emoji_bpe",
    version=1,
    licence=emoji.SOURCE.licence,
    citation=emoji.SOURCE.citation,
    files=emoji.SOURCE.files,
    decode=decode,
    options={"vocabulary": 1024, "length": 48},
)
