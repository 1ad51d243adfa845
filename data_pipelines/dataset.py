"""A dataset on disk: fields as memory-mapped arrays, splits in official order, and the FFCV file beside them.

``HOME/data/SOURCE@VERSION-OPTIONS/`` holds ``manifest.json`` and for every split ``SPLIT/FIELD.npy`` (``SPLIT/FIELD.offsets.npy`` for
encoded pictures) and ``SPLIT.beton``. The folder appears whole or not at all. Opening verifies every byte against the manifest before any
other code touches the files: FFCV reads whatever it is given, out of bounds if need be.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..suite.errors import ChecksumMismatch, ConfigError, DataError, DataMissing, UserError, unknown_name
from ..suite.files import file_digest, object_digest, write_json
from .beton import ffcv_available, write_beton
from .fetch import OnProgress, RemoteFile, discard_unverified, fetch, mirror_folder, require_space
from .fields import Field, FieldKind, Split
from .integrity import digests

__all__ = ["Dataset", "Decoded", "Field", "FieldKind", "Source", "Split", "open_dataset", "prepare"]

_SCHEMA = 1
_ANEW = "`timetrial prepare WORKLOAD` writes it anew"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,15}")  # FFCV keeps 16 characters of a name


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset. ``digest``: sha256 over the content of all fields and facts, the same with and without FFCV files.

    ``facts``: what models and metrics need to know (``classes``, ``vocabulary``, ...), plain JSON values.
    """

    name: str
    version: int
    digest: str
    splits: Mapping[str, Split]
    facts: Mapping[str, Any]


