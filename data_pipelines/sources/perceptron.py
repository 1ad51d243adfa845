"""Teacher and student: normal vectors labelled by a plane through the origin, for which theory says what pruning must do. No download.

Size      as asked for; 10 MB by default. Licence: none needed, made from a seed. Checksum: none, a pure function of the options.
Source    Sorscher et al., Beyond neural scaling laws: beating power law scaling via data pruning, arXiv 2206.14486, section 2.
Gives     x      ARRAY float32 [dimensions], each number normal with variance 1
          label  INT, 1 on the teacher's side of the plane, else 0
Splits    train: examples_per_dimension times dimensions; validation and test: held_out fresh ones each.
Facts     classes = 2; dimensions; teacher: its direction, of length 1
Options   dimensions; examples_per_dimension: α_tot of the theory; held_out; seed: of everything
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...suite.errors import ConfigError
from ..dataset import Decoded, Field, FieldKind, Source


def decode(paths: Mapping[str, Path], options: Mapping[str, Any]) -> Decoded:
    dimensions, density = options["dimensions"], options["examples_per_dimension"]
    if dimensions < 2 or density <= 0 or options["held_out"] < 1:
        expected = "dimensions from 2, examples_per_dimension above 0 and held_out from 1"
        raise ConfigError(f"perceptron: expected {expected}, given {dict(options)}")
    draw = np.random.Generator(np.random.Philox(key=options["seed"]))
    teacher = draw.standard_normal(dimensions)
    teacher /= np.linalg.norm(teacher)
    counts = {"train": max(1, round(density * dimensions)), "validation": options["held_out"], "test": options["held_out"]}
    splits = {}
    for split, count in counts.items():
        x = draw.standard_normal((count, dimensions)).astype(np.float32)
        label = (x.astype(np.float64) @ teacher > 0).astype(np.int64)
        splits[split] = {"x": Field(FieldKind.ARRAY, x), "label": Field(FieldKind.INT, label)}
    return Decoded(splits, {"classes": 2, "dimensions": dimensions, "teacher": teacher.tolist()})


SOURCE = Source(
    name="perceptron",
    version=1,
    licence="none needed",
    citation="B. Sorscher et al. Beyond neural scaling laws: beating power law scaling via data pruning. NeurIPS 2022.",
    files=(),
    decode=decode,
    options={"dimensions": 100, "examples_per_dimension": 8.0, "held_out": 10_000, "seed": 0},
)
