"""digits_mlp: an MLP on scikit-learn's 8x8 digits (stands for MNIST). A development workload: seconds, no download, never ranked.

Data    1,797 grey 8x8 pictures of handwritten digits, bundled with scikit-learn (Alpaydin and Kaynak, UCI 1998).
Model   64 -> width -> width -> 10, ReLU.
Expect  about 97 % validation accuracy within 30 epochs, one to three seconds on two CPU cores.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.functional import cross_entropy

from ..suite.task import Task

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


def build_model(options, facts):
    width, depth = options["width"], options["depth"]
    sizes = [64] + [width] * depth
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[options["activation"]]()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], facts["classes"]))


def forward(model, batch):
    return model(batch["pixels"])  # [B, 64] -> [B, 10]


def losses(logits, batch, options):
    return cross_entropy(logits, batch["label"], reduction="none", label_smoothing=options.get("label_smoothing", 0.0))


def metric(facts):
    from torchmetrics.classification import MulticlassAccuracy

    return MulticlassAccuracy(num_classes=facts["classes"], average="micro")


def update(metric, logits, batch):
    metric.update(logits, batch["label"])


TASK = Task(("pixels", "label"), build_model, forward, losses, metric, update, label="label")
