"""Boards: pure functions of records. The same records in any order give the same board, bit for bit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..suite.curve import Curve
from ..suite.errors import RecordError
from ..suite.files import object_digest
from ..suite.record import TUNING_SUFFIX, Entry, Origin, Record, Ruleset, Status, WorkloadIdentity, read_record
from ..suite.workload import Lens, ResultRule, TargetStatus, Tier
from .states import Standing, Verdict, state_of
from .statistics import Estimate, median, proportion

__all__ = ["BOARD_SCHEMA_VERSION", "PROVISIONAL", "Board", "Rejected", "Row", "Section", "board", "read_folders", "section_key"]

BOARD_SCHEMA_VERSION = 1
LENSES = (Lens.CHARGED_SECONDS, Lens.EXAMPLES, Lens.FLOPS)
_TUNING = "a tuning trial: it chose hyperparameters, and only trials on fresh seeds rank"
_LEFT_OUT = {
    Status.SMOKE: "a smoke run: a few steps that say nothing about the result",
    Status.INTERRUPTED: "interrupted: run the same command again to finish it",
    Status.FAILED: "failed",
}


@dataclass(frozen=True)
class Rejected:
    """A record that no number on the board rests on, and why."""

    record_id: str
    reason: str

    @property
    def tuning(self) -> bool:
        """Whether it is a tuning trial, which is no fault: it never ranks by rule."""
        return self.reason == _TUNING


@dataclass(frozen=True)
class Row:
    """One entry on one workload. ``to_target`` is the median cost to the main target by lens, missed trials above every hit.

    ``final_quality`` is on the validation split at the end of training, ``test_quality`` on the test split at the hit. ``stopped`` of the
    trials ended early as hopeless: misses that have no end. From ``disturbed`` of them the hypervisor kept too much of the machine.
    ``settings_digest`` tells settings of one entry apart that differ in options, hyperparameters or source; ``label`` is the
    entry's name, with the beginning of that digest where a section holds several settings of it, and its ``states`` (disputed,
    superseded) in brackets.
    """

    label: str
    entry: str
    algorithm: str
    curation: str
    keep_fraction: float | None
    settings_digest: str
    hyperparameters: Mapping[str, Any]
    n: int
    hits: int
    hit_rate: Estimate
    to_target: Mapping[Lens, Estimate]
    final_quality: Estimate
    test_quality: Estimate
    record_ids: tuple[str, ...]
    states: tuple[str, ...] = ()
    stopped: int = 0
    disturbed: int = 0


PROVISIONAL = "provisional targets: shown, not ranked"
"""What is said of an order that is no claim because of its targets."""


@dataclass(frozen=True)
class Section:
    """Rows that may be compared: one workload with one set of targets, one origin, one hardware class, one ruleset."""

    origin: Origin
    hardware_class: str
    workload: WorkloadIdentity
    rows: tuple[Row, ...]
    ruleset: Ruleset = Ruleset.EXTERNAL_TUNING

    @property
    def key(self) -> str:
        """Short identity of the section, stable over rebuilds; usable in file names and anchors."""
        return f"{self.workload.name}-{self.workload.version}-{object_digest(section_key(self))[:8]}"

    @property
    def place(self) -> str:
        """Where its trials ran, and under which ruleset unless under external tuning."""
        return self.hardware_class if self.ruleset is Ruleset.EXTERNAL_TUNING else f"{self.hardware_class}, self-tuning"

    @property
    def ranked(self) -> bool:
        """Whether an order of these rows is a claim: the workload is a ranking one and its targets are frozen."""
        return self.workload.ranked and self.workload.ladder.status is TargetStatus.FROZEN

    @property
    def standing(self) -> str:
        """Whether the order of the rows is a claim, and why not where it is none."""
        if not self.workload.ranked:
            return "never ranked: a development workload or a budget of its own"
        return "frozen targets" if self.ranked else PROVISIONAL

    @property
    def n(self) -> int:
        """Trials counted."""
        return sum(row.n for row in self.rows)


@dataclass(frozen=True)
class Board:
    """Sections in a fixed order, and every record left out with its reason."""

    sections: tuple[Section, ...]
    rejected: tuple[Rejected, ...] = ()
    schema_version: int = BOARD_SCHEMA_VERSION

    @property
    def n(self) -> int:
        """Trials counted on the whole board."""
        return sum(section.n for section in self.sections)

    @property
    def left_out(self) -> tuple[Rejected, ...]:
        """What was left out for a reason of its own: all but tuning trials."""
        return tuple(r for r in self.rejected if not r.tuning)

    @property
    def tuning(self) -> tuple[Rejected, ...]:
        """Tuning trials, which never rank."""
        return tuple(r for r in self.rejected if r.tuning)


def board(records: Sequence[Record], rejected: Sequence[Rejected] = (), states: Mapping[str, Verdict] | None = None) -> Board:
    """Build the board of some records.

    Records are compared only within a :class:`Section`; a seed counts once per entry (the trial started first), so repeats
    of a lucky seed and dropped unlucky ones cannot move a number. ``rejected`` are records that could not even be read, ``states``
    what was said about published ones (:mod:`~timetrial.leaderboards.states`).
    """
    said = {record.record_id: verdict for record in records if (verdict := state_of(record, states or {})) is not None}
    withdrawn = [Rejected(i, verdict.text) for i, verdict in said.items() if verdict.state is Standing.WITHDRAWN]
    counted, left_out = _countable([record for record in records if record.record_id not in {r.record_id for r in withdrawn}])
    sections: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in counted:
        sections[section_key(record)].append(record)
    built = []
    for _, members in sorted(sections.items()):
        rows, repeats = _rows(members, said)
        left_out.extend(repeats)
        built.append(Section(members[0].origin, _hardware(members[0]), members[0].workload, rows, members[0].ruleset))
    order = sorted(built, key=lambda s: (s.origin, list(Tier).index(s.workload.tier), s.place, s.workload.identity, s.key))
    return Board(tuple(order), tuple(sorted([*rejected, *withdrawn, *left_out], key=lambda r: (r.record_id, r.reason))))


def read_folders(folders: Iterable[Path]) -> tuple[list[tuple[Record, Curve]], list[Rejected]]:
    """Read record folders; those that cannot be trusted come back as rejected, named by their folder."""
    found: list[tuple[Record, Curve]] = []
    rejected = []
    for folder in sorted(set(folders)):
        try:
            found.append(read_record(folder))
        except RecordError as problem:
            reason = str(problem).replace(f"{folder}/", "").replace(str(folder), folder.name)  # boards hold no paths of a machine
            rejected.append(Rejected(folder.name, reason))
    return found, rejected


def settings_digest(entry: Entry) -> str:
    """Identity of everything about an entry that its names do not say: options, hyperparameters, source."""
    parts = (entry.algorithm_options, entry.curation_options, entry.hyperparameters, entry.source_digest)
    return object_digest([part if part is None or isinstance(part, str) else dict(part) for part in parts])[:10]


def keep_fraction(record: Record) -> float | None:
    """The fraction of the pool that curation was asked to keep; None when the record does not say."""
    if record.selected is not None:
        return record.selected.keep_fraction
    return 1.0 if record.entry.curation == "all" else None


def cost_to_target(record: Record, lens: Lens, level: float | None = None) -> float | None:
    """Cost of a hit in a lens under the workload's result rule; None for a miss or a lens that the record lacks."""
    crossing = record.crossing(level)
    if record.status is Status.DIVERGED or crossing is None or not crossing.hit:
        return None
    if record.workload.result_rule is ResultRule.FIXED_SCHEDULE:
        return record.time.charged_seconds if lens is Lens.CHARGED_SECONDS else None
    return crossing.cost.get(lens)


