"""The clock counts every second once, in the bucket that was open, and waits for the device at each edge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.suite.clock import CHARGED, Bucket, Clock


class Hands:
    """A clock face that the test turns by hand."""

    def __init__(self):
        self.wall = 100.0
        self.synchronised = 0

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.wall * 2, self._synchronize)

    def _synchronize(self):
        self.synchronised += 1


def test_charged_seconds_are_curate_setup_and_train_only():
    hands = Hands()
    clock = hands.clock()
    for seconds, bucket in enumerate(Bucket, 1):
        with clock.bucket(bucket):
            hands.wall += seconds
    reading = clock.read()
    assert reading.wall_seconds == {bucket: seconds for seconds, bucket in enumerate(Bucket, 1)}
    assert reading.charged_seconds == sum(seconds for seconds, bucket in enumerate(Bucket, 1) if bucket in CHARGED)
    assert reading.charged_cpu_seconds == 2 * reading.charged_seconds


def test_a_bucket_opened_inside_another_suspends_it():
    hands = Hands()
    clock = hands.clock()
    with clock.bucket(Bucket.TRAIN):
        hands.wall += 1
        with clock.bucket(Bucket.EVALUATE):
            hands.wall += 10
        hands.wall += 2
    assert clock.read().wall_seconds == {"train": 3, "evaluate": 10}


def test_time_outside_any_bucket_is_not_counted():
    hands = Hands()
    clock = hands.clock()
    with clock.bucket(Bucket.TRAIN):
        hands.wall += 1
    hands.wall += 50
    with clock.bucket(Bucket.TRAIN):
        hands.wall += 1
    assert clock.read().wall_seconds == {"train": 2}


def test_a_block_that_raises_is_still_charged():
    hands = Hands()
    clock = hands.clock()
    with pytest.raises(KeyError), clock.bucket(Bucket.SETUP):
        hands.wall += 4
        raise KeyError
    assert clock.read().wall_seconds == {"setup": 4}


def test_reading_an_open_bucket_includes_it_up_to_now():
    hands = Hands()
    clock = hands.clock()
    with clock.bucket(Bucket.TRAIN):
        hands.wall += 3
        assert clock.read().charged_seconds == 3
        hands.wall += 1
    assert clock.read().charged_seconds == 4


def test_the_device_is_waited_for_at_both_edges():
    hands = Hands()
    clock = hands.clock()
    with clock.bucket(Bucket.TRAIN):
        assert hands.synchronised == 1
    assert hands.synchronised == 2


def test_spans_name_what_happened_inside_a_bucket():
    hands = Hands()
    clock = hands.clock()
    with clock.bucket(Bucket.CURATE):
        with clock.span("embed"):
            hands.wall += 2
        with clock.span("cluster"):
            hands.wall += 1
        with clock.span("embed"):
            hands.wall += 3
    reading = clock.read()
    assert reading.span_seconds == {"curate/embed": 5, "curate/cluster": 1}
    assert reading.charged_seconds == 6
    with pytest.raises(RuntimeError, match="outside any bucket"), clock.span("embed"):
        pass


def test_an_artefact_from_a_cache_is_charged_what_it_took_to_produce():
    clock = Hands().clock()
    clock.charge(Bucket.CURATE, 30.0, 55.0, {"embed": 28.0})
    reading = clock.read()
    assert (reading.charged_seconds, reading.charged_cpu_seconds, reading.span_seconds) == (30.0, 55.0, {"curate/embed": 28.0})
    with pytest.raises(ValueError, match="cannot be negative"):
        clock.charge(Bucket.CURATE, -1.0, 0.0)


def test_a_resumed_clock_goes_on_from_the_checkpoint():
    first = Hands()
    clock = first.clock()
    with clock.bucket(Bucket.TRAIN):
        first.wall += 7
    second = Hands()
    resumed = second.clock()
    resumed.load_state_dict(clock.state_dict())
    with resumed.bucket(Bucket.TRAIN):
        second.wall += 5
    assert resumed.read().charged_seconds == 12


@given(st.lists(st.tuples(st.sampled_from(list(Bucket)), st.floats(0, 1e3), st.floats(0, 1e3)), max_size=20))
def test_nested_buckets_add_up_to_the_outer_stopwatch(blocks):
    hands = Hands()
    clock = hands.clock()
    start = hands.wall
    with clock.bucket(Bucket.LOG):
        for bucket, inside, after in blocks:
            with clock.bucket(bucket):
                hands.wall += inside
            hands.wall += after
    assert sum(clock.read().wall_seconds.values()) == pytest.approx(hands.wall - start)
