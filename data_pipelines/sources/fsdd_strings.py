"""Strings of spoken digits: recordings of the Free Spoken Digit Dataset put one after another, as log-mel spectrograms.

Size      10 MB to download, 43 MB as arrays. Licence: CC BY-SA 4.0. Checksum: as for fsdd.
Source    Z. Jackson et al., github.com/Jakobovski/free-spoken-digit-dataset; prepared here.
Gives     spectrogram  ARRAY uint8 [160, 40]: every 16 ms of at most 2.56 s, the power in 40 mel bands up to 4 kHz in steps of half a
                       decibel below the loudest of the string; 0 is 127.5 dB or more below, and what follows the end of the string
          digits       ARRAY uint8 [5]: the digits plus 1, zeros after the last
          speaker      INT, index into the speakers
Splits    By speaker as fsdd cuts them: test: theo; validation: yweweler; train: the other four. Strings are of one speaker. Each
          recording is used ``repeats`` times in train and twice elsewhere, in a new seeded order each time; the strings are 2 to 5 digits
          long, as long as they fit.
Facts     classes = 11 (the digits and nothing, which is 0), speakers, mean and std of the spectrogram over train
Options   repeats: how often a recording is used in train; seed: of the orders
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..splits import shuffled_ids
from . import fsdd
from ._spectrogram import log_mel

_FRAMES, _HOP, _BANDS = 160, 128, 40
_LONGEST = 5
_STEPS_PER_DECIBEL = 2


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    recordings = fsdd.decode(paths, {"samples": 20_480})
    rate = recordings.facts["sample_rate_hz"]
    splits = {}
    for name, fields in recordings.splits.items():
        repeats = options["repeats"] if name == "train" else 2
        columns = {key: np.asarray(field.values) for key, field in fields.items()}
        strings = list(_strings(columns, repeats, options["seed"]))
        digits = np.zeros((len(strings), _LONGEST), np.uint8)
        spectra = np.zeros((len(strings), _FRAMES, _BANDS), np.uint8)
        for row, (ids, spectrum) in enumerate(zip(strings, spectra, strict=True)):
            digits[row, : len(ids)] = columns["digit"][ids] + 1
            waveform = np.concatenate([columns["waveform"][i, : columns["length"][i]] for i in ids])
            decibels = log_mel(waveform / 32768.0, rate, _HOP, _BANDS)  # [frames, bands]
            levels = 255 + np.round((decibels - decibels.max()) * _STEPS_PER_DECIBEL)
            spectrum[: len(levels)] = np.maximum(levels, 0)
        splits[name] = {
            "spectrogram": Field(FieldKind.ARRAY, spectra),
            "digits": Field(FieldKind.ARRAY, digits),
            "speaker": Field(FieldKind.INT, columns["speaker"][[ids[0] for ids in strings]]),
        }
    heard = splits["train"]["spectrogram"].values[splits["train"]["spectrogram"].values > 0].astype(np.float64)
    facts = {"classes": 11, "speakers": recordings.facts["speakers"], "mean": float(heard.mean()), "std": float(heard.std())}
    return Decoded(splits, facts)


def _strings(columns: Mapping[str, np.ndarray], repeats: int, seed: int) -> Iterator[list[int]]:
    """Ids of recordings, string by string: a seeded order of each speaker's takes cut into runs that fit the spectrogram."""
    room = _FRAMES * _HOP
    for speaker in np.unique(columns["speaker"]):
        takes = np.flatnonzero(columns["speaker"] == speaker)
        orders = [takes[shuffled_ids(len(takes), seed + 1000 * int(speaker) + repeat)] for repeat in range(repeats)]
        lengths = 2 + np.random.Philox(key=seed + int(speaker)).random_raw(repeats * len(takes)) % (_LONGEST - 1)
        string: list[int] = []
        for i in np.concatenate(orders).tolist():
            used = sum(int(columns["length"][j]) for j in string)
            if string and (len(string) == lengths[0] or used + columns["length"][i] > room):
                yield string
                string, lengths = [], lengths[1:]
            string.append(i)
        yield string


SOURCE = Source(
    name="fsdd_strings",
    version=1,
    licence=fsdd.SOURCE.licence,
    citation=fsdd.SOURCE.citation,
    files=fsdd.SOURCE.files,
    decode=decode,
    options={"repeats": 8, "seed": 0},
)
