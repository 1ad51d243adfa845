"""ctr_dlrm: a deep learning recommendation model on rows of numbers and categories (stands for Criteo).

Data    Adult: 28,561 train, 4,000 validation, 16,281 test rows of 6 numbers and 8 categories; who earns more than 50,000 dollars (24 %)
        takes the place of who clicks. The Criteo and Avazu excerpts are left to variants: with 400 held-out rows each the AUC has a noise
        of 0.02, more than methods differ by; Adult's is 0.003.
Model   An embedding for each category, an MLP for the numbers, dot products between all of these vectors, and an MLP on top.
Cost    330,433 parameters; 1.97 MFLOP and 64 bytes an example.
Expect  log loss 0.30 nats and AUC 0.92 on validation after four passes, a quarter of a minute on two CPU cores.
From    Naumov et al., Deep Learning Recommendation Model (arXiv 1906.00091); gradient boosting reaches AUC 0.927 on Adult.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..suite.task import Task

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def mlp(sizes, activation, dropout=0.0):
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation](), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers)


class Dlrm(nn.Module):
    def __init__(self, sizes, mean, std, width, bottom, top, waves, wave_scale, activation, dropout):
        super().__init__()
        self.table = nn.Embedding(sum(sizes), width)  # the tables of all columns, one below the other
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.register_buffer("offsets", torch.tensor([0, *sizes[:-1]]).cumsum(0), persistent=False)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)
        self.bottom = mlp([(2 * waves or 1) * len(mean), *bottom, width], activation) if mean else None
        self.frequencies = nn.Parameter(wave_scale * torch.randn(len(mean), waves)) if waves else None  # without: the numbers themselves
        vectors = len(sizes) + bool(mean)
        self.register_buffer("pairs", torch.triu_indices(vectors, vectors, 1), persistent=False)
        self.top = mlp([self.pairs.shape[1] + vectors * width, *top], activation, dropout)
        self.head = nn.Linear(top[-1], 1)

    def periodic(self, numbers):  # [B, N] -> [B, N * 2 * waves]
        scaled = torch.asinh((numbers - self.mean) / self.std)  # long tails drawn in
        if self.frequencies is None:
            return scaled
        angles = 2 * math.pi * scaled[:, :, None] * self.frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=2).flatten(1)

    def forward(self, categories, numbers=None):  # int [B, C], float [B, N] -> [B]
        vectors = self.table(categories + self.offsets)  # [B, C, W]
        if self.bottom is not None:
            vectors = torch.cat((vectors, self.bottom(self.periodic(numbers))[:, None]), dim=1)  # [B, C + 1, W]
        products = vectors @ vectors.transpose(1, 2)  # [B, C + 1, C + 1]
        return self.head(self.top(torch.cat((products[:, *self.pairs], vectors.flatten(1)), dim=1)))[:, 0]


def build_model(options, facts):
    return Dlrm(facts["category_sizes"], facts.get("number_mean", []), facts.get("number_std", []), **options)


def forward(model, batch):
    return model(batch["categories"], batch.fields.get("numbers"))


def losses(logits, batch, options):
    return binary_cross_entropy_with_logits(logits.float(), batch["label"].float(), reduction="none")


def metric(facts):
    from torchmetrics import MeanMetric, MetricCollection
    from torchmetrics.classification import BinaryAUROC

    return MetricCollection({"log_loss": MeanMetric(), "auc": BinaryAUROC()}, compute_groups=False)


def update(metric, logits, batch):
    metric["log_loss"].update(losses(logits, batch, {}))
    metric["auc"].update(logits.float().sigmoid(), batch["label"])


TASK = Task(("categories", "label"), build_model, forward, losses, metric, update, label="label", optional_fields=("numbers",))
