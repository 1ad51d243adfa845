"""molhiv_gnn: a graph isomorphism network with a virtual node that tells which molecules inhibit HIV (stands for OGBG).

Data    MolHIV: 32,894 train, 4,113 validation, 4,113 test molecules of 25 atoms in the mean, 3.5 % active; split by scaffold.
Model   Embedded atoms and bonds; layers of GIN with edge features, batch norm, and a virtual node joined to all atoms; mean of the atoms.
Cost    94,468 parameters; 5.0 MFLOP and 3,277 bytes an example.
Expect  average precision about 0.27 on validation after two passes, half a minute on two CPU cores.
From    Xu et al., How Powerful are Graph Neural Networks? (arXiv 1810.00826); Hu et al., Open Graph Benchmark (arXiv 2005.00687): test
        ROC-AUC 0.771 with five layers of 300 channels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, dropout

from ..suite.task import Task

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
FIELDS = ("atoms", "ends", "bonds", "atom_count", "bond_count", "label")


def logit_count(facts):
    """Logits of a graph: one for two classes, else one for each."""
    return 1 if facts.get("classes", 2) == 2 else facts["classes"]


class Categories(nn.Module):
    """Sum of the embeddings of several categorical features."""

    def __init__(self, sizes, width):
        super().__init__()
        self.table = nn.Embedding(sum(sizes), width)
        nn.init.normal_(self.table.weight, std=(width * len(sizes)) ** -0.5)
        self.register_buffer("offsets", torch.tensor([0, *sizes[:-1]]).cumsum(0), persistent=False)

    def forward(self, values):  # int [n, features] -> [n, W]
        return self.table(values + self.offsets).sum(dim=1)


class Network(nn.Module):
    def __init__(self, facts, width, depth, dropout, activation, virtual_node):
        from torch_geometric.nn import GINEConv

        def mlp():
            norm = nn.BatchNorm1d(2 * width)
            return nn.Sequential(nn.Linear(width, 2 * width), norm, ACTIVATIONS[activation](), nn.Linear(2 * width, width))

        super().__init__()
        self.dropout, self.activation = dropout, ACTIVATIONS[activation]()
        self.atoms = Categories(facts["atom_values"], width)
        self.bonds = nn.ModuleList(Categories(facts["bond_values"], width) for _ in range(depth))
        self.layers = nn.ModuleList(GINEConv(mlp(), train_eps=True) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(depth))
        self.virtual = nn.ModuleList(mlp() for _ in range(depth - 1)) if virtual_node else None
        self.head = nn.Linear(width, logit_count(facts))

    def forward(self, graphs):
        from torch_geometric.nn import global_add_pool, global_mean_pool

        atoms, edges, bonds, owner, count = graphs
        x = self.atoms(atoms)  # [n, W]
        node = x.new_zeros(count, x.shape[1])  # the virtual node of each molecule
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if self.virtual is not None:
                x = x + node[owner]
            if self.virtual is not None and i < len(self.virtual):
                after = self.activation(self.virtual[i](global_add_pool(x, owner, count) + node))
            x = norm(layer(x, edges, self.bonds[i](bonds)))
            x = dropout(x if i == len(self.layers) - 1 else self.activation(x), self.dropout, self.training)
            if self.virtual is not None and i < len(self.virtual):
                node = dropout(after, self.dropout, self.training)
        return self.head(global_mean_pool(x, owner, count)).squeeze(1)  # [B], or [B, C] for more than two classes


def joined(batch):
    """The molecules of a batch as one graph: atoms [n, 9], edges [2, e] in both directions, bonds [e, 3], molecule of each atom [n], B."""
    atoms, counts = batch["atoms"], batch["atom_count"]  # [B, 222, 9], [B]
    real = torch.arange(atoms.shape[1], device=atoms.device) < counts[:, None]  # [B, 222]
    ends = batch["ends"].long()  # [B, 251, 2]
    drawn = torch.arange(ends.shape[1], device=ends.device) < batch["bond_count"][:, None]
    drawn &= (ends < counts[:, None, None]).all(dim=2)  # a bond needs its atoms
    starts = counts.cumsum(0) - counts
    edges = (ends + starts[:, None, None])[drawn].T  # [2, e / 2]
    bonds = batch["bonds"][drawn].long()
    owner = torch.repeat_interleave(torch.arange(len(counts), device=atoms.device), counts)
    return atoms[real].long(), torch.cat((edges, edges.flip(0)), dim=1), torch.cat((bonds, bonds)), owner, len(counts)


def build_model(options, facts):
    return Network(facts, **options)


def forward(model, batch):
    return model(joined(batch)).float()


def losses(logits, batch, options):
    if logits.ndim == 2:
        return cross_entropy(logits, batch["label"], reduction="none")
    return binary_cross_entropy_with_logits(logits, batch["label"].float(), reduction="none")


def metric(facts):
    from torchmetrics import MetricCollection
    from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision, MulticlassAccuracy, MulticlassAUROC

    if logit_count(facts) > 1:
        accuracy = MulticlassAccuracy(facts["classes"], average="micro")
        return MetricCollection({"accuracy": accuracy, "roc_auc": MulticlassAUROC(facts["classes"])})
    return MetricCollection({"average_precision": BinaryAveragePrecision(), "roc_auc": BinaryAUROC()})


def update(metric, logits, batch):
    metric.update(logits.sigmoid() if logits.ndim == 1 else logits.softmax(dim=1), batch["label"])


TASK = Task(FIELDS, build_model, forward, losses, metric, update, label="label")
