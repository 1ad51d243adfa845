"""Emoji of two vendors with their Unicode names and keywords: 3,524 Noto and 3,786 Twemoji pictures of 32x32 pixels.

Size      14 MB as arrays. Licence: Noto Apache-2.0, Twemoji CC BY 4.0, names and keywords Unicode-3.0. Checksum: sha256 of the mirror's
          files; the official pictures are larger.
Source    googlefonts/noto-emoji b3e3051; npm emoji-datasource-twitter 16.0.0; npm cldr-annotations-full 48.2.0.
Gives     image           IMAGE uint8 [32, 32, 3]
          caption         ARRAY uint8 [width of the longest], UTF-8, zeros after the end: "name; keyword, keyword, ..."
          caption_length  INT, bytes of the caption
          category        INT, index into the categories
          emoji           INT, index of the base emoji: skin-tone variants of one share it (they are near-duplicates)
Splits    By base emoji, so that no variant of a training emoji is held out, cut once for all with seed 0: validation and test: 300 base
          emoji each with their variants; train: the others. All three are Noto; shift: the test emoji as Twemoji draws them.
Facts     categories
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from ..splits import shuffled_ids
from .common import byte_rows

_NOTO = "https://github.com/googlefonts/noto-emoji"
_TWITTER = "https://www.npmjs.com/package/emoji-datasource-twitter"
_CLDR = "https://www.npmjs.com/package/cldr-annotations-full"
_FORM = "the official pictures, reduced to 32x32 and sorted by code point, and their names"
_HELD_OUT = 300
_SEED = 0


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    pictures = {vendor: np.load(paths[f"{vendor}.npy"], allow_pickle=False) for vendor in ("noto", "twitter")}
    entries = [json.loads(line) for line in paths["captions.jsonl"].read_text().splitlines()]
    bases = sorted({_base(entry) for entry in entries if entry["noto"] is not None})
    order = [bases[i] for i in shuffled_ids(len(bases), _SEED)]
    held_out = {"validation": set(order[:_HELD_OUT]), "test": set(order[_HELD_OUT : 2 * _HELD_OUT]), "train": set(order[2 * _HELD_OUT :])}
    categories = sorted({entry["category"] for entry in entries})
    longest = max(len(_caption(entry).encode()) for entry in entries)

    def split(vendor: str, wanted: set[str]) -> dict[str, Field]:
        chosen = [entry for entry in entries if entry[vendor] is not None and _base(entry) in wanted]
        captions, lengths = byte_rows([_caption(entry) for entry in chosen], longest)
        return {
            "image": Field(FieldKind.IMAGE, pictures[vendor][[entry[vendor] for entry in chosen]]),
            "caption": Field(FieldKind.ARRAY, captions),
            "caption_length": Field(FieldKind.INT, lengths),
            "category": Field(FieldKind.INT, np.array([categories.index(entry["category"]) for entry in chosen], np.int64)),
            "emoji": Field(FieldKind.INT, np.array([bases.index(_base(entry)) for entry in chosen], np.int64)),
        }

    splits = {name: split("noto", held_out[name]) for name in ("train", "validation", "test")}
    return Decoded({**splits, "shift": split("twitter", held_out["test"])}, {"categories": categories})


def _base(entry: Mapping[str, Any]) -> str:
    return str(entry["variant_of"] or entry["unified"])


def _caption(entry: Mapping[str, Any]) -> str:
    return "; ".join(part for part in (entry["name"], ", ".join(entry["keywords"])) if part)


SOURCE = Source(
    name="emoji",
    version=1,
    licence="Apache-2.0 (Noto), CC BY 4.0 (Twemoji), Unicode-3.0 (names)",
    citation="Google, Noto Emoji; Twitter, Twemoji; Unicode Consortium, Common Locale Data Repository 48.",
    files=(
        RemoteFile(
            "noto.npy",
            _NOTO,
            "sha256:143ab710d298b6b1c7a621256ee7693231f78c95a5dff17c27589048063d5480",
            10_825_856,
            "emoji/noto.npy",
            form=_FORM,
        ),
        RemoteFile(
            "twitter.npy",
            _TWITTER,
            "sha256:197e4b2da0c0c4315cec14bbb6bfa43d56fe5ad51a1eec107c9dd4c3760be5ea",
            11_630_720,
            "emoji/twitter.npy",
            form=_FORM,
        ),
        RemoteFile(
            "captions.jsonl",
            _CLDR,
            "sha256:f5a13d9dd912fe9a5b17c75c09bc5ba6aaf406894fc0197916c106b9e10a22f4",
            1_124_931,
            "emoji/captions.jsonl",
            form=_FORM,
        ),
    ),
    decode=decode,
)
