"""Files that are either whole or not there: atomic writes, digests, and the one home folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["atomic_path", "file_digest", "home_folder", "object_digest", "write_json", "write_text"]


def home_folder(home: str | os.PathLike[str] | None = None) -> Path:
    """The one folder that everything is written under: the argument, else ``$TIMETRIAL_HOME``, else ``~/.timetrial``."""
    return Path(home or os.environ.get("TIMETRIAL_HOME") or Path.home() / ".timetrial").expanduser().absolute()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling that replaces ``path`` when the block ends well, and vanishes when it does not.

    The bytes are flushed to the device before the rename, so a crash leaves the old file or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; parent folders are made."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys in the order given; NaN and infinity are refused with ``ValueError``."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def object_digest(value: Any) -> str:
    """sha256 of a JSON value in canonical form (sorted keys, no spaces): equal values, equal digest, on any machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
