"""A small U-Net, for segmentation and reconstruction.

From  Ronneberger et al., U-Net (arXiv 1505.04597); normalised and padded, so that the output has the size of the input.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import interpolate, max_pool2d, pixel_shuffle, pixel_unshuffle

from ..suite.errors import ConfigError

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "leaky_relu": nn.LeakyReLU}
NORMS = {"batch": nn.BatchNorm2d, "group": lambda channels: nn.GroupNorm(4, channels), "none": lambda channels: nn.Identity()}


def convolutions(channels_in, channels_out, norm, activation):
    """Two 3x3 convolutions, each normalised and activated."""
    layers = []
    for channels in (channels_in, channels_out):
        layers += [nn.Conv2d(channels, channels_out, 3, padding=1, bias=norm == "none"), NORMS[norm](channels_out)]
        layers += [ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """``depth`` halvings of the side, each doubling the ``width``. With ``fold`` f the input's f x f blocks become channels, which leaves
    the network 1 / f^2 of the positions; the output is unfolded again."""

    def __init__(self, channels_in, channels_out, width, depth, fold=1, norm="batch", activation="relu"):
        super().__init__()
        self.fold = fold
        widths = [width * 2**level for level in range(depth + 1)]
        self.stem = convolutions(channels_in * fold**2, width, norm, activation)
        self.down = nn.ModuleList(convolutions(a, b, norm, activation) for a, b in pairwise(widths))
        self.up = nn.ModuleList(convolutions(a + b, b, norm, activation) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(width, channels_out * fold**2, 1)

    def forward(self, x):  # [B, channels_in, H, W] -> [B, channels_out, H, W]; H and W are multiples of fold * 2^depth
        step = self.fold * 2 ** len(self.down)
        if x.shape[2] % step or x.shape[3] % step:
            raise ConfigError(f"pictures of {x.shape[2]}x{x.shape[3]}: expected sides that are multiples of {step}")
        x = self.stem(pixel_unshuffle(x, self.fold))
        kept = []
        for block in self.down:
            kept.append(x)
            x = block(max_pool2d(x, 2))
        for block in self.up:
            x = block(torch.cat((interpolate(x, scale_factor=2), kept.pop()), dim=1))
        return pixel_shuffle(self.head(x), self.fold)
