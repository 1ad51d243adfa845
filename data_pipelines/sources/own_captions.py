"""Your own pictures with captions, as tokens of a byte-pair vocabulary learned from the training captions.

Size      as the files. Licence: yours. Checksum: none to compare with; files that change make another dataset, prepared anew.
Source    ``path``: NAME.csv, NAME.parquet or NAME.jsonl for each split, or one such file, with columns ``file`` (a picture's path, from
          where ``path`` is) and ``caption``; or arrays, NAME.npz with ``image`` uint8 [n, S, S, 3] and ``caption``
Gives     image     IMAGE uint8 [side, side, 3]: the middle of the picture, scaled; arrays must have this size
          tokens    ARRAY int16 [length], zeros after the end; longer captions are cut
          emoji     INT, index of the caption: pictures with equal captions share it (named as in emoji_bpe, which the shipped family reads)
          category  INT, index into the categories, if there is a column ``label``
Splits    As given; what is missing is cut from train, the labels, if any, in proportion.
Facts     vocabulary_size; mean and std of each channel over train; categories and category_tokens (their names as rows like ``tokens``)
          if there is a column ``label``
Options   path; label: name of the column; side; vocabulary: number of tokens, at most 32,768; length: of a row; validation_fraction,
          test_fraction
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError, DataError
from ...suite.files import object_digest
from ..dataset import Decoded, Field, FieldKind, Source
from . import own_files
from ._bpe import BytePairs
from .common import padded
from .own_readers import read_splits
from .own_splits import all_splits

_MOST_TOKENS = 2**15  # int16


@dataclass(frozen=True)
class Captioned:
    """A picture, uint8 ``[H, W, 3]`` or the path of its file, with its caption and its label (empty without labels)."""

    picture: np.ndarray | Path
    caption: str
    label: str


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    if options["vocabulary"] > _MOST_TOKENS:
        raise ConfigError(f"own_captions: option vocabulary expected at most {_MOST_TOKENS}, given {options['vocabulary']}")
    root = own_files.own_root(options, "own_captions")
    given = read_splits(root).splits
    found = {split: _examples(split, columns, _folder(root), options) for split, columns in given.items()}
    labelled = all(options["label"] in columns for columns in given.values())
    splits = all_splits("own_captions", found, options, (lambda example: example.label) if labelled else None)
    codec = BytePairs.learn([example.caption for example in splits["train"]], options["vocabulary"])
    captions = {text: i for i, text in enumerate(sorted({example.caption for part in splits.values() for example in part}))}
    categories = sorted({example.label for example in splits["train"]})
    outside = {example.label for part in splits.values() for example in part} - set(categories)
    if outside:
        raise DataError(f"own_captions: label {min(outside)!r} is none of the {len(categories)} of train")

    def rows(texts: Sequence[str]) -> np.ndarray:
        return padded([np.array(codec.encode(text), np.int16) for text in texts], options["length"], np.int16)

    fields = {}
    for split, part in splits.items():
        fields[split] = {
            "image": Field(FieldKind.IMAGE, np.stack([_image(example.picture, options["side"]) for example in part])),
            "tokens": Field(FieldKind.ARRAY, rows([example.caption for example in part])),
            "emoji": Field(FieldKind.INT, np.array([captions[example.caption] for example in part], np.int64)),
        }
        if labelled:
            fields[split]["category"] = Field(FieldKind.INT, np.array([categories.index(e.label) for e in part], np.int64))
    pixels = own_files.picture_facts(np.asarray(fields["train"]["image"].values))
    facts = {"vocabulary_size": codec.size, "mean": pixels["mean"], "std": pixels["std"]}
    if labelled:
        facts |= {"categories": categories, "category_tokens": rows(categories).tolist()}
    return Decoded(fields, facts)


def identify(options: Mapping[str, Any]) -> str:
    """Digest over the names, sizes and times of the files below ``path`` and of the pictures that they name."""
    root = own_files.own_root(options, "own_captions")
    named = [_folder(root) / str(name) for columns in read_splits(root).splits.values() for name in np.asarray(columns.get("file", ()))]
    there = [(path, path.stat()) for path in named if path.is_file()]
    return object_digest([own_files.identify(options), [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in there]])


def _folder(root: Path) -> Path:
    """Where the paths of pictures begin."""
    return root if root.is_dir() else root.parent


def _examples(split: str, columns: Mapping[str, Any], root: Path, options: Mapping[str, Any]) -> list[Captioned]:
    pictures = "file" if "file" in columns else "image"
    absent = [name for name in (pictures, "caption") if name not in columns]
    if absent or (pictures == "image" and not isinstance(columns["image"], np.ndarray)):
        raise DataError(f"own_captions: {split} expected columns file (or arrays image) and caption; found {sorted(columns)}")
    count = len(columns["caption"])
    labels = np.asarray(columns.get(options["label"], np.full(count, ""))).astype(str).tolist()
    captions = np.asarray(columns["caption"]).astype(str).tolist()
    empty = [i for i, caption in enumerate(captions) if not caption.strip()]
    if empty:
        raise DataError(f"own_captions: {split}, row {empty[0]}: the caption is empty ({len(empty)} such rows)")
    given = list(columns[pictures]) if pictures == "image" else [root / str(name) for name in columns["file"]]
    if len({len(given), len(captions), len(labels)}) > 1:
        raise DataError(f"own_captions: {split} has {len(given)} pictures, {len(captions)} captions and {len(labels)} labels")
    return [Captioned(*row) for row in zip(given, captions, labels, strict=True)]


def _image(given: np.ndarray | Path, side: int) -> np.ndarray:
    """uint8 ``[side, side, 3]``."""
    from PIL import Image, ImageOps

    if isinstance(given, Path):
        try:
            with Image.open(given) as picture:
                return np.asarray(ImageOps.fit(picture.convert("RGB"), (side, side)))
        except OSError as problem:
            raise DataError(f"{given}: cannot be read: {problem.strerror or problem}") from problem
    if given.dtype != np.uint8 or given.shape != (side, side, 3):
        raise DataError(f"own_captions: image expected uint8 [{side}, {side}, 3], given {given.dtype} {list(given.shape)}")
    return given


SOURCE = Source(
    name="own_captions",
    version=1,
    licence="the user's",
    citation="the user's own pictures and captions",
    files=(),
    decode=decode,
    options={
        "path": "",
        "label": "label",
        "side": 32,
        "vocabulary": 1024,
        "length": 48,
        "validation_fraction": 0.1,
        "test_fraction": 0.1,
    },
    identify=identify,
)
