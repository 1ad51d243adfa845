"""Loaders: examples by id, in the order that the harness asks for, augmented and ready for the model.

``FfcvLoader`` reads the split's ``.beton`` through FFCV, ``TorchLoader`` its memory-mapped arrays. Both run the same compiled
kernels in background threads, so the same seed gives the same bits from either, with any number of workers and any chunk size.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Self, cast, final

import numpy as np
from torch import Tensor

from ..suite.errors import ConfigError, DataMissing, LoaderError, TimetrialError, UserError
from . import kernels
from .augment import Augmentation, read_only_bytes
from .beton import ffcv_available, read_layout
from .buffers import BufferPool
from .columns import Column, columns_of
from .decoder import decode_slowly, decoder_address
from .fields import FieldKind, Split
from .jpeg import jpeg_size

__all__ = ["Chunk", "FfcvLoader", "Loader", "TorchLoader", "make_loader"]

_CHUNK_BYTES = 8 << 20
_MAX_CHUNK = 1 << 15
# An epoch this small is read by the caller: handing it to a thread and back takes longer than reading it.
_INLINE_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """Consecutive examples of an order: ``ids`` int64 ``[n]``; every field a tensor ``[n, ...]`` on the CPU.

    The memory is the caller's for as long as anything refers to it.
    """

    ids: np.ndarray
    fields: Mapping[str, Tensor]


class Loader(ABC):
    """Serves chunks of one split; both implementations are bit-identical. Use as a context manager, or call ``close``.

    ``fields``: which fields to serve (None: all). ``seed`` with the epoch and the example's id chooses the augmentation.
    ``chunk_size``: examples per chunk (None: about 8 MiB a chunk, in whole batches of ``batch_size``, so that no batch is copied).
    ``workers``: threads that prepare chunks, each a whole one.
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
        batch_size: int = 1,
    ) -> None:
        for name, value in (("chunk_size", chunk_size), ("workers", workers), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, given {value}")
        if not 0 <= seed < 1 << 63:
            raise ConfigError(f"a loader's seed is an integer from 0 to 2**63 - 1, given {seed}")
        self.count = len(split)
        self.columns = columns_of(split, fields, augmentation or Augmentation())
        served_bytes = sum(column.served_bytes for column in self.columns)
        fitting = min(_CHUNK_BYTES // served_bytes, _MAX_CHUNK, self.count)
        self.chunk_size = max(1, fitting // batch_size) * batch_size if chunk_size is None else chunk_size
        self._seed = seed
        self._workers = workers
        self._inline = self.count * served_bytes <= _INLINE_BYTES
        self._pool = BufferPool(keep=workers + 2)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="timetrial-loader")
        self._process = os.getpid()
        self._closed = False
        self._open(split)

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
        if self._inline:
            return (self._prepare(piece, epoch) for piece in pieces)
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
    def _open(self, split: Split) -> None:
        """Open the split's file or arrays; the columns are known."""

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
        outputs, tensors = {}, {}
        for column in self.columns:
            array, tensors[column.name] = self._pool.take(len(ids), self.chunk_size, column.shape, column.dtype)
            stored = column.field.values
            outputs[column.name] = np.empty((len(ids), *stored.shape[1:]), stored.dtype) if column.is_windowed else array
        try:
            self._read(ids, epoch, outputs)
            for column in self.columns:
                if column.is_windowed:
                    windows = tensors[column.name].numpy()
                    kernels.gather_windows(outputs[column.name], ids, epoch, self._seed, column.augmentation.train, windows)
        except TimetrialError:
            raise
        except Exception as error:
            raise LoaderError(f"reading examples {ids[0]} … failed in epoch {epoch}: {type(error).__name__}: {error}") from error
        return Chunk(ids, tensors)

    def _decode_slowly(
        self,
        column: Column,
        source: np.ndarray,
        starts: np.ndarray,
        sizes: np.ndarray,
        ids: np.ndarray,
        epoch: int,
        failed: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Decode the pictures that ``failed`` marks with Pillow, which reads what libturbojpeg refuses or only warns about."""
        for i in np.flatnonzero(failed):
            try:
                pixels = decode_slowly(source[starts[i] : starts[i] + sizes[i]])
            except LoaderError as error:
                raise LoaderError(f"example {ids[i]}, field {column.name!r}: {error}") from error
            crop = (ids[i], epoch, self._seed, *column.augmentation.crop_arguments, column.table, out[i])
            kernels.crop_picture(read_only_bytes(pixels), 0, pixels.shape[0], pixels.shape[1], *crop)

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

    def _open(self, split: Split) -> None:
        self._bytes = {column.name: read_only_bytes(column.field.values) for column in self.columns}

    def _read(self, ids: np.ndarray, epoch: int, outputs: Mapping[str, np.ndarray]) -> None:
        for column in self.columns:
            source, out = self._bytes[column.name], outputs[column.name]
            if column.field.offsets is not None:
                self._read_encoded(column, source, ids, epoch, out)
                continue
            starts = ids * column.row_bytes
            random = (ids, epoch, self._seed)
            if column.field.kind is not FieldKind.IMAGE:
                kernels.gather_rows(source, starts, _as_bytes(out))
            elif column.is_cropped:
                height, width = (np.full(len(ids), side) for side in column.field.values.shape[1:3])
                kernels.crop_pictures(source, starts, height, width, *random, *column.augmentation.crop_arguments, column.table, out)
            else:
                kernels.augment_images(source, starts, *random, *column.augmentation.kernel_arguments, column.table, out)

    def _read_encoded(self, column: Column, source: np.ndarray, ids: np.ndarray, epoch: int, out: np.ndarray) -> None:
        offsets = cast(np.ndarray, column.field.offsets)
        starts, ends = np.asarray(offsets[ids]), np.asarray(offsets[ids + 1])
        failed = np.ones(len(ids), np.bool_)
        if decoder_address():
            sizes = np.array([jpeg_size(source[start:end]) for start, end in zip(starts, ends, strict=True)])
            heights, widths = np.ascontiguousarray(sizes.T)
            crop = (epoch, self._seed, *column.augmentation.crop_arguments, column.table, out, failed)
            kernels.crop_jpegs(source, starts, ends - starts, heights, widths, ids, decoder_address(), *crop)
        self._decode_slowly(column, source, starts, ends - starts, ids, epoch, failed, out)


@final
class FfcvLoader(Loader):
    """Reads the split's ``.beton`` through FFCV: one FFCV ``Loader`` compiles the pipeline and serves every order of the trial.

    Raises ``DataMissing`` when the split has no such file and ``DataError`` when the file is not sound.
    """

    def _open(self, split: Split) -> None:
        if split.beton is None or not split.beton.is_file():
            raise DataMissing(f"split {split.name!r} has no FFCV file; `timetrial prepare WORKLOAD` writes it where FFCV is installed")
        self._layout = read_layout(split.beton, split.fields)
        from .ffcv_guards import FfcvPipeline  # the import of FFCV takes a second and is paid only here

        self._pipeline = FfcvPipeline(split.beton, split.fields, {column.name: _operation(column) for column in self.columns})

    def _read(self, ids: np.ndarray, epoch: int, outputs: Mapping[str, np.ndarray]) -> None:
        failed = np.zeros(len(ids), np.bool_)
        memory: dict[str, Any] = {}
        for column in self.columns:
            out, random = outputs[column.name], (epoch, self._seed)
            if column.is_cropped:
                decoder = decoder_address() if column.field.kind is FieldKind.JPEG else 0
                crop = (column.table, *random, *column.augmentation.crop_arguments)
                memory[column.name] = (out, failed, self._layout.sizes[column.name], decoder, *crop)
            elif column.field.kind is FieldKind.IMAGE:
                memory[column.name] = (out, column.table, *random, *column.augmentation.kernel_arguments)
            else:
                memory[column.name] = out if column.field.kind is FieldKind.INT else _as_bytes(out)
        self._pipeline.run(ids, memory)
        for column in self.columns:
            if column.field.kind is FieldKind.JPEG:
                starts, sizes = self._layout.starts[column.name][ids], self._layout.sizes[column.name][ids]
                self._decode_slowly(column, self._pipeline.bytes, starts, sizes, ids, epoch, failed, outputs[column.name])


def make_loader(
    kind: str,
    split: Split,
    fields: Sequence[str] | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
    workers: int = 1,
    batch_size: int = 1,
) -> Loader:
    """``ffcv``, ``torch``, or ``auto``: FFCV where it is installed and the split has its file, else torch.

    The other arguments are those of ``Loader``. Raises ``ConfigError`` for another kind.
    """
    if kind not in ("auto", "ffcv", "torch"):
        raise ConfigError(f"loader must be auto, ffcv or torch, given {kind!r}")
    use_ffcv = kind == "ffcv" or (kind == "auto" and split.beton is not None and ffcv_available())
    loader = FfcvLoader if use_ffcv else TorchLoader
    return loader(split, fields, augmentation, seed, chunk_size, workers, batch_size)


def _as_bytes(rows: np.ndarray) -> np.ndarray:
    """The same memory as uint8 ``[n, bytes of a row]``."""
    return rows.reshape(len(rows), -1).view(np.uint8)


def _operation(column: Column) -> Callable[..., Any]:
    """The compiled FFCV operation that reads a column."""
    if column.is_cropped:
        operation = kernels.decode_crop
    else:
        operation = {FieldKind.IMAGE: kernels.decode_image, FieldKind.INT: kernels.decode_int, FieldKind.ARRAY: kernels.decode_array}[
            column.field.kind
        ]
    return cast(Callable[..., Any], operation)
