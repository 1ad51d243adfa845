"""Loaders: examples by id, in the order that the harness asks for, augmented and ready for the model.

``FfcvLoader`` reads the split's ``.beton`` through FFCV, ``TorchLoader`` its memory-mapped arrays. Both run the same compiled
kernels in background threads, so the same seed gives the same bits from either, with any number of workers and any chunk size.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self, final

import numpy as np
from torch import Tensor

from ..suite.errors import ConfigError, DataMissing, LoaderError, TimetrialError, UserError, unknown_name
from . import kernels
from .augment import Augmentation
from .beton import ffcv_available, read_layout
from .buffers import BufferPool
from .dataset import Field, FieldKind, Split

__all__ = ["Chunk", "FfcvLoader", "Loader", "TorchLoader", "make_loader"]

_CHUNK_BYTES = 4 << 20
_MAX_CHUNK = 1 << 15
IMAGE_FIELD = "image"
TOKENS_FIELD = "tokens"


@dataclass(frozen=True)
class Chunk:
    """Consecutive examples of an order: ``ids`` int64 ``[n]``; every field a tensor ``[n, ...]`` on the CPU.

    The memory is the caller's for as long as anything refers to it.
    """

    ids: np.ndarray
    fields: Mapping[str, Tensor]


@dataclass(frozen=True)
class Column:
    """One field on its way from the file to the model: it arrives as ``[n, *shape]`` of ``dtype``.

    ``augmentation`` is what applies to this field alone; ``table`` is its pixel table (pictures only).
    """

    name: str
    field: Field
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    augmentation: Augmentation
    table: np.ndarray | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored example, the same for all (not so for JPEG)."""
        return int(self.field.values[:1].nbytes)


