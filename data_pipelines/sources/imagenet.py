"""ImageNet (ILSVRC 2012) as its own JPEG files, which FFCV decodes and crops while training. Not fetched here (account, terms).

Size      1,281,167 train and 50,000 validation pictures, and 10,000 of ImageNet v2 (matched frequency) as test; 145 GB.
Source    https://image-net.org/download.php (ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar) and https://imagenetv2.org.
          Licence: terms of access for non-commercial research, with an account.
          Checksum: none here; the prepared dataset's digest tells one state of the files from another.
Gives     image  JPEG, of any size
          label  INT, 0 to 999: the folders of train in alphabetical order
Layout    train/WNID/NAME.JPEG, validation/WNID/NAME.JPEG, test/WNID/NAME.jpeg: the archives unpacked into a folder a class
Splits    train and validation are the official ones; test is ImageNet v2.
Facts     classes = 1000
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError, DataError
from ..dataset import Decoded, Field, FieldKind, Source
from ..jpeg import jpeg_size
from ._gated import SPLITS, Terms, folder_state, require_folder

CLASSES = 1000
_SYNTHETIC_SIZES = ((375, 500), (500, 333), (240, 320))  # height, width
_TERMS = Terms(
    url="https://image-net.org/download.php and https://imagenetv2.org",
    licence="ImageNet terms of access, non-commercial research",
    sign="make an account at image-net.org and accept its terms of access",
    download="ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and imagenetv2-matched-frequency.tar.gz",
    size_bytes=145e9,
)
_LAYOUT = "train/, validation/ and test/ (v2), each a folder of JPEG files a class"


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    count = options["synthetic_examples"]
    if count < 0:
        raise ConfigError(f"imagenet: option synthetic_examples: expected 0 or more, given {count}")
    if count:
        return Decoded({split: _synthetic(count, i) for i, split in enumerate(SPLITS)}, {"classes": CLASSES})
    folder = require_folder("imagenet", _TERMS, _LAYOUT)
    classes = sorted(path.name for path in (folder / "train").glob("*/"))
    if not classes:
        raise _TERMS.missing("imagenet", _LAYOUT, str(folder / "train"))
    return Decoded({split: _read(folder / split, classes) for split in SPLITS}, {"classes": len(classes)})


def _read(folder: Path, classes: Sequence[str]) -> dict[str, Field]:
    files = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in (".jpeg", ".jpg"))
    if not files:
        raise _TERMS.missing("imagenet", _LAYOUT, str(folder))
    index = {name: i for i, name in enumerate(classes)}
    strange = sorted({path.parent.name for path in files} - set(classes))
    if strange:
        raise DataError(f"{folder}: expected the classes of train, found also {', '.join(strange[:3])}")
    offsets = np.concatenate(([0], np.cumsum([path.stat().st_size for path in files], dtype=np.int64)))
    with tempfile.TemporaryFile() as scratch:  # larger than memory; the mapping outlives the name
        values = np.memmap(scratch, np.uint8, "w+", shape=(int(offsets[-1]),))
    for path, begin, end in zip(files, offsets[:-1], offsets[1:], strict=True):
        values[begin:end] = np.frombuffer(path.read_bytes(), np.uint8)
        try:
            jpeg_size(values[begin : min(end, begin + 65536)])
        except ValueError as problem:
            raise DataError(f"{path}: {problem}") from None
    labels = np.array([index[path.parent.name] for path in files], np.int64)
    return {"image": Field(FieldKind.JPEG, values, offsets), "label": Field(FieldKind.INT, labels)}


def _synthetic(count: int, split: int) -> dict[str, Field]:
    from PIL import Image

    random = np.random.default_rng([split])
    encoded = []
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize(_SYNTHETIC_SIZES[i % len(_SYNTHETIC_SIZES)][::-1]).save(buffer, "JPEG", quality=90)
        encoded.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offsets = np.concatenate(([0], np.cumsum([len(picture) for picture in encoded], dtype=np.int64)))
    labels = random.integers(0, CLASSES, count)
    return {"image": Field(FieldKind.JPEG, np.concatenate(encoded), offsets), "label": Field(FieldKind.INT, labels)}


SOURCE = Source(
    name="imagenet",
    version=1,
    licence=_TERMS.licence,
    citation="O. Russakovsky et al. ImageNet Large Scale Visual Recognition Challenge. IJCV 2015; B. Recht et al. arXiv:1902.10811, 2019.",
    files=(),
    decode=decode,
    options={"synthetic_examples": 0},
    identify=lambda chosen: "synthetic" if chosen["synthetic_examples"] else folder_state("imagenet"),
)
