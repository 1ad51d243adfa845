"""A user's own data as a pool: a folder of pictures, a file of texts, or vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np

from ..suite.errors import DataError, UserError
from ..suite.files import file_digest, object_digest
from .curation.pool import Pool
from .shards import Rows, Stages

__all__ = ["PICTURES", "TEXTS", "OwnData", "read_own_data"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TEXTS = (".csv", ".parquet", ".jsonl", ".txt")
BLOCK = 2048  # pictures or rows that are read at once, and lost by an interruption at most


@final
@dataclass(frozen=True)
class OwnData:
    """``pool`` without labels; ``kind`` is ``pictures``, ``texts`` or ``vectors``; ``names`` say what an id is, by id.

    ``unreadable`` lists (name, reason) of pictures that could not be decoded and of empty texts: their ids are not in the pool.
    """

    pool: Pool
    kind: str
    names: Sequence[str]
    unreadable: Sequence[tuple[str, str]] = field(default_factory=tuple)

    @property
    def embedder(self) -> str:
        """The embedder that fits this kind of data."""
        return {"pictures": "pca", "texts": "tfidf", "vectors": "raw"}[self.kind]


def read_own_data(
    path: Path,
    scratch: Path,
    *,
    column: str | None = None,
    side: int = 32,
    on_progress: Callable[[str, float], None] = lambda stage, share: None,
) -> OwnData:
    """Read a ``.npy`` of vectors, a folder of ``.npy`` shards or of pictures, or a file of texts.

    Pictures are decoded and scaled to ``side``² in ``scratch``, ids follow their sorted relative paths. Ids of texts and vectors are row
    numbers; ``column`` names the column of texts. Raises ``UserError`` for what is none of these, ``DataError`` for what cannot be read.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file():
        if path.suffix == ".npy":
            return _vectors([path])
        if path.suffix in TEXTS:
            return _texts(path, column)
        raise UserError(f"{path}: expected a folder, a .npy of vectors, or texts ({', '.join(TEXTS)})")
    shards = sorted(path.glob("*.npy"))
    if shards:
        return _vectors(shards, Stages(scratch), on_progress)
    pictures = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.suffix.lower() in PICTURES)
    if not pictures:
        raise UserError(f"{path}: holds neither pictures ({', '.join(PICTURES)}) nor .npy files")
    return _pictures(path, pictures, side, Stages(scratch), on_progress)


def _vectors(paths: list[Path], stages: Stages | None = None, on_progress: Callable[[str, float], None] | None = None) -> OwnData:
    shards = [_load(path) for path in paths]
    digest = object_digest([file_digest(path) for path in paths])
    rows = Rows(shards)
    whole = shards[0]
    if len(shards) > 1 or whole.dtype != np.float32:

        def join() -> np.ndarray:
            out = np.empty((len(rows), rows.width), dtype=np.float32)
            for first, chunk in rows.chunks(BLOCK):
                out[first : first + len(chunk)] = chunk
                if on_progress is not None:
                    on_progress("read", (first + len(chunk)) / len(rows))
            return out

        whole = (stages or Stages(None)).run(f"vectors-{digest[:16]}", join)
    pool = Pool(np.arange(len(whole)), {"x": whole}, data_digest=digest)
    return OwnData(pool, "vectors", _RowNames(len(whole)))


def _load(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise DataError(f"{path}: not a readable .npy file: {problem}") from None
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.floating):
        raise DataError(f"{path}: expected vectors, float [n, d]; given {found.dtype} of shape {found.shape}")
    return found


def _texts(path: Path, column: str | None) -> OwnData:
    import pandas as pd

    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".jsonl": lambda p: pd.read_json(p, lines=True)}
    if path.suffix == ".txt":
        values = path.read_text(encoding="utf-8").splitlines()
    else:
        try:
            table = readers[path.suffix](path)
        except (OSError, ValueError, pd.errors.ParserError) as problem:
            raise DataError(f"{path}: cannot be read: {problem}") from None
        strings = [str(name) for name in table.columns if pd.api.types.is_string_dtype(table[name])]
        chosen = column or ("text" if "text" in strings else strings[0] if len(strings) == 1 else None)
        if chosen is None or chosen not in table.columns:
            known = ", ".join(map(str, table.columns))
            raise UserError(f"{path}: which column holds the texts? --column is one of {known}; given {column!r}")
        values = table[chosen].fillna("").astype(str).tolist()
    full = np.flatnonzero([bool(value.strip()) for value in values])
    if full.size == 0:
        raise DataError(f"{path}: holds no texts")
    texts = np.empty(len(values), dtype=object)
    texts[:] = values
    pool = Pool(full, {"text": texts}, data_digest=object_digest(values))
    empty = tuple((f"row {i}", "empty") for i in np.setdiff1d(np.arange(len(values)), full))
    return OwnData(pool, "texts", [" ".join(value.split())[:200] for value in values], empty)


def _pictures(root: Path, names: list[str], side: int, stages: Stages, on_progress: Callable[[str, float], None]) -> OwnData:
    unreadable: list[tuple[str, str]] = []
    blocks = []
    for start in range(0, len(names), BLOCK):
        part = names[start : start + BLOCK]
        seen = [(name, (root / name).stat().st_size, (root / name).stat().st_mtime_ns) for name in part]
        key = object_digest([side, seen])[:32]

        def decode(part: list[str] = part, start: int = start) -> np.ndarray:
            # one more row of pixels a picture: whether it could be read, so that a finished block needs no second file
            out = np.zeros((len(part), side + 1, side, 3), dtype=np.uint8)
            for i, name in enumerate(part):
                out[i], problem = _decode(root / name, side)
                if problem:
                    unreadable.append((name, problem))
                on_progress("decode", (start + i + 1) / len(names))
            return out

        blocks.append(stages.run(f"pictures-{key}", decode))
    stacked = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    readable = np.flatnonzero(stacked[:, side, 0, 0] == 1)
    told = {name for name, _ in unreadable}
    lost = [(names[i], "could not be decoded") for i in np.flatnonzero(stacked[:, side, 0, 0] == 0) if names[i] not in told]
    if readable.size == 0:
        raise DataError(f"{root}: none of its {len(names)} pictures can be decoded, the first: {[*unreadable, *lost][0]}")
    images = stacked[:, :side]
    pool = Pool(readable, {"image": images}, data_digest=object_digest([side, file_list_digest(root, names)]))
    return OwnData(pool, "pictures", names, (*unreadable, *lost))


def file_list_digest(root: Path, names: Sequence[str]) -> str:
    """Identity of some files' names and bytes."""
    return object_digest([[name, file_digest(root / name)] for name in names])


def _decode(path: Path, side: int) -> tuple[np.ndarray, str]:
    """A picture as ``[side + 1, side, 3]`` with the mark of success in its last row, or zeros and the reason."""
    from PIL import Image, UnidentifiedImageError

    out = np.zeros((side + 1, side, 3), dtype=np.uint8)
    try:
        with Image.open(path) as picture:
            out[:side] = np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BOX))
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as problem:
        return out, str(problem) or type(problem).__name__
    out[side] = 1
    return out, ""


@final
class _RowNames(Sequence[str]):
    """``row 0``, ``row 1``, … without holding a million strings."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # slices of names are never asked for
        if not 0 <= index < self._count:
            raise IndexError(index)
        return f"row {index}"
