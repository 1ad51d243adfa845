"""What each span of choosing cost: wall and CPU seconds, bytes asked of the pool, and the process' peak memory by its end."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import final

from .pool import Pool
from .selection import Cost

__all__ = ["Ledger", "peak_memory_bytes"]


def peak_memory_bytes() -> int:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@final
class Ledger:
    """Wraps a clock's ``span`` and adds up what happens inside.

    ``cpu_now``: CPU seconds of all threads; ``peak``: bytes. Examples that a proxy training reads through a loader are not among the
    bytes: they are those of training, which costs by the example.
    """

    def __init__(
        self,
        pool: Pool,
        span: Callable[[str], AbstractContextManager[None]],
        *,
        now: Callable[[], float] = time.perf_counter,
        cpu_now: Callable[[], float] = time.process_time,
        peak: Callable[[], int] = peak_memory_bytes,
    ) -> None:
        self._pool, self._span, self._now, self._cpu_now, self._peak = pool, span, now, cpu_now, peak
        self._lines: dict[str, dict[str, float]] = {}

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Count the block under ``name``, also when it raises."""
        wall, cpu, read = self._now(), self._cpu_now(), self._pool.read_bytes
        try:
            with self._span(name):
                yield
        finally:
            line = self._line(name)
            line["wall_seconds"] += self._now() - wall
            line["cpu_seconds"] += self._cpu_now() - cpu
            line["read_bytes"] += self._pool.read_bytes - read
            line["peak_memory_bytes"] = max(line["peak_memory_bytes"], self._peak())

    def charge(self, cost: Cost) -> None:
        """Add the lines of an artefact that was made earlier; CPU seconds without lines of their own go to its only span."""
        for name, seconds in cost.span_seconds.items():
            found = cost.ledger.get(name) or {
                "wall_seconds": seconds,
                "cpu_seconds": cost.cpu_seconds if len(cost.span_seconds) == 1 else 0.0,
            }
            line = self._line(name)
            for key, value in found.items():
                line[key] = max(line[key], value) if key == "peak_memory_bytes" else line[key] + value

    def read(self) -> Mapping[str, Mapping[str, float]]:
        """Span -> ``wall_seconds``, ``cpu_seconds``, ``read_bytes``, ``peak_memory_bytes``."""
        return {name: dict(line) for name, line in self._lines.items()}

    def _line(self, name: str) -> dict[str, float]:
        return self._lines.setdefault(name, {"wall_seconds": 0.0, "cpu_seconds": 0.0, "read_bytes": 0, "peak_memory_bytes": 0})
