"""What people have said about results since they were published: disputed, withdrawn, superseded. One YAML file beside the records.

A mapping of record ids (or entries, for all their trials) to ``{state, reason, by}``; ``by`` names what took its place or who said so.
Withdrawn trials leave every number and are listed with their reason; disputed and superseded ones count and are marked on every form of
the board, so that nothing that was once published vanishes silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

import yaml

from ..suite.errors import RecordError
from ..suite.record import Record
from ..suite.schema import STRICT, build

__all__ = ["FILE_NAME", "Standing", "Verdict", "read_states", "state_of"]

FILE_NAME = "states.yaml"


class Standing(StrEnum):
    """``withdrawn`` by its authors or struck by a re-run; ``disputed``: doubted, not decided; ``superseded``: newer trials stand for it."""

    DISPUTED = "disputed"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"


@dataclass(frozen=True)
class Verdict:
    """A state, why, and by whom or what."""

    __pydantic_config__: ClassVar = STRICT
    state: Standing
    reason: str
    by: str = ""

    @property
    def text(self) -> str:
        """``disputed: the curve cannot be reproduced (by #12)``."""
        return f"{self.state}: {self.reason}{f' (by {self.by})' if self.by else ''}"


def read_states(path: Path) -> dict[str, Verdict]:
    """States by record id or entry; empty when the file is not there. ``RecordError`` names a key that the schema refuses."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # a pack has no states of its own
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise RecordError(f"{path}: not valid YAML: {' '.join(str(problem).split())}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RecordError(f"{path}: expected a mapping of record ids or entries, given {type(value).__name__}")
    return {str(key): build(Verdict, item, f"{path}: {key}", RecordError) for key, item in value.items()}


def state_of(record: Record, states: Mapping[str, Verdict]) -> Verdict | None:
    """The state of a record: its own, else its entry's."""
    return states.get(record.record_id) or states.get(record.entry.name)
