"""librispeech_deepspeech: convolutions and bidirectional LSTMs that write down English books (AlgoPerf's workload at full size).

Data    LibriSpeech: 263,840 train, 5,348 validation, 2,472 test recordings of at most 20 s, 80 mel bands; 1,024 pieces of words.
Model   The model of ``speech_lstm``: 6 bidirectional LSTM layers with layer norm between them, behind two convolutions that keep every
        fourth frame; CTC. AlgoPerf's has batch norm, shortcuts, and feed-forward layers after the recurrent ones.
Expect  word error rate 0.119936 on validation, 0.074143 on test: AlgoPerf's targets, set by NadamW (arXiv 2306.07179).
From    Amodei et al., Deep Speech 2 (arXiv 1512.02595).
"""

from __future__ import annotations

from ..suite.task import Task
from . import _librispeech
from .speech_lstm import Recogniser


def build_model(options, facts):
    return Recogniser(facts, bands=80, stride=2, **options)


def forward(model, batch):
    return model(batch["spectrogram"])


TASK = Task(_librispeech.FIELDS, build_model, forward, _librispeech.losses, _librispeech.metric, _librispeech.update)
