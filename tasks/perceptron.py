"""perceptron: a plane through the origin learns from another one; theory says how well it can, whatever is pruned. Seconds, never ranked.

Data    normal vectors labelled by a teacher's plane, ``examples_per_dimension`` of them for each of 100 dimensions (made from a seed).
Model   one weight vector, no bias; logistic loss.
Expect  with `algorithm=lars lr=1 momentum=0 weight_decay=0 trust_coefficient=0.012` (steps of a length that does not depend on the
        gradient's, on batches of the whole pool) the separator of largest margin, and hence, within the noise of a seed, the errors of
        data_pipelines/curation/theory.py: at 8 examples per dimension 0.061 with all of them, 0.114 with a random half, 0.189 with a
        random quarter; 0.068 with the half that the teacher finds easiest and 0.061 with the hardest. About two seconds.
        Sorscher et al. 2022 (arXiv 2206.14486); tables and checks: tests/test_curation_perceptron.py, tests/test_curation_pools.py.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import softplus

from ..suite.task import Task


def build_model(options, facts):
    model = nn.Linear(facts["dimensions"], 1, bias=options["bias"])
    with torch.no_grad():
        model.weight *= options["initial_scale"]
    return model


def forward(model, batch):
    return model(batch["x"])[:, 0]  # [B, dimensions] -> [B]


def losses(logits, batch, options):
    side = 2 * batch["label"] - 1
    return softplus(-side * logits)  # keeps gradients of far examples, which binary cross-entropy rounds to 0 on one side only


def metric(facts):
    from torchmetrics.classification import BinaryAccuracy

    return BinaryAccuracy()


def update(metric, logits, batch):
    metric.update(logits, batch["label"])


def error(accuracy):
    return 1 - accuracy


TASK = Task(("x", "label"), build_model, forward, losses, metric, update, label="label", quality=error)
