"""The batcher: one endless stream over all epochs, whatever the sizes of chunks and batches, resumable at every example."""

from __future__ import annotations

import itertools
from collections.abc import Generator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timetrial.data_pipelines.batcher import Batcher
from timetrial.data_pipelines.loaders import Chunk
from timetrial.suite.errors import LoaderError, UserError


class Source:
    """A loader without files: example i of epoch e is ``[i, e]``. Remembers what it was asked for and what was closed."""

    def __init__(self, chunk_size: int, fails_at: int | None = None, stops_at: int | None = None) -> None:
        self.chunk_size, self.fails_at, self.stops_at = chunk_size, fails_at, stops_at
        self.open = 0

    def serve(self, order: np.ndarray, epoch: int) -> Generator[Chunk, None, None]:
        if len(order) == 0:
            raise UserError("an order is a non-empty list of integer ids")
        return self._chunks(np.asarray(order, np.int64), epoch)

    def _chunks(self, order: np.ndarray, epoch: int) -> Generator[Chunk, None, None]:
        self.open += 1
        try:
            for first in range(0, len(order), self.chunk_size):
                if first == self.fails_at:
                    raise LoaderError("a worker failed")
                if first == self.stops_at:
                    return
                ids = order[first : first + self.chunk_size]
                values = np.stack([ids, np.full(len(ids), epoch)], axis=1)
                yield Chunk(ids, {"x": torch.from_numpy(values), "label": torch.from_numpy(ids % 7)})
        finally:
            self.open -= 1


def shuffled(count: int, weighted: tuple[bool, ...] = (False,)):
    """An order per epoch of ``count`` ids, one more each epoch; weights in those epochs that ``weighted`` says, in turn."""

    def order_of_epoch(epoch: int):
        random = np.random.default_rng(epoch)
        ids = random.permutation(count + epoch)
        return ids, random.random(len(ids)).astype(np.float32) if weighted[epoch % len(weighted)] else None

    return order_of_epoch


def stream(order_of_epoch, count: int):
    """The first ``count`` examples as ``(id, epoch, weight)``, by definition."""
    examples = []
    for epoch in itertools.count():
        ids, weights = order_of_epoch(epoch)
        weights = [None] * len(ids) if weights is None else weights.tolist()
        examples += [(i, epoch, weight) for i, weight in zip(ids.tolist(), weights, strict=True)]
        if len(examples) >= count:
            return examples[:count]


def taken(batcher: Batcher, sizes: list[int]):
    """The examples of the next batches, each checked against itself."""
    examples = []
    for size in sizes:
        batch = batcher.next(size)
        assert len(batch) == size == len(batch.ids) == len(batch["x"]), "no batch is ever short"
        assert batch.ids.dtype == torch.int64
        assert torch.equal(batch["x"][:, 0], batch.ids) and torch.equal(batch["label"], batch.ids % 7)
        assert batch.weights is None or batch.weights.dtype == torch.float32
        weights = [None] * size if batch.weights is None else batch.weights.tolist()
        examples += list(zip(batch.ids.tolist(), batch["x"][:, 1].tolist(), weights, strict=True))
    return examples


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=25)


@settings(max_examples=200, deadline=None)
@given(sizes=sizes, count=st.integers(1, 60), chunk_size=st.integers(1, 30), ahead=st.booleans())
def test_the_stream_is_the_epochs_end_to_end(sizes, count, chunk_size, ahead):
    batcher = Batcher(Source(chunk_size), shuffled(count), order_known_ahead=ahead)
    assert taken(batcher, sizes) == stream(shuffled(count), sum(sizes))
    assert batcher.examples_served == sum(sizes)
    assert batcher.epoch == stream(shuffled(count), sum(sizes))[-1][1]


@settings(max_examples=100, deadline=None)
@given(sizes=sizes, count=st.integers(1, 60), chunk_size=st.integers(1, 30))
def test_weights_follow_their_examples_and_unweighted_epochs_count_one(sizes, count, chunk_size):
    order = shuffled(count, (True, False, False))
    expected = [(i, e, w) for i, e, w in stream(order, sum(sizes))]
    found = taken(Batcher(Source(chunk_size), order), sizes)
    assert [example[:2] for example in found] == [example[:2] for example in expected]
    for (_, _, weight), (_, _, wanted) in zip(found, expected, strict=True):
        assert weight == wanted or (wanted is None and weight == 1.0)


