"""CIFAR-10: 60,000 colour pictures of 32x32 pixels in ten classes.

Size      170 MB to download, 184 MB as arrays. Licence: none stated; cite the report. Checksum: the official md5 of the archive and of
          each of the six pickle files in it, which are unpickled only after their md5 has matched.
Source    A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009), www.cs.toronto.edu/~kriz/cifar.html.
Gives     image  IMAGE uint8 [32, 32, 3], RGB
          label  INT, 0 to 9
          term   INT, index into the terms: the web search term that found the picture, from its official file name
Splits    train: the official 50,000 in the order of data_batch_1 to data_batch_5; test: the official 10,000.
Facts     classes = 10; class_names; terms: the 396 search terms (389 of them occur in train); mean and std: of each channel over the
          training pixels, as fractions of 255; patch_covariance: [12, 12], second moments of all 2x2 patches of the first 5,000
          training pictures after subtracting mean and dividing by std, patch values in the order channel, row, column (what whitening
          filters are made of; as many pictures as in K. Jordan, arXiv 2404.00498, section 3.2)
"""

from __future__ import annotations

import pickle
import re
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
_NUMBER = re.compile(r"_s_\d+\.png$")  # leptodactylus_pentadactylus_s_000004.png
_WHITENING_PICTURES = 5000
_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    splits, words = {}, {}
    for split, files in {"train": _TRAIN, "test": _TEST}.items():
        batches = [pickle.loads(paths[file].read_bytes(), encoding="bytes") for file in files]
        pictures = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([np.array(batch[b"labels"], np.int64) for batch in batches])
        words[split] = [_NUMBER.sub("", name.decode()) for batch in batches for name in batch[b"filenames"]]
        splits[split] = {
            "image": Field(FieldKind.IMAGE, np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))),
            "label": Field(FieldKind.INT, labels),
        }
    terms = sorted({*words["train"], *words["test"]})
    index = {term: i for i, term in enumerate(terms)}
    for split in splits:
        splits[split]["term"] = Field(FieldKind.INT, np.array([index[word] for word in words[split]], np.int64))
    images = splits["train"]["image"].values
    mean, std = channel_statistics(images)
    facts = {
        "classes": 10,
        "class_names": _CLASSES,
        "terms": terms,
        "mean": (mean / 255).tolist(),
        "std": (std / 255).tolist(),
        "patch_covariance": patch_covariance(images[:_WHITENING_PICTURES], mean, std).tolist(),
    }
    return Decoded(splits, facts)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8 ``[n, H, W, 3]``, in grey levels: float64 ``[3]`` each.

    Made from the counts of the 256 levels, in whole numbers, and hence the same on every machine.
    """
    levels = np.arange(256)
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])  # [3, 256]
    mean = counts @ levels / (images.size // 3)
    return mean, np.sqrt(counts @ levels**2 / (images.size // 3) - mean**2)


def patch_covariance(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Second moments ``[12, 12]`` of all 2x2 patches of uint8 ``[n, H, W, 3]`` normalised; sums of whole numbers below 2^53: exact."""
    sums, products, patches = np.zeros(12), np.zeros((12, 12)), 0
    for start in range(0, len(images), 500):
        block = images[start : start + 500].astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(block, (2, 2), axis=(1, 2)).reshape(-1, 12)  # channel, row, column
        sums += windows.sum(axis=0)
        products += windows.T @ windows
        patches += len(windows)
    centre, scale = np.repeat(mean, 4), np.repeat(std, 4)
    cross = np.outer(centre, sums / patches)
    return (products / patches - cross - cross.T + np.outer(centre, centre)) / np.outer(scale, scale)


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
