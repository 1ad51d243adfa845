"""Batches of any size out of chunks of any size, epoch after epoch, resumable at every example."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ..suite.algorithm import Batch
from ..suite.errors import LoaderError, UserError
from .loaders import Chunk, Loader

__all__ = ["Batcher", "Order"]

Order = tuple[np.ndarray, np.ndarray | None]

# Batches cut at once: enough to make a batch cost a list lookup, few enough that a changed batch size wastes little.
_CUT_AHEAD = 64


@dataclass(frozen=True)
class _Piece:
    """Examples in order of service: ``ids`` int64 ``[n]`` on the CPU, ``weights`` and ``fields`` on the trial's device."""

    ids: Tensor
    weights: Tensor | None
    fields: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, first: int, last: int) -> _Piece:
        weights = None if self.weights is None else self.weights[first:last]
        return _Piece(self.ids[first:last], weights, {name: values[first:last] for name, values in self.fields.items()})

    def batches(self, size: int) -> list[Batch]:
        """Whole batches of ``size``, as views."""
        fields = [values.split(size) for values in self.fields.values()]
        weights = [None] * (len(self) // size) if self.weights is None else self.weights.split(size)
        rows = zip(self.ids.split(size), weights, *fields, strict=True)
        return [Batch(ids, dict(zip(self.fields, values, strict=True)), weight) for ids, weight, *values in rows]


@dataclass
class _Stream:
    """One epoch being served: ``ids`` int64 ``[n]`` of which the first is example ``start`` of the epoch's order."""

    ids: np.ndarray
    weights: np.ndarray | None
    chunks: Generator[Chunk, None, None]
    start: int = 0
    received: int = 0


@final
class Batcher:
    """An endless stream of batches over the epochs that ``order_of_epoch`` gives.

    ``order_of_epoch(epoch)`` returns ``(ids int64 [n], weights float32 [n] or None)``. It is asked for an epoch when the first
    example of that epoch is needed, so that a method may decide late; with ``order_known_ahead`` it is asked up to a chunk earlier
    and the reader never pauses between epochs. A batch that an epoch cannot fill is completed from the next one: none is short.
    Batches are views of a chunk where they fit in one, else one copy, and stay valid for as long as they are kept.
    """

    def __init__(
        self,
        loader: Loader,
        order_of_epoch: Callable[[int], Order],
        device: torch.device | str = "cpu",
        *,
        order_known_ahead: bool = False,
    ) -> None:
        self.epoch = 0
        self.examples_served = 0
        self._loader = loader
        self._order_of_epoch = order_of_epoch
        self._device = torch.device(device)
        self._order_known_ahead = order_known_ahead
        self._position = 0  # examples of this epoch that have been served
        self._stream: _Stream | None = None
        self._upcoming: _Stream | None = None
        self._piece: _Piece | None = None  # the chunk being cut, and how much of it has been served
        self._used = 0
        self._ready: list[Batch] = []  # batches cut ahead from the piece, the next one last
        self._ready_size = 0

    def next(self, batch_size: int) -> Batch:
        """The next ``batch_size`` examples. Raises ``UserError`` for a size below 1 and ``LoaderError`` when reading fails."""
        if self._ready and batch_size == self._ready_size:
            self._count(batch_size)
            return self._ready.pop()
        if batch_size < 1:
            raise UserError(f"a batch has at least 1 example, given {batch_size}")
        self._ready.clear()
        parts: list[_Piece] = []
        missing = batch_size
        while missing:
            piece = self._current_piece()
            whole = (len(piece) - self._used) // batch_size
            if whole and not parts:
                end = self._used + min(whole, _CUT_AHEAD) * batch_size
                self._ready = piece.part(self._used, end).batches(batch_size)[::-1]
                self._ready_size = batch_size
                self._count(batch_size)
                return self._ready.pop()
            taken = min(missing, len(piece) - self._used)
            parts.append(piece.part(self._used, self._used + taken))
            self._count(taken)
            missing -= taken
        return _join(parts)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, with what is left of this epoch's order (which a dynamic method could not give again)."""
        left = None if self._stream is None else slice(self._position - self._stream.start, None)
        return {
            "epoch": self.epoch,
            "position": self._position,
            "examples_served": self.examples_served,
            "ids": None if self._stream is None else torch.tensor(self._stream.ids[left]),
            "weights": None if self._stream is None or self._stream.weights is None else torch.tensor(self._stream.weights[left]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where ``state_dict`` was taken: the same examples, pixels and batches follow."""
        self.close()
        self.epoch, self._position, self.examples_served = state["epoch"], state["position"], state["examples_served"]
        if state["ids"] is not None:
            weights = None if state["weights"] is None else state["weights"].numpy()
            self._stream = self._begin(self.epoch, state["ids"].numpy(), weights, self._position)

    def close(self) -> None:
        """Drop what is being read; the loader stays open. A later ``next`` starts this epoch again, so close when done."""
        for stream in (self._stream, self._upcoming):
            if stream is not None:
                stream.chunks.close()
        self._stream = self._upcoming = self._piece = None
        self._position = self._used = 0
        self._ready.clear()

    def _count(self, examples: int) -> None:
        self._used += examples
        self._position += examples
        self.examples_served += examples

    def _current_piece(self) -> _Piece:
        """The chunk that holds the next example; waits for it, and moves on to the next epoch, when need be."""
        if self._piece is not None and self._used < len(self._piece):
            return self._piece
        self._piece = None  # its memory can be filled again while we wait
        if self._stream is None:
            self._stream = self._ask(self.epoch)
        while self._stream.received == len(self._stream.ids):
            self._stream, self._upcoming = self._upcoming or self._ask(self.epoch + 1), None
            self.epoch += 1
            self._position = 0
        stream = self._stream
        chunk = next(stream.chunks, None)
        if chunk is None:
            raise LoaderError(f"the loader stopped after {stream.received} of {len(stream.ids)} examples of epoch {self.epoch}")
        first, stream.received = stream.received, stream.received + len(chunk.ids)
        if self._order_known_ahead and stream.received == len(stream.ids):
            self._upcoming = self._ask(self.epoch + 1)
        weights = None if stream.weights is None else torch.from_numpy(stream.weights[first : stream.received]).to(self._device)
        fields = {name: values.to(self._device) for name, values in chunk.fields.items()}
        self._piece, self._used = _Piece(torch.from_numpy(chunk.ids), weights, fields), 0
        return self._piece

    def _ask(self, epoch: int) -> _Stream:
        ids, weights = self._order_of_epoch(epoch)
        return self._begin(epoch, ids, weights, 0)

    def _begin(self, epoch: int, ids: np.ndarray, weights: np.ndarray | None, start: int) -> _Stream:
        if len(ids) == 0 and start > 0:  # a state taken at the very end of an epoch
            return _Stream(ids, None, _nothing(), start)
        if weights is not None:
            weights = np.array(weights, np.float32)
            if weights.shape != np.shape(ids) or not np.isfinite(weights).all() or (weights < 0).any():
                raise UserError(
                    f"weights are finite, not negative and one per id; given {list(weights.shape)} for {list(np.shape(ids))} ids"
                )
        return _Stream(np.array(ids), weights, self._loader.serve(ids, epoch), start)


def _join(parts: Sequence[_Piece]) -> Batch:
    """One batch out of several pieces; examples of an epoch without weights count 1 beside weighted ones."""
    fields = {name: torch.cat([part.fields[name] for part in parts]) for name in parts[0].fields}
    weights = None
    if any(part.weights is not None for part in parts):
        device = next(iter(fields.values())).device
        weights = torch.cat([torch.ones(len(part), device=device) if part.weights is None else part.weights for part in parts])
    return Batch(torch.cat([part.ids for part in parts]), fields, weights)


def _nothing() -> Generator[Chunk, None, None]:
    yield from ()
