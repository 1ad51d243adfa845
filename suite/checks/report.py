"""What the contract suite found about one entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from ..errors import EntryRefused
from ..schema import STRICT
from .rules import rule

__all__ = ["Report", "Violation"]


@dataclass(frozen=True)
class Violation:
    """A rule that was broken. ``file`` is relative to the entry's folder, ``line`` counts from 1; None where no line can be named."""

    __pydantic_config__: ClassVar = STRICT
    rule: str
    message: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = "" if self.file is None else f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        return f"{place}{self.rule}: {self.message}"


@dataclass(frozen=True)
class Report:
    """``passed`` are rules that were checked and kept; ``undecided`` maps rules that could not be checked to the reason.

    ``network``: whether the operating system left the network reachable while the entry ran (attempts are recorded all the same).
    """

    entry: str
    passed: tuple[str, ...]
    violations: tuple[Violation, ...]
    undecided: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    network: bool = True

    @property
    def accepted(self) -> bool:
        """Whether no automatic rule is broken; rules for people stay open."""
        return not self.violations

    def of(self, name: str) -> bool | None:
        """Whether a rule is kept; None when it was not decided. ``KeyError`` for a name that is no rule."""
        if any(violation.rule == rule(name).name for violation in self.violations):
            return False
        return True if name in self.passed else None

    def raise_if_refused(self) -> None:
        """``EntryRefused`` with every violation, one a line."""
        if self.violations:
            raise EntryRefused(f"{self.entry} breaks {len(self.violations)} rules:\n" + "\n".join(map(str, self.violations)))
