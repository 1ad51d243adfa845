"""speech_lstm: convolutions and a bidirectional LSTM that write down strings of spoken digits (stands for LibriSpeech DeepSpeech).

Data    Free Spoken Digit Dataset: strings of 2 to 5 digits, 4,751 of four speakers to train on; validation and test are of one speaker
        each whom nobody has heard before.
Model   Two convolutions halve the frames, bidirectional LSTM layers with layer norm between them, CTC.
Cost    223,675 parameters; 117 MFLOP and 6,413 bytes an example.
Expect  word error rate about 0.16 on validation and 0.27 on test after two passes, half a minute on two CPU cores.
From    Amodei et al., Deep Speech 2 (arXiv 1512.02595); data: github.com/Jakobovski/free-spoken-digit-dataset.
"""

from __future__ import annotations

from torch import nn
from torch.nn.functional import dropout

from ..suite.task import Task
from . import _ctc


class Recogniser(nn.Module):
    def __init__(self, facts, channels, width, depth, dropout, masked_frames, masked_bands, norm, **front):
        super().__init__()
        self.dropout = dropout
        self.front = _ctc.Subsampling(facts, channels, 2 * width, masked_frames, masked_bands, **front)
        self.layers = nn.ModuleList(nn.LSTM(2 * width, width, bidirectional=True, batch_first=True) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(2 * width) if norm == "layer" else nn.Identity() for _ in range(depth))
        self.head = nn.Linear(2 * width, facts["classes"])

    def forward(self, spectrogram):
        x, lengths = self.front(spectrogram)  # [B, 80, 2 * W]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = dropout(layer(norm(x))[0], self.dropout, self.training)
        return self.head(x), lengths


def build_model(options, facts):
    return Recogniser(facts, **options)


def forward(model, batch):
    return model(batch["spectrogram"])


TASK = Task(_ctc.FIELDS, build_model, forward, _ctc.losses, _ctc.metric, _ctc.update, label="speaker")
