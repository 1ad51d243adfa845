"""librispeech_conformer: a Conformer that writes down English books read aloud (AlgoPerf's workload at full size).

Data    LibriSpeech: 263,840 train, 5,348 validation, 2,472 test recordings of at most 20 s, 80 mel bands; 1,024 pieces of words.
Model   The model of ``speech_conformer``: 4 layers of 512 channels behind two convolutions that keep every fourth frame; CTC. AlgoPerf's
        adds sines and cosines for positions and has the spectrogram in the model; here the convolutions tell positions and the spectrogram
        is prepared.
Expect  word error rate 0.085884 on validation, 0.052981 on test: AlgoPerf's targets, set by NadamW (arXiv 2306.07179).
From    Gulati et al., Conformer (arXiv 2005.08100).
"""

from __future__ import annotations

from ..suite.task import Task
from . import _librispeech
from .speech_conformer import Conformer


def build_model(options, facts):
    return Conformer(facts, bands=80, stride=2, **options)


def forward(model, batch):
    return model(batch["spectrogram"])


TASK = Task(_librispeech.FIELDS, build_model, forward, _librispeech.losses, _librispeech.metric, _librispeech.update)
