"""Your own text as one stream of tokens for language models, with a byte-pair vocabulary learned from the training part.

Size      as the files. Licence: yours. Checksum: none to compare with; files that change make another dataset, prepared anew.
Source    ``path``: one UTF-8 file, or a folder with train.txt, validation.txt and test.txt
Gives     tokens  ARRAY int16 [2 * block]: row i begins at token i * block of its split, so that rows overlap by half (as in
                  tinyshakespeare)
Splits    As given; of one file the first 90 % of the characters are train, the next 5 % validation and the last 5 % test.
Facts     vocabulary_size; bytes_per_token: of each split, what nats per token must be divided by to compare vocabularies
Options   path; vocabulary: number of tokens, at most 32,768; block: tokens that a model reads at once
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError, DataError
from ..dataset import Decoded, Field, FieldKind, Source
from . import own_files
from ._bpe import BytePairs
from .common import overlapping_rows

_SPLITS = ("train", "validation", "test")
_MOST_TOKENS = 2**15  # int16


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    if options["vocabulary"] > _MOST_TOKENS:
        raise ConfigError(f"own_text: option vocabulary expected at most {_MOST_TOKENS}, given {options['vocabulary']}")
    texts = _texts(Path(options["path"]).expanduser())
    codec = BytePairs.learn([texts["train"]], options["vocabulary"])
    streams = {split: np.array(codec.encode(text), np.int16) for split, text in texts.items()}
    splits = {}
    for split, stream in streams.items():
        if len(stream) < 2 * options["block"]:
            raise DataError(f"own_text: {split} has {len(stream)} tokens; a block of {options['block']} needs {2 * options['block']}")
        splits[split] = {"tokens": Field(FieldKind.ARRAY, overlapping_rows(stream, options["block"]))}
    lengths = {split: len(text.encode()) / len(streams[split]) for split, text in texts.items()}
    return Decoded(splits, {"vocabulary_size": codec.size, "bytes_per_token": lengths})


def _texts(root: Path) -> dict[str, str]:
    if root.is_dir():
        return {split: _read(root / f"{split}.txt") for split in _SPLITS}
    text = _read(root)
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    return {"train": text[:first], "validation": text[first:second], "test": text[second:]}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: not UTF-8 at byte {problem.start}: {problem.reason}") from None
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}") from None


SOURCE = Source(
    name="own_text",
    version=1,
    licence="the user's",
    citation="the user's own text",
    files=(),
    decode=decode,
    options={"path": "", "vocabulary": 1024, "block": 64},
    identify=own_files.identify,
)
