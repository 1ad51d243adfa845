"""Vectors that need not fit in memory: rows over memory-mapped shards, and stages whose finished results survive an interruption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from ..suite.errors import DataError
from ..suite.files import atomic_path

__all__ = ["Rows", "Stages"]


@final
class Rows:
    """Some ``[n_i, d]`` arrays as one ``[n, d]``: memory-mapped ``.npy`` files, or arrays in memory.

    ``DataError`` when the shards do not have the same width or are not of a float or byte type.
    """

    def __init__(self, shards: Sequence[np.ndarray]) -> None:
        if not shards or any(shard.ndim != 2 or len(shard) == 0 for shard in shards):
            raise DataError(f"vectors: expected non-empty 2-D arrays, given shapes {[shard.shape for shard in shards]}")
        kinds = {(shard.shape[1], shard.dtype) for shard in shards}
        if len(kinds) > 1 or not (np.issubdtype(shards[0].dtype, np.floating) or shards[0].dtype == np.uint8):
            raise DataError(f"vectors: expected one width and one float type, given {sorted((w, str(t)) for w, t in kinds)}")
        self._shards = list(shards)
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return int(self._shards[0].shape[1])

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """First and past-the-last row of every shard."""
        return list(zip(self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True))

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Some rows, float32 ``[k, d]``, in the order given."""
        out = np.empty((len(positions), self.width), dtype=np.float32)
        which = np.searchsorted(self._starts, positions, side="right") - 1
        for index in np.unique(which):
            here = which == index
            out[here] = self._shards[index][positions[here] - self._starts[index]]
        return out

    def chunks(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Consecutive rows from ``start`` to ``stop`` as (first position, float32 ``[<= size, d]``); a chunk never straddles two shards."""
        end = len(self) if stop is None else stop
        for low, high in self.bounds:
            for first in range(max(low, start), min(high, end), size):
                last = min(first + size, high, end)
                yield first, np.asarray(self._shards[self._at(first)][first - low : last - low], dtype=np.float32)

    def _at(self, position: int) -> int:
        return int(np.searchsorted(self._starts, position, side="right") - 1)


@final
class Stages:
    """Named results in a folder: each is made once, written whole, and memory-mapped from then on.

    A stage is a pure function of its inputs, whose identity is the folder's name; the file itself is the completion marker. An
    engine that runs stages elsewhere only has to leave the same files.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.reused = 0

    def run(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The result of ``make``, from the folder if an earlier run finished it; without a folder it stays in memory."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.npy"
        if not path.exists():
            with atomic_path(path) as part, part.open("wb") as stream:
                np.save(stream, make())
        else:
            self.reused += 1
        try:
            made: np.ndarray = np.load(path, mmap_mode="r")
        except ValueError as problem:
            raise DataError(f"{path}: not a finished stage: {problem}; delete it to make it anew") from None
        return made

    def join(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterator[np.ndarray]) -> np.ndarray:
        """One array out of ``parts`` in order; with a folder it is filled on disk, so that only one part is in memory at a time."""
        if self.folder is None:
            return np.concatenate(list(parts))
        path = self.folder / f"{name}.npy"
        if path.exists():
            self.reused += 1
        else:
            with atomic_path(path) as part:
                whole, first = np.lib.format.open_memmap(part, "w+", dtype, shape), 0
                for block in parts:
                    whole[first : first + len(block)] = block
                    first += len(block)
                whole.flush()
        joined: np.ndarray = np.load(path, mmap_mode="r")
        return joined
