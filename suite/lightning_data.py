"""A user's ``DataLoader`` read by example id: its dataset, collation and worker processes, the harness' order and random keys."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, final

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data import Dataset as TorchDataset

from ..data_pipelines.loaders import Chunk
from .errors import LoaderError, NeedsUnmet

__all__ = ["Feed", "Reader", "feed_of"]

_SAMPLED = 64  # examples that a feed's digest is taken over


@dataclass(frozen=True)
class Feed:
    """One split of a data module. ``names``: one per tensor of a batch; ``structure`` puts them back into the user's shape."""

    loader: DataLoader[Any]
    names: tuple[str, ...]
    structure: pytree.TreeSpec
    digest: str

    def __len__(self) -> int:
        return len(self.loader.dataset)  # type: ignore[arg-type]

    @property
    def batch_size(self) -> int:
        """Of the user's loader."""
        return self.loader.batch_size or 1


def feed_of(loader: Any, name: str) -> Feed:
    """Look at what a data module returned for a split. Raises ``NeedsUnmet`` for what cannot be read by id or is no tensor.

    The digest covers the number of examples and the content of 64 of them, evenly spread: enough to tell data sets apart, no proof.
    """
    if not isinstance(loader, DataLoader):
        raise NeedsUnmet(f"{name}: expected one torch DataLoader, given {type(loader).__name__}")
    if isinstance(loader.dataset, IterableDataset):
        raise NeedsUnmet(f"{name}: an iterable dataset has no examples by number; give one with __getitem__ and __len__")
    if type(loader.batch_sampler) is not BatchSampler or not isinstance(loader.sampler, (SequentialSampler, RandomSampler)):
        own = type(loader.sampler if type(loader.batch_sampler) is BatchSampler else loader.batch_sampler).__name__
        raise NeedsUnmet(f"{name}: the harness decides the order of examples; a sampler of its own ({own}) would be ignored")
    if len(loader.dataset) == 0:  # type: ignore[arg-type]
        raise NeedsUnmet(f"{name}: an empty dataset")
    count = len(loader.dataset)  # type: ignore[arg-type]
    ids = np.unique(np.linspace(0, count - 1, min(_SAMPLED, count)).astype(np.int64))
    with _random_state_kept():
        keyed = _Keyed(loader.dataset, 0, 0)
        batch = loader.collate_fn([keyed[int(i)] for i in ids])
    leaves, structure = pytree.tree_flatten_with_path(batch)
    names = tuple(".".join(map(_word, path)) or "batch" for path, _ in leaves)
    content = hashlib.sha256(str((count, names)).encode())
    for part, (_, leaf) in zip(names, leaves, strict=True):
        if not isinstance(leaf, Tensor) or leaf.ndim == 0 or len(leaf) != len(ids):
            given = f"a {type(leaf).__name__}" if not isinstance(leaf, Tensor) else f"shape {list(leaf.shape)}"
            raise NeedsUnmet(f"{name}: batches are tensors with the batch first; {part!r} of {len(ids)} examples is {given}")
        content.update(leaf.detach().contiguous().view(torch.uint8).numpy().tobytes() if leaf.numel() else b"")
    return Feed(loader, names, structure, content.hexdigest())


def _word(step: Any) -> str:
    """A key, position or attribute on the way to a tensor."""
    return str(next(getattr(step, name) for name in ("key", "idx", "name") if hasattr(step, name)))


@final
class Reader:
    """Serves chunks like :class:`~timetrial.data_pipelines.loaders.Loader`, one a batch, through a ``DataLoader`` of its own.

    Whatever the dataset draws from ``random``, numpy or torch is a function of seed, epoch and example id; the generators of this
    process are put back after every batch, so that reading never changes what training draws.
    """

    def __init__(self, feed: Feed, seed: int, chunk_size: int) -> None:
        self._feed, self._seed, self._chunk_size = feed, seed, chunk_size

    def serve(self, order: np.ndarray, epoch: int) -> Generator[Chunk, None, None]:
        """Chunks of the examples ``order`` (int64 ``[n]``); what the dataset raises arrives as ``LoaderError``, the cause chained."""
        ids = np.asarray(order, np.int64)
        pieces = [ids[first : first + self._chunk_size] for first in range(0, len(ids), self._chunk_size)]
        batches = iter(self._loader(pieces, epoch))
        for piece in pieces:
            try:
                with _random_state_kept():
                    leaves = pytree.tree_leaves(next(batches))
            except Exception as problem:
                raise LoaderError(
                    f"reading examples {piece[0]} … failed in epoch {epoch}: {type(problem).__name__}: {problem}"
                ) from problem
            yield Chunk(piece, dict(zip(self._feed.names, leaves, strict=True)))

    def close(self) -> None:
        """Nothing stays open: worker processes end with the iterator that started them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _loader(self, pieces: list[np.ndarray], epoch: int) -> DataLoader[Any]:
        user = self._feed.loader
        return DataLoader(
            _Keyed(user.dataset, self._seed, epoch),
            batch_sampler=[piece.tolist() for piece in pieces],
            collate_fn=user.collate_fn,
            num_workers=user.num_workers,
            worker_init_fn=user.worker_init_fn,
            multiprocessing_context=user.multiprocessing_context,
            prefetch_factor=user.prefetch_factor,
            timeout=user.timeout,
            generator=torch.Generator().manual_seed(0),
        )


@final
class _Keyed(TorchDataset[Any]):
    """A dataset whose random draws depend on seed, epoch and example alone. Leaves the generators of its process changed."""

    def __init__(self, dataset: Any, seed: int, epoch: int) -> None:
        self._dataset, self._seed, self._epoch = dataset, seed, epoch

    def __getitem__(self, example: int) -> Any:
        key = hashlib.blake2b(f"{self._seed}/{self._epoch}/{example}".encode(), digest_size=8).digest()
        number = int.from_bytes(key, "little")
        random.seed(number)
        np.random.seed(number & 0xFFFFFFFF)
        torch.default_generator.manual_seed(number >> 1)
        return self._dataset[example]


@contextmanager
def _random_state_kept() -> Generator[None, None, None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
