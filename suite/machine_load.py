"""How much of this machine a program gets: what others take of it, and what the hypervisor keeps.

The kernel's clock ticks tell both; where it keeps none, each function says None.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping

from .machine import Probe

__all__ = ["load", "stolen_fraction", "stolen_seconds", "wait_until_calm"]

_SAMPLE_SECONDS = 5.0


def load(
    interval_seconds: float = 0.1, probe: Probe | None = None, sleep: Callable[[float], None] = time.sleep
) -> Mapping[str, float | int | None]:
    """How busy the machine is while this process waits: 1-minute load average, fraction of all CPU time spent busy, and the
    number of processes that compute on GPUs. What the platform does not tell is None.
    """
    probe = probe or Probe()
    text = probe.read("proc/loadavg").split()
    average = float(text[0]) if text else None
    before = _ticks(probe)
    sleep(interval_seconds)
    after = _ticks(probe)
    total = after[1] - before[1]
    processes = probe.nvidia_smi(["--query-compute-apps=pid", "--format=csv,noheader"])
    return {
        "load_average_1min": average,
        "busy_fraction": round((after[0] - before[0]) / total, 4) if total > 0 else None,
        "gpu_processes": len(processes.split()),
    }


def stolen_seconds(probe: Probe | None = None) -> float | None:
    """CPU seconds, of all CPUs together, that the hypervisor has kept from this machine since boot; None where nothing tells them."""
    numbers = _cpu_ticks(probe or Probe())
    return numbers[7] / os.sysconf("SC_CLK_TCK") if len(numbers) > 7 else None


def stolen_fraction(before: float | None, elapsed_seconds: float, probe: Probe | None = None) -> float | None:
    """The share of all CPU time that was stolen since ``before``, a reading of :func:`stolen_seconds`, so many wall seconds ago."""
    now = stolen_seconds(probe)
    if before is None or now is None or elapsed_seconds <= 0:
        return None
    return round((now - before) / (elapsed_seconds * (os.cpu_count() or 1)), 4)


def wait_until_calm(limit: float, patience_seconds: float, probe: Probe | None = None, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Wait until the stolen share of a sample is below ``limit``, at most so long; False when it never was. True where nothing tells."""
    for _ in range(max(1, round(patience_seconds / _SAMPLE_SECONDS))):
        before = stolen_seconds(probe)
        sleep(_SAMPLE_SECONDS)
        found = stolen_fraction(before, _SAMPLE_SECONDS, probe)
        if found is None or found < limit:
            return True
    return False


def _cpu_ticks(probe: Probe) -> list[int]:
    """Clock ticks of all CPUs since boot by kind, stolen ones last; empty where nothing tells. Guest time is contained in user time."""
    match = re.search(r"^cpu\s+([\d ]+)$", probe.read("proc/stat"), re.MULTILINE)
    return [int(n) for n in match[1].split()][:8] if match else []


def _ticks(probe: Probe) -> tuple[int, int]:
    """Busy and total clock ticks of all CPUs since boot; waiting for a disk is not busy."""
    numbers = _cpu_ticks(probe)
    idle = sum(numbers[3:5])
    return sum(numbers) - idle, sum(numbers)
