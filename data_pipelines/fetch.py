"""Official files, from their official address or from a mirror folder, and never without a checksum.

A download is resumed where it broke off: within one call, after a dropped connection, and by the next call, from ``NAME.part``. The
final name appears only when the checksum matches.
"""

from __future__ import annotations

import http.client
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..suite.errors import ChecksumMismatch, DataError, DataMissing
from ..suite.files import atomic_path, file_digest

__all__ = ["Archive", "OnProgress", "RemoteFile", "check_file", "discard_unverified", "download", "fetch", "mirror_folder", "require_space"]

OnProgress = Callable[[str, int, int | None], None]
"""Called with what is being done, the bytes done, and all bytes (None when not known)."""

_ATTEMPTS = 5
_TIMEOUT_SECONDS = 30.0  # without a single byte
_BLOCK_BYTES = 1 << 20
_BEYOND_THE_END = 416
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Archive:
    """A tar or zip file at an official address. ``digest`` is ``md5:HEX`` or ``sha256:HEX``."""

    url: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class RemoteFile:
    """One file that a source decodes.

    ``url``: the official address. ``digest``: ``md5:HEX`` or ``sha256:HEX`` of this file, the officially published one where there is
    one; None where the same content comes in several forms (an archive made on request, a folder of its members in a mirror), and
    then ``decode`` checks the content. ``mirror``: its path below ``TIMETRIAL_MIRROR``. ``archive`` and ``member``: the archive that
    the address serves, and the path of this file in it. ``form``: what must be done to the official download to get this file, for
    data whose official form is not decoded here; such a file comes from a mirror only.
    """

    name: str
    url: str
    digest: str | None
    size_bytes: int | None
    mirror: str
    archive: Archive | None = None
    member: str = ""
    form: str = ""


def mirror_folder() -> Path | None:
    """The folder named by ``TIMETRIAL_MIRROR``, which replaces the network completely; None if unset. ``DataMissing`` if no folder."""
    given = os.environ.get("TIMETRIAL_MIRROR")
    if not given:
        return None
    folder = Path(given).expanduser().absolute()
    if not folder.is_dir():
        raise DataMissing(f"TIMETRIAL_MIRROR: {folder} is not a folder")
    return folder


def fetch(files: Sequence[RemoteFile], folder: Path, *, mirror: Path | None, on_progress: OnProgress | None = None) -> dict[str, Path]:
    """Paths of verified files by name: in the mirror where one is given (read in place), else downloaded to ``folder``.

    Raises ``DataMissing`` when a file cannot be had, ``ChecksumMismatch`` when its bytes are not the official ones, ``DataError``
    when the disk has no room for it.
    """
    if mirror is not None:
        return {file.name: _from_mirror(file, mirror) for file in files}
    return {file.name: _from_network(file, folder, on_progress) for file in files}


def discard_unverified(files: Sequence[RemoteFile], folder: Path) -> None:
    """Remove the downloads that only ``decode`` can check, after it has refused them: the next call fetches them anew."""
    for file in files:
        if file.digest is None:
            (folder / file.name).unlink(missing_ok=True)


def check_file(path: Path, digest: str | None, size_bytes: int | None) -> None:
    """Raise ``ChecksumMismatch`` unless the file has this size and digest (``md5:HEX`` or ``sha256:HEX``); None is not checked."""
    given_bytes = path.stat().st_size
    if size_bytes is not None and given_bytes != size_bytes:
        raise ChecksumMismatch(f"{path}: expected {size_bytes} bytes, found {given_bytes}")
    if digest is None:
        return
    algorithm, _, expected = digest.partition(":")
    given = file_digest(path, algorithm)
    if given != expected:
        raise ChecksumMismatch(f"{path}: expected {algorithm} {expected}, found {given}")


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise ``DataError`` unless the file system of ``folder`` has room for ``needed_bytes`` more."""
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise DataError(f"{what}: no space under {folder}: {needed_bytes / 1e6:.0f} MB needed, {free_bytes / 1e6:.0f} MB free")


def _from_mirror(file: RemoteFile, mirror: Path) -> Path:
    path = mirror / file.mirror
    if not path.exists():
        raise DataMissing(f"{path}: not in the mirror (official address: {file.url})")
    if file.digest is not None:
        check_file(path, file.digest, file.size_bytes)
    return path


def _from_network(file: RemoteFile, folder: Path, on_progress: OnProgress | None) -> Path:
    path = folder / file.name
    if _is_whole(path, file.digest, file.size_bytes):
        return path
    if file.form:
        wanted = f"set TIMETRIAL_MIRROR to a folder that holds {file.mirror}"
        raise DataMissing(f"{file.name}: {file.form} (official address: {file.url}); {wanted}")
    if file.archive is None:
        download(file.url, path, digest=file.digest, size_bytes=file.size_bytes, on_progress=on_progress)
        return path
    archive = folder / file.archive.url.rpartition("/")[2]
    download(file.archive.url, archive, digest=file.archive.digest, size_bytes=file.archive.size_bytes, on_progress=on_progress)
    require_space(folder, file.size_bytes or 0, file.name)
    with atomic_path(path) as part:
        _extract(archive, file.member, part)
        check_file(part, file.digest, file.size_bytes)
    return path


def _is_whole(path: Path, digest: str | None, size_bytes: int | None) -> bool:
    """Whether the file is there already; one that was damaged since is removed."""
    if not path.is_file():
        return False
    try:
        check_file(path, digest, size_bytes)
    except ChecksumMismatch:
        path.unlink()
        return False
    return True


def _extract(archive: Path, member: str, path: Path) -> None:
    """Copy one regular file out of a tar or zip archive whose checksum has been verified."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle, bundle.open(member) as inner, path.open("wb") as out:
                shutil.copyfileobj(inner, out, _BLOCK_BYTES)
            return
        with tarfile.open(archive) as tar, path.open("wb") as out:
            stream = tar.extractfile(member)
            if stream is None:
                raise KeyError(member)
            shutil.copyfileobj(stream, out, _BLOCK_BYTES)
    except KeyError:
        raise DataError(f"{archive}: holds no file {member!r}") from None


