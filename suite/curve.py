"""The curve of a trial: quality against every lens, and the crossings read off it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import ClassVar

from .errors import RecordError
from .schema import STRICT
from .workload import Lens, Metric, TargetLadder

__all__ = ["Crossing", "Curve", "CurvePoint", "crossings", "read_curve", "write_curve"]


@dataclass(frozen=True)
class CurvePoint:
    """What one evaluation saw. All costs are cumulative since the start of the trial, the evaluation itself not charged.

    ``loss`` and ``quality`` are on the validation split, ``train_loss`` is the mean loss of the last step before it (None at
    0 examples). ``flops`` counts forward, backward and update; ``gradient_depth`` the sequential gradient evaluations. The last two are
    no costs: the peak of this process' memory so far, and the algorithm's state at the last checkpoint before.
    """

    examples: int
    steps: int
    charged_seconds: float
    cpu_seconds: float
    flops: float
    gradient_depth: int
    joules: float | None
    train_loss: float | None
    loss: float
    quality: float
    peak_memory_bytes: int | None = None
    optimizer_state_bytes: int | None = None

    def cost(self, lens: Lens) -> float | None:
        """Cost so far in a lens; None where no meter exists."""
        value = getattr(self, lens.value)
        return None if value is None else float(value)


Curve = Sequence[CurvePoint]


@dataclass(frozen=True)
class Crossing:
    """Where a level was hit: its interpolated cost in every lens (absent lenses left out), or ``hit=False`` and no cost."""

    __pydantic_config__: ClassVar = STRICT
    level: float
    hit: bool
    cost: Mapping[Lens, float]


def crossings(curve: Curve, metric: Metric, ladder: TargetLadder) -> tuple[Crossing, ...]:
    """Read every level off a curve.

    A level counts from the first evaluation that reaches it and whose next ``ladder.confirmations`` evaluations, as far as the
    curve goes, reach it too. Its cost is interpolated linearly in quality between that evaluation and the one before.
    """
    return tuple(_crossing(curve, metric, level, ladder.confirmations) for level in ladder.levels)


def _crossing(curve: Curve, metric: Metric, level: float, confirmations: int) -> Crossing:
    reached = [metric.reached(point.quality, level) for point in curve]
    for i, point in enumerate(curve):
        if not all(reached[i : i + 1 + confirmations]):
            continue
        before = curve[i - 1] if i else point
        gap = point.quality - before.quality
        share = (level - before.quality) / gap if gap else 1.0
        cost = {}
        for lens in Lens:
            start, end = before.cost(lens), point.cost(lens)
            if start is not None and end is not None:
                cost[lens] = start + share * (end - start)
        return Crossing(level, True, cost)
    return Crossing(level, False, {})


_LATE = ("peak_memory_bytes", "optimizer_state_bytes")
"""Columns that curves may lack: those of other origin, and those written before there were any."""
_COLUMNS = tuple(f.name for f in fields(CurvePoint) if f.name not in _LATE)
_INTEGERS = frozenset({"examples", "steps", "gradient_depth", *_LATE})
_OPTIONAL = frozenset({"joules", "train_loss", *_LATE})


def write_curve(curve: Curve) -> str:
    """CSV text, one row an evaluation; floats in the shortest form that reads back to the same bits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = (*_COLUMNS, *(name for name in _LATE if any(getattr(point, name) is not None for point in curve)))
    writer.writerow(columns)
    for point in curve:
        writer.writerow("" if (value := getattr(point, name)) is None else repr(value) for name in columns)
    return text.getvalue()


def read_curve(text: str, where: str) -> tuple[CurvePoint, ...]:
    """Parse ``write_curve``'s text. Raises ``RecordError`` for other columns, non-numbers, NaN, or a cost that runs backwards."""
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or tuple(rows[0]) != (*_COLUMNS, *(name for name in _LATE if name in rows[0])):
        raise RecordError(f"{where}: expected columns {', '.join(_COLUMNS)}; given {', '.join(rows[0]) if rows else 'an empty file'}")
    points = [_point(row, rows[0], f"{where}: row {number}") for number, row in enumerate(rows[1:], 2)]
    for before, after in pairwise(points):
        for lens in Lens:
            start, end = before.cost(lens), after.cost(lens)
            if start is not None and end is not None and end < start:
                raise RecordError(f"{where}: {lens} runs backwards, from {start} to {end}")
    return tuple(points)


def _point(row: Sequence[str], columns: Sequence[str], where: str) -> CurvePoint:
    if len(row) != len(columns):
        raise RecordError(f"{where}: expected {len(columns)} values, given {len(row)}")
    values: dict[str, float | int | None] = {}
    for name, text in zip(columns, row, strict=True):
        try:
            value = None if text == "" and name in _OPTIONAL else int(text) if name in _INTEGERS else float(text)
        except ValueError:
            raise RecordError(f"{where}: {name}: expected a number, given {text!r}") from None
        if value is not None and not math.isfinite(value):
            raise RecordError(f"{where}: {name}: expected a finite number, given {text!r}")
        values[name] = value
    return CurvePoint(**values)  # type: ignore[arg-type]
