"""Where the logs of frozen targets lie, and their text."""

from __future__ import annotations

import lzma
from pathlib import Path

from .errors import ConfigError

__all__ = ["logs_path", "read_logs"]


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
