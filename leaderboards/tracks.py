"""Front boards: one a track, tier, hardware class and ruleset, each a headline score over its core workloads against the reference.

Core workloads are those of a tier that rank (frozen targets) and that the reference and at least half of the track's other entries were
measured on: what a few ran elsewhere unranks nobody. As long as fewer than two are frozen, the provisional ones are shown instead,
without ranks: a measurement, no claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ..suite.errors import RecordError
from ..suite.record import Record
from ..suite.workload import Lens, Tier
from .boards import LENSES, Board, Section, board
from .cells import Field, Pin, field
from .pins import Pins
from .scores import Headline, headlines, restricted

__all__ = ["USES", "FrontBoard", "State", "Track", "amortised", "front_boards", "states"]

USES = 10
"""Over how many trainings *amortised* spreads the cost of a selection."""
FEWEST_WORKLOADS = 2


class Track(StrEnum):
    """What a board compares: algorithms on all data, curation methods under the reference's algorithm, or both together."""

    TRAINING = "training algorithms"
    CURATION = "curation methods"
    MATRIX = "algorithm x curation"


@dataclass(frozen=True)
class State:
    """A way to read a board: a lens, and over how many uses the cost of a selection is spread (1: charged in full)."""

    lens: Lens
    uses: int = 1

    @property
    def key(self) -> str:
        """``charged_seconds``, ``charged_seconds-10``, ``examples`` …"""
        return self.lens.value if self.uses == 1 else f"{self.lens.value}-{self.uses}"

    @property
    def title(self) -> str:
        """For a button."""
        if self.lens is not Lens.CHARGED_SECONDS:
            return {Lens.EXAMPLES: "examples", Lens.FLOPS: "FLOPs"}.get(self.lens, self.lens.value)
        return "seconds, selection included" if self.uses == 1 else f"seconds, selection amortised over {self.uses} uses"


@dataclass(frozen=True)
class FrontBoard:
    """Headlines of one track at a :attr:`Section.place`.

    ``claim`` is False where targets are provisional: then ``rank`` says nothing and is not shown. ``field`` is what the headlines of the
    first state were computed from.
    """

    track: Track
    tier: Tier
    place: str
    reference: str
    workloads: tuple[str, ...]
    claim: bool
    headlines: Mapping[State, tuple[Headline, ...]]
    field: Field
    pin: str = ""


def states() -> tuple[State, ...]:
    """The switches of a board, in order."""
    return (State(Lens.CHARGED_SECONDS), State(Lens.CHARGED_SECONDS, USES), *(State(lens) for lens in LENSES[1:]))


def amortised(record: Record, uses: int) -> Record:
    """The record as if the cost of its selection were shared by ``uses`` trainings.

    Only a selection made once before training can be used again: methods that decide while training keep their full cost.
    """
    saved = record.time.wall_seconds.get("curate", 0.0) * (1 - 1 / uses)
    if record.selected is None or not saved:
        return record
    lens = Lens.CHARGED_SECONDS
    crossings = tuple(replace(c, cost={**c.cost, lens: c.cost[lens] - saved}) if lens in c.cost else c for c in record.crossings)
    time = replace(record.time, charged_seconds=record.time.charged_seconds - saved)
    return replace(record, crossings=crossings, time=time)


def front_boards(of: Board, records: Sequence[Record], reference: str, pins: Pins | None = None) -> tuple[FrontBoard, ...]:
    """All front boards that have at least two core workloads and an entry beside the reference.

    ``reference`` is an entry's name; its trials among ``records`` are what every factor is relative to, or only those that ``pins``
    name. Raises ``RecordError`` when a pinned trial is not among them.
    """
    if pins is not None:
        pins.hold_against(of)
    found = []
    places = sorted({(list(Tier).index(s.workload.tier), s.place) for s in of.sections if s.origin == "native"})
    for tier_index, place in places:
        tier = list(Tier)[tier_index]
        here = [s for s in of.sections if s.workload.tier is tier and s.place == place and s.origin == "native"]
        given = pins.of(here[0].hardware_class) if pins is not None and pins.reference == reference else None
        pinned, core, claim = _pin(here, reference, here[0].hardware_class) if given is None else _pinned(here, given)
        if len(core) < FEWEST_WORKLOADS:
            continue
        fields = _fields(of, records, pinned, core)
        for track, names in _tracks(core, reference).items():
            own = {state: _of(scored, names, reference) for state, scored in fields.items()}
            first = next(iter(own.values()), None)
            if first is not None and len(first.workloads) >= FEWEST_WORKLOADS:
                workloads = tuple(w.identity for w in first.workloads)
                by_state = {state: headlines(scored) for state, scored in own.items()}
                found.append(FrontBoard(track, tier, place, reference, workloads, claim, by_state, first, pinned.version))
    return tuple(found)


