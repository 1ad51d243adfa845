"""Free Spoken Digit Dataset: 3,000 recordings of the English digits, six speakers, 50 takes of each digit, mono, 8 kHz.

Size      10 MB to download, 49 MB as padded arrays. Licence: CC BY-SA 4.0. Checksum: sha256 over names and samples of the official commit
          26eb9aaf; archives are made on request, so their own bytes have no fixed digest.
Source    Z. Jackson et al., github.com/Jakobovski/free-spoken-digit-dataset.
Gives     waveform  ARRAY int16 [samples], zeros after the end; recordings are 1,148 to 18,262 samples long, and those longer than
                    the row (0.6 % of them at the default) are cut
          length    INT, samples that count
          digit     INT, 0 to 9
          speaker   INT, index into the speakers
          take      INT, 0 to 49 (the authors' own test set are takes 0 to 4: speakers seen in training, saturated at 99 %)
Splits    By speaker, so that nobody is heard in two of them: test: theo; validation: yweweler; train: the other four. In each: by
          digit, then speaker, then take.
Facts     classes = 10, speakers, sample_rate_hz
Options   samples: length of a row
"""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError, DataError
from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from .common import padded, read_members, require_content

_SPEAKERS = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
_HELD_OUT = {"test": "theo", "validation": "yweweler"}
_RATE_HZ = 8000
_SHA256 = "d6d6f69d427a1d92ba299f8c31783f93c15899e5424587cec0c39074b9fb3095"
_ARCHIVE = RemoteFile(
    name="recordings.tar.gz",
    url="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf76e81b692f806f9140c2d2777410d7a1.tar.gz",
    digest=None,
    size_bytes=None,
    mirror="fsdd",
)


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    if options["samples"] < 1:
        raise ConfigError(f"fsdd: option samples expected at least 1, given {options['samples']}")
    takes = {}  # (digit, speaker, take) -> int16 samples
    for name, content in read_members(paths[_ARCHIVE.name], lambda name: name.startswith("recordings/") and name.endswith(".wav")).items():
        digit, speaker, take = Path(name).stem.split("_")
        takes[int(digit), _SPEAKERS.index(speaker), int(take)] = _samples(name, content)
    takes = dict(sorted(takes.items()))
    require_content("fsdd", _SHA256, (part for key, samples in takes.items() for part in (repr(key).encode(), samples)))
    splits = {}
    for split in ("train", "validation", "test"):
        speakers = (
            [_SPEAKERS.index(_HELD_OUT[split])]
            if split in _HELD_OUT
            else [i for i, s in enumerate(_SPEAKERS) if s not in _HELD_OUT.values()]
        )
        chosen = {key: samples for key, samples in takes.items() if key[1] in speakers}
        keys = np.array(list(chosen), np.int64)  # [n, 3]
        lengths = np.array([len(samples) for samples in chosen.values()], np.int64)
        splits[split] = {
            "waveform": Field(FieldKind.ARRAY, padded(list(chosen.values()), options["samples"], np.int16)),
            "length": Field(FieldKind.INT, np.minimum(lengths, options["samples"])),
            **{name: Field(FieldKind.INT, keys[:, i].copy()) for i, name in enumerate(("digit", "speaker", "take"))},
        }
    return Decoded(splits, {"classes": 10, "speakers": _SPEAKERS, "sample_rate_hz": _RATE_HZ})


def _samples(name: str, content: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(content)) as recording:
        if (recording.getnchannels(), recording.getsampwidth(), recording.getframerate()) != (1, 2, _RATE_HZ):
            raise DataError(f"fsdd: {name} is not a mono recording of 16 bits at {_RATE_HZ} Hz")
        return np.frombuffer(recording.readframes(recording.getnframes()), "<i2")


SOURCE = Source(
    name="fsdd",
    version=1,
    licence="CC BY-SA 4.0",
    citation="Z. Jackson, C. Souza, J. Flaks, Y. Pan, H. Nicolas, A. Thite. Free Spoken Digit Dataset. 2018. doi:10.5281/zenodo.1342401",
    files=(_ARCHIVE,),
    decode=decode,
    options={"samples": 8192},
)