@settings(max_examples=200, deadline=None)
@given(before=st.lists(st.integers(1, 40), max_size=15), after=sizes, count=st.integers(1, 60), chunks=st.tuples(*[st.integers(1, 30)] * 2))
def test_a_resumed_stream_goes_on_as_if_nothing_had_happened(before, after, count, chunks):
    """Even when the order of the running epoch could not be drawn again: it comes from the state, later ones are asked for."""
    drawn: dict[int, tuple] = {}
    random = np.random.default_rng(0)

    def draw(epoch: int):
        drawn[epoch] = random.permutation(count), random.random(count).astype(np.float32) if epoch % 2 else None
        return drawn[epoch]

    first = Batcher(Source(chunks[0]), draw)
    taken(first, before)
    state = {name: value.clone() if torch.is_tensor(value) else value for name, value in first.state_dict().items()}
    expected = taken(first, after)

    def ask(epoch: int):
        assert epoch > state["epoch"] or not before, "the running epoch must not be asked for again"
        return drawn[epoch]

    second = Batcher(Source(chunks[1]), ask)
    second.load_state_dict(state)
    assert second.examples_served == sum(before)
    assert taken(second, after) == expected
    assert second.examples_served == sum(before) + sum(after)
    assert (second.epoch, second.state_dict()["position"]) == (first.epoch, first.state_dict()["position"])


def test_a_used_batcher_can_go_back_to_a_state():
    batcher = Batcher(Source(4), shuffled(10))
    batcher.next(7)
    state = batcher.state_dict()
    expected = taken(batcher, [5, 5])
    batcher.next(2)
    batcher.load_state_dict(state)
    assert taken(batcher, [5, 5]) == expected


def test_an_epoch_is_asked_for_when_its_first_example_is_needed():
    asked = []

    def order_of_epoch(epoch: int):
        asked.append(epoch)
        return np.arange(10), None

    batcher = Batcher(Source(4), order_of_epoch)
    assert asked == []
    batcher.next(10)
    assert asked == [0]
    batcher.next(1)
    assert asked == [0, 1]
    asked.clear()
    ahead = Batcher(Source(4), order_of_epoch, order_known_ahead=True)
    ahead.next(1)
    assert asked == [0]
    ahead.next(9)
    assert asked == [0, 1], "asked once the last chunk is there"


def test_a_batch_inside_a_chunk_is_a_view_and_one_across_chunks_a_copy():
    held = Source(8)
    chunks: list[Chunk] = []
    serve = held.serve

    def recording(order, epoch):
        for chunk in serve(order, epoch):
            chunks.append(chunk)
            yield chunk

    held.serve = recording
    batcher = Batcher(held, lambda epoch: (np.arange(16), None))
    inside = [batcher.next(3), batcher.next(3)]
    for batch in inside:
        assert batch["x"].untyped_storage().data_ptr() == chunks[0].fields["x"].untyped_storage().data_ptr()
    across = batcher.next(3)
    assert across["x"].untyped_storage().data_ptr() not in {chunk.fields["x"].untyped_storage().data_ptr() for chunk in chunks}


def test_what_was_asked_wrongly_is_refused():
    batcher = Batcher(Source(4), shuffled(10))
    for size in (0, -1):
        with pytest.raises(UserError, match="at least 1 example"):
            batcher.next(size)
    for weights in (np.ones(9), np.full(10, np.nan), np.full(10, -1.0)):
        with pytest.raises(UserError, match="one per id"):
            Batcher(Source(4), lambda epoch, weights=weights: (np.arange(10), weights)).next(1)
    with pytest.raises(UserError, match="non-empty"):
        Batcher(Source(4), lambda epoch: (np.arange(0), None)).next(1)


@pytest.mark.parametrize("problem", ["fails_at", "stops_at"])
def test_a_failure_is_raised_and_never_skipped(problem):
    batcher = Batcher(Source(4, **{problem: 4}), shuffled(10))
    assert len(batcher.next(4)) == 4
    for _ in range(2):
        with pytest.raises(LoaderError, match=r"failed|stopped after 4 of 10"):
            batcher.next(4)
    assert batcher.examples_served == 4


def test_an_error_of_the_order_is_the_callers_to_see():
    def broken(epoch: int):
        raise ZeroDivisionError("entry")

    with pytest.raises(ZeroDivisionError, match="entry"):
        Batcher(Source(4), broken).next(1)


def test_close_leaves_nothing_open():
    source = Source(4)
    batcher = Batcher(source, shuffled(10), order_known_ahead=True)
    batcher.next(2)
    assert source.open == 1
    batcher.close()
    assert source.open == 0
    batcher.next(9)
    batcher.close()
    assert source.open == 0


def test_the_caller_may_change_its_order_afterwards():
    ids = np.arange(10)
    batcher = Batcher(Source(3), lambda epoch: (ids, None))
    batcher.next(2)
    ids[:] = 0
    state = batcher.state_dict()
    assert state["ids"].tolist() == list(range(2, 10))
