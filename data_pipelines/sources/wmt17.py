"""WMT 2017 German and English: parallel sentences in 32,000 pieces of words. Not fetched here (size, terms of the parts).

Size      5,906,184 train pairs; validation: newstest2013, 3,000; test: newstest2014, 3,003; 3.3 GB.
Source    https://www.statmt.org/wmt17/translation-task.html (Europarl v7, Common Crawl, News Commentary v12).
          Licence: research use.
          Checksum: none here; the prepared dataset's digest tells one state of the files from another.
Gives     de, en  ARRAY int16 [256]: pieces; 1 begins, 2 ends, 0 after the end; longer pairs are left out
Splits    train: the parallel data of 2017; validation and test: the news tests of 2013 and 2014.
Facts     vocabulary: the 32,000 pieces, one byte a character (latin-1)
"""

from __future__ import annotations

import numpy as np

from ._gated import Column, Terms, gated_source

PIECES, LENGTH = 32_000, 256
WRITTEN = 30


def _sentences(arrays: dict[str, np.ndarray]) -> None:
    for tokens in arrays.values():
        np.maximum(tokens, 3, out=tokens)
        tokens[:, 0], tokens[:, WRITTEN - 1], tokens[:, WRITTEN:] = 1, 2, 0


SOURCE = gated_source(
    "wmt17",
    Terms(
        url="https://www.statmt.org/wmt17/translation-task.html",
        licence="research use, terms of Europarl, Common Crawl and News Commentary",
        sign="",
        download="the de-en training data of 2017, newstest2013 and newstest2014",
        size_bytes=3.3e9,
    ),
    "O. Bojar et al. Findings of the 2017 Conference on Machine Translation. WMT 2017.",
    {"de": Column("int16", (LENGTH,), PIECES), "en": Column("int16", (LENGTH,), PIECES)},
    lambda: {"vocabulary": ["", "", "", *(f"{i} " for i in range(3, PIECES))]},
    adjust=_sentences,
)
