"""cifar10_clip: CIFAR-10 pictures and the search terms that found them, brought together by two towers (stands for DataComp CLIP).

Data    CIFAR-10, 47,500 train, 2,500 validation, 10,000 test; the text is the search term in the official file name (389 terms, from
        "cat" to "felis_catus"). The class label is never trained on.
Model   A small convolutional tower for pictures, a bag of words for terms, InfoNCE. Zero-shot: the right one of the ten class names.
        Recall@1: the right one of all terms.
Cost    319,713 parameters; 133 MFLOP and 3,088 bytes an example.
Expect  zero-shot accuracy about 0.51 on validation after one pass, a third of a minute on two CPU cores.
From    Radford et al. (arXiv 2103.00020).
"""

from __future__ import annotations

import torch

from ..suite.task import Task
from ._contrastive import TwoTowers, contrastive_losses


def build_model(options, facts):
    model = TwoTowers(facts["word_count"], **options)
    model.register_buffer("term_words", torch.tensor(facts["term_words"]), persistent=False)  # [390, 3]
    model.register_buffer("class_terms", torch.tensor(facts["class_terms"]), persistent=False)  # [10]
    return model


def forward(model, batch):
    """Unit vectors of pictures [B, E] and terms [B, E], the scale, and while evaluating those of all terms [390, E] and classes [10, E]."""
    terms = None if model.training else model.texts(model.term_words)
    classes = None if model.training else terms[model.class_terms]
    return model.pictures(batch["image"]), model.texts(model.term_words[batch["term"]]), model.scale, terms, classes


def losses(outputs, batch, options):
    pictures, texts, scale, *_ = outputs
    return contrastive_losses(pictures, texts, scale, batch["term"])


def metric(facts):
    from torchmetrics import MetricCollection
    from torchmetrics.classification import MulticlassAccuracy

    return MetricCollection(
        {
            "zero_shot_accuracy": MulticlassAccuracy(num_classes=facts["classes"], average="micro"),
            "recall_at_1": MulticlassAccuracy(num_classes=len(facts["terms"]), average="micro"),
        },
        compute_groups=False,
    )


def update(metric, outputs, batch):
    pictures, _, _, terms, classes = outputs
    metric["zero_shot_accuracy"].update(pictures @ classes.T, batch["label"])
    metric["recall_at_1"].update((pictures @ terms.T)[:, 1:].argmax(dim=1) + 1, batch["term"])  # term 0 is none


TASK = Task(("image", "term", "label"), build_model, forward, losses, metric, update, label="label")
