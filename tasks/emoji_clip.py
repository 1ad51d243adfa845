"""emoji_clip: pictures of emoji and their names, brought together by two towers (stands for DataComp CLIP, small).

Data    Noto emoji at 32x32 with Unicode names and keywords in 1,024 byte pairs: 2,521 train (skin-tone variants included), 300 validation
        and 300 test emoji never seen in any skin tone.
Model   A small convolutional tower for pictures, a bag of tokens for texts, InfoNCE. Recall@1: the right one of 300 captions; chance
        is 0.3 %. Zero-shot: the right one of the ten category names.
Cost    496,289 parameters; 133 MFLOP and 3,184 bytes an example.
Expect  recall@1 about 0.18 on validation after twenty passes, a quarter of a minute on two CPU cores.
From    Radford et al. (arXiv 2103.00020); data: Google Noto, Unicode CLDR.
"""

from __future__ import annotations

import torch

from ..suite.task import Task
from ._contrastive import TwoTowers, contrastive_losses


def build_model(options, facts):
    model = TwoTowers(facts["vocabulary_size"], **options)
    named = facts.get("category_tokens")  # pictures of one's own may have none
    model.register_buffer("category_tokens", None if named is None else torch.tensor(named), persistent=False)
    return model


def forward(model, batch):
    """Unit vectors of pictures [B, E] and captions [B, E], the scale, and while evaluating those of the categories [C, E]."""
    categories = None if model.training or model.category_tokens is None else model.texts(model.category_tokens)
    return model.pictures(batch["image"]), model.texts(batch["tokens"].long()), model.scale, categories


def losses(outputs, batch, options):
    pictures, texts, scale, _ = outputs
    return contrastive_losses(pictures, texts, scale, batch["emoji"])


def metric(facts):
    from torchmetrics import MetricCollection
    from torchmetrics.classification import MulticlassAccuracy
    from torchmetrics.retrieval import RetrievalRecall

    measures = {"recall_at_1": RetrievalRecall(top_k=1)}
    if "categories" in facts:
        measures["zero_shot_accuracy"] = MulticlassAccuracy(num_classes=len(facts["categories"]), average="micro")
    return MetricCollection(measures, compute_groups=False)


def update(metric, outputs, batch):
    """Retrieval is among the captions of the batch: an evaluation batch holds the whole split."""
    pictures, texts, _, categories = outputs
    query, candidate = torch.meshgrid(batch["emoji"], batch["emoji"], indexing="ij")
    metric["recall_at_1"].update((pictures @ texts.T).flatten(), (query == candidate).flatten(), query.flatten())
    if categories is not None:
        metric["zero_shot_accuracy"].update(pictures @ categories.T, batch["category"])


FIELDS = ("image", "tokens", "emoji")
TASK = Task(FIELDS, build_model, forward, losses, metric, update, label="category", optional_fields=("category",))
