"""CIFAR-10 as pairs of picture and text: the web search term that found a picture stands in its official file name.

Size      170 MB to download, 185 MB as arrays. Licence: none stated; cite the report. Checksum: as for cifar10.
Source    A. Krizhevsky (2009), www.cs.toronto.edu/~kriz/cifar.html; the terms are those of the 80 million tiny images.
Gives     image, label  as in cifar10
          term          INT, index into the terms (389 occur in train, "tabby_cat" most often); 0 for a term never seen there
Splits    As in cifar10.
Facts     as in cifar10, and terms: 390 in alphabetical order, the first one empty; term_words: [390, 3], the words of each term as
          indices from 1, zeros after the last; word_count: words and the padding together; class_terms: for each class, the index of the
          term that is its own name ("airplane", ...)
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from . import cifar10
from .common import padded

_PARTS = {
    split: tuple(file.name for file in cifar10.SOURCE.files if file.name.startswith(prefix))
    for split, prefix in {"train": "data_batch", "test": "test_batch"}.items()
}


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    pictures = cifar10.decode(paths, {})
    found = {split: [term for name in files for term in _terms(paths[name])] for split, files in _PARTS.items()}
    terms = ["", *sorted(set(found["train"]))]
    index = {term: i for i, term in enumerate(terms)}
    words = {word: i for i, word in enumerate(sorted({word for term in terms[1:] for word in term.split("_")}), start=1)}
    rows = [np.array([words[word] for word in term.split("_") if word], np.int16) for term in terms]
    splits = {
        split: {**fields, "term": Field(FieldKind.INT, np.array([index.get(term, 0) for term in found[split]], np.int64))}
        for split, fields in pictures.splits.items()
    }
    facts = {
        **pictures.facts,
        "terms": terms,
        "term_words": padded(rows, max(map(len, rows)), np.int16).tolist(),
        "word_count": len(words) + 1,
        "class_terms": [index[name] for name in pictures.facts["class_names"]],
    }
    return Decoded(splits, facts)


def _terms(path: Path) -> list[str]:
    """``felis_catus_s_000033.png`` was found with ``felis_catus``."""
    names: list[bytes] = pickle.loads(path.read_bytes(), encoding="bytes")[b"filenames"]
    return [name.decode().rpartition("_s_")[0] for name in names]


SOURCE = Source(
    name="cifar10_terms",
    version=1,
    licence=cifar10.SOURCE.licence,
    citation=cifar10.SOURCE.citation,
    files=cifar10.SOURCE.files,
    decode=decode,
)
