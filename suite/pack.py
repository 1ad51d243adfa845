"""Packs: the records of a study in one file, to send to others; read with the distrust that other people's files deserve."""

from __future__ import annotations

import lzma
import re
import shutil
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .errors import RecordError, UserError
from .files import atomic_path
from .record import read_record

__all__ = ["MOST_BYTES", "MOST_FILES", "pack", "unpack"]

MOST_BYTES = 64 * 2**20
"""Of all files of a pack together, unpacked."""
MOST_FILES = 20_000
_PLACE = re.compile(rb"(?<![\w.:/-])(?:/(?:home|root|Users|tmp|mnt|srv|opt|private)/\w|[A-Za-z]:\\\\Users)")
_COMPRESSION = zipfile.ZIP_LZMA
"""Sorted ids of a selection take a third of what deflate leaves of them, and they are most of a pack."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(folders: Sequence[Path], target: Path) -> int:
    """Write record folders into a zip file and return how many; the same records give the same bytes.

    Raises ``RecordError`` for a record that does not agree with itself, a link, or a file that names a place on this machine, and
    ``UserError`` when there is nothing to pack or the pack would be too large to be read again.
    """
    if not folders:
        raise UserError("no record to pack")
    files: dict[str, bytes] = {}
    for folder in sorted(folders):
        record, _ = read_record(folder)
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                raise RecordError(f"{path}: a link; packs hold plain files only")
            if not path.is_file():
                continue
            content = path.read_bytes()
            if found := _PLACE.search(content):
                raise RecordError(f"{path}: names a place on this machine ({found[0].decode(errors='replace')}...); records hold none")
            files[f"{record.record_id}/{path.relative_to(folder).as_posix()}"] = content
    size = sum(map(len, files.values()))
    if size > MOST_BYTES or len(files) > MOST_FILES:
        raise UserError(f"{len(files)} files of {size} bytes are too many for one pack (at most {MOST_FILES} of {MOST_BYTES}); pack fewer")
    with atomic_path(target) as part, zipfile.ZipFile(part, "w") as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, _COMPRESSION)
    return len({name.partition("/")[0] for name in files})


def unpack(source: Path, folder: Path) -> list[Path]:
    """Unpack into a folder that must not exist yet and return the record folders; nothing is written unless the whole pack is sound.

    Raises ``RecordError`` for a file that is no pack, absolute or climbing paths, links, or more than a pack may hold.
    """
    if folder.exists():
        raise UserError(f"{folder}: already there")
    try:
        with zipfile.ZipFile(source) as archive:
            members = [item for item in archive.infolist() if not item.is_dir()]
            _refuse(members, source.name)
            if (bad := archive.testzip()) is not None:
                raise RecordError(f"{source.name}: {bad} is damaged")
            try:
                for item in members:
                    path = folder / item.filename
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(item) as stream:
                        path.write_bytes(stream.read(MOST_BYTES + 1))
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError, NotImplementedError, RuntimeError) as problem:
        raise RecordError(f"{source.name}: cannot be read as a pack: {problem}") from None
    return sorted(path.parent for path in folder.glob("*/record.json"))


def _refuse(members: Sequence[zipfile.ZipInfo], name: str) -> None:
    if len(members) > MOST_FILES or sum(item.file_size for item in members) > MOST_BYTES:
        raise RecordError(f"{name}: more than {MOST_FILES} files or {MOST_BYTES} bytes")
    seen = set()
    for item in members:
        path = PurePosixPath(item.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in item.filename or ":" in item.filename or len(path.parts) < 2:
            raise RecordError(f"{name}: {item.filename!r}: expected a path of the form RECORD/FILE")
        if stat.S_ISLNK(item.external_attr >> 16):
            raise RecordError(f"{name}: {item.filename!r} is a link")
        if item.filename in seen:
            raise RecordError(f"{name}: {item.filename!r} is there twice")
        seen.add(item.filename)
