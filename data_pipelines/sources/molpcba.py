"""ogbg-molpcba: molecules and which of 128 biological assays they are active in, mostly unmeasured. Not fetched here.

Size      350,343 train, 43,793 validation and 43,793 test molecules, split by scaffold; 0.8 GB.
Source    https://ogb.stanford.edu/docs/graphprop/ (ogbg-molpcba). Licence: MIT.
          Checksum: none here; the prepared dataset's digest tells one state of the files from another.
Gives     atoms       ARRAY uint8 [332, 9]: OGB's features of the atoms, zeros after the last
          ends        ARRAY int16 [380, 2]: atoms that each bond joins, every bond once
          bonds       ARRAY uint8 [380, 3]: OGB's features of the bonds
          atom_count  INT; bond_count  INT
          activity    ARRAY int8 [128]: 1 active, 0 not, -1 unmeasured
Splits    OGB's, by scaffold.
Facts     atom_values, bond_values: how many values each feature takes; assays = 128
"""

from __future__ import annotations

import numpy as np

from ._gated import Column, Terms, gated_source

ATOMS, BONDS, ASSAYS = 332, 380, 128
ATOM_VALUES = [119, 5, 12, 12, 10, 6, 6, 2, 2]
BOND_VALUES = [5, 6, 2]


def _chain(arrays: dict[str, np.ndarray]) -> None:
    """Molecules of 25 atoms in a chain."""
    count = len(arrays["atom_count"])
    arrays["atom_count"][:], arrays["bond_count"][:] = 25, 24
    arrays["ends"][:] = np.stack((np.arange(BONDS), np.arange(BONDS) + 1), axis=1) % 25
    arrays["activity"] = (np.add.outer(np.arange(count), np.arange(ASSAYS)) % 3 - 1).astype("int8")  # three molecules show all of it


SOURCE = gated_source(
    "molpcba",
    Terms(
        url="https://ogb.stanford.edu/docs/graphprop/",
        licence="MIT",
        sign="",
        download="ogbg-molpcba",
        size_bytes=0.8e9,
    ),
    "W. Hu et al. Open Graph Benchmark: Datasets for Machine Learning on Graphs. arXiv:2005.00687, 2020.",
    {
        "atoms": Column("uint8", (ATOMS, len(ATOM_VALUES)), 2),
        "ends": Column("int16", (BONDS, 2), 25),
        "bonds": Column("uint8", (BONDS, len(BOND_VALUES)), 2),
        "atom_count": Column("int64", (), ATOMS),
        "bond_count": Column("int64", (), BONDS),
        "activity": Column("int8", (ASSAYS,), 2),
    },
    lambda: {"atom_values": ATOM_VALUES, "bond_values": BOND_VALUES, "assays": ASSAYS},
    adjust=_chain,
)
