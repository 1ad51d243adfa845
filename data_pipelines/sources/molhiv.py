"""MolHIV: 41,120 molecules as graphs, and whether they inhibit HIV replication (3.5 % do).

Size      135 MB as padded arrays. Licence: MIT (MoleculeNet / DeepChem; the assay data are of the US National Cancer Institute).
          Checksum: sha256 over the graph arrays of the mirror, made with RDKit from the official HIV.csv (md5
          9ad10c88f82f1dac7eb5c52b668c30a7).
Source    Z. Wu et al., MoleculeNet, Chemical Science 9 (2018); features as ogbg-molhiv: W. Hu et al., Open Graph Benchmark (2020).
Gives     atoms   ARRAY uint8 [222, 9], categorical features of each atom
          ends    ARRAY uint8 [251, 2], the two atoms that each bond joins; every bond once, in one direction
          bonds   ARRAY uint8 [251, 3], categorical features of each bond
          atom_count, bond_count  INT, rows that count. Graphs are padded with zeros to the largest molecule: 222 atoms, 251 bonds.
          label   INT, 1 if active
Splits    By scaffold (DeepChem's rule: molecules with the same ring skeleton stay together, rare skeletons are held out), each in
          official order: train 32,894, validation 4,113, test 4,113. Seven molecules that RDKit cannot read are left out of train.
Facts     atom_values, bond_values: kinds of each feature (largest value + 1)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile
from .common import require_content

_SHA256 = "c218afd0d4c7996f13b1b793140a4ca2c9875f51f61762d6dbaea97e0360fc60"
_GRAPHS = RemoteFile(
    name="graphs.npz",
    url="https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/HIV.csv",
    digest=None,
    size_bytes=None,
    mirror="molhiv/graphs.npz",
    form="the molecules of the official table as graphs with the features of ogbg-molhiv",
)
_SPLITS = ("train", "validation", "test")  # as numbered in the file


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    with np.load(paths[_GRAPHS.name], allow_pickle=False) as file:
        data = {name: file[name] for name in sorted(file)}
    require_content("molhiv", _SHA256, data.values())
    atoms = _unpacked(data["node_feat"].T, data["num_nodes"])  # [molecules, 222, 9]
    bonds = _unpacked(data["edge_feat"].T, data["num_edges"])
    ends = _unpacked(data["edge_index"].T, data["num_edges"])
    readable = data["num_nodes"] > 0
    splits = {}
    for number, name in enumerate(_SPLITS):
        chosen = readable & (data["split"] == number)
        splits[name] = {
            "atoms": Field(FieldKind.ARRAY, atoms[chosen]),
            "ends": Field(FieldKind.ARRAY, ends[chosen]),
            "bonds": Field(FieldKind.ARRAY, bonds[chosen]),
            "atom_count": Field(FieldKind.INT, data["num_nodes"][chosen].astype(np.int64)),
            "bond_count": Field(FieldKind.INT, data["num_edges"][chosen].astype(np.int64)),
            "label": Field(FieldKind.INT, data["label"][chosen].astype(np.int64)),
        }
    kinds = {
        name: (data[key].max(axis=1).astype(int) + 1).tolist()
        for name, key in {"atom_values": "node_feat", "bond_values": "edge_feat"}.items()
    }
    return Decoded(splits, kinds)


def _unpacked(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rows of all graphs back to back ``[sum(counts), k]`` as ``[graphs, max(counts), k]``, zeros after the end of each."""
    values = np.zeros((len(counts), int(counts.max()), rows.shape[1]), rows.dtype)
    values[np.arange(values.shape[1]) < counts[:, None]] = rows
    return values


SOURCE = Source(
    name="molhiv",
    version=1,
    licence="MIT",
    citation="Z. Wu et al. MoleculeNet: a benchmark for molecular machine learning. Chemical Science 9, 2018.",
    files=(_GRAPHS,),
    decode=decode,
)