class Loader(ABC):
    """Serves chunks of one split; both implementations are bit-identical. Use as a context manager, or call ``close``.

    ``fields``: which fields to serve (None: all). ``seed`` with the epoch and the example's id chooses the augmentation.
    ``chunk_size``: examples per chunk (None: about 4 MiB a chunk). ``workers``: threads that prepare chunks, each a whole one.
    Raises ``ConfigError`` for an augmentation that does not fit the fields.
    """

    def __init__(
        self,
        split: Split,
        fields: Sequence[str] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        chunk_size: int | None = None,
        workers: int = 1,
    ) -> None:
        if workers < 1:
            raise ConfigError(f"workers must be at least 1, given {workers}")
        if not 0 <= seed < 1 << 63:
            raise ConfigError(f"a loader's seed is an integer from 0 to 2**63 - 1, given {seed}")
        self.count = len(split)
        self.columns = _columns(split, fields, augmentation or Augmentation())
        self.chunk_size = chunk_size or _default_chunk(self.columns, self.count)
        if self.chunk_size < 1:
            raise ConfigError(f"chunk_size must be at least 1, given {chunk_size}")
        self._seed = seed
        self._workers = workers
        self._pool = BufferPool(keep=workers + 2)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="timetrial-loader")
        self._process = os.getpid()
        self._closed = False

    def serve(self, order: np.ndarray, epoch: int) -> Generator[Chunk, None, None]:
        """Start reading and return the chunks of ``order`` one by one, the last one possibly shorter.

        ``order``: ids in any integer dtype, ``[n]``, repeats allowed. Raises ``UserError`` at once when an id is not an example of
        the split; while iterating, whatever fails in a worker arrives here as ``LoaderError`` with its traceback. An iterator
        that is dropped early leaves nothing behind.
        """
        ids = self._checked(order)
        if self._closed or os.getpid() != self._process:
            raise LoaderError("this loader is closed" if self._closed else "a loader does not survive a fork; make one in each process")
        pieces = iter([ids[first : first + self.chunk_size] for first in range(0, len(ids), self.chunk_size)])
        pending = deque(self._submit(piece, epoch) for piece in islice(pieces, self._workers))
        return self._chunks(pieces, pending, epoch)

    def close(self) -> None:
        """Stop the workers; returns when the last one has ended. May be called twice."""
        self._closed = True
        self._executor.shutdown(wait=os.getpid() == self._process, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    @abstractmethod
    def _read(self, ids: np.ndarray, epoch: int, outputs: Mapping[str, np.ndarray]) -> None:
        """Fill ``outputs`` with the examples ``ids``; runs in a worker thread."""

    def _submit(self, ids: np.ndarray, epoch: int) -> Future[Chunk]:
        return self._executor.submit(self._prepare, ids, epoch)

    def _chunks(self, pieces: Iterator[np.ndarray], pending: deque[Future[Chunk]], epoch: int) -> Generator[Chunk, None, None]:
        try:
            while pending:
                if self._closed:
                    raise LoaderError("this loader was closed while it was serving")
                pending.extend(self._submit(piece, epoch) for piece in islice(pieces, 1))
                yield pending.popleft().result()  # no local name may keep the chunk: its memory is recycled when the caller drops it
        finally:
            for future in pending:
                future.cancel()

    def _prepare(self, ids: np.ndarray, epoch: int) -> Chunk:
        arrays, tensors = {}, {}
        for column in self.columns:
            arrays[column.name], tensors[column.name] = self._pool.take(len(ids), self.chunk_size, column.shape, column.dtype)
        try:
            self._read(ids, epoch, arrays)
        except TimetrialError:
            raise
        except Exception as error:
            raise LoaderError(f"reading examples {ids[0]} … failed in epoch {epoch}: {type(error).__name__}: {error}") from error
        return Chunk(ids, tensors)

    def _checked(self, order: np.ndarray) -> np.ndarray:
        ids = np.asarray(order)
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or len(ids) == 0:
            raise UserError(f"an order is a non-empty list of integer ids, given {ids.dtype} {list(ids.shape)}")
        smallest, largest = int(ids.min()), int(ids.max())
        if smallest < 0 or largest >= self.count:
            wrong = smallest if smallest < 0 else largest
            raise UserError(f"example id {wrong} at position {int(np.argmax(ids == wrong))} is outside 0 … {self.count - 1}")
        return ids.astype(np.int64)  # a copy: the caller may change its own


@final
class TorchLoader(Loader):
    """Reads the split's memory-mapped arrays: the oracle, the baseline, and the loader wherever FFCV cannot be built."""

    def __init__(self, split: Split, *arguments: Any, **options: Any) -> None:
        super().__init__(split, *arguments, **options)
        self._bytes = {column.name: np.ascontiguousarray(column.field.values).reshape(-1).view(np.uint8) for column in self.columns}

    def _read(self, ids: np.ndarray, epoch: int, outputs: Mapping[str, np.ndarray]) -> None:
        for column in self.columns:
            out, source = outputs[column.name], self._bytes[column.name]
            starts = ids * column.row_bytes
            if column.field.kind is FieldKind.IMAGE:
                kernels.augment_images(source, starts, ids, epoch, self._seed, *column.augmentation.kernel_arguments(), column.table, out)
            else:
                kernels.gather_rows(source, starts, out.reshape(len(ids), -1).view(np.uint8))


@final
class FfcvLoader(Loader):
    """Reads the split's ``.beton`` through FFCV: one FFCV ``Loader`` compiles the pipeline and serves every order of the trial.

    Raises ``DataMissing`` when the split has no such file and ``DataError`` when the file is not sound.
    """

    def __init__(self, split: Split, *arguments: Any, **options: Any) -> None:
        super().__init__(split, *arguments, **options)
        if split.beton is None or not split.beton.is_file():
            raise DataMissing(f"split {split.name!r} has no FFCV file; `timetrial prepare WORKLOAD` writes it where FFCV is installed")
        self._layout = read_layout(split.beton, split.fields)
        from .ffcv_guards import FfcvPipeline  # the import of FFCV takes seconds and is paid only here

        self._pipeline = FfcvPipeline(split.beton, split.fields, {column.name: column.field.kind for column in self.columns})

    def _read(self, ids: np.ndarray, epoch: int, outputs: Mapping[str, np.ndarray]) -> None:
        memory: dict[str, Any] = {}
        for column in self.columns:
            out = outputs[column.name]
            if column.field.kind is FieldKind.IMAGE:
                memory[column.name] = (out, column.table, epoch, self._seed, *column.augmentation.kernel_arguments())
            elif column.field.kind is FieldKind.INT:
                memory[column.name] = out
            else:
                memory[column.name] = out.reshape(len(ids), -1).view(np.uint8)
        self._pipeline.run(ids, memory)


def make_loader(kind: Literal["auto", "ffcv", "torch"], split: Split, *arguments: Any, **options: Any) -> Loader:
    """``ffcv``, ``torch``, or ``auto``: FFCV where it is installed and the split has its file, else torch.

    The other arguments are those of ``Loader``. Raises ``ConfigError`` for another kind.
    """
    if kind not in ("auto", "ffcv", "torch"):
        raise ConfigError(f"loader must be auto, ffcv or torch, given {kind!r}")
    if kind == "ffcv" or (kind == "auto" and split.beton is not None and ffcv_available()):
        return FfcvLoader(split, *arguments, **options)
    return TorchLoader(split, *arguments, **options)


def _columns(split: Split, names: Sequence[str] | None, augmentation: Augmentation) -> tuple[Column, ...]:
    names = list(split.fields) if names is None else list(names)
    for name in names:
        if name not in split.fields:
            raise unknown_name("field", name, split.fields)
    if augmentation.concerns_images and IMAGE_FIELD not in names:
        raise ConfigError(f"the augmentation is for a field {IMAGE_FIELD!r}; served are {', '.join(names)}")
    if augmentation.window is not None and TOKENS_FIELD not in names:
        raise ConfigError(f"a window is cut from a field {TOKENS_FIELD!r}; served are {', '.join(names)}")
    return tuple(_column(name, split.fields[name], augmentation) for name in names)


def _column(name: str, field: Field, augmentation: Augmentation) -> Column:
    values = field.values
    if field.kind is FieldKind.IMAGE:
        if name != IMAGE_FIELD:  # a mask moves with its picture, but keeps its values
            augmentation = replace(augmentation, mean=None, std=None, cutout=0)
        height, width, channels = values.shape[1:]
        augmentation.check_image(height, width)
        return Column(name, field, (channels, height, width), augmentation.dtype, augmentation, augmentation.table(channels))
    return Column(name, field, values.shape[1:], values.dtype, Augmentation())


def _default_chunk(columns: Sequence[Column], count: int) -> int:
    row_bytes = sum(int(np.prod(column.shape)) * column.dtype.itemsize for column in columns)
    return max(1, min(_CHUNK_BYTES // max(row_bytes, 1), _MAX_CHUNK, count))
