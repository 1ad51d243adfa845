"""nuclei_unet: a U-Net that finds cell nuclei in microscope pictures (stands for segmentation).

Data    664 pictures of the 2018 Data Science Bowl (BBBC038v1) at 128x128: 452 train, 80 validation, 132 test, microscopes and stains in
        proportion.
Model   U-Net on 2x2 blocks of pixels. Loss: cross-entropy plus 1 - Dice, both per picture.
Cost    1,098,628 parameters; 2.27 GFLOP and 81,920 bytes an example.
Expect  IoU about 0.81 on validation after ten passes, half a minute on two CPU cores.
From    Ronneberger et al., U-Net (arXiv 1505.04597); Dice loss: Milletari et al., V-Net (arXiv 1606.04797); data: Caicedo et al., Nature
        Methods 16 (2019).
"""

from __future__ import annotations

from torch.nn.functional import binary_cross_entropy_with_logits

from ..suite.task import Task
from ._unet import UNet


def build_model(options, facts):
    return UNet(3, 1, **options)


def forward(model, batch):
    return model(batch["image"])[:, 0].float()  # [B, 128, 128]


def nuclei(batch):  # int [B, 128, 128]: the number of the nucleus that a pixel belongs to, 0 outside of all
    return (batch["mask"] > 0).float()


def losses(logits, batch, options):
    target = nuclei(batch)
    entropy = binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(1, 2))
    share = logits.sigmoid()
    overlap = (2 * (share * target).sum(dim=(1, 2)) + 1) / (share.sum(dim=(1, 2)) + target.sum(dim=(1, 2)) + 1)
    return entropy + options["dice"] * (1 - overlap)


def metric(facts):
    from torchmetrics.classification import BinaryJaccardIndex

    return BinaryJaccardIndex()


def update(metric, logits, batch):
    metric.update(logits > 0, batch["mask"] > 0)


TASK = Task(("image", "mask"), build_model, forward, losses, metric, update, label="kind")
