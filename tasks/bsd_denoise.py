"""bsd_denoise: a DnCNN-like network that takes white noise off grey pictures (stands for restoration; twice the resolution as a variant).

Data    BSD400: 360 pictures cut into 5,760 patches of 44x44 to train on, 40 whole ones of 180x180 to validate; test: Set12. Noise of
        standard deviation 25 (of 255) is drawn anew whenever a patch is seen; held-out pictures keep theirs.
Model   2x2 blocks of pixels become channels, ``depth`` 3x3 convolutions with ReLU predict the noise, which is subtracted.
        For ``upscale`` 2 the input is the picture at half the size, and the output is added to its bicubic enlargement.
Cost    189,636 parameters; 546 MFLOP and 1,952 bytes an example.
Expect  28.1 dB on validation, 29.1 dB on Set12 after four passes, half a minute on two CPU cores.
From    Zhang et al., Beyond a Gaussian Denoiser (arXiv 1608.03981): residual learning, 30.44 dB on Set12; folding: Zhang et al., FFDNet
        (arXiv 1710.04026); enlarging in the last layer: Shi et al., ESPCN (arXiv 1609.05158).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate, pixel_shuffle, pixel_unshuffle

from ..suite.task import Task
from ._noise import normal_by_id

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
NORMS = {"batch": nn.BatchNorm2d, "none": lambda channels: nn.Identity()}


class Restorer(nn.Module):
    def __init__(self, width, depth, sigma, upscale, norm, activation):
        super().__init__()
        self.sigma, self.upscale = sigma / 255, upscale
        channels_in = 1 if upscale > 1 else 4
        layers = [nn.Conv2d(channels_in, width, 3, padding=1), ACTIVATIONS[activation]()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=norm == "none"), NORMS[norm](width), ACTIVATIONS[activation]()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, 4, 3, padding=1)
        for module in self.body:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.head.weight)  # at first nothing is taken off
        nn.init.zeros_(self.head.bias)

    def degrade(self, clean, ids, inside):  # [B, 1, H, W] -> what the network sees
        if self.upscale > 1:
            return interpolate(clean, scale_factor=1 / self.upscale, mode="bicubic", antialias=True)
        noise = torch.randn_like(clean) if self.training else normal_by_id(ids, clean.shape[1:], clean.device)
        return clean + self.sigma * noise * inside

    def forward(self, seen):  # [B, 1, h, w] -> [B, 1, H, W]
        if self.upscale > 1:
            start, x = interpolate(seen, scale_factor=self.upscale, mode="bicubic"), seen
        else:
            start, x = seen, pixel_unshuffle(seen, 2)
        return start - pixel_shuffle(self.head(self.body(x)), 2).float()


def build_model(options, facts):
    return Restorer(**options)


def clean_pictures(batch):  # uint8 [B, H, W] -> float [B, 1, H, W], 0 to 1
    return batch["image"][:, None].float() / 255


def inside_pictures(batch):  # bool [B, 1, H, W]: where there is picture
    height, width = batch["image"].shape[1:]
    rows = torch.arange(height, device=batch["height"].device) < batch["height"][:, None]
    columns = torch.arange(width, device=batch["width"].device) < batch["width"][:, None]
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def forward(model, batch):
    return model(model.degrade(clean_pictures(batch), batch.ids, inside_pictures(batch)))


def losses(restored, batch, options):
    """Mean squared error in units of the squared ``unit`` (grey levels): 1 is about what the noisy picture has."""
    errors = (restored - clean_pictures(batch)) * inside_pictures(batch)
    return (errors * (255 / options["unit"])).square().sum(dim=(1, 2, 3)) / (batch["height"] * batch["width"])


def metric(facts):
    from torchmetrics.image import PeakSignalNoiseRatio

    return PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean")


def update(metric, restored, batch):
    """Each picture on its own, since test pictures have different sizes."""
    for picture, clean, height, width in zip(restored, clean_pictures(batch), batch["height"], batch["width"], strict=True):
        metric.update(picture[None, :, :height, :width].clamp(0, 1), clean[None, :, :height, :width])


TASK = Task(("image", "height", "width"), build_model, forward, losses, metric, update)
