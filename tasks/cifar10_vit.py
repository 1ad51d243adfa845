"""cifar10_vit: a compact convolutional transformer on CIFAR-10 (stands for ImageNet ViT).

Data    CIFAR-10, 48,000 training pictures, 2,000 validation (cut from the official training set), 10,000 test.
Model   CCT-2/3x2: two 3x3 convolutions, each with ReLU and a 3x3 max-pool of stride 2, give 64 tokens of 128 channels; two transformer
        layers; learned attention pools the tokens for the classifier. 0.28 M parameters.
Cost    283,723 parameters; 208 MFLOP and 3,080 bytes an example.
Expect  about 48 % validation accuracy after three quarters of a pass, under half a minute on two CPU cores.
From    Hassani et al., Escaping the Big Data Paradigm with Compact Transformers (arXiv 2104.05704), table 2: 89.75 % after 200 epochs;
        dropout and stochastic depth are left out for a minute's training.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..suite.errors import ConfigError
from ..suite.task import Task
from ._transformer import Layer


class CompactTransformer(nn.Module):
    def __init__(self, classes, width, depth, heads, expansion, activation, post_norm):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width // 2, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.position = nn.Parameter(0.2 * torch.randn(64, width))
        self.layers = nn.Sequential(*(Layer(width, heads, expansion, activation, post_norm) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.attention_pool = nn.Linear(width, 1)
        self.head = nn.Linear(width, classes)
        nn.init.kaiming_normal_(self.conv1.weight)
        nn.init.kaiming_normal_(self.conv2.weight)

    def forward(self, x):  # [B, 3, 32, 32] -> [B, classes]
        x = self.pool(self.conv1(x)).relu()  # [B, W / 2, 16, 16]; ReLU after the maximum is ReLU before it, on a quarter of the values
        x = self.pool(self.conv2(x)).relu()  # [B, W, 8, 8]
        if x.shape[2] * x.shape[3] != len(self.position):
            raise ConfigError("expected pictures of 32x32, which give 64 tokens")
        x = self.norm(self.layers(x.flatten(2).transpose(1, 2) + self.position))  # [B, 64, W]
        weights = self.attention_pool(x).softmax(dim=1)  # [B, 64, 1]
        return self.head((weights * x).sum(dim=1))


def build_model(options, facts):
    return CompactTransformer(facts["classes"], **options)


def forward(model, batch):
    return model(batch["image"])


def losses(logits, batch, options):
    return cross_entropy(logits.float(), batch["label"], reduction="none", label_smoothing=options["label_smoothing"])


def metric(facts):
    from torchmetrics.classification import MulticlassAccuracy

    return MulticlassAccuracy(num_classes=facts["classes"], average="micro")


def update(metric, logits, batch):
    metric.update(logits, batch["label"])


TASK = Task(("image", "label"), build_model, forward, losses, metric, update, label="label")
