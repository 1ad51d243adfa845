"""The one clock: monotonic, device-synchronised, in named buckets that the harness alone starts and stops."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, final

__all__ = ["CHARGED", "TEST", "Bucket", "Clock", "Reading"]


class Bucket(StrEnum):
    """Where a second of a trial goes. ``curate``, ``setup`` and ``train`` are charged to the entry."""

    PREPARE = "prepare"
    CURATE = "curate"
    SETUP = "setup"
    TRAIN = "train"
    EVALUATE = "evaluate"
    LOG = "log"


CHARGED = frozenset({Bucket.CURATE, Bucket.SETUP, Bucket.TRAIN})
TEST = "test"
"""The span of ``evaluate`` in which the test set is measured, at the hit and at the end; the rest is validation."""


@dataclass(frozen=True)
class Reading:
    """Seconds per bucket (wall and CPU of this process) and per named span inside a bucket; joules per bucket, None without a meter."""

    wall_seconds: Mapping[str, float]
    cpu_seconds: Mapping[str, float]
    span_seconds: Mapping[str, float]
    joules: Mapping[str, float] | None = None

    @property
    def charged_seconds(self) -> float:
        """Wall seconds of the charged buckets: what rankings compare."""
        return sum(self.wall_seconds.get(bucket, 0.0) for bucket in sorted(CHARGED))

    @property
    def charged_cpu_seconds(self) -> float:
        """CPU seconds of the charged buckets, all threads of this process."""
        return sum(self.cpu_seconds.get(bucket, 0.0) for bucket in sorted(CHARGED))

    @property
    def charged_joules(self) -> float | None:
        """Joules of the charged buckets; None without a meter."""
        return None if self.joules is None else sum(self.joules.get(bucket, 0.0) for bucket in sorted(CHARGED))


@final
class Clock:
    """Accumulates time in one bucket at a time.

    ``now`` and ``cpu_now`` return seconds; tests inject their own. ``synchronize`` waits for the device and is called at
    both edges of every bucket, so that queued work is never paid for by the next one. Opening a bucket inside another
    suspends the outer one: no second is counted twice and none is lost between them.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.perf_counter,
        cpu_now: Callable[[], float] = time.process_time,
        synchronize: Callable[[], None] = lambda: None,
    ) -> None:
        self._now, self._cpu_now, self._synchronize = now, cpu_now, synchronize
        self._wall: dict[str, float] = {}
        self._cpu: dict[str, float] = {}
        self._spans: dict[str, float] = {}
        self._joules: dict[str, float] | None = None
        self._meter: Callable[[], float] = float
        self._open: list[Bucket] = []
        self._edge = (0.0, 0.0, 0.0)

    def synchronize_with(self, synchronize: Callable[[], None]) -> None:
        """Wait for a device at every edge from now on; called once the trial's device is known."""
        self._synchronize = synchronize

    def meter_with(self, meter: Callable[[], float]) -> None:
        """Read joules at every edge from now on. Energy spent before is not known, so this comes before the first charged bucket."""
        self._joules, self._meter = {}, meter
        self._edge = (*self._edge[:2], meter())

    @contextlib.contextmanager
    def bucket(self, bucket: Bucket) -> Iterator[None]:
        """Count the block's time to ``bucket``, also when it raises."""
        self._turn()
        self._open.append(bucket)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Count the block's wall time under ``bucket/name`` as well; needs an open bucket (``RuntimeError`` otherwise)."""
        if not self._open:
            raise RuntimeError(f"span {name!r} outside any bucket")
        key = f"{self._open[-1]}/{name}"
        self._synchronize()
        start = self._now()
        try:
            yield
        finally:
            self._synchronize()
            self._spans[key] = self._spans.get(key, 0.0) + self._now() - start

    def charge(self, bucket: Bucket, wall_seconds: float, cpu_seconds: float, spans: Mapping[str, float] | None = None) -> None:
        """Add a cost that was paid earlier: a cached artefact is charged again at what it took to produce.

        What it took in joules is not known, so from here on the trial's are not either.
        """
        if wall_seconds < 0 or cpu_seconds < 0:
            raise ValueError(f"a cost cannot be negative: {wall_seconds} s wall, {cpu_seconds} s CPU")
        self._wall[bucket] = self._wall.get(bucket, 0.0) + wall_seconds
        self._cpu[bucket] = self._cpu.get(bucket, 0.0) + cpu_seconds
        self._joules = None
        for name, seconds in (spans or {}).items():
            key = f"{bucket}/{name}"
            self._spans[key] = self._spans.get(key, 0.0) + seconds

    def read(self) -> Reading:
        """The totals so far, the open bucket included up to this moment."""
        self._turn()
        return Reading(dict(self._wall), dict(self._cpu), dict(self._spans), None if self._joules is None else dict(self._joules))

    def state_dict(self) -> dict[str, Any]:
        """Totals for a checkpoint; a resumed trial goes on counting from here."""
        found = self.read()
        joules = None if found.joules is None else dict(found.joules)
        return {"wall": dict(found.wall_seconds), "cpu": dict(found.cpu_seconds), "spans": dict(found.span_seconds), "joules": joules}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Start from a checkpoint's totals instead of zero; joules go on only where both machines meter them."""
        self._wall, self._cpu, self._spans = dict(state["wall"]), dict(state["cpu"]), dict(state["spans"])
        self._joules = None if self._joules is None or state.get("joules") is None else dict(state["joules"])

    def _turn(self) -> None:
        """Close the running interval at a synchronised edge and start the next one there."""
        self._synchronize()
        wall, cpu = self._now(), self._cpu_now()
        joules = 0.0 if self._joules is None else self._meter()
        if self._open:
            bucket = self._open[-1]
            self._wall[bucket] = self._wall.get(bucket, 0.0) + wall - self._edge[0]
            self._cpu[bucket] = self._cpu.get(bucket, 0.0) + cpu - self._edge[1]
            if self._joules is not None:
                self._joules[bucket] = self._joules.get(bucket, 0.0) + joules - self._edge[2]
        self._edge = (wall, cpu, joules)
