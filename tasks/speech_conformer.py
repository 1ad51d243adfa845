"""speech_conformer: a small Conformer that writes down strings of spoken digits (stands for LibriSpeech Conformer).

Data    Free Spoken Digit Dataset: strings of 2 to 5 digits, 4,751 of four speakers to train on; validation and test are of one speaker
        each whom nobody has heard before.
Model   Two convolutions halve the frames; each layer is half an MLP, attention, a gated depthwise convolution, and another half MLP; CTC.
        Without relative positions: the convolutions tell where a frame is.
Cost    451,003 parameters; 283 MFLOP and 6,413 bytes an example.
Expect  word error rate about 0.14 on validation and 0.27 on test after two passes, under half a minute on two CPU cores.
From    Gulati et al., Conformer (arXiv 2005.08100); data: github.com/Jakobovski/free-spoken-digit-dataset.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import dropout, glu, silu

from ..suite.task import Task
from . import _ctc
from ._transformer import Attention

NORMS = {"batch": nn.BatchNorm1d, "group": lambda channels: nn.GroupNorm(1, channels)}


class Convolution(nn.Module):
    """Gated pointwise, depthwise and pointwise convolution over time."""

    def __init__(self, width, kernel, norm):
        super().__init__()
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = NORMS[norm](width)
        self.mix = nn.Linear(width, width)

    def forward(self, x):  # [B, T, W]
        x = glu(self.gate(x)).transpose(1, 2)
        return self.mix(silu(self.norm(self.depthwise(x))).transpose(1, 2))


class Layer(nn.Module):
    def __init__(self, width, heads, expansion, kernel, dropout, norm):
        super().__init__()
        self.dropout = dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(5))
        self.mlp1, self.mlp2 = (
            nn.Sequential(nn.Linear(width, expansion * width), nn.SiLU(), nn.Linear(expansion * width, width)) for _ in range(2)
        )
        self.attention = Attention(width, heads)
        self.convolution = Convolution(width, kernel, norm)

    def forward(self, x, visible):  # [B, T, W], bool [B, 1, 1, T]
        branches = (self.mlp1, lambda y: self.attention(y, visible=visible), self.convolution, self.mlp2)
        for norm, branch, share in zip(self.norms, branches, (0.5, 1, 1, 0.5), strict=False):
            x = x + share * dropout(branch(norm(x)), self.dropout, self.training)
        return self.norms[4](x)


class Conformer(nn.Module):
    def __init__(self, facts, channels, width, depth, heads, expansion, kernel, dropout, masked_frames, masked_bands, norm, **front):
        super().__init__()
        self.front = _ctc.Subsampling(facts, channels, width, masked_frames, masked_bands, **front)
        self.layers = nn.ModuleList(Layer(width, heads, expansion, kernel, dropout, norm) for _ in range(depth))
        self.head = nn.Linear(width, facts["classes"])

    def forward(self, spectrogram):
        x, lengths = self.front(spectrogram)  # [B, 80, W]
        visible = (torch.arange(x.shape[1], device=x.device) < lengths.clamp(min=1)[:, None])[:, None, None]
        for layer in self.layers:
            x = layer(x, visible)
        return self.head(x), lengths


def build_model(options, facts):
    return Conformer(facts, **options)


def forward(model, batch):
    return model(batch["spectrogram"])


TASK = Task(_ctc.FIELDS, build_model, forward, _ctc.losses, _ctc.metric, _ctc.update, label="speaker")
