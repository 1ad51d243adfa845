"""Cora: a graph of 2,708 papers on machine learning, 5,278 citations between them, seven topics.

Size      4 MB as arrays. Licence: MIT (repository). Checksum: sha256 of the mirror's file, made from the official pickles.
Source    Z. Yang et al., Revisiting Semi-Supervised Learning with Graph Embeddings (2016), github.com/kimiyoung/planetoid af6abf46.
Gives     words  ARRAY uint8 [1433], 1 where the paper uses the word
          label  INT, topic, 0 to 6
          part   INT: 0 none, 1 train (140), 2 validation (500), 3 test (1,000): the official parts
Splits    nodes: all papers in official order, since every paper's neighbours are needed to classify any of them.
Facts     classes = 7; edges: [[a, b], ...] with a < b, each citation once
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import Decoded, Field, FieldKind, Source
from ..fetch import RemoteFile

_GRAPH = RemoteFile(
    name="cora.npz",
    url="https://github.com/kimiyoung/planetoid/tree/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data",
    digest="sha256:50e102548619f3a57e5e41596b5f8c184f52d6799adbcc98f48b3e61c6cf98bb",
    size_bytes=89_453,
    mirror="cora/cora.npz",
    form="the official pickles ind.cora.* as one file of plain arrays",
)


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    with np.load(paths[_GRAPH.name], allow_pickle=False) as graph:
        nodes, width = graph["n"].tolist()
        words = np.zeros((nodes, width), np.uint8)
        words[np.repeat(np.arange(nodes), np.diff(graph["indptr"])), graph["indices"]] = 1
        part = np.zeros(nodes, np.int64)
        for number, name in enumerate(("train", "val", "test"), start=1):
            part[graph[name]] = number
        labels, edges = graph["y"].astype(np.int64), graph["edges"]
    fields = {"words": Field(FieldKind.ARRAY, words), "label": Field(FieldKind.INT, labels), "part": Field(FieldKind.INT, part)}
    return Decoded({"nodes": fields}, {"classes": int(labels.max()) + 1, "edges": edges.tolist()})


SOURCE = Source(
    name="cora",
    version=1,
    licence="MIT",
    citation="Z. Yang, W. W. Cohen, R. Salakhutdinov. Revisiting Semi-Supervised Learning with Graph Embeddings. ICML 2016.",
    files=(_GRAPH,),
    decode=decode,
)
