"""Your own files: arrays, IDX files, a folder of pictures, or tables of rows or text.

Size      as the files. Licence: yours. Checksum: none to compare with; files that change make another dataset, prepared anew.
Source    ``path``: a file, or a folder that holds one of these for each split, called train, validation (optional) and test:
          NAME.npz          arrays by field name, examples along the first dimension; or a folder NAME of FIELD.npy
          NAME.parquet, NAME.csv, NAME.jsonl    rows
          NAME/CLASS/*.png, *.jpg, *.webp       pictures
          train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, ... (.gz as well), as MNIST is published
Gives     label       INT: the column or array of this name, or the folder's name; indices into the sorted training values. Fractional
                      numbers stay as they are: ARRAY float32 [1]
          arrays      image: IMAGE (uint8 [n, H, W, 3]; grey is repeated three times); whole numbers [n]: INT; other: ARRAY as given
          pictures    image: IMAGE when all have one size, else JPEG when all are JPEG files
          rows        numbers: ARRAY float32 [columns], 0 where missing, and missing: ARRAY uint8 [columns] if anything is;
                      categories: ARRAY int32 [columns], indices from 1 into the sorted training values, 0 for others and missing;
                      text: ARRAY uint8 [bytes], UTF-8, zeros after the end, longer ones cut between characters; length: INT
Splits    As given. Without a test split, test_fraction of train is cut for it, once for all with seed 0, the classes in proportion.
Facts     classes, class_names; number_names, number_mean, number_std (over train; 1 for a constant); category_names, category_sizes
          (index 0 included); mean, std of pictures, and patch_covariance of those of one size, as in cifar10; each where there are
          such. A workload that states no mean and std for its pictures is normalised by these
Options   path; label, text: names of the columns; bytes: width of the text; test_fraction
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError, DataError, DataMissing
from ...suite.files import object_digest
from ..dataset import Decoded, Field, FieldKind, Source
from ..splits import validation_ids
from .cifar10 import channel_statistics, patch_covariance
from .common import byte_rows, encode_categories
from .own_readers import Pictures, read_splits

_TEST_SEED = 0
_WHITENING_PICTURES, _DECODED_PICTURES = 5000, 1000

Columns = Mapping[str, np.ndarray | Pictures]


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    given = read_splits(own_root(options, "own_files"))
    if "train" not in given.splits:
        raise DataError(f"{options['path']}: no train split; found {sorted(given.splits)}")
    for split, columns in given.splits.items():
        if not columns or min(map(len, columns.values())) == 0:
            raise DataError(f"{options['path']}: {split} holds no examples")
    facts: dict[str, Any] = {}
    splits: dict[str, dict[str, Field]] = {name: {} for name in given.splits}
    for name, fields in _labels(given.splits, options["label"], facts).items():
        splits[name] |= fields
    rest = {
        split: {name: column for name, column in columns.items() if name != options["label"]} for split, columns in given.splits.items()
    }
    for split, columns in rest.items():
        if set(columns) != set(rest["train"]):
            raise DataError(f"{options['path']}: {split} has {sorted(columns)}, train has {sorted(rest['train'])}")
    others = _table_fields(rest, options, facts) if given.is_table else {name: _array_fields(columns) for name, columns in rest.items()}
    for name, fields in others.items():
        splits[name] |= fields
    if "test" not in splits:
        splits |= cut_test(splits["train"], options["test_fraction"], "own_files")
    image = splits["train"].get("image")
    if image is not None and image.kind is FieldKind.IMAGE:
        facts |= picture_facts(np.asarray(image.values))
    if image is not None and image.kind is FieldKind.JPEG:
        facts |= encoded_picture_facts(image)
    return Decoded(splits, facts)


def picture_facts(images: np.ndarray) -> dict[str, Any]:
    """Mean and std of each channel (fractions of 255) and, as cifar10 states them, second moments of 2x2 patches."""
    mean, std = channel_statistics(images)
    std = np.maximum(std, 1.0)  # of one colour only
    covariance = patch_covariance(images[:_WHITENING_PICTURES], mean, std) if min(images.shape[1:3]) >= 2 else np.eye(12)
    return {"mean": (mean / 255).tolist(), "std": (std / 255).tolist(), "patch_covariance": covariance.tolist()}


def encoded_picture_facts(pictures: Field) -> dict[str, Any]:
    """Mean and std of each channel of JPEG files, every one with the same weight, of at most 1,000 spread over the split."""
    from PIL import Image

    levels, counts = np.arange(256), np.zeros((3, 256))
    offsets = np.asarray(pictures.offsets)
    for i in np.linspace(0, len(offsets) - 2, min(len(offsets) - 1, _DECODED_PICTURES)).astype(int):
        try:
            with Image.open(io.BytesIO(pictures.values[offsets[i] : offsets[i + 1]].tobytes())) as picture:
                pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        except OSError as problem:
            raise DataError(f"own_files: picture {i} of train cannot be read: {problem}") from problem
        counts += np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(3)]) / len(pixels)
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ levels
    std = np.maximum(np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0.0)), 1.0)
    return {"mean": (mean / 255).tolist(), "std": (std / 255).tolist()}


def identify(options: Mapping[str, Any]) -> str:
    """Digest over the names, sizes and times of all files below ``path``."""
    root = own_root(options, "own data")
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    return object_digest([[str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns] for path in files])


def own_root(options: Mapping[str, Any], source: str) -> Path:
    """The file or folder that option ``path`` names; ``DataMissing`` where there is none."""
    root = Path(options["path"]).expanduser()
    if not options["path"] or not root.exists():
        raise DataMissing(f"{source}: option path: there is no file or folder {options['path']!r}")
    return root


def _labels(splits: Mapping[str, Columns], label: str, facts: dict[str, Any]) -> dict[str, dict[str, Field]]:
    columns = {split: np.asarray(found[label]) for split, found in splits.items() if label in found}
    if not columns:
        return {}
    if set(columns) != set(splits):
        raise DataError(f"own_files: {sorted(set(splits) - set(columns))} has no {label!r}, {sorted(columns)} has")
    train = columns["train"]
    if any(column.ndim != 1 for column in columns.values()):
        raise DataError(f"own_files: {label!r} is not one value an example")
    if train.dtype.kind == "f":
        return {split: {"label": Field(FieldKind.ARRAY, np.asarray(column, np.float32)[:, None])} for split, column in columns.items()}
    known = np.unique(train)
    facts |= {"classes": len(known), "class_names": [str(value) for value in known]}
    found = {}
    for split, column in columns.items():
        outside = np.setdiff1d(column, known)
        if outside.size:
            raise DataError(f"own_files: {split} has the label {outside[0].item()!r}, which is none of the {len(known)} classes of train")
        found[split] = {"label": Field(FieldKind.INT, np.searchsorted(known, column).astype(np.int64))}
    return found


def _array_fields(columns: Columns) -> dict[str, Field]:
    fields = {}
    for name, column in columns.items():
        if isinstance(column, Pictures):
            fields[name] = _pictures(column)
        elif name == "image" and column.dtype == np.uint8 and column.ndim in (3, 4):
            grey = column.reshape(*column.shape[:3], -1)  # [n, H, W, 1 or 3]
            fields[name] = Field(FieldKind.IMAGE, np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:3], 3))))
        elif column.ndim == 1 and column.dtype.kind in "iub":
            fields[name] = Field(FieldKind.INT, column.astype(np.int64))
        else:
            fields[name] = Field(FieldKind.ARRAY, column[:, None] if column.ndim == 1 else column)
    return fields


def _pictures(given: Pictures) -> Field:
    """Decoded when all are of one size, as they are when all are JPEG files."""
    from PIL import Image

    sizes = set()
    for path in given.paths:
        with Image.open(path) as picture:
            sizes.add(picture.size)
    if len(sizes) > 1:
        contents = [np.frombuffer(path.read_bytes(), np.uint8) for path in given.paths]
        if not all(content[:2].tobytes() == b"\xff\xd8" for content in contents):
            raise DataError(
                f"own_files: pictures of {len(sizes)} sizes, from {min(sizes)} to {max(sizes)}; expected one size, or JPEG files"
            )
        return Field(FieldKind.JPEG, np.concatenate(contents), np.cumsum([0, *map(len, contents)], dtype=np.int64))
    images = []
    for path in given.paths:
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            images.append(np.asarray(picture.convert("RGB")))
    return Field(FieldKind.IMAGE, np.stack(images))


def _table_fields(splits: Mapping[str, Columns], options: Mapping[str, Any], facts: dict[str, Any]) -> dict[str, dict[str, Field]]:
    text = options["text"]
    train = {name: np.asarray(column) for name, column in splits["train"].items()}
    numbers = [name for name, column in train.items() if column.dtype.kind in "fiub" and name != text]
    words = [name for name, column in train.items() if column.dtype.kind == "U" and name != text]
    vocabularies = [{word: i for i, word in enumerate(sorted(set(train[name].tolist()) - {""}), start=1)} for name in words]
    if numbers:
        facts["number_names"] = numbers
    if words:
        facts |= {"category_names": words, "category_sizes": [len(vocabulary) + 1 for vocabulary in vocabularies]}
    tables = {split: {name: np.asarray(column) for name, column in columns.items()} for split, columns in splits.items()}
    for split, table in tables.items():
        for name in numbers:
            if table[name].dtype.kind not in "fiub":
                raise DataError(f"own_files: column {name!r} holds numbers in train and words in {split}")
    values = {split: np.stack([table[name] for name in numbers], axis=1).astype(np.float32) for split, table in tables.items() if numbers}
    if numbers:
        known = np.ma.masked_invalid(values["train"].astype(np.float64))
        deviation = known.std(axis=0).filled(1.0)
        facts |= {"number_mean": known.mean(axis=0).filled(0.0).tolist(), "number_std": np.where(deviation > 0, deviation, 1.0).tolist()}
    gaps = any(np.isnan(found).any() for found in values.values())
    fields: dict[str, dict[str, Field]] = {split: {} for split in splits}
    for split, table in tables.items():
        if numbers:
            missing = np.isnan(values[split])
            fields[split]["numbers"] = Field(FieldKind.ARRAY, np.where(missing, np.float32(0), values[split]))
            if gaps:
                fields[split]["missing"] = Field(FieldKind.ARRAY, missing.astype(np.uint8))
        if words:
            columns = [table[name].astype(str).tolist() for name in words]
            fields[split]["categories"] = Field(FieldKind.ARRAY, encode_categories(columns, vocabularies))
        if text in table:
            rows, lengths = byte_rows(table[text].astype(str).tolist(), options["bytes"])
            fields[split] |= {"text": Field(FieldKind.ARRAY, rows), "length": Field(FieldKind.INT, lengths)}
    return fields


def cut_test(train: Mapping[str, Field], fraction: float, source: str) -> dict[str, dict[str, Field]]:
    """Train and test: a fraction of the examples is cut for test once for all, the classes of a field ``label`` in proportion."""
    label = train.get("label")
    labels = label.values if label is not None and label.kind is FieldKind.INT else len(next(iter(train.values())))
    count = round(fraction * len(next(iter(train.values()))))
    try:
        test = validation_ids(labels, count, _TEST_SEED)
    except ConfigError as problem:
        raise ConfigError(f"{source}: no test split is given, and option test_fraction {fraction} cannot be cut: {problem}") from None
    rest = np.setdiff1d(np.arange(len(next(iter(train.values())))), test)
    return {split: {name: _rows(column, ids) for name, column in train.items()} for split, ids in {"train": rest, "test": test}.items()}


def _rows(column: Field, ids: np.ndarray) -> Field:
    if column.offsets is None:
        return Field(column.kind, column.values[ids])
    pictures = [column.values[column.offsets[i] : column.offsets[i + 1]] for i in ids]
    return Field(column.kind, np.concatenate(pictures), np.cumsum([0, *map(len, pictures)], dtype=np.int64))


SOURCE = Source(
    name="own_files",
    version=3,
    licence="the user's",
    citation="the user's own files",
    files=(),
    decode=decode,
    options={"path": "", "label": "label", "text": "text", "bytes": 2048, "test_fraction": 0.2},
    identify=identify,
)
