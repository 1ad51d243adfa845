"""A section as MLPerf Training reads it: mean without the best and the worst run, one-sided tests against the reference.

Beside the boards' own statistics, for readers who know these (MLPerf Training rules, "Run results" and "Reference Convergence Points").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..suite.record import Record
from ..suite.workload import Lens
from .boards import Section, cost_to_target
from .statistics import Faster, faster, olympic_mean, rcp_allowed_speedup

__all__ = ["MlperfRow", "as_mlperf"]


@dataclass(frozen=True)
class MlperfRow:
    """One row: olympic mean of the charged seconds to the main target; whether seconds and examples are below the reference's.

    ``allowed``: by what fraction of examples so many trials may be ahead of such a reference by chance. None where a miss, or too few
    trials, allow no such number; the reference's own row has no test.
    """

    label: str
    olympic_seconds: float | None
    seconds: Faster | None = None
    examples: Faster | None = None
    allowed: float | None = None


def as_mlperf(section: Section, records: Mapping[str, Record], reference: str) -> tuple[MlperfRow, ...]:
    """Every row of a section against the reference's with most trials; no tests where the reference has none here."""
    own = max((row for row in section.rows if row.entry == reference), key=lambda row: row.n, default=None)
    found = []
    for row in section.rows:
        seconds, examples = (_costs([records[i] for i in row.record_ids], lens) for lens in (Lens.CHARGED_SECONDS, Lens.EXAMPLES))
        olympic = olympic_mean(seconds)
        if own is None or row is own:
            found.append(MlperfRow(row.label, olympic))
            continue
        theirs = [_costs([records[i] for i in own.record_ids], lens) for lens in (Lens.CHARGED_SECONDS, Lens.EXAMPLES)]
        ahead = faster(examples, theirs[1])
        found.append(
            MlperfRow(row.label, olympic, faster(seconds, theirs[0]), ahead, None if ahead is None else _allowed(theirs[1], row.n))
        )
    return tuple(found)


def _allowed(reference: Sequence[float], n: int) -> float | None:
    """MLPerf's slack for ``n`` trials; None where it has no bound."""
    found = rcp_allowed_speedup(float(np.mean(reference)), float(np.std(reference, ddof=1)), len(reference), n)
    return None if math.isinf(found) else found


def _costs(records: Sequence[Record], lens: Lens) -> list[float]:
    return [math.nan if (cost := cost_to_target(record, lens)) is None else cost for record in records]
