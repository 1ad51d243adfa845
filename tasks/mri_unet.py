"""mri_unet: a U-Net that restores magnetic resonance pictures from a quarter or an eighth of k-space (stands for fastMRI).

Data    Brain slices at 64x64 (S. Bhuvaji et al.), undersampled in k-space with fixed random lines, half of them 4x and half 8x; 2,179
        train, 400 validation, 394 test, without the duplicates that would straddle the splits.
Model   U-Net on the zero-filled picture; its output is added to it. Loss: mean absolute error.
Cost    1,096,900 parameters; 562 MFLOP and 12,296 bytes an example.
Expect  SSIM 0.66 on validation (zero-filled: 0.46) and 0.54 on test after four passes, a third of a minute on two CPU cores.
From    Zbontar et al., fastMRI (arXiv 1811.08839): baseline, loss and metric.
"""

from __future__ import annotations

from torch import nn

from ..suite.task import Task
from ._unet import UNet


def build_model(options, facts):
    model = UNet(1, 1, **options)
    model.mean, model.std = facts["mean"], facts["std"]
    nn.init.zeros_(model.head.weight)  # at first the zero-filled picture is left as it is
    nn.init.zeros_(model.head.bias)
    return model


def forward(model, batch):
    seen = batch["measured"][:, None].float()  # [B, 1, 64, 64], 0 to 1
    return seen + model((seen - model.mean) / model.std).float() * model.std


def whole(batch):  # uint8 or, from 0 to 1, float16 [B, 64, 64] -> [B, 1, 64, 64], 0 to 1
    image = batch["image"][:, None].float()
    return image if batch["image"].is_floating_point() else image / 255


def losses(restored, batch, options):
    return (restored - whole(batch)).abs().mean(dim=(1, 2, 3))


def metric(facts):
    from torchmetrics import MetricCollection
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

    return MetricCollection(
        {
            "ssim": StructuralSimilarityIndexMeasure(data_range=1.0, **facts.get("ssim", {})),
            "psnr": PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean"),
        }
    )


def update(metric, restored, batch):
    metric.update(restored, whole(batch))


TASK = Task(("measured", "image", "label"), build_model, forward, losses, metric, update, label="label")
