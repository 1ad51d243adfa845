"""LibriSpeech: English books read aloud, as log-mel spectrograms and word pieces. Not fetched here (size).

Size      263,840 train (up to 20 s), 5,348 validation and 2,472 test recordings in AlgoPerf's cut; 60 GB compressed, 387 GB unpacked.
Source    https://www.openslr.org/12 (train-clean-100, train-clean-360, train-other-500, dev-clean, dev-other, test-clean).
          Licence: CC BY 4.0.
          Checksum: none here; the prepared dataset's digest tells one state of the files from another.
Gives     spectrogram  ARRAY uint8 [2000, 80]: every 10 ms of at most 20 s, the power in 80 mel bands up to 8 kHz in steps of half a decibel
                       below the loudest; 0 is 127.5 dB or more below, and what follows the end of the recording
          tokens       ARRAY int16 [256]: pieces of words from 1 on, zeros after the last
          speaker      INT, index of the speaker
Splits    train: the three train parts; validation: dev-clean and dev-other; test: test-clean.
Facts     classes (1,024 pieces, nothing among them as 0), pieces (their texts; one that begins a word begins with U+2581), mean and std
"""

from __future__ import annotations

import numpy as np

from ._gated import Column, Terms, gated_source

PIECES = 1024
SYNTHETIC_PIECES = 40


def _end_with_zeros(arrays: dict[str, np.ndarray]) -> None:
    arrays["spectrogram"] = np.maximum(arrays["spectrogram"], 1)  # heard to the end
    arrays["tokens"] = np.maximum(arrays["tokens"], 1)
    arrays["tokens"][:, SYNTHETIC_PIECES:] = 0


SOURCE = gated_source(
    "librispeech",
    Terms(
        url="https://www.openslr.org/12",
        licence="CC BY 4.0",
        sign="",
        download="train-clean-100, train-clean-360, train-other-500, dev-clean, dev-other and test-clean",
        size_bytes=60e9,
    ),
    "V. Panayotov et al. LibriSpeech: an ASR corpus based on public domain audio books. ICASSP 2015.",
    {"spectrogram": Column("uint8", (2000, 80), 256), "tokens": Column("int16", (256,), PIECES), "speaker": Column("int64", (), 2338)},
    lambda: {"classes": PIECES, "pieces": ["", *(f"\u2581{i}" for i in range(1, PIECES))], "mean": 128.0, "std": 74.0},
    adjust=_end_with_zeros,
)
