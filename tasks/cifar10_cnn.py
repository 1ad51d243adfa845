"""cifar10_cnn: a small airbench-like residual-free CNN on CIFAR-10 (stands for ImageNet ResNet).

Data    CIFAR-10, 45,000 training pictures, 5,000 validation (cut from the official training set), 10,000 test.
Model   2x2 convolution to 24 channels with fixed whitening filters, three blocks of two 3x3 convolutions with batch norm and
        ReLU (GELU takes 1.8 times as long a step on a CPU), each block halving the side by max-pooling; logits scaled by 1/9.
Expect  80 % validation accuracy within three epochs in bf16 (AdamW, lr 0.01), below a minute on two CPU cores.
From    Keller Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (arXiv 2404.00498): architecture, whitening
        initialisation (section 3.2), frozen batch-norm scale; widths are cut to fit a CPU minute.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..suite.errors import ConfigError
from ..suite.task import Task

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


class Block(nn.Module):
    """Two 3x3 convolutions; the first is followed by a 2x2 max-pool, so the second sees a quarter of the positions. A ``residual`` block
    has a third one, and what the first gives is added to what it gives (airbench96)."""

    def __init__(self, channels_in, channels_out, norm, activation, residual=False):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.norm1, self.norm2 = norm(channels_out), norm(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.activation = activation()
        self.conv3 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False) if residual else None
        self.norm3 = norm(channels_out) if residual else None
        for conv in filter(None, (self.conv1, self.conv2, self.conv3)):
            nn.init.kaiming_uniform_(conv.weight, nonlinearity="linear")
            nn.init.dirac_(conv.weight.data[: conv.weight.size(1)])  # identity on the channels that exist on both sides

    def forward(self, x):  # [B, in, S, S] -> [B, out, S/2, S/2]
        first = self.activation(self.norm1(self.pool(self.conv1(x))))
        x = self.activation(self.norm2(self.conv2(first)))
        return x if self.conv3 is None else self.activation(self.norm3(self.conv3(x)) + first)


class Network(nn.Module):
    def __init__(self, widths, classes, whitening, norm, activation, logit_scale, residual=False):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        with torch.no_grad():
            self.whiten.weight[:] = whitening
            self.whiten.bias.zero_()
        self.whiten.weight.requires_grad_(False)
        self.activation = activation()
        sizes = [24, *widths]
        self.blocks = nn.Sequential(*(Block(a, b, norm, activation, residual) for a, b in pairwise(sizes)))
        self.pool = nn.MaxPool2d(3)
        self.head = nn.Linear(widths[-1], classes, bias=False)
        self.logit_scale = logit_scale

    def forward(self, x):  # [B, 3, 32, 32] -> [B, classes]
        x = self.blocks(self.activation(self.whiten(x)))  # [B, 24, 31, 31] -> [B, widths[-1], 3, 3]
        if not all(3 <= side <= 5 for side in x.shape[2:]):
            low, high = 3 * 2 ** len(self.blocks) + 1, 6 * 2 ** len(self.blocks)
            raise ConfigError(f"expected pictures with sides from {low} to {high}; given ones leave {x.shape[2]}x{x.shape[3]} to pool")
        x = self.pool(x).flatten(1)  # [B, widths[-1]]
        return self.head(x) * self.logit_scale


def whitening_filters(patch_covariance):
    """Eigenvectors of the covariance of 2x2 training patches, scaled to unit output variance, with both signs: [24, 3, 2, 2]."""
    values, vectors = torch.linalg.eigh(torch.as_tensor(patch_covariance, dtype=torch.float64))  # [12], [12, 12]
    filters = (vectors / torch.sqrt(values + 5e-4)).T.flip(0).reshape(12, 3, 2, 2).float()
    return torch.cat((filters, -filters))


def build_model(options, facts):
    def batch_norm(channels):
        norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=options["norm_momentum"])
        norm.weight.requires_grad_(False)
        return norm

    norms = {"batch": batch_norm, "group": lambda channels: nn.GroupNorm(8, channels)}
    whitening = whitening_filters(facts["patch_covariance"])
    norm, activation = norms[options["norm"]], ACTIVATIONS[options["activation"]]
    residual = options.get("residual", False)
    return Network(options["widths"], facts["classes"], whitening, norm, activation, options["logit_scale"], residual)


def forward(model, batch):
    return model(batch["image"])


def losses(logits, batch, options):
    return cross_entropy(logits.float(), batch["label"], reduction="none", label_smoothing=options.get("label_smoothing", 0.0))


def metric(facts):
    from torchmetrics.classification import MulticlassAccuracy

    return MulticlassAccuracy(num_classes=facts["classes"], average="micro")


def update(metric, logits, batch):
    metric.update(logits, batch["label"])


TASK = Task(("image", "label"), build_model, forward, losses, metric, update, label="label")
