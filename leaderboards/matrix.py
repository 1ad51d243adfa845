"""Algorithm x curation on one workload: every algorithm with every way to choose data, and whether the two depend on each other.

A matrix is the largest complete rectangle among a section's rows: algorithms with one setting each, selections that all of them were
trained on. It is read in every lens at the main target, where misses count as in a factor, and at the hardest level that no trial missed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..suite.files import object_digest
from ..suite.record import Entry, Record
from ..suite.workload import Lens, ResultRule
from .boards import Board, Row, Section, cost_to_target, keep_fraction
from .cells import budget_in
from .coupling import Coupling, coupling
from .scores import MISS_MULTIPLE
from .statistics import CONFIDENCE, MINIMUM_N, Estimate, Interval, median
from .tracks import State, amortised, states

__all__ = ["Matrix", "MatrixCell", "Reading", "matrices", "sentence"]

_FEWEST = 2


@dataclass(frozen=True)
class MatrixCell:
    """One algorithm with one selection: median cost to the level, and its :class:`~.coupling.Pair`'s surprise."""

    algorithm: str
    selection: str
    n: int
    hits: int
    cost: Estimate
    surprise: float
    interval: Interval | None


@dataclass(frozen=True)
class Reading:
    """A matrix in one lens at one level of the ladder; ``cells`` row by row. In the coupling a missed trial costs ``miss``."""

    state: State
    level: float
    main: bool
    cells: tuple[MatrixCell, ...]
    coupling: Coupling
    miss: float

    @property
    def key(self) -> str:
        """``charged_seconds`` at the main target, ``charged_seconds-at-0.74`` elsewhere."""
        return self.state.key if self.main else f"{self.state.key}-at-{self.level:g}"

    @property
    def title(self) -> str:
        """For a button."""
        return self.state.title if self.main else f"at {self.level:g}, which no trial missed"

    @property
    def misses(self) -> int:
        """Trials that did not reach the level."""
        return sum(cell.n - cell.hits for cell in self.cells)


@dataclass(frozen=True)
class Matrix:
    """All readings of one section's matrix. ``algorithms`` and ``selections`` are its rows and columns in order."""

    section: Section
    algorithms: tuple[str, ...]
    selections: tuple[str, ...]
    readings: tuple[Reading, ...]

    @property
    def shown(self) -> Reading:
        """The reading to begin with: at the main target, or where that was missed at the hardest level that no trial missed, if any."""
        return next((reading for reading in self.readings if not reading.misses), self.readings[0])


def matrices(board: Board, records: Mapping[str, Record]) -> tuple[Matrix, ...]:
    """The matrix of every section that has one of at least 2 x 2; ``records`` by id."""
    found = []
    for section in board.sections:
        rows = _rectangle(section.rows, records)
        if not rows:
            continue
        trials = _side_by_side({pair: [records[i] for i in row.record_ids] for pair, row in rows.items()})
        readings = tuple(_readings(section, trials))
        if readings:
            found.append(Matrix(section, tuple(dict.fromkeys(a for a, _ in rows)), tuple(dict.fromkeys(s for _, s in rows)), readings))
    return tuple(found)


def sentence(reading: Reading) -> str:
    """What a reading allows to say of whether what a selection saves depends on the algorithm, and what not.

    Misses all have one price, without a spread over seeds: from them the F-test would take any pattern of hits for a certainty.
    """
    found = reading.coupling
    if reading.misses:
        every = sum(cell.n for cell in reading.cells)
        missed = f"{reading.misses} of {every} trials missed and count alike"
        return f"{missed}, so this tells who hits, not whether what a selection saves depends on the algorithm."
    size = f"a factor of {found.typical:.2f}"
    if found.typical_interval is not None and found.typical_interval.high is not None:
        size += f" ({100 * CONFIDENCE:.0f} % interval {found.typical_interval.low:.2f} to {found.typical_interval.high:.2f})"
    said = f"Seeds set aside, a cell typically departs by {size} from what its algorithm and its selection alone would make of it."
    if found.p is None:
        return f"{said} One trial a cell cannot tell that from chance."
    p = f"p = {found.p:.2g}" if found.p >= 1e-4 else "p < 0.0001"
    if found.p < 1 - CONFIDENCE:
        return f"{said} What a selection saves depends on the algorithm here (F-test of the interaction, {p})."
    return f"{said} That what a selection saves depends on the algorithm is not shown (F-test of the interaction, {p})."


