"""Your own graphs with categorical features and a class each, as molhiv gives them.

Size      as the files. Licence: yours. Checksum: none to compare with; files that change make another dataset, prepared anew.
Source    ``path``: NAME.jsonl for each split, or one such file. A line is a graph: {"nodes": [[0, 2], ...], "edges": [[0, 1], ...],
          "edge_features": [[1], ...], "label": "ring"}. Features are whole numbers from 0, as many for each node; edges are undirected
          pairs of node numbers, each once; edge_features may be left out.
Gives     atoms                   ARRAY [nodes, features]: those of the nodes (named as in molhiv, which the shipped family reads)
          ends                    ARRAY int32 [edges, 2], the two nodes that each edge joins
          bonds                   ARRAY [edges, features]: those of the edges, zeros without any
          atom_count, bond_count  INT, rows that count; graphs are padded with zeros to the largest one
          label                   INT, index into the sorted training values
Splits    As given; what is missing is cut from train, the classes in proportion.
Facts     classes, class_names; atom_values, bond_values: kinds of each feature (largest value + 1)
Options   path; validation_fraction, test_fraction
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import DataError
from ..dataset import Decoded, Field, FieldKind, Source
from . import own_files
from .common import padded
from .own_readers import split_paths
from .own_splits import all_splits

_KEYS = frozenset({"nodes", "edges", "edge_features", "label"})


@dataclass(frozen=True)
class Graph:
    """Whole numbers: ``nodes`` [n, f], ``edges`` [e, 2], ``edge_features`` [e, g]; and the class by name."""

    nodes: np.ndarray
    edges: np.ndarray
    edge_features: np.ndarray
    label: str


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    given = {split: _read(path) for split, path in split_paths(own_files.own_root(options, "own_graphs")).items()}
    splits = all_splits("own_graphs", given, options, lambda graph: graph.label)
    width = _width([graph.edge_features for graphs in splits.values() for graph in graphs], "edge_features")
    empty = np.zeros((0, width), np.int32)
    splits = {split: [g if len(g.edges) else replace(g, edge_features=empty) for g in graphs] for split, graphs in splits.items()}
    everything = [graph for graphs in splits.values() for graph in graphs]
    _width([graph.nodes for graph in everything], "nodes")
    names = sorted({graph.label for graph in splits["train"]})
    outside = {graph.label for graph in everything} - set(names)
    if outside:
        raise DataError(f"own_graphs: label {min(outside)!r} is none of the {len(names)} classes of train")
    kinds = {
        fact: (np.concatenate([getattr(graph, what) for graph in everything]).max(axis=0, initial=0) + 1).tolist()
        for fact, what in {"atom_values": "nodes", "bond_values": "edge_features"}.items()
    }
    facts = {"classes": len(names), "class_names": names, **kinds}
    return Decoded({split: _fields(graphs, everything, names) for split, graphs in splits.items()}, facts)


def _width(rows: Sequence[np.ndarray], what: str) -> int:
    widths = {part.shape[1] for part in rows if len(part)} or {1}
    if len(widths) > 1:
        raise DataError(f"own_graphs: {what} have from {min(widths)} to {max(widths)} features; expected as many in each graph")
    return int(widths.pop())


def _fields(graphs: Sequence[Graph], everything: Sequence[Graph], names: Sequence[str]) -> dict[str, Field]:
    nodes, edges = max(len(graph.nodes) for graph in everything), max(1, *(len(graph.edges) for graph in everything))
    return {
        "atoms": Field(FieldKind.ARRAY, padded([graph.nodes for graph in graphs], nodes, np.int32)),
        "ends": Field(FieldKind.ARRAY, padded([graph.edges for graph in graphs], edges, np.int32)),
        "bonds": Field(FieldKind.ARRAY, padded([graph.edge_features for graph in graphs], edges, np.int32)),
        "atom_count": Field(FieldKind.INT, np.array([len(graph.nodes) for graph in graphs], np.int64)),
        "bond_count": Field(FieldKind.INT, np.array([len(graph.edges) for graph in graphs], np.int64)),
        "label": Field(FieldKind.INT, np.array([names.index(graph.label) for graph in graphs], np.int64)),
    }


def _read(path: Path) -> list[Graph]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: not UTF-8 at byte {problem.start}: {problem.reason}") from None
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}") from None
    return [_graph(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]


def _graph(line: str, where: str) -> Graph:
    try:
        value = json.loads(line)
    except ValueError as problem:
        raise DataError(f"{where}: not JSON: {problem}") from None
    if not isinstance(value, dict) or not _KEYS - {"edge_features"} <= set(value) <= _KEYS:
        raise DataError(f"{where}: expected an object with nodes, edges, label and perhaps edge_features")
    nodes = _numbers(value["nodes"], f"{where}: nodes", None)
    edges = _numbers(value["edges"], f"{where}: edges", 2)
    features = _numbers(value.get("edge_features", [[0]] * len(edges)), f"{where}: edge_features", None if len(edges) else 1)
    if len(nodes) == 0:
        raise DataError(f"{where}: a graph without nodes")
    if len(features) != len(edges):
        raise DataError(f"{where}: {len(edges)} edges, but edge_features for {len(features)}")
    if edges.max(initial=0) >= len(nodes):
        raise DataError(f"{where}: an edge ends at node {edges.max()}; the nodes are 0 to {len(nodes) - 1}")
    return Graph(nodes, edges, features, str(value["label"]))


def _numbers(value: Any, where: str, width: int | None) -> np.ndarray:
    """Whole numbers from 0, int32 ``[n, width]``."""
    try:
        found = np.array(value) if value else np.zeros((0, width or 1), np.int64)
    except ValueError:
        found = np.zeros(0)
    if found.ndim != 2 or found.dtype.kind not in "iu" or found.min(initial=0) < 0 or (width is not None and found.shape[1] != width):
        raise DataError(f"{where}: expected rows of {width or 'as many'} whole numbers from 0")
    return found.astype(np.int32)


SOURCE = Source(
    name="own_graphs",
    version=1,
    licence="the user's",
    citation="the user's own graphs",
    files=(),
    decode=decode,
    options={"path": "", "validation_fraction": 0.1, "test_fraction": 0.1},
    identify=own_files.identify,
)
