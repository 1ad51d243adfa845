"""Pins: which reference trials a version of the boards is relative to. One YAML file beside the records.

For one version the factors of an entry never move, whoever else enters and however many reference trials are added later; new reference
trials count when the next version pins them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import yaml

from ..suite.errors import RecordError
from ..suite.schema import STRICT, build, plain
from .boards import Board
from .cells import Pin

__all__ = ["FILE_NAME", "Pins", "extended_pins", "next_pins", "read_pins", "write_pins"]

FILE_NAME = "pins.yaml"


@dataclass(frozen=True)
class Pins:
    """``record_ids`` by hardware class and workload (``name@version``) of the ``reference`` entry; ``version`` counts from 1."""

    __pydantic_config__: ClassVar = STRICT
    version: int
    reference: str
    record_ids: Mapping[str, Mapping[str, tuple[str, ...]]]

    def of(self, hardware_class: str) -> Pin | None:
        """The pin of a hardware class, None where nothing is pinned."""
        found = self.record_ids.get(hardware_class)
        return None if found is None else Pin(f"version {self.version}", hardware_class, found)

    def hold_against(self, board: Board) -> None:
        """``RecordError`` naming a pinned trial that the board does not count."""
        counted = {i for section in board.sections for row in section.rows for i in row.record_ids}
        for workload, ids in (item for by_workload in self.record_ids.values() for item in by_workload.items()):
            for absent in sorted(set(ids) - counted):
                raise RecordError(f"pins, version {self.version}: reference trial {absent!r} of {workload} is not among the records")


def read_pins(path: Path) -> Pins | None:
    """The pins in a file, None when there is no file. ``RecordError`` for one that the schema refuses."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise RecordError(f"{path}: not valid YAML: {' '.join(str(problem).split())}") from None
    if not isinstance(value, dict):
        raise RecordError(f"{path}: expected a mapping, given {type(value).__name__}")
    return build(Pins, value, str(path), RecordError)


def write_pins(pins: Pins) -> str:
    """The file's text."""
    head = "# The reference trials that these boards are relative to. `timetrial leaderboard pin` writes the next version.\n"
    return head + str(yaml.safe_dump(plain(pins), sort_keys=False, width=140))


def next_pins(board: Board, reference: str, before: Pins | None) -> Pins:
    """Pin every counted trial of the reference on frozen workloads. ``RecordError`` when there is none."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for section in board.sections:
        rows: Sequence[tuple[str, ...]] = [row.record_ids for row in section.rows if row.entry == reference]
        if section.ranked and rows:
            found.setdefault(section.hardware_class, {})[section.workload.identity] = max(rows, key=lambda ids: (len(ids), ids))
    if not found:
        raise RecordError(f"nothing to pin: {reference!r} has no counted trial on a workload with frozen targets")
    return Pins(1 if before is None else before.version + 1, reference, found)


def extended_pins(board: Board, before: Pins) -> Pins:
    """The next version where the reference has more trials on frozen workloads than ``before`` pins, else ``before``; what it pins stays.

    Entries that share enough seeds with what was pinned keep their factors: :func:`~.cells.beside`.
    """
    now = next_pins(board, before.reference, before)
    merged = {
        hardware: {
            **before.record_ids.get(hardware, {}),
            **_extended(now.record_ids.get(hardware, {}), before.record_ids.get(hardware, {})),
        }
        for hardware in {**before.record_ids, **now.record_ids}
    }
    return before if merged == before.record_ids else Pins(now.version, before.reference, merged)


def _extended(now: Mapping[str, tuple[str, ...]], before: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Trials by workload, where they hold all that were pinned: those of another setting do not."""
    return {workload: ids for workload, ids in now.items() if set(before.get(workload, ())) <= set(ids)}
