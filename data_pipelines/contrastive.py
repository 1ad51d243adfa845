"""A small encoder that learns from the pool itself, without labels: two random views of a picture are to lie closer than other pictures.

Source  Chen et al. 2020, A simple framework for contrastive learning (SimCLR), arXiv 2002.05709, equation 1; views are crops, mirror
        images and changes of brightness and contrast per channel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..suite.errors import ConfigError

__all__ = ["contrastive_features"]

WIDTHS = (32, 64, 128)  # of three convolutions of stride 2
PROJECTION = 64
BATCH = 256
CHUNK = 2048  # pictures that are encoded at once


def contrastive_features(images: np.ndarray, *, seed: int, epochs: float, learning_rate: float, temperature: float) -> np.ndarray:
    """Features float32 ``[n, 128]`` of images uint8 ``[n, H, W, C]`` of at least 8 x 8 pixels, after ``epochs`` passes over them.

    Adam with a one-cycle schedule; the projection head is thrown away. The same seed gives the same features within one numerics key;
    no global generator is touched.
    """
    count, height, width, channels = images.shape
    if min(height, width) < 8 or count < 2:
        raise ConfigError(f"contrastive: expected at least 2 pictures of 8 x 8 pixels, given {count} of {height} x {width}")
    if not (epochs > 0 and learning_rate > 0 and temperature > 0):
        raise ConfigError(f"contrastive: expected positive epochs, learning_rate, temperature: {epochs}, {learning_rate}, {temperature}")
    batch = min(BATCH, count)
    steps = max(1, round(epochs * count / batch))
    draw, views = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, head = _encoder(channels), nn.Sequential(nn.ReLU(), nn.Linear(WIDTHS[-1], PROJECTION))
    weights = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(weights, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps + 1)
    order = np.empty(0, np.int64)
    for _ in range(steps):
        if len(order) < batch:
            order = draw.permutation(count)
        rows, order = np.sort(order[:batch]), order[batch:]
        pictures = _scaled(images[rows])
        pair = torch.cat([_view(pictures, views), _view(pictures, views)])
        loss = _nt_xent(head(encoder(pair)), temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    encoder.eval()
    with torch.no_grad():
        parts = [encoder(_scaled(images[start : start + CHUNK])) for start in range(0, count, CHUNK)]
    features: np.ndarray = torch.cat(parts).numpy()
    return features


def _encoder(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _scaled(images: np.ndarray) -> Tensor:
    """uint8 ``[B, H, W, C]`` to float32 ``[B, C, H, W]`` in -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)) / 127.5 - 1


def _view(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A random view of each picture: a crop of 0.4 to 1 of the side, mirrored or not, brightness and contrast changed. ``[B, C, H, W]``."""
    count, channels = pictures.shape[:2]
    size = 0.4 + 0.6 * torch.rand(count, generator=generator)  # of the side
    shift = (1 - size)[:, None] * (2 * torch.rand(count, 2, generator=generator) - 1)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    place = torch.zeros(count, 2, 3)
    place[:, 0, 0], place[:, 1, 1], place[:, :, 2] = size * mirror, size, shift
    grid = functional.affine_grid(place, list(pictures.shape), align_corners=False)
    cropped = functional.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    contrast = 0.6 + 0.8 * torch.rand(count, channels, 1, 1, generator=generator)
    brightness = 0.8 * torch.rand(count, channels, 1, 1, generator=generator) - 0.4
    return cropped * contrast + brightness


def _nt_xent(projected: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of finding the other view among all others; rows i and i + B are views of one picture. ``[2B, d]`` -> scalar."""
    unit = functional.normalize(projected, dim=1)
    alike = unit @ unit.T / temperature
    alike = alike.masked_fill(torch.eye(len(unit), dtype=torch.bool), float("-inf"))
    half = len(unit) // 2
    return functional.cross_entropy(alike, torch.arange(2 * half).roll(half))
