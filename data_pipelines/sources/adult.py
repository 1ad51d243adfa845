"""Adult (census income): 48,842 people of the 1994 US census, and whether they earn more than 50,000 dollars a year (24 %).

Size      6 MB to download, 3 MB as arrays. Licence: CC BY 4.0. Checksum: sha256 of UCI's files.
Source    B. Becker and R. Kohavi (1996), UCI Machine Learning Repository 2, doi:10.24432/C5XW20.
Gives     numbers     ARRAY float32 [6]: age, fnlwgt, education-num, capital-gain, capital-loss, hours-per-week, as they are
          categories  ARRAY int32 [8]: workclass, education, marital-status, occupation, relationship, race, sex, native-country, as
                      indices from 1 in alphabetical order of the training values ("?" is one of them); 0 for a value never seen there
          label       INT, 1 for more than 50,000
Splits    The official train (32,561) and test (16,281) in official order.
Facts     classes = 2; number_names, number_mean, number_std (over train); category_names, category_sizes (index 0 included)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from .common import encode_categories

_URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/adult"
_COLUMNS = [
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship", "race", "sex",
    "capital-gain", "capital-loss", "hours-per-week", "native-country",
]  # fmt: skip
_NUMBERS = ["age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
_CATEGORIES = [name for name in _COLUMNS if name not in _NUMBERS]


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    tables = {"train": _table(paths["adult.data"]), "test": _table(paths["adult.test"])}
    vocabularies = [{word: i for i, word in enumerate(sorted(set(tables["train"][name])), start=1)} for name in _CATEGORIES]
    splits = {}
    for split, table in tables.items():
        splits[split] = {
            "numbers": Field(FieldKind.ARRAY, np.stack([np.array(table[name], np.float32) for name in _NUMBERS], axis=1)),
            "categories": Field(FieldKind.ARRAY, encode_categories([table[name] for name in _CATEGORIES], vocabularies)),
            "label": Field(FieldKind.INT, np.array([word.startswith(">50K") for word in table["label"]], np.int64)),
        }
    numbers = splits["train"]["numbers"].values.astype(np.float64)
    facts = {
        "classes": 2,
        "number_names": _NUMBERS,
        "number_mean": numbers.mean(axis=0).tolist(),
        "number_std": numbers.std(axis=0).tolist(),
        "category_names": _CATEGORIES,
        "category_sizes": [len(vocabulary) + 1 for vocabulary in vocabularies],
    }
    return Decoded(splits, facts)


def _table(path: Path) -> dict[str, list[str]]:
    """Columns of words; the test file begins with a line of its own and its labels end in a full stop."""
    rows = [line.split(", ") for line in path.read_text().split("\n") if line and not line.startswith("|")]
    return dict(zip([*_COLUMNS, "label"], map(list, zip(*rows, strict=True)), strict=True))


SOURCE = Source(
    name="adult",
    version=1,
    licence="CC BY 4.0",
    citation="B. Becker, R. Kohavi. Adult. UCI Machine Learning Repository, 1996. doi:10.24432/C5XW20",
    files=(
        RemoteFile(
            "adult.data",
            f"{_URL}/adult.data",
            "sha256:5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
            3_974_305,
            "adult/adult.data",
        ),
        RemoteFile(
            "adult.test",
            f"{_URL}/adult.test",
            "sha256:a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
            2_003_153,
            "adult/adult.test",
        ),
    ),
    decode=decode,
)