class Decoded(NamedTuple):
    """What a source's files hold: ``splits[split][field]``, and facts as plain JSON values."""

    splits: Mapping[str, Mapping[str, Field]]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from and how its files become arrays.

    ``decode(paths, options)`` gets the verified files by name and the complete options. ``options`` holds every option with its default;
    an option given with another type is refused. ``version`` rises whenever ``decode`` gives something else for the same files.
    ``identify(options)`` names the state of files that are not among ``files`` (a user's own): another state is another dataset.
    """

    name: str
    version: int
    licence: str
    citation: str
    files: tuple[RemoteFile, ...]
    decode: Callable[[Mapping[str, Path], Mapping[str, Any]], Decoded]
    options: Mapping[str, Any] = field(default_factory=dict)
    identify: Callable[[Mapping[str, Any]], str] | None = None

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options, defaults filled in, and the ``state`` of the user's files.

        ``UnknownName`` or ``ConfigError`` for an option that does not exist or has another type.
        """
        for name, value in given.items():
            if name not in self.options:
                raise unknown_name(f"option of {self.name}", name, self.options)
            if type(value) is not type(self.options[name]):
                expected = type(self.options[name]).__name__
                raise ConfigError(f"{self.name}: option {name} expected {expected}, given {type(value).__name__} {value!r}")
        options = {**self.options, **given}
        return options if self.identify is None else {**options, "state": self.identify(options)}


def prepare(source: Source, options: Mapping[str, Any], home: Path, *, on_progress: OnProgress | None = None) -> Dataset:
    """Fetch, verify, decode and write a dataset, or open it where that is done already; damaged files are written anew.

    Safe against interruption and against other processes that prepare the same: one works, the others wait and find it done. Adds the
    FFCV files to a dataset that was prepared without FFCV. Raises ``DataMissing`` or ``ChecksumMismatch`` from fetching, ``DataError``
    when the home cannot be written or has no room, ``ConfigError`` for bad options.
    """
    resolved = source.resolve(options)
    folder = _folder(source, resolved, home)
    report = on_progress or (lambda what, done, total: None)
    dataset = _open_intact(source, resolved, folder)
    if dataset is not None and not _lacks_beton(dataset, folder):
        return dataset
    with _disk_errors(home), _lock(home / "data" / f".{source.name}.lock", source.name, report):
        for stale in folder.parent.glob(f".{source.name}@*.part"):
            shutil.rmtree(stale)  # left by a process that was killed: whoever holds the lock is alone
        dataset = _open_intact(source, resolved, folder)
        if dataset is None:
            decoded = _fetch_and_decode(source, resolved, home / "downloads" / source.name, report)
            _check(source, decoded)
            _write(source, resolved, decoded, folder, report)
        elif _lacks_beton(dataset, folder):
            _add_betons(dataset, folder, report)
    return _open(source, resolved, folder)


def open_dataset(source: Source, options: Mapping[str, Any], home: Path) -> Dataset:
    """Open a prepared dataset after verifying it whole.

    Every file is hashed the first time it is seen, and again whenever its inode, size or times differ (:mod:`.integrity`). Raises
    ``DataMissing`` when it has not been prepared, ``ChecksumMismatch`` when bytes differ from the manifest's, ``DataError`` when
    the manifest is damaged or of another dataset, ``ConfigError`` for bad options.
    """
    resolved = source.resolve(options)
    return _open(source, resolved, _folder(source, resolved, home))


def _open(source: Source, resolved: Mapping[str, Any], folder: Path) -> Dataset:
    manifest = _read_manifest(source, resolved, folder)
    expected = _files(manifest)
    for name, (size_bytes, _) in expected.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is gone; {_ANEW}")
        if path.stat().st_size != size_bytes:
            raise ChecksumMismatch(f"{path}: expected {size_bytes} bytes, found {path.stat().st_size}; {_ANEW}")
    for name, digest in digests(folder, list(expected)).items():
        if digest != expected[name][1]:
            raise ChecksumMismatch(f"{folder / name}: expected sha256 {expected[name][1]}, found {digest}; {_ANEW}")
    splits = {name: _open_split(name, entry, folder) for name, entry in manifest["splits"].items()}
    return Dataset(source.name, source.version, manifest["digest"], splits, manifest["facts"])


def _folder(source: Source, resolved: Mapping[str, Any], home: Path) -> Path:
    return home / "data" / f"{source.name}@{source.version}-{object_digest(resolved)[:12]}"


def _open_intact(source: Source, resolved: Mapping[str, Any], folder: Path) -> Dataset | None:
    try:
        return _open(source, resolved, folder)
    except DataError:
        return None


# --- the manifest -----------------------------------------------------------------------------------------------------------------------


def _read_manifest(source: Source, resolved: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        seal = manifest.pop("seal")
    except (FileNotFoundError, NotADirectoryError):
        known = f"{source.name}@{source.version} with options {json.dumps(resolved)}" if resolved else f"{source.name}@{source.version}"
        raise DataMissing(f"dataset {known} is not under {folder.parent}; `timetrial prepare WORKLOAD` makes it") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DataError(f"{path} is damaged; {_ANEW}") from None
    if seal != object_digest(manifest):
        raise ChecksumMismatch(f"{path} is not as it was written; {_ANEW}")
    wanted = {"schema": _SCHEMA, "name": source.name, "version": source.version, "options": dict(resolved)}
    given = {key: manifest.get(key) for key in wanted}
    if given != wanted:
        raise DataError(f"{path}: expected {wanted}, found {given}; {_ANEW}")
    return manifest


def _write_manifest(manifest: Mapping[str, Any], folder: Path) -> None:
    write_json(folder / "manifest.json", {**manifest, "seal": object_digest(manifest)})


def _files(manifest: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """Size in bytes and sha256 of every file that the manifest promises, by path below the folder."""
    entries: dict[str, Mapping[str, Any]] = {}
    for split, entry in manifest["splits"].items():
        for name, column in entry["fields"].items():
            entries |= {f"{split}/{name}{suffix}.npy": array for suffix, array in column["arrays"].items()}
        if entry["beton"] is not None:
            entries[f"{split}.beton"] = entry["beton"]
    return {name: (entry["size_bytes"], entry["sha256"]) for name, entry in entries.items()}


def _open_split(name: str, entry: Mapping[str, Any], folder: Path) -> Split:
    fields = {}
    for column, about in entry["fields"].items():
        arrays = {suffix: np.load(folder / name / f"{column}{suffix}.npy", mmap_mode="r", allow_pickle=False) for suffix in about["arrays"]}
        fields[column] = Field(FieldKind(about["kind"]), arrays[""], arrays.get(".offsets"))
    return Split(name, fields, folder / f"{name}.beton" if entry["beton"] is not None else None, entry["digest"])


# --- writing ----------------------------------------------------------------------------------------------------------------------------


def _fetch_and_decode(source: Source, resolved: Mapping[str, Any], downloads: Path, report: OnProgress) -> Decoded:
    mirror = mirror_folder()
    paths = fetch(source.files, downloads, mirror=mirror, on_progress=report)
    report(f"decode {source.name}", 0, None)
    try:
        return source.decode(paths, resolved)
    except UserError:
        raise
    except Exception as problem:
        if source.identify is None and all(file.digest is not None for file in source.files):
            raise  # the files are the official ones: a fault of decode
        if mirror is None:
            discard_unverified(source.files, downloads)
        if isinstance(problem, DataError):
            raise
        raise DataError(f"{source.name}: its files cannot be decoded: {' '.join(str(problem).split())}") from problem


def _check(source: Source, decoded: Decoded) -> None:
    """Refuse what cannot be served: no examples, columns of unequal length, layouts that the kind does not allow."""
    for split, fields in decoded.splits.items():
        lengths = {name: len(column) for name, column in fields.items()}
        where = f"{source.name}, split {split!r}"
        if not lengths or min(lengths.values()) == 0:
            raise DataError(f"{where}: no examples")
        if len(set(lengths.values())) > 1:
            raise DataError(f"{where}: fields of unequal length: {lengths}")
        for name in (split, *fields):
            if not _NAME.fullmatch(name):
                raise DataError(f"{where}: {name!r} is no name (up to 16 lower-case letters, digits and _)")
        for name, column in fields.items():
            values, offsets = column.values, column.offsets
            fits = {
                FieldKind.IMAGE: values.dtype == np.uint8 and values.ndim == 4 and values.shape[-1] == 3,
                FieldKind.INT: values.dtype == np.int64 and values.ndim == 1,
                FieldKind.ARRAY: values.dtype.kind in "biuf" and values.dtype.isnative and values.ndim >= 2 and values.size > 0,
                FieldKind.JPEG: values.dtype == np.uint8 and values.ndim == 1 and offsets is not None and offsets.dtype == np.int64,
            }[column.kind]
            if not fits:
                raise DataError(f"{where}: field {name!r} of kind {column.kind} cannot be {values.dtype} {list(values.shape)}")


def _write(source: Source, resolved: Mapping[str, Any], decoded: Decoded, folder: Path, report: OnProgress) -> None:
    """Write the folder under a temporary name and rename it; what stood in its place is removed."""
    total = sum(_size_bytes(column) for fields in decoded.splits.values() for column in fields.values())
    require_space(folder.parent, total * (2 if ffcv_available() else 1), source.name)
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        splits, done = {}, 0
        for split, fields in decoded.splits.items():
            (staging / split).mkdir(parents=True)
            columns = {}
            for name, column in fields.items():
                report(f"write {source.name}", done, total)
                columns[name] = {"kind": column.kind, "arrays": _write_arrays(column, staging / split, name)}
                done += _size_bytes(column)
            splits[split] = {"fields": columns, "digest": object_digest(columns), "beton": _write_beton(staging, split, fields, report)}
        content = {split: entry["digest"] for split, entry in splits.items()}
        identity = {"name": source.name, "version": source.version, "splits": content, "facts": decoded.facts}
        manifest = {
            "schema": _SCHEMA,
            "name": source.name,
            "version": source.version,
            "options": dict(resolved),
            "digest": object_digest(identity),
            "licence": source.licence,
            "citation": source.citation,
            "files": {file.name: {"url": file.url, "digest": file.digest} for file in source.files},
            "splits": splits,
            "facts": decoded.facts,
        }
        _write_manifest(manifest, staging)
        if folder.exists():
            os.replace(folder, staging.with_name(f".{folder.name}.{secrets.token_hex(4)}.old.part"))
        os.replace(staging, folder)
    finally:
        for left in folder.parent.glob(f".{folder.name}.*.part"):
            shutil.rmtree(left)


def _write_arrays(column: Field, folder: Path, name: str) -> dict[str, Any]:
    arrays = {"": column.values} | ({} if column.offsets is None else {".offsets": column.offsets})
    about = {}
    for suffix, array in arrays.items():
        path = folder / f"{name}{suffix}.npy"
        np.save(path, np.ascontiguousarray(array), allow_pickle=False)
        about[suffix] = {"dtype": array.dtype.str, "shape": list(array.shape), **_entry(path)}
    return about


def _write_beton(folder: Path, split: str, fields: Mapping[str, Field], report: OnProgress) -> dict[str, Any] | None:
    """Write ``SPLIT.beton`` and describe it; None where FFCV is not installed."""
    if not ffcv_available():
        return None
    report(f"write {split}.beton", 0, None)
    path = folder / f"{split}.beton"
    write_beton(path, fields)
    return _entry(path)


def _add_betons(dataset: Dataset, folder: Path, report: OnProgress) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["seal"]
    require_space(folder, sum(_size_bytes(column) for split in dataset.splits.values() for column in split.fields.values()), dataset.name)
    for name, split in dataset.splits.items():
        manifest["splits"][name]["beton"] = _write_beton(folder, name, split.fields, report)
    _write_manifest(manifest, folder)


def _lacks_beton(dataset: Dataset, folder: Path) -> bool:
    """Whether FFCV files should be added: FFCV is installed, one is missing, and the folder can be written."""
    if all(split.beton is not None for split in dataset.splits.values()) or not ffcv_available():
        return False
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _entry(path: Path) -> dict[str, Any]:
    return {"size_bytes": path.stat().st_size, "sha256": file_digest(path)}


def _size_bytes(column: Field) -> int:
    return column.values.nbytes + (0 if column.offsets is None else column.offsets.nbytes)


# --- the disk and other processes -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _lock(path: Path, name: str, report: OnProgress) -> Iterator[None]:
    """Hold a lock between processes; the system frees it when its holder ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"wait for another process that prepares {name}", 0, None)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _disk_errors(home: Path) -> Iterator[None]:
    """What the disk refuses becomes one line."""
    try:
        yield
    except OSError as problem:
        about = f" ({problem.filename})" if problem.filename else ""
        raise DataError(f"{home}: {problem.strerror or problem}{about}; --home or TIMETRIAL_HOME names another folder") from problem