def _countable(records: Sequence[Record]) -> tuple[list[Record], list[Rejected]]:
    """Records that may count, oldest first, and the others with the reason."""
    ordered = sorted(records, key=lambda r: (r.started_at or "", r.record_id, r.curve_digest or ""))
    by_id: dict[str, list[Record]] = defaultdict(list)
    for record in ordered:
        by_id[record.record_id].append(record)
    counted, rejected = [], []
    for record_id, copies in by_id.items():
        if any(copy != copies[0] for copy in copies):
            rejected += [Rejected(record_id, f"{len(copies)} different records share this id; none of them counts")] * len(copies)
            continue
        rejected += [Rejected(record_id, "the same record given again; it counts once")] * (len(copies) - 1)
        problem = _problem(copies[0])
        if problem:
            rejected.append(Rejected(record_id, problem))
        else:
            counted.append(copies[0])
    return counted, rejected


def _problem(record: Record) -> str | None:
    """Why a record cannot count, or None."""
    if record.status in _LEFT_OUT:
        detail = (record.status_reason or "").strip().splitlines()
        return f"{_LEFT_OUT[record.status]}{': ' + detail[-1] if record.status is Status.FAILED and detail else ''}"
    if (record.study or "").endswith(TUNING_SUFFIX):
        return _TUNING
    if record.ruleset is Ruleset.SELF_TUNING and record.entry.at_defaults is False:
        return "self-tuning, but its hyperparameters were set"
    crossing = record.crossing()
    if crossing is None or [c.level for c in record.crossings] != list(record.workload.ladder.levels):
        return "its crossings are not those of its workload's ladder"
    if record.status is Status.HIT and Lens.CHARGED_SECONDS not in crossing.cost:
        return "status hit, but the main target has no crossing"
    if record.status is Status.MISSED and crossing.hit:
        return "status missed, but the main target has a crossing"
    if record.stopped is not None and (record.status is not Status.MISSED or record.result.final_quality is not None):
        return "stopped early, but it says that it hit or came to an end"
    if record.origin is Origin.NATIVE and record.hardware_class is None:
        return "no hardware class: its seconds can be compared with nothing"
    return None


