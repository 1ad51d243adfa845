"""CIFAR-10: 60,000 colour pictures of 32x32 pixels in ten classes.

Size      170 MB to download, 184 MB as arrays. Licence: none stated; cite the report. Checksum: the official md5 of the archive and of
          each of the six pickle files in it, which are unpickled only after their md5 has matched.
Source    A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009), www.cs.toronto.edu/~kriz/cifar.html.
Gives     image  IMAGE uint8 [32, 32, 3], RGB
          label  INT, 0 to 9
Splits    train: the official 50,000 in the order of data_batch_1 to data_batch_5; test: the official 10,000.
Facts     classes = 10; class_names; mean and std: of each channel over the training pixels, as fractions of 255;
          patch_covariance: [12, 12], second moments of all 2x2 patches of the training pictures after subtracting mean and dividing by
          std, patch values in the order channel, row, column (what whitening filters are made of)
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import Archive, RemoteFile

_ARCHIVE = Archive("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "md5:c58f30108f718f92721af3b95e74349a", 170_498_071)
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEST = ("test_batch",)
_MD5_AND_BYTES = {
    "data_batch_1": ("c99cafc152244af753f735de768cd75f", 31_035_704),
    "data_batch_2": ("d4bba439e000b95fd0a9bffe97cbabec", 31_035_320),
    "data_batch_3": ("54ebc095f3ab1f0389bbae665268c751", 31_035_999),
    "data_batch_4": ("634d18415352ddfa80567beed471001a", 31_035_696),
    "data_batch_5": ("482c414d41f54cd18b22e5b47cb7c3cb", 31_035_623),
    "test_batch": ("40351d587109b95175f43aff81a1287e", 31_035_526),
}
_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    splits = {name: _read([paths[file] for file in files]) for name, files in {"train": _TRAIN, "test": _TEST}.items()}
    return Decoded(splits, {"classes": 10, "class_names": _CLASSES, **statistics(splits["train"]["image"].values)})


def _read(files: list[Path]) -> dict[str, Field]:
    images, labels = [], []
    for path in files:
        batch = pickle.loads(path.read_bytes(), encoding="bytes")
        images.append(batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(np.array(batch[b"labels"], np.int64))
    return {"image": Field(FieldKind.IMAGE, np.concatenate(images)), "label": Field(FieldKind.INT, np.concatenate(labels))}


def statistics(images: np.ndarray) -> dict[str, Any]:
    """Channel means and deviations, and the second moments of normalised 2x2 patches, of uint8 ``[n, H, W, 3]``.

    Sums are of whole numbers below 2^53, hence exact and the same on every machine.
    """
    sums, products, patches = np.zeros(12), np.zeros((12, 12)), 0
    pixel_sums, pixel_squares = np.zeros(3), np.zeros(3)
    for start in range(0, len(images), 1000):
        block = images[start : start + 1000].astype(np.float64)
        flat = block.reshape(-1, 3)
        pixel_sums += flat.sum(0)
        pixel_squares += (flat**2).sum(0)
        windows = np.lib.stride_tricks.sliding_window_view(block, (2, 2), axis=(1, 2)).reshape(-1, 12)  # channel, row, column
        sums += windows.sum(0)
        products += windows.T @ windows
        patches += len(windows)
    pixels = images.size // 3
    mean = pixel_sums / pixels
    std = np.sqrt(pixel_squares / pixels - mean**2)
    centre, scale = np.repeat(mean, 4), np.repeat(std, 4)
    moments = products / patches - np.outer(centre, sums / patches) - np.outer(sums / patches, centre) + np.outer(centre, centre)
    return {
        "mean": (mean / 255).tolist(),
        "std": (std / 255).tolist(),
        "patch_covariance": (moments / np.outer(scale, scale)).tolist(),
    }


SOURCE = Source(
    name="cifar10",
    version=1,
    licence="none stated",
    citation="A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. Technical report, University of Toronto, 2009.",
    files=tuple(
        RemoteFile(name, _ARCHIVE.url, f"md5:{md5}", size, f"cifar10/cifar-10-batches-py/{name}", _ARCHIVE, f"cifar-10-batches-py/{name}")
        for name, (md5, size) in _MD5_AND_BYTES.items()
    ),
    decode=decode,
)
