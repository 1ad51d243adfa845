"""Criteo's 1 TB of display advertisements: who clicks, from 13 counts and 26 hashed categories. Not fetched here (1.1 TB, licence).

Size      4,195,197,692 train, 83,274,637 validation and 95,000,000 test rows in AlgoPerf's cut of the 24 days; 1.1 TB.
Source    https://ailab.criteo.com/download-criteo-1tb-click-logs-dataset/ (day_0.gz to day_23.gz). Licence: CC BY-NC-SA 4.0.
          Checksum: none here; the prepared dataset's digest tells one state of the files from another.
Gives     categories  ARRAY int32 [26]: the category's hash modulo the table's share of this column
          numbers     ARRAY float32 [13]
          label       INT, 1 for a click
Splits    As AlgoPerf cuts the days: the first 23 train, the last one cut into validation and test.
Facts     category_sizes (26 numbers, 4,194,304 together in AlgoPerf), number_mean, number_std (13 each)
"""

from __future__ import annotations

from ._gated import Column, Terms, gated_source

ROWS_A_COLUMN = 4_194_304 // 26

SOURCE = gated_source(
    "criteo1tb",
    Terms(
        url="https://ailab.criteo.com/download-criteo-1tb-click-logs-dataset/",
        licence="CC BY-NC-SA 4.0",
        sign="accept the terms of Criteo AI Lab",
        download="day_0.gz to day_23.gz",
        size_bytes=1.1e12,
    ),
    "Criteo AI Lab. Criteo 1TB Click Logs dataset. 2014.",
    {"categories": Column("int32", (26,), 1000), "numbers": Column("float32", (13,), 0), "label": Column("int64", (), 2)},
    lambda: {"category_sizes": [ROWS_A_COLUMN] * 26, "number_mean": [0.5] * 13, "number_std": [0.29] * 13},
)
