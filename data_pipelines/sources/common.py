"""What several sources need: content checks, files out of archives or folders, text as fixed-size rows."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ...suite.errors import ChecksumMismatch, ConfigError, DataError

__all__ = ["byte_rows", "encode_categories", "overlapping_rows", "padded", "read_members", "require_content"]


def require_content(what: str, expected: str, parts: Iterable[np.ndarray | bytes]) -> None:
    """Raise ``ChecksumMismatch`` unless the sha256 over all parts, each preceded by its length in bytes, is the expected one."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.tobytes() if isinstance(part, np.ndarray) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    if digest.hexdigest() != expected:
        raise ChecksumMismatch(f"{what}: expected content sha256 {expected}, found {digest.hexdigest()}")


def read_members(path: Path, wanted: Callable[[str], bool], *, below: int = 1) -> dict[str, bytes]:
    """Files by path, sorted: below a folder, or in a tar archive without its first ``below`` levels of folders.

    ``DataError`` when the archive is damaged.
    """
    if path.is_dir():
        names = (str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
        return {name: (path / name).read_bytes() for name in sorted(names) if wanted(name)}
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = "/".join(member.name.split("/")[below:])
                stream = archive.extractfile(member) if member.isfile() and wanted(name) else None
                if stream is not None:
                    found[name] = stream.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as problem:
        raise DataError(f"{path}: damaged archive: {problem}") from problem
    return dict(sorted(found.items()))


def overlapping_rows(tokens: np.ndarray, block: int) -> np.ndarray:
    """``[n]`` tokens as rows that overlap by half, ``[n // block - 1, 2 * block]``: row i begins at token i * block.

    A window of block + 1 tokens at a random offset from 0 to block - 1 of a random row is a window at a random offset of the text.
    ``ConfigError`` when the tokens fill no row.
    """
    if not 0 < 2 * block <= len(tokens):
        raise ConfigError(f"option block: expected 1 to {len(tokens) // 2} for {len(tokens)} tokens, given {block}")
    return np.lib.stride_tricks.sliding_window_view(tokens, 2 * block)[::block]


def padded(rows: Sequence[np.ndarray], length: int, dtype: type[np.generic]) -> np.ndarray:
    """Rows of any lengths as one array ``[n, length, ...]``: longer ones are cut, shorter ones filled up with zeros at the end."""
    values = np.zeros((len(rows), length, *rows[0].shape[1:]), dtype)
    for row, given in zip(values, rows, strict=True):
        row[: len(given)] = given[:length]
    return values


def byte_rows(texts: Sequence[str], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts as UTF-8: uint8 ``[n, width]``, zeros after the end, and the bytes used, int64 ``[n]``; cut between characters if longer."""
    encoded = [text.encode()[:width].decode(errors="ignore").encode() for text in texts]
    return padded([np.frombuffer(text, np.uint8) for text in encoded], width, np.uint8), np.array([len(text) for text in encoded], np.int64)


def encode_categories(columns: Sequence[Sequence[str]], vocabularies: Sequence[dict[str, int]]) -> np.ndarray:
    """Columns of words as indices, int32 ``[n, columns]``; a word that is not in the column's vocabulary becomes 0."""
    return np.stack(
        [np.array([known.get(word, 0) for word in column], np.int32) for column, known in zip(columns, vocabularies, strict=True)], axis=1
    )
