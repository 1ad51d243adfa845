"""What tuning brings: how soon the best of k tuning trials is expected to reach the target, beside the defaults and fresh seeds.

The number of trials that somebody can pay for decides which algorithm is best for them; one number after all k hides that (Dodge et al.,
EMNLP 2019, section 3). All numbers come from the tuning trials that were run anyway, each of which counts: a miss, a divergence or a
failure costs what a miss costs in a headline score.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..suite.files import object_digest
from ..suite.record import DONE, TUNING_SUFFIX, Record, Status
from ..suite.workload import Lens
from .boards import Row, Section, cost_to_target, section_key
from .cells import budget_in
from .scores import MISS_MULTIPLE
from .statistics import Estimate, expected_best

__all__ = ["Tuned", "hit_chances", "tuned"]


@dataclass(frozen=True)
class Tuned:
    """The tuning trials of one entry in one study on one workload.

    ``expected_seconds[k - 1]`` are the expected charged seconds to the main target of the best of k trials, a miss counted at its price;
    ``chance[k - 1]`` is how likely one of k hits it at all. ``fresh`` is the median of the chosen point on fresh seeds, ``defaults`` that
    of the algorithm's own hyperparameters without any tuning; None where nobody ran them.
    """

    entry: str
    study: str
    n: int
    hits: int
    expected_seconds: tuple[float, ...]
    chance: tuple[float, ...]
    fresh: Estimate | None
    defaults: Estimate | None


def tuned(section: Section, records: Iterable[Record]) -> tuple[Tuned, ...]:
    """The tuned entries of a section, best first after all of their trials; the same records in any order give the same."""
    by_id = {record.record_id: record for record in records}
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in sorted(by_id.values(), key=lambda r: r.precedence):
        is_tuning = (record.study or "").endswith(TUNING_SUFFIX) and record.status in DONE
        if is_tuning and section_key(record) == section_key(section):
            groups[record.entry.name, record.study or "", _settings(record)].append(record)
    found = [_tuned(section, entry, study, _once(trials), by_id) for (entry, study, _), trials in groups.items()]
    return tuple(sorted(found, key=lambda t: (t.expected_seconds[-1], t.entry, t.study)))


def hit_chances(n: int, hits: int) -> tuple[float, ...]:
    """How likely at least one of k trials hits, for k = 1 … n, when k of n trials with that many hits are drawn without replacement."""
    return tuple(1 - math.comb(n - hits, k) / math.comb(n, k) for k in range(1, n + 1))


def _tuned(section: Section, entry: str, study: str, trials: Sequence[Record], records: Mapping[str, Record]) -> Tuned:
    costs = [cost_to_target(record, Lens.CHARGED_SECONDS) if record.status is Status.HIT else None for record in trials]
    w, hits = section.workload, sum(cost is not None for cost in costs)
    price = MISS_MULTIPLE * budget_in(w, Lens.CHARGED_SECONDS, trials, otherwise=w.budget.charged_seconds)
    rows = [(row, [records[i] for i in row.record_ids]) for row in section.rows if row.entry == entry]
    base, tried = study.removesuffix(TUNING_SUFFIX), {_point(record) for record in trials}
    chosen = [
        row
        for row, own in rows
        if {r.study for r in own} == {base} and _settings(own[0]) == _settings(trials[0]) and _point(own[0]) in tried
    ]
    return Tuned(
        entry,
        study,
        len(trials),
        hits,
        expected_best([price if cost is None else cost for cost in costs]),
        hit_chances(len(trials), hits),
        fresh=_seconds(chosen),
        defaults=_seconds([row for row, own in rows if all(r.entry.at_defaults for r in own)]),
    )


def _settings(record: Record) -> str:
    """Identity of an entry but for its name, which holds the keep fraction, and for what is tuned."""
    entry = record.entry
    return object_digest([dict(entry.algorithm_options), dict(entry.curation_options), entry.source_digest])


def _once(trials: Sequence[Record]) -> list[Record]:
    """Each point once, by the trial that comes first."""
    found: dict[tuple[str, int], Record] = {}
    for record in trials:
        found.setdefault((_point(record), record.seed), record)
    return list(found.values())


def _point(record: Record) -> str:
    return object_digest(dict(record.entry.hyperparameters))


def _seconds(rows: Sequence[Row]) -> Estimate | None:
    """Of the row with most trials, the first of equals."""
    best = max(rows, key=lambda row: row.n, default=None)
    return None if best is None else best.to_target.get(Lens.CHARGED_SECONDS)
