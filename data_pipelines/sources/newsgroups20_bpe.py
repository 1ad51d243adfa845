"""20 Newsgroups as one stream of tokens for language models, with a byte-pair vocabulary learned from the training posts.

Size      14 MB to download, 17 MB as rows. Licence: CC BY 4.0 (as listed by UCI). Checksum: as for newsgroups20.
Source    K. Lang (1995), qwone.com/~jason/20Newsgroups, version bydate; encoded here.
Gives     tokens  ARRAY int16 [2 * block]: row i begins at token i * block of its split, so that rows overlap by half (as in
                  tinyshakespeare). A post is 1 (begin), its subject, an empty line and the first 2,048 bytes; exact copies are left out.
Splits    validation: 100 of the official training posts, cut with seed 0, the groups in proportion; train: the others; test: 200 of the
          official test posts, which are later in time, cut alike.
Facts     vocabulary_size; bytes_per_token: of each split, what nats per token must be divided by to compare vocabularies
Options   vocabulary: number of tokens; block: tokens that a model reads at once

The posts hold people's names and addresses: never print them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..splits import validation_ids
from . import newsgroups20
from ._bpe import BEGIN, BytePairs
from .common import overlapping_rows

_BYTES = 2048
_VALIDATION_EXAMPLES = 100
_TEST_EXAMPLES = 200
_SEED = 0


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    posts = newsgroups20.decode(paths, {"bytes": _BYTES})
    train, test = ({name: np.asarray(field.values) for name, field in posts.splits[split].items()} for split in ("train", "test"))
    held_out = validation_ids(train["group"], _VALIDATION_EXAMPLES, _SEED)
    chosen = {
        "train": (train, np.setdiff1d(np.arange(len(train["group"])), held_out)),
        "validation": (train, held_out),
        "test": (test, validation_ids(test["group"], _TEST_EXAMPLES, _SEED)),
    }
    texts, seen = {}, set[str]()
    for split, (columns, ids) in chosen.items():
        every = dict.fromkeys(columns["text"][i, : columns["length"][i]].tobytes().decode() for i in ids)
        texts[split] = [text for text in every if text not in seen]
        seen.update(texts[split])
    codec = BytePairs.learn(texts["train"], options["vocabulary"])
    streams = {split: np.array([t for post in parts for t in (BEGIN, *codec.encode(post))], np.int16) for split, parts in texts.items()}
    splits = {split: {"tokens": Field(FieldKind.ARRAY, overlapping_rows(stream, options["block"]))} for split, stream in streams.items()}
    sizes = {split: sum(len(text.encode()) for text in parts) for split, parts in texts.items()}
    facts = {"vocabulary_size": codec.size, "bytes_per_token": {split: sizes[split] / len(streams[split]) for split in texts}}
    return Decoded(splits, facts)


SOURCE = Source(
    name="newsgroups20_bpe",
    version=1,
    licence=newsgroups20.SOURCE.licence,
    citation=newsgroups20.SOURCE.citation,
    files=newsgroups20.SOURCE.files,
    decode=decode,
    options={"vocabulary": 2048, "block": 64},
)
