"""imagenet_vit: ViT S/16 on ImageNet (AlgoPerf's workload at full size).

Data    ImageNet: 1,281,167 train, 50,000 validation pictures, 10,000 of ImageNet v2 as test; random-resized crops of 224x224.
Model   16x16 patches, 12 pre-norm layers of 384 channels with 6 heads, fixed sine-cosine positions, mean of the patches. AlgoPerf's
        augmentations (RandAugment, mixup) are left to the training algorithm. 22 M parameters.
Expect  accuracy 0.77309 on validation, 0.6519 on test: AlgoPerf's targets, set by NadamW (arXiv 2306.07179).
From    Dosovitskiy et al. (arXiv 2010.11929); Beyer et al., Better plain ViT baselines (arXiv 2205.01580).
"""

from __future__ import annotations

import torch
from torch import nn

from ..suite.task import Task
from ._transformer import Layer
from .cifar10_cnn import forward, losses, metric, update


def sine_cosine(rows, columns, width):
    """Sines and cosines of row and column at width / 4 frequencies from 1 down to 1 / 10,000: [rows * columns, width]."""
    frequency = 10_000.0 ** (-torch.arange(width // 4) / (width // 4 - 1))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.flatten()[:, None] * frequency for place in (x, y)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


class VisionTransformer(nn.Module):
    def __init__(self, classes, patch, width, depth, heads, expansion, activation, post_norm):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.layers = nn.Sequential(*(Layer(width, heads, expansion, activation, post_norm) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):  # [B, 3, 224, 224] -> [B, classes]; any side that holds whole patches
        x = self.patches(x)  # [B, W, 14, 14]
        positions = sine_cosine(x.shape[2], x.shape[3], x.shape[1]).to(x)
        x = x.flatten(2).transpose(1, 2) + positions
        return self.head(self.norm(self.layers(x)).mean(dim=1))


def build_model(options, facts):
    return VisionTransformer(facts["classes"], **options)


TASK = Task(("image", "label"), build_model, forward, losses, metric, update, label="label")
