"""What the image-text workloads share: two towers and the contrastive loss.

From  Radford et al., Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020); InfoNCE: van den Oord et
      al., Representation Learning with Contrastive Predictive Coding (arXiv 1807.03748).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from ..suite.errors import ConfigError

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
NORMS = {"batch": nn.BatchNorm2d, "group": lambda channels: nn.GroupNorm(8, channels)}


class ImageTower(nn.Sequential):
    """2x2 blocks of pixels, then 3x3 convolutions; all but the first halve the side."""

    def __init__(self, widths, embedding, norm, activation):
        layers, channels = [nn.PixelUnshuffle(2)], 12
        for i, width in enumerate(widths):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), NORMS[norm](width), ACTIVATIONS[activation]()]
            layers += [nn.MaxPool2d(2)] if i else []
            channels = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, embedding))
        self.smallest = 2 ** len(widths)

    def forward(self, x):  # [B, 3, H, W] -> [B, E]
        if min(x.shape[2:]) < self.smallest or any(side % 2 for side in x.shape[2:]):
            raise ConfigError(f"pictures of {x.shape[2]}x{x.shape[3]}: expected even sides of at least {self.smallest}")
        return super().forward(x)


class TextTower(nn.Module):
    """The mean of the tokens' embeddings (0 is padding), then one hidden layer."""

    def __init__(self, tokens, width, embedding, activation):
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), ACTIVATIONS[activation](), nn.Linear(width, embedding))

    def forward(self, tokens):  # int [n, T] -> [n, E]
        real = (tokens != 0).unsqueeze(-1)
        return self.mlp((self.embed(tokens) * real).sum(dim=1) / real.sum(dim=1).clamp(min=1))


class TwoTowers(nn.Module):
    """Unit vectors for pictures and texts, and a learned scale (the inverse temperature), at most 100."""

    def __init__(self, tokens, widths, text_width, embedding, norm, activation, temperature):
        super().__init__()
        self.image = ImageTower(widths, embedding, norm, activation)
        self.text = TextTower(tokens, text_width, embedding, activation)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def pictures(self, images):  # [B, 3, 32, 32] -> [B, E]
        return normalize(self.image(images).float(), dim=-1)

    def texts(self, tokens):  # int [n, T] -> [n, E]
        return normalize(self.text(tokens).float(), dim=-1)

    @property
    def scale(self):
        return self.log_scale.exp().clamp(max=100)


def contrastive_losses(pictures, texts, scale, groups):
    """InfoNCE in both directions, float [B]: each picture must find its text among those of the batch, and the reverse.

    ``pictures`` and ``texts`` are unit vectors [B, E]; other examples of the same group (int [B]) are no wrong answers and left out.
    """
    similar = scale * pictures @ texts.T  # [B, B]
    same = (groups[:, None] == groups) & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    similar = similar.masked_fill(same, float("-inf"))
    right = torch.arange(len(groups), device=groups.device)
    return (cross_entropy(similar, right, reduction="none") + cross_entropy(similar.T, right, reduction="none")) / 2
