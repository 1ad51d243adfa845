"""Every two entries of a board against each other, as numbers that one page chooses among."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..suite.errors import RecordError
from ..suite.record import Record
from ..suite.workload import Lens
from .boards import Board
from .compare import Duel, Effect, compare, verdict

__all__ = ["MOST_ENTRIES", "duel_table"]

MOST_ENTRIES = 16
"""Entries of a page, those with most trials: pairs grow with the square."""


def duel_table(board: Board, records: Sequence[Record]) -> dict[str, Any]:
    """JSON values: ``entries``, ``lenses``, and ``pairs`` by ``"i j"`` (positions, i < j), each a list of rows.

    A row: where (a workload, or ``overall``), its place, and by lens ``[factor, low, high, p, n of i, n of j, misses of i, misses of j,
    verdict]`` of i against j, None where :func:`~.compare.compare` gives none. Entries are in alphabetical order.
    """
    trials = Counter[str]()
    for row in (row for section in board.sections for row in section.rows):
        trials[row.entry] += row.n
    entries = sorted(entry for entry, _ in sorted(trials.items(), key=lambda item: (-item[1], item[0]))[:MOST_ENTRIES])
    pairs = {}
    for (i, a), (j, b) in itertools.combinations(enumerate(entries), 2):
        try:
            duels = compare(board, records, a, b)
        except RecordError:
            continue  # the two never met
        pairs[f"{i} {j}"] = [row for duel in duels for row in _rows(duel)]
    return {"entries": entries, "left_out": len(trials) - len(entries), "lenses": [lens.value for lens in Lens], "pairs": pairs}


def _rows(duel: Duel) -> list[list[Any]]:
    where = dict(duel.workloads)
    if len(where) > 1:
        where["overall"] = duel.overall
    return [[name, duel.hardware_class, {lens.value: _numbers(e) for lens, e in by_lens.items()}] for name, by_lens in where.items()]


def _numbers(found: Effect) -> list[Any]:
    bounds = found.factor.interval
    low, high = (None, None) if bounds is None else (bounds.low, bounds.high)
    rounded = [None if v is None else float(f"{v:.4g}") for v in (found.factor.value, low, high, found.p)]
    return [*rounded, found.n_a, found.n_b, found.misses_a, found.misses_b, verdict(found)]
