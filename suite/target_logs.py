"""The logs of frozen targets: where they lie, their text, and the trials in them."""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from .curve import Curve, read_curve
from .errors import ConfigError
from .record import Status
from .schema import STRICT, build

__all__ = ["LoggedTrial", "Purpose", "logged_trials", "logs_path", "read_logs"]


class Purpose(StrEnum):
    """``tuning`` trials choose the reference; ``reference`` trials are what targets are derived from."""

    TUNING = "tuning"
    REFERENCE = "reference"


@dataclass(frozen=True)
class LoggedTrial:
    """One line of the logs. ``curve`` is the record's ``curve.csv``; ``evaluation_share``: validation over charged seconds."""

    __pydantic_config__: ClassVar = STRICT
    purpose: Purpose
    algorithm: str
    hyperparameters: Mapping[str, Any]
    seed: int
    status: Status
    record_id: str
    hardware_class: str | None
    numerics_key: str | None
    started_at: str | None
    evaluation_share: float
    curve: str

    def points(self) -> Curve:
        """The curve, read."""
        return read_curve(self.curve, self.record_id)


def logs_path(frozen: Path) -> Path:
    """Where the logs of a frozen file lie: beside it."""
    return frozen.with_suffix(".jsonl.xz")


def read_logs(frozen: Path) -> str:
    """The JSON lines that a frozen file derives from. ``ConfigError`` when they are not beside it or cannot be read."""
    logs = logs_path(frozen)
    try:
        return lzma.decompress(logs.read_bytes()).decode()
    except FileNotFoundError:
        raise ConfigError(f"{frozen}: the logs it derives from are not beside it: there is no {logs}") from None
    except (lzma.LZMAError, ValueError) as problem:
        raise ConfigError(f"{logs}: cannot be read as the logs of a target setting: {problem}") from None


def logged_trials(logs: str) -> tuple[LoggedTrial, ...]:
    """The trials in their order; the first line of the logs is a heading."""
    return tuple(build(LoggedTrial, json.loads(line), "logs") for line in logs.splitlines()[1:])