def section_key(item: Record | Section) -> tuple[str, ...]:
    """What records of one section share; nothing else may be compared."""
    w = item.workload
    apart = () if item.ruleset is Ruleset.EXTERNAL_TUNING else (item.ruleset.value,)
    return (item.origin.value, w.tier.value, _hardware(item), w.identity, w.digest, w.ladder.digest, *apart)


def _hardware(item: Record | Section) -> str:
    return item.hardware_class or f"as stated by {item.origin.value}"


def _rows(records: Sequence[Record], said: Mapping[str, Verdict]) -> tuple[tuple[Row, ...], list[Rejected]]:
    """Rows of one section, fastest first, and the repeats of seeds."""
    entries: dict[tuple[str, ...], dict[int, Record]] = defaultdict(dict)
    repeats = []
    for record in sorted(records, key=lambda r: r.precedence):
        e = record.entry
        key = (e.name, e.algorithm, e.curation, repr(keep_fraction(record)), settings_digest(e))
        first = entries[key].setdefault(record.seed, record)
        if first is not record:
            why = "which started first"
            if record.disturbance > first.disturbance:
                stolen = record.machine["stolen_fraction"]
                why = f"since the hypervisor kept {stolen:.0%} of the CPUs from this trial"
            reason = f"seed {record.seed} of this entry is counted by {first.record_id}, {why}; a seed counts once"
            repeats.append(Rejected(record.record_id, reason))
    rows = [_row([by_seed[seed] for seed in sorted(by_seed)]) for by_seed in entries.values()]
    names = Counter(row.entry for row in rows)
    rows = [replace(row, label=f"{row.entry} ({row.settings_digest[:4]})") if names[row.entry] > 1 else row for row in rows]
    return tuple(sorted((_marked(row, said) for row in rows), key=_order)), repeats


def _marked(row: Row, said: Mapping[str, Verdict]) -> Row:
    """The row with the states of its trials, also in its label."""
    verdicts = [said[i] for i in row.record_ids if i in said]
    if not verdicts:
        return row
    names = ", ".join(sorted({verdict.state for verdict in verdicts}))
    return replace(row, label=f"{row.label} [{names}]", states=tuple(sorted({verdict.text for verdict in verdicts})))


def _row(records: Sequence[Record]) -> Row:
    entry = records[0].entry
    hits = [record for record in records if record.status is Status.HIT]
    to_target = {lens: _to_target(records, hits, lens) for lens in LENSES}
    final = [r.result.final_quality for r in records if r.result.final_quality is not None]
    test = [r.result.test_quality_at_hit for r in hits if r.result.test_quality_at_hit is not None]
    return Row(
        label=entry.name,
        entry=entry.name,
        algorithm=entry.algorithm,
        curation=entry.curation,
        keep_fraction=keep_fraction(records[0]),
        settings_digest=settings_digest(entry),
        hyperparameters=dict(entry.hyperparameters),
        n=len(records),
        hits=len(hits),
        hit_rate=proportion(len(hits), len(records)),
        to_target={lens: estimate for lens, estimate in to_target.items() if estimate is not None},
        final_quality=median(final),
        test_quality=median(test),
        record_ids=tuple(r.record_id for r in records),
        stopped=sum(r.stopped is not None for r in records),
        disturbed=sum(r.disturbed for r in records),
    )


def _to_target(records: Sequence[Record], hits: Sequence[Record], lens: Lens) -> Estimate | None:
    """None when a hit lacks the lens: a median over the others would not be of the same trials."""
    costs = [cost_to_target(record, lens) for record in hits]
    known = [cost for cost in costs if cost is not None]
    return median(known, len(records) - len(hits)) if len(known) == len(costs) else None


def _order(row: Row) -> tuple[bool, float, float, str, str]:
    seconds = row.to_target.get(Lens.CHARGED_SECONDS)
    value = None if seconds is None else seconds.value
    return (value is None, value or 0.0, -row.hits / row.n, row.entry, row.settings_digest)
