"""Multi30k: 31,014 English captions of photographs with German translations, and four test sets.

Size      1.4 MB to download, 22 MB as padded arrays. Licence: none in the repository; the Flickr30k captions are for research. Checksum:
          sha256 of the files of the official commit a3d2e0d2.
Source    D. Elliott et al., Multi30K: Multilingual English-German Image Descriptions (2016), github.com/multi30k/dataset, task 1, raw.
Gives     de, en                ARRAY uint8 [bytes of the longest line], UTF-8, zeros after the end: the raw lines, nothing normalised
          de_length, en_length  INT, bytes that count
Splits    The official ones in official order: train 29,000, validation 1,014, test (test_2016_flickr, 1,000), test_2017_flickr (1,000),
          test_2017_mscoco (461), test_2018_flickr (1,071).
Facts     none
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from .common import byte_rows

_URL = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw"
_LANGUAGES = ("de", "en")
_PARTS = {
    "train": "train",
    "validation": "val",
    "test": "test_2016_flickr",
    "test_2017_flickr": "test_2017_flickr",
    "test_2017_mscoco": "test_2017_mscoco",
    "test_2018_flickr": "test_2018_flickr",
}
_SHA256_AND_BYTES = {
    "test_2016_flickr.de.gz": ("9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8", 22_890),
    "test_2016_flickr.en.gz": ("611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9", 21_077),
    "test_2017_flickr.de.gz": ("a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee", 21_471),
    "test_2017_flickr.en.gz": ("76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074", 19_138),
    "test_2017_mscoco.de.gz": ("799e4854c25d601cb6cb6be29eabe5667734c61ace2f495e03e429031a0bc338", 10_230),
    "test_2017_mscoco.en.gz": ("aab300bfb4427697987e02cd0aacd44bfe8aa50456231b6474c08038bbed2b58", 8_844),
    "test_2018_flickr.de.gz": ("ddd0130c7d97482dc5197a02141dae8dd79f20f03586c480d675c09a32daf608", 26_461),
    "test_2018_flickr.en.gz": ("ef4f4844037d4c5dea75c9a8ed5fd78905967a26f67c255e230cc9780032654d", 23_514),
    "train.de.gz": ("726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6", 637_044),
    "train.en.gz": ("d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f", 568_929),
    "val.de.gz": ("f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a", 24_681),
    "val.en.gz": ("14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28", 21_650),
}


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    lines = {
        (split, language): gzip.decompress(paths[f"{part}.{language}.gz"].read_bytes()).decode().removesuffix("\n").split("\n")
        for split, part in _PARTS.items()
        for language in _LANGUAGES
    }
    longest = {language: max(len(line.encode()) for split in _PARTS for line in lines[split, language]) for language in _LANGUAGES}
    splits: dict[str, dict[str, Field]] = {split: {} for split in _PARTS}
    for (split, language), texts in lines.items():
        rows, lengths = byte_rows(texts, longest[language])
        splits[split] |= {language: Field(FieldKind.ARRAY, rows), f"{language}_length": Field(FieldKind.INT, lengths)}
    return Decoded(splits, {})


SOURCE = Source(
    name="multi30k",
    version=1,
    licence="none stated; Flickr30k captions: research",
    citation="D. Elliott, S. Frank, K. Sima'an, L. Specia. Multi30K: Multilingual English-German Image Descriptions. VL 2016.",
    files=tuple(
        RemoteFile(name, f"{_URL}/{name}", f"sha256:{sha256}", size, f"multi30k/{name}")
        for name, (sha256, size) in _SHA256_AND_BYTES.items()
    ),
    decode=decode,
)
