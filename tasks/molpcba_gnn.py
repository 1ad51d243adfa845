"""molpcba_gnn: a graph network that tells in which of 128 assays a molecule is active (AlgoPerf's OGBG at full size).

Data    ogbg-molpcba: 350,343 train, 43,793 validation, 43,793 test molecules, split by scaffold; most assays of a molecule are unmeasured.
Model   The network of ``molhiv_gnn`` with 5 rounds of 256 channels. AlgoPerf's has states of edges and of the whole graph instead of a
        virtual node.
Expect  mean average precision 0.28098 on validation, 0.268729 on test: AlgoPerf's targets, set by Nesterov (arXiv 2306.07179).
From    Hu et al., Open Graph Benchmark (arXiv 2005.00687).
"""

from __future__ import annotations

from torch.nn.functional import binary_cross_entropy_with_logits

from ..suite.task import Task
from .molhiv_gnn import Network, joined

FIELDS = ("atoms", "ends", "bonds", "atom_count", "bond_count", "activity")
UNMEASURED = -1


def build_model(options, facts):
    return Network({**facts, "classes": facts["assays"]}, **options)


def forward(model, batch):
    return model(joined(batch)).float()  # [B, 128]


def losses(logits, batch, options):
    """Mean over the measured assays of a molecule [B]; 0 where none is measured."""
    activity = batch["activity"].float()
    measured = activity != UNMEASURED
    nats = binary_cross_entropy_with_logits(logits, activity.clamp(min=0), reduction="none") * measured
    return nats.sum(dim=1) / measured.sum(dim=1).clamp(min=1)


def metric(facts):
    from torchmetrics.classification import MultilabelAveragePrecision

    return MultilabelAveragePrecision(num_labels=facts["assays"], average="macro", ignore_index=UNMEASURED)


def update(metric, logits, batch):
    metric.update(logits.sigmoid(), batch["activity"].long())


TASK = Task(FIELDS, build_model, forward, losses, metric, update)