def download(
    url: str,
    path: Path,
    *,
    digest: str | None,
    size_bytes: int | None,
    on_progress: OnProgress | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Download to ``path`` unless a file with the right checksum is there already; ``pause`` waits the seconds between attempts.

    Without ``digest`` or ``size_bytes`` whatever the address serves is taken, whole; the caller checks it.
    ``DataMissing`` when the address gives no such file or the connection cannot be had; what has arrived is then kept as ``PATH.part`` and
    continued from by the next call. ``ChecksumMismatch`` (nothing kept) when the address serves other bytes. ``DataError`` when the
    disk has no room (nothing kept).
    """
    if _is_whole(path, digest, size_bytes):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    continued = part.exists()
    _transfer_all(url, part, size_bytes, on_progress, pause)
    try:
        check_file(part, digest, size_bytes)
    except ChecksumMismatch as mismatch:
        part.unlink()
        if not continued:
            raise ChecksumMismatch(f"{url}: not the official file: {mismatch}") from None
        download(url, path, digest=digest, size_bytes=size_bytes, on_progress=on_progress, pause=pause)  # the old part was of another file
        return
    os.replace(part, path)


def _transfer_all(url: str, part: Path, size_bytes: int | None, on_progress: OnProgress | None, pause: Callable[[float], None]) -> None:
    """Append to ``part`` until it has all bytes, continuing after transient failures."""
    for attempt in range(_ATTEMPTS):
        if size_bytes is not None and part.exists() and part.stat().st_size >= size_bytes:
            return  # complete, or longer than it may be: the checksum decides
        try:
            _transfer(url, part, size_bytes, on_progress)
            return
        except urllib.error.HTTPError as problem:
            problem.close()
            if problem.code == _BEYOND_THE_END:
                part.unlink()  # complete, but nothing says so, or of another file
            elif problem.code not in _TRANSIENT:
                raise DataMissing(f"{url}: the server answers {problem.code} {problem.reason}") from None
            reason = f"{problem.code} {problem.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as problem:
            reason = str(getattr(problem, "reason", problem)) or type(problem).__name__
        if attempt + 1 < _ATTEMPTS:
            pause(2.0**attempt)
    kept = f"; {part.stat().st_size} bytes are kept, the next call continues there" if part.exists() else ""
    raise DataMissing(f"{url}: {_ATTEMPTS} attempts failed, the last with: {reason}{kept} (TIMETRIAL_MIRROR names a folder to use instead)")


def _transfer(url: str, part: Path, size_bytes: int | None, on_progress: OnProgress | None) -> None:
    """One connection: ask for what is missing in ``part`` and append it. Raises the network's errors, and ``DataError`` for the disk's."""
    if not url.startswith(("https://", "http://")):
        raise DataMissing(f"{url}: only http and https addresses are fetched")
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "timetrial", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS) as response:
        if have and not (response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
            have = 0  # the server sends the whole file
        try:
            length = response.headers.get("Content-Length")
            offered = size_bytes if length is None else have + int(length)
            if size_bytes is not None and offered != size_bytes:
                raise ChecksumMismatch(f"{url}: not the official file: expected {size_bytes} bytes, the server offers {offered}")
            require_space(part.parent, (offered or have) - have, part.stem)
            with part.open("ab" if have else "wb") as out:
                _copy(response, out, have, offered, lambda done: on_progress and on_progress(f"download {part.stem}", done, offered))
        except DataError:
            part.unlink(missing_ok=True)
            raise


def _copy(response: IO[bytes], out: IO[bytes], have: int, size_bytes: int | None, report: Callable[[int], object]) -> None:
    """Append the response to ``out``; ``ConnectionError`` when it ends before ``size_bytes``, where they are known."""
    report(have)
    while True:
        try:
            block = response.read(_BLOCK_BYTES)
        except OSError as problem:
            raise ConnectionError(f"after {have} bytes: {problem}") from problem
        if not block:
            break
        try:
            out.write(block)
            out.flush()
        except OSError as problem:
            raise DataError(f"cannot write {out.name}: {problem.strerror or problem}") from problem
        have += len(block)
        report(have)
        if size_bytes is not None and have > size_bytes:
            raise ChecksumMismatch(f"the server sends more than the {size_bytes} bytes expected")
    if size_bytes is not None and have < size_bytes:
        raise ConnectionError(f"the connection closed after {have} of {size_bytes} bytes")
