"""Digests of large files, computed once per file identity.

Hashing hundreds of megabytes at every start would cost more than the shortest trials. ``verified.json`` beside the files remembers
which digest a file had under which identity (inode, size, times of last write and of last change); a file whose identity differs in
anything is hashed again. A changed byte changes the time of last change, which no program can set back.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from ..suite.files import file_digest, write_json

__all__ = ["digests"]

_STAMP = "verified.json"
_SETTLED_NS = 2_000_000_000  # a write in the same tick of the file system's clock leaves the times as they are: younger files get no stamp


def digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """sha256 by name of the files ``folder / name``, in the order given. Works in a read-only folder, which then remembers nothing."""
    known = _read_stamp(folder / _STAMP)
    identities = {name: _identity((folder / name).stat()) for name in names}
    found = {
        name: str(known[name][-1]) if known.get(name, [])[:-1] == identity else file_digest(folder / name)
        for name, identity in identities.items()
    }
    settled = time.time_ns() - _SETTLED_NS
    stamp = {name: [*identity, found[name]] for name, identity in identities.items() if max(identity[2:]) < settled}
    if stamp != known:
        with contextlib.suppress(OSError):
            write_json(folder / _STAMP, stamp)
    return found


def _identity(stat: os.stat_result) -> list[int]:
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _read_stamp(path: Path) -> dict[str, list[int | str]]:
    """The stamp's entries; none when there is no stamp or it cannot be read."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) and all(isinstance(entry, list) for entry in entries.values()) else {}
