"""States and pins as tags of runs in a tracking store, and back: what was said of records after they were written.

``board.state`` (disputed, withdrawn, superseded) with ``board.state.reason`` and ``board.state.by``, which somebody may also set by hand in
MLflow's own pages; ``board.pin`` and ``board.pin.reference`` on the reference trials that the present version of the boards rests on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..suite.errors import RecordError
from ..suite.record import Record
from ..suite.schema import build
from .pins import Pins
from .states import Verdict, state_of

__all__ = ["notes_of", "read_notes"]

_STATE, _PIN = "board.state", "board.pin"


def notes_of(records: Sequence[Record], states: Mapping[str, Verdict], pins: Pins | None) -> dict[str, dict[str, str]]:
    """The tags of every record by its id; empty ones for a record that nothing was said of."""
    pinned = set() if pins is None else {i for by_workload in pins.record_ids.values() for ids in by_workload.values() for i in ids}
    found: dict[str, dict[str, str]] = {}
    for record in records:
        verdict, tags = state_of(record, states), found.setdefault(record.record_id, {})
        if verdict is not None:
            said = {_STATE: verdict.state.value, f"{_STATE}.reason": verdict.reason, f"{_STATE}.by": verdict.by}
            tags |= {key: value for key, value in said.items() if value}
        if pins is not None and record.record_id in pinned:
            tags |= {_PIN: str(pins.version), f"{_PIN}.reference": pins.reference}
    return found


def read_notes(tags: Mapping[str, Mapping[str, str]], records: Sequence[Record]) -> tuple[dict[str, Verdict], Pins | None]:
    """States by record id, and the pins of the highest version, from the tags of runs by record id.

    Raises ``RecordError`` for a state that there is not, or a version that is no number.
    """
    states, pinned = {}, []
    for record in sorted(records, key=lambda r: (r.workload.identity, r.seed, r.record_id)):
        own = tags.get(record.record_id, {})
        if _STATE in own:
            value: dict[str, Any] = {"state": own[_STATE], "reason": own.get(f"{_STATE}.reason", ""), "by": own.get(f"{_STATE}.by", "")}
            states[record.record_id] = build(Verdict, value, f"MLflow run of {record.record_id}: tag {_STATE}", RecordError)
        if _PIN in own:
            pinned.append((record, _version(record, own[_PIN]), own.get(f"{_PIN}.reference", record.entry.name)))
    latest = max((version for _, version, _ in pinned), default=0)
    ids: dict[str, dict[str, tuple[str, ...]]] = {}
    reference = ""
    for record, version, name in pinned:
        if version == latest:
            own_class = ids.setdefault(record.hardware_class or "", {})
            own_class[record.workload.identity] = (*own_class.get(record.workload.identity, ()), record.record_id)
            reference = name
    return states, Pins(latest, reference, ids) if pinned else None


def _version(record: Record, text: str) -> int:
    if not text.isdigit():
        raise RecordError(f"MLflow run of {record.record_id}: tag {_PIN}: expected a version, given {text!r}")
    return int(text)
