"""FineWeb-Edu, the sample of ten billion tokens: educational web pages in GPT-2's byte pairs. Not fetched here (size).

Size      8,749,870 train and 100,000 validation sequences of 1,024 tokens in AlgoPerf's cut; it has no test split: 100,000 further
          sequences take its place here. 28 GB.
Source    https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu (sample-10BT). Licence: ODC-By 1.0.
          Checksum: none here; the prepared dataset's digest tells one state of the files from another.
Gives     tokens  ARRAY int32 [1025]: a sequence and the token after it
Splits    Sequences of validation and test are set aside before training.
Facts     vocabulary_size = 50,257
"""

from __future__ import annotations

from ._gated import Column, Terms, gated_source

TOKENS = 50_257

SOURCE = gated_source(
    "fineweb_edu",
    Terms(
        url="https://huggingface.co/datasets/HuggingFaceFW/fineweb-edu",
        licence="ODC-By 1.0",
        sign="",
        download="sample-10BT",
        size_bytes=28e9,
    ),
    "G. Penedo et al. The FineWeb Datasets: Decanting the Web for the Finest Text Data at Scale. arXiv:2406.17557, 2024.",
    {"tokens": Column("int32", (1025,), TOKENS)},
    lambda: {"vocabulary_size": TOKENS},
)
