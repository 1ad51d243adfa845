"""Random-patch features: convolve with k-means filters of whitened patches, rectify both signs, pool over quadrants; no labels.

Source  Coates and Ng 2012, Learning feature representations with k-means; Coates, Ng and Lee 2011 for the pooling.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from ..suite.errors import ConfigError, DataError
from .clusters import kmeans, unit_rows

__all__ = ["patch_features"]

CHUNK = 512  # images that are convolved at once
WHITENING = 0.1  # added to the eigenvalues of patches scaled to [0, 1] and normalised


def patch_features(images: np.ndarray, *, seed: int, filters: int, size: int, stride: int, patch_count: int) -> np.ndarray:
    """Features float32 ``[n, 4·2·filters]`` of images uint8 ``[n, H, W, C]``.

    ``patch_count`` random patches of ``size``² are brought to mean 0 and length 1, flat ones left out, whitened, and clustered by
    spherical k-means. Each image is convolved at ``stride`` with the filters, each response divided by its patch's deviation; what
    exceeds ±(mean absolute response) is averaged over four quadrants.
    """
    count, height, width, channels = images.shape
    if not 1 <= size <= min(height, width) or stride < 1:
        raise ConfigError(f"patches: expected size from 1 to {min(height, width)} and stride of at least 1, given {size} and {stride}")
    draw = np.random.default_rng(seed)
    which = draw.integers(count, size=patch_count)
    tops, lefts = draw.integers(height - size + 1, size=patch_count), draw.integers(width - size + 1, size=patch_count)
    order = np.argsort(which, kind="stable")  # one pass over a memory map
    rows = np.stack([images[i, t : t + size, s : s + size] for i, t, s in zip(which[order], tops[order], lefts[order], strict=True)])
    rows = rows.transpose(0, 3, 1, 2).reshape(patch_count, -1).astype(np.float32) / 255.0
    rows -= rows.mean(axis=1, keepdims=True)
    rows = rows[np.ptp(rows, axis=1) > 0]  # flat patches have no direction
    if len(rows) < filters:
        raise DataError(f"patches: {len(rows)} of {patch_count} random patches have any content; {filters} filters need as many")
    rows /= np.sqrt(np.square(rows).mean(axis=1, keepdims=True) + 1e-3)
    values, vectors = np.linalg.eigh(rows.T.astype(np.float64) @ rows / len(rows))
    whiten = ((vectors / np.sqrt(np.maximum(values, 0.0) + WHITENING)) @ vectors.T).astype(np.float32)
    found = kmeans(unit_rows(rows @ whiten), filters, seed=seed, spherical=True, iterations=10)
    bank = found.centroids @ whiten
    bank -= bank.mean(axis=1, keepdims=True)  # folds the removal of the patch's mean into the filter
    kernel = torch.from_numpy(np.ascontiguousarray(bank.reshape(-1, channels, size, size)))
    threshold = float(np.abs(rows @ bank.T).mean())
    return np.concatenate([_respond(images[start : start + CHUNK], kernel, stride, threshold) for start in range(0, count, CHUNK)])


@torch.no_grad()
def _respond(images: np.ndarray, kernel: torch.Tensor, stride: int, threshold: float) -> np.ndarray:
    """Pooled two-sided responses of some images, float32 ``[b, 8·filters]``."""
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255.0  # [b, C, H, W]
    size = kernel.shape[-1]
    mean = functional.avg_pool2d(x.mean(dim=1, keepdim=True), size, stride)
    square = functional.avg_pool2d(x.square().mean(dim=1, keepdim=True), size, stride)
    response = functional.conv2d(x, kernel, stride=stride) / (square - mean.square() + 1e-3).clamp_min(1e-3).sqrt()
    both = torch.cat([(response - threshold).clamp_min(0), (-response - threshold).clamp_min(0)], dim=1)
    return functional.adaptive_avg_pool2d(both, 2).flatten(1).numpy()