def _rectangle(rows: Sequence[Row], records: Mapping[str, Record]) -> dict[tuple[str, str], Row]:
    """Rows of the largest complete rectangle by names of algorithm and selection, most trials first among equals; empty below 2 x 2.

    An algorithm is one setting of it: trials of another setting are another algorithm, called by its settings' digest as well.
    """
    by_algorithm: dict[tuple[str, str], dict[tuple[str, str], Row]] = defaultdict(dict)
    for row in rows:
        entry = records[row.record_ids[0]].entry
        by_algorithm[_algorithm(entry)][_selection(records[row.record_ids[0]])] = row
    chosen = _largest({key: frozenset(found) for key, found in by_algorithm.items()})
    if chosen is None:
        return {}
    algorithms, selections = chosen
    names = [name for name, _ in algorithms]
    order = sorted(selections, key=lambda s: (s[0] != "all data", s))
    return {
        (name if names.count(name) == 1 else f"{name} ({digest[:4]})", selection[0]): by_algorithm[name, digest][selection]
        for name, digest in algorithms
        for selection in order
    }


def _largest(
    found: Mapping[tuple[str, str], frozenset[tuple[str, str]]],
) -> tuple[list[tuple[str, str]], frozenset[tuple[str, str]]] | None:
    """Algorithms and the selections that all of them have, as many cells as possible; ties by name."""
    best: tuple[int, list[tuple[str, str]], frozenset[tuple[str, str]]] | None = None
    for shared in sorted({one & other for one in found.values() for other in found.values()}, key=sorted):
        algorithms = sorted(key for key, own in found.items() if shared <= own)
        size = len(algorithms) * len(shared)
        if min(len(algorithms), len(shared)) >= _FEWEST and (best is None or size > best[0]):
            best = (size, algorithms, shared)
    return None if best is None else best[1:]


def _side_by_side(trials: Mapping[tuple[str, str], Sequence[Record]]) -> dict[tuple[str, str], list[Record]]:
    """Trials with the seeds that all cells have, which ran side by side, where these are enough for an interval; else all."""
    shared = set.intersection(*({record.seed for record in found} for found in trials.values()))
    return {pair: [r for r in found if len(shared) < MINIMUM_N or r.seed in shared] for pair, found in trials.items()}


def _algorithm(entry: Entry) -> tuple[str, str]:
    """Name and digest of the settings of an entry's algorithm; the name is what plans call it, before its selection."""
    name = entry.name.partition(" + ")[0] if entry.curation != "all" else entry.name
    return name, object_digest([entry.algorithm, dict(entry.algorithm_options), dict(entry.hyperparameters), entry.source_digest])


def _selection(record: Record) -> tuple[str, str]:
    """Name and digest of what was trained on."""
    entry, kept = record.entry, keep_fraction(record)
    if entry.curation == "all":
        return "all data", ""
    return f"{entry.curation} {kept:g}" if kept is not None else entry.curation, object_digest(dict(entry.curation_options))


def _readings(section: Section, trials: Mapping[tuple[str, str], Sequence[Record]]) -> Iterator[Reading]:
    """At the main target in every lens that all hits carry, then at the hardest level without a miss."""
    main = section.workload.ladder.main
    for state in states():
        if (found := _reading(section, trials, state, main)) is not None:
            yield found
    level = _without_miss(section, trials)
    if level is None or level == main or section.workload.result_rule is not ResultRule.FIRST_CROSSING:
        return
    if (found := _reading(section, trials, State(Lens.CHARGED_SECONDS), level)) is not None:
        yield found


def _without_miss(section: Section, trials: Mapping[tuple[str, str], Sequence[Record]]) -> float | None:
    """The hardest level of the ladder that every trial hit."""
    every = [record for found in trials.values() for record in found]
    levels = section.workload.ladder.levels  # from easy to hard
    hit = [level for level in levels if all(cost_to_target(record, Lens.CHARGED_SECONDS, level) is not None for record in every)]
    return hit[-1] if hit else None


def _reading(section: Section, trials: Mapping[tuple[str, str], Sequence[Record]], state: State, level: float) -> Reading | None:
    """None where a hit lacks the lens, or no trial has any cost in it."""
    spread = {pair: [amortised(record, state.uses) for record in found] for pair, found in trials.items()}
    every = [record for found in spread.values() for record in found]
    reached = [crossing for record in every if (crossing := record.crossing(level)) is not None and crossing.hit]
    costs = {pair: [cost_to_target(record, state.lens, level) for record in found] for pair, found in spread.items()}
    if any(state.lens not in crossing.cost for crossing in reached) or not any(c is not None for found in costs.values() for c in found):
        return None
    miss = MISS_MULTIPLE * budget_in(section.workload, state.lens, every)
    fitted = coupling({pair: [miss if cost is None else cost for cost in found] for pair, found in costs.items()})
    own = {(pair.row, pair.column): pair for pair in fitted.pairs}
    cells = []
    for pair, found in costs.items():
        known = [cost for cost in found if cost is not None]
        estimate = median(known, len(found) - len(known))
        cells.append(MatrixCell(*pair, len(found), len(known), estimate, own[pair].surprise, own[pair].interval))
    return Reading(state, level, level == section.workload.ladder.main, tuple(cells), fitted, miss)
