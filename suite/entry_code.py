"""The code of an entry: a folder imported as a private package, known by the digest of its files.

The package ``timetrial_entry_<digest>`` has the entry's folder as its only place, so modules of one entry see each other
(``from .helper import x``), those of two entries never meet, and ``sys.path`` stays as it is.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from types import ModuleType

from .config import ENTRY_PACKAGE
from .errors import EntryRefused
from .files import file_digest, object_digest

__all__ = ["MAX_FILES", "MAX_FILE_BYTES", "adopt_code", "code_digest", "code_files", "copy_code", "source_of"]

MAX_FILES = 500
MAX_FILE_BYTES = 16 * 2**20
_LEFT_OUT = {"__pycache__"}


def code_files(folder: Path) -> list[Path]:
    """Files of an entry by relative path, without hidden ones and caches. ``EntryRefused`` for links, too many files or too large ones."""
    found = []
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if any(part.startswith(".") or part in _LEFT_OUT for part in inner.parts):
            continue
        if path.is_symlink():
            raise EntryRefused(f"{inner.as_posix()}: a link; an entry holds plain files only")
        if path.is_dir():
            continue
        if path.stat().st_size > MAX_FILE_BYTES:
            raise EntryRefused(f"{inner.as_posix()}: {path.stat().st_size} bytes; a file of an entry has at most {MAX_FILE_BYTES}")
        found.append(inner)
        if len(found) > MAX_FILES:
            raise EntryRefused(f"{folder.name}: more than {MAX_FILES} files; is this the entry's folder?")
    return found


def code_digest(folder: Path) -> str:
    """sha256 over the digests of all files by relative path: what :func:`~timetrial.suite.verify.folder_digest` gives for a copy."""
    return object_digest({path.as_posix(): file_digest(folder / path) for path in code_files(folder)})


def copy_code(folder: Path, to: Path) -> None:
    """Copy the entry's files, and nothing else, into a new folder."""
    for path in code_files(folder):
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, to / path)


def adopt_code(folder: Path) -> str:
    """Make the folder importable and return the name of its package; code of the same digest keeps the place it was first
    adopted at, as long as that is there.
    """
    folder = folder.absolute()
    name = f"{ENTRY_PACKAGE}{code_digest(folder)[:16]}"
    known = sys.modules.get(name)
    if known is None or not Path(known.__path__[0]).is_dir():
        package = ModuleType(name, "Code of an entry.")
        package.__path__ = [str(folder)]
        sys.modules[name] = package
        importlib.invalidate_caches()
    return name


def source_of(*targets: str) -> Path | None:
    """The folder whose code one of the dotted targets names; None when all of them name installed packages."""
    for target in targets:
        package, _, _ = target.partition(".")
        if target.startswith(ENTRY_PACKAGE) and package in sys.modules:
            return Path(sys.modules[package].__path__[0])
    return None
