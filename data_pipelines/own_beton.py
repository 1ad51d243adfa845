"""A user's FFCV file as a pool, and what was kept of a user's data as an FFCV file."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..suite.errors import DataError, UserError
from ..suite.files import file_digest, object_digest
from .beton import write_beton
from .beton_file import BetonColumn, BetonFile
from .curation.pool import Pool
from .curation.rewrite import ORIGINAL_ID
from .curation.selection import Selection
from .fields import Field, FieldKind
from .own_data import BLOCK, OwnData, _RowNames, read_own_data
from .shards import Stages

__all__ = ["check_beton_output", "open_own_data", "write_pruned_beton"]

OnProgress = Callable[[str, float], None]
QUALITY = 95  # of pictures that are no JPEG files and become one


def open_own_data(
    path: Path, scratch: Path, *, column: str | None = None, side: int = 32, on_progress: OnProgress = lambda stage, share: None
) -> OwnData:
    """What :func:`~.own_data.read_own_data` reads, or an FFCV file (``.beton``).

    Of an FFCV file one field is looked at: ``column``, else the first picture, else the only array of vectors, else the only text. Ids are
    positions in the file. Raises ``UserError`` when that is not clear, ``DataError`` for a damaged file.
    """
    if path.suffix != ".beton" or not path.is_file():
        return read_own_data(path, scratch, column=column, side=side, on_progress=on_progress)
    file = BetonFile(path)
    chosen = _chosen(file, path, column)
    digest, rows = object_digest([file_digest(path), chosen.name, side]), _RowNames(len(file))
    stages = Stages(scratch / f"beton-{digest[:16]}")
    if chosen.kind == "picture":
        return _pictures(file, chosen.name, digest, side, stages, on_progress)
    if chosen.kind == "array":
        shape = (len(file), *chosen.shape)
        parts = (block.astype(np.float32) for block in _blocks(file, chosen.name, "read", on_progress))
        vectors = stages.join("vectors", shape, np.dtype(np.float32), parts)
        return OwnData(Pool(np.arange(len(file)), {"x": vectors}, data_digest=digest), "vectors", rows)
    texts = np.empty(len(file), dtype=object)
    for row in range(len(file)):
        try:
            texts[row] = file.text(chosen.name, row)
        except ValueError as problem:
            raise DataError(f"{path}: field {chosen.name!r} of row {row} is no UTF-8 text: {problem}") from None
    full = np.flatnonzero([bool(text.strip()) for text in texts])
    if full.size == 0:
        raise DataError(f"{path}: field {chosen.name!r} holds no texts")
    empty = tuple((rows[int(i)], "empty") for i in np.setdiff1d(np.arange(len(file)), full))
    return OwnData(Pool(full, {"text": texts}, data_digest=digest), "texts", [" ".join(t.split())[:200] for t in texts], empty)


def check_beton_output(data: OwnData, source: Path, path: Path) -> None:
    """``UserError`` when what is kept of ``source`` cannot become the FFCV file ``path``; asked before any work begins."""
    if path.suffix != ".beton":
        raise UserError(f"{path}: expected the name of a .beton file")
    if source.resolve() == path.resolve():
        raise UserError(f"{path}: is the input; the kept rows go to another file")
    if data.kind == "texts" and source.suffix != ".beton":
        raise UserError(f"{source}: texts are not written as .beton; kept.txt and examples.parquet name what is kept")


def write_pruned_beton(
    data: OwnData, selection: Selection, source: Path, path: Path, scratch: Path, on_progress: OnProgress = lambda stage, share: None
) -> None:
    """Write the kept examples, in id order and as often as counted, as one FFCV file, atomically.

    Of an FFCV file all fields are copied byte for byte. Vectors become the float32 array ``x``; pictures of a folder the encoded field
    ``image`` (JPEG files in RGB as they are, others encoded at quality 95, full size); both with the int ``original_id``. ``scratch``
    holds the data meanwhile, so that they need not fit in memory.
    """
    check_beton_output(data, source, path)
    ids, _ = selection.epoch()
    if source.suffix == ".beton" and source.is_file():
        BetonFile(source).prune(ids, path, lambda share: on_progress("rewrite", share))
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        field = (
            _kept_vectors(data, ids, Path(folder))
            if data.kind == "vectors"
            else _kept_pictures(data, ids, source, Path(folder), on_progress)
        )
        write_beton(path, {"x" if data.kind == "vectors" else "image": field, ORIGINAL_ID: Field(FieldKind.INT, ids)})


def _kept_vectors(data: OwnData, ids: np.ndarray, folder: Path) -> Field:
    rows = data.pool.positions(ids)
    parts = (data.pool.rows("x", rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK))
    shape = (len(rows), *data.pool.rows("x", slice(0, 1)).shape[1:])
    return Field(FieldKind.ARRAY, Stages(folder).join("kept", shape, np.dtype(np.float32), parts))


def _kept_pictures(data: OwnData, ids: np.ndarray, source: Path, folder: Path, on_progress: OnProgress) -> Field:
    offsets = [0]
    with (folder / "encoded").open("wb") as stream:
        for done, i in enumerate(ids.tolist()):
            offsets.append(offsets[-1] + stream.write(_as_jpeg(source / data.names[i])))
            on_progress("rewrite", (done + 1) / len(ids))
    return Field(FieldKind.JPEG, np.memmap(folder / "encoded", np.uint8, "r"), np.array(offsets))


def _chosen(file: BetonFile, path: Path, column: str | None) -> BetonColumn:
    """The field that is looked at."""

    def usable(field: BetonColumn) -> bool:
        vector = field.kind == "array" and len(field.shape) == 1 and field.dtype is not None and field.dtype.kind == "f"
        return vector or field.kind in ("picture", "bytes", "json")

    if column is not None:
        found = file.column(column)
        if not usable(found):
            raise UserError(f"{path}: field {column!r} is neither pictures, vectors nor texts; given {found.kind} {list(found.shape)}")
        return found
    known = [field for field in file.columns.values() if usable(field)]
    pictures = [field for field in known if field.kind == "picture"]
    for group in (pictures[:1], [field for field in known if field.kind == "array"], known):
        if len(group) == 1:
            return group[0]
    names = ", ".join(field.name for field in known)
    raise UserError(
        f"{path}: which field holds the data? --column is one of {names}" if known else f"{path}: holds no pictures, vectors or texts"
    )


def _pictures(file: BetonFile, name: str, digest: str, side: int, stages: Stages, on_progress: OnProgress) -> OwnData:
    rows = _RowNames(len(file))

    def decoded() -> Iterator[np.ndarray]:
        for start in range(0, len(file), BLOCK):
            last = min(start + BLOCK, len(file))
            yield stages.run(f"pictures-{start:09d}", lambda start=start, last=last: _scaled(file, name, start, last, side))  # type: ignore[misc]
            on_progress("decode", last / len(file))

    # one more row of pixels a picture: whether it could be read
    stacked = stages.join("pictures", (len(file), side + 1, side, 3), np.dtype(np.uint8), decoded())
    fine = np.asarray(stacked[:, side, 0, 0]) == 1
    if not fine.any():
        raise DataError(f"none of the {len(file)} pictures of field {name!r} can be decoded")
    lost = tuple((rows[int(i)], "could not be decoded") for i in np.flatnonzero(~fine))
    return OwnData(Pool(np.flatnonzero(fine), {"image": stacked[:, :side]}, data_digest=digest), "pictures", rows, lost)


def _scaled(file: BetonFile, name: str, start: int, last: int, side: int) -> np.ndarray:
    """Pictures of some rows at ``side``², each with the mark of success in a last row of pixels; zeros where one cannot be read."""
    from PIL import Image

    out = np.zeros((last - start, side + 1, side, 3), np.uint8)
    for i, row in enumerate(range(start, last)):
        try:
            picture = Image.fromarray(file.pixels(name, row))
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        out[i, :side] = np.asarray(picture.resize((side, side), Image.Resampling.BOX))
        out[i, side] = 1
    return out


def _blocks(file: BetonFile, name: str, stage: str, on_progress: OnProgress) -> Iterator[np.ndarray]:
    for start in range(0, len(file), BLOCK):
        last = min(start + BLOCK, len(file))
        yield file.numbers(name, np.arange(start, last))
        on_progress(stage, last / len(file))


def _as_jpeg(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as picture:
        if picture.format == "JPEG" and picture.mode == "RGB":
            return path.read_bytes()
        stream = io.BytesIO()
        picture.convert("RGB").save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return stream.getvalue()