def _of(of: Field, names: set[str], reference: str) -> Field:
    """The field of a track: its entries, on the workloads where at least half of them stand beside the reference."""
    entries = {entry: cells for entry, cells in of.entries.items() if entry in names}
    others = [cells for entry, cells in entries.items() if entry != reference]
    core = [w for w in of.workloads if 0 < len(others) <= 2 * sum(w.identity in cells for cells in others)]
    return restricted(replace(of, entries=entries), tuple(core))


def _pin(sections: Sequence[Section], reference: str, hardware: str) -> tuple[Pin, list[Section], bool]:
    """The reference's trials on the core workloads, one section a workload: the one with most of them."""
    trials: dict[str, tuple[Section, tuple[str, ...]]] = {}
    ranking = [s for s in sections if s.workload.ranked]
    frozen = [s for s in ranking if s.ranked and any(row.entry == reference for row in s.rows)]
    claim = len(frozen) >= FEWEST_WORKLOADS
    for section in frozen if claim else ranking:
        rows = sorted((row for row in section.rows if row.entry == reference), key=lambda row: (-row.n, row.record_ids))
        known = trials.get(section.workload.identity)
        if rows and (known is None or rows[0].n > len(known[1])):
            trials[section.workload.identity] = (section, rows[0].record_ids)
    core = [trials[identity][0] for identity in sorted(trials)]
    return Pin("all reference trials", hardware, {identity: ids for identity, (_, ids) in trials.items()}), core, claim


def _pinned(sections: Sequence[Section], given: Pin) -> tuple[Pin, list[Section], bool]:
    """The sections of this place that hold pinned trials; a place of another ruleset or tier has none."""
    ids = {i for found in given.record_ids.values() for i in found}
    core = [s for s in sections if any(ids & set(row.record_ids) for row in s.rows)]
    names = {s.workload.identity for s in core}
    return replace(given, record_ids={name: found for name, found in given.record_ids.items() if name in names}), core, True


def _fields(of: Board, records: Sequence[Record], pinned: Pin, core: Sequence[Section]) -> dict[State, Field]:
    """One field a state; a lens that the reference's records lack is left out."""
    found = {}
    chosen = replace(of, sections=tuple(core))
    wanted = {i for section in core for row in section.rows for i in row.record_ids}
    mine = [record for record in records if record.record_id in wanted]
    for state in states():
        spread = mine if state.uses == 1 else [amortised(record, state.uses) for record in mine]
        try:
            found[state] = field(chosen if state.uses == 1 else board(spread), spread, pinned, lens=state.lens)
        except RecordError:
            continue  # nothing can be scored in a lens that no reference trial carries
    return found


def _tracks(core: Sequence[Section], reference: str) -> dict[Track, set[str]]:
    """Entries by track; the reference is in each. Only where several algorithms trained on a selection are pairs compared."""
    rows = [row for section in core for row in section.rows]
    algorithm = next(row.algorithm for row in rows if row.entry == reference)
    plain = {row.entry for row in rows if row.curation == "all"}
    curated = {row.entry for row in rows if row.algorithm == algorithm}
    crossed = [s for s in core if len({row.algorithm for row in s.rows if row.curation != "all"}) > 1]
    both = {row.entry for section in crossed for row in section.rows}
    return {Track.TRAINING: plain | {reference}, Track.CURATION: curated | {reference}, Track.MATRIX: both | {reference}}
