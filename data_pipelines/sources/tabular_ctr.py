"""Three tables of clicks and use: Frappe (17,421 rows), and excerpts of Criteo (8,000) and Avazu (8,999).

Size      4.5 MB to download, at most 2 MB as arrays. Licence: Frappe: research; Criteo: its terms of use (non-commercial); Avazu: the rules
          of its Kaggle competition. Checksum: sha256 of the files at the commits below.
Source    L. Baltrunas et al., Frappe (2015), file of github.com/vitorrtonon/HeterogeneousRec aba72185; Criteo Display Advertising Challenge
          and Avazu CTR Prediction (Kaggle, 2014), excerpts of github.com/Lapis-Hong/Wide-ResDNN 9889f939.
Gives     categories  ARRAY int32 [columns], indices from 1 in alphabetical order of the training values (an empty cell is one of them);
                      0 for a value never seen there
          numbers     ARRAY float32 [13], Criteo only, as they are, 0 where missing
          missing     ARRAY uint8 [13], Criteo only, 1 where a number is missing
          label       INT. Criteo, Avazu: clicked. Frappe: used the app at least 8 times in this context (8 is the median, so half
                      of the rows)
Splits    Criteo and Avazu: the excerpts' own train, dev (here validation) and test, which are small (about 400 rows): AUC has a noise of
          0.02. Frappe has no official cut: test: 3,484 rows, the labels in proportion, cut once for all with seed 0; train: the others.
Facts     classes = 2, category_names, category_sizes (index 0 included)
Options   table: frappe, criteo or avazu
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import unknown_name
from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from ..splits import validation_ids
from .common import encode_categories

_EXCERPTS = "https://raw.githubusercontent.com/Lapis-Hong/Wide-ResDNN/9889f939deb904a35692e2efdc6ab4f743a7df71/data"
_FRAPPE = "https://raw.githubusercontent.com/vitorrtonon/HeterogeneousRec/aba72185527c5c42c920515b0ad9c3709d3779e4/data/frappe/frappe.csv"
_TABLES = ("avazu", "criteo", "frappe")
_OFTEN = 8
_TEST_EXAMPLES = 3484
_TEST_SEED = 0
_NUMBERS = 13
_PARTS = {"train": "train", "validation": "dev", "test": "test"}  # of the excerpts

Rows = list[list[str]]


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    if options["table"] not in _TABLES:
        raise unknown_name("table of tabular_ctr", options["table"], _TABLES)
    return {"frappe": _frappe, "criteo": _criteo, "avazu": _avazu}[options["table"]](paths)


def _frappe(paths: Mapping[str, Path]) -> Decoded:
    header, *rows = _rows(paths["frappe.csv"], ",")
    count = header.index("cnt")
    labels = np.array([int(row[count]) >= _OFTEN for row in rows], np.int64)
    test = validation_ids(labels, _TEST_EXAMPLES, _TEST_SEED)
    train = np.setdiff1d(np.arange(len(rows)), test)
    names = header[:count] + header[count + 1 :]
    cells = {name: [rows[i][:count] + rows[i][count + 1 :] for i in ids] for name, ids in {"train": train, "test": test}.items()}
    return _encoded(names, cells, {"train": labels[train], "test": labels[test]})


def _criteo(paths: Mapping[str, Path]) -> Decoded:
    parts = {split: _rows(paths[f"criteo_{part}.tsv"], "\t") for split, part in _PARTS.items()}
    labels = {split: np.array([int(row[0]) for row in rows], np.int64) for split, rows in parts.items()}
    names = [f"C{i}" for i in range(1, 27)]
    decoded = _encoded(names, {split: [row[1 + _NUMBERS :] for row in rows] for split, rows in parts.items()}, labels)
    splits = {}
    for split, rows in parts.items():
        cells = np.array([row[1 : 1 + _NUMBERS] for row in rows])  # [n, 13] words
        missing = cells == ""
        splits[split] = {
            **decoded.splits[split],
            "numbers": Field(FieldKind.ARRAY, np.where(missing, "0", cells).astype(np.float32)),
            "missing": Field(FieldKind.ARRAY, missing.astype(np.uint8)),
        }
    return Decoded(splits, decoded.facts)


def _avazu(paths: Mapping[str, Path]) -> Decoded:
    parts = {split: _rows(paths[f"avazu_{part}.csv"], ",") for split, part in _PARTS.items()}
    header = parts["train"].pop(0)  # only the first file has one; column 0 is the row's own number, column 1 the click
    labels = {split: np.array([int(row[1]) for row in rows], np.int64) for split, rows in parts.items()}
    return _encoded(header[2:], {split: [row[2:] for row in rows] for split, rows in parts.items()}, labels)


def _encoded(names: list[str], parts: Mapping[str, Rows], labels: Mapping[str, np.ndarray]) -> Decoded:
    columns = {split: list(zip(*rows, strict=True)) for split, rows in parts.items()}
    vocabularies = [{word: i for i, word in enumerate(sorted(set(column)), start=1)} for column in columns["train"]]
    splits = {
        split: {
            "categories": Field(FieldKind.ARRAY, encode_categories(columns[split], vocabularies)),
            "label": Field(FieldKind.INT, labels[split]),
        }
        for split in parts
    }
    return Decoded(splits, {"classes": 2, "category_names": names, "category_sizes": [len(known) + 1 for known in vocabularies]})


def _rows(path: Path, separator: str) -> Rows:
    return [line.split(separator) for line in path.read_text().split("\n") if line]


SOURCE = Source(
    name="tabular_ctr",
    version=1,
    licence="Frappe: research; Criteo: non-commercial; Avazu: Kaggle rules",
    citation="L. Baltrunas et al. Frappe. arXiv 1505.03014, 2015. Criteo Display Ads; Avazu CTR Prediction. Kaggle, 2014.",
    files=(
        RemoteFile(
            "avazu_dev.csv",
            f"{_EXCERPTS}/avazu/dev.csv",
            "sha256:1dbd14ef356202a106766d175ab20dfa182838c8cf77e6b018dd18df05c7e757",
            74_359,
            "tabular_ctr/avazu_dev.csv",
        ),
        RemoteFile(
            "avazu_test.csv",
            f"{_EXCERPTS}/avazu/test.csv",
            "sha256:9c81e37b0766fb1daa430706c0c8188046e6daf6a295ab667687d87dada32f35",
            66_976,
            "tabular_ctr/avazu_test.csv",
        ),
        RemoteFile(
            "avazu_train.csv",
            f"{_EXCERPTS}/avazu/train.csv",
            "sha256:49fb8cdcadfd9030a6fcb8cd97fe8205d94b84723ee8292e229d741ce1362e4f",
            1_253_029,
            "tabular_ctr/avazu_train.csv",
        ),
        RemoteFile(
            "criteo_dev.tsv",
            f"{_EXCERPTS}/criteo/dev.csv",
            "sha256:7ac8a164e43a9903be3d43e640bcd464cfa0d96d7a652ec8ef8a33fe97cac6b9",
            98_922,
            "tabular_ctr/criteo_dev.tsv",
        ),
        RemoteFile(
            "criteo_test.tsv",
            f"{_EXCERPTS}/criteo/test.csv",
            "sha256:3a7a78b694945482aede520e68300b0e2748603363072822cfbbb9f72d0dfd9a",
            95_122,
            "tabular_ctr/criteo_test.tsv",
        ),
        RemoteFile(
            "criteo_train.tsv",
            f"{_EXCERPTS}/criteo/train.csv",
            "sha256:2b0614035f6c931dc4ac2c1a1a26fa954f2b9231703f3a77bcdd53d9d9f29872",
            1_744_474,
            "tabular_ctr/criteo_train.tsv",
        ),
        RemoteFile(
            "frappe.csv",
            _FRAPPE,
            "sha256:9a03597145d5ee53a8f192d8bdfcc4ea105878756661b91e5ec641d85fe6ed63",
            1_142_770,
            "tabular_ctr/frappe.csv",
        ),
    ),
    decode=decode,
    options={"table": "frappe"},
)
