"""Energy meters: joules that a part of the machine has spent, where it has a counter that may be read. Nothing is ever estimated.

Processors of Intel and AMD count in RAPL, which Linux shows below ``/sys/class/powercap`` (to root alone on most systems); cards of NVIDIA
count since the driver was loaded (``nvmlDeviceGetTotalEnergyConsumption``, from Volta on).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, final

__all__ = ["Rapl", "cards_meter", "energy_meter"]

POWERCAP = Path("/sys/class/powercap")
Meter = Callable[[], float]


@final
class Rapl:
    """Joules of all processor packages since this object was made. A counter that starts over at its largest value is followed, as long as
    it is read once before it comes round again (an hour or so)."""

    def __init__(self, packages: Sequence[Path]) -> None:
        self._counters = {package / "energy_uj": int((package / "max_energy_range_uj").read_text()) for package in packages}
        self._last = {path: int(path.read_text()) for path in self._counters}
        self._microjoules = 0

    @classmethod
    def found(cls, powercap: Path = POWERCAP) -> Rapl | None:
        """The meter of this machine; None where there is no counter or it may not be read."""
        packages = [path for path in sorted(powercap.glob("intel-rapl:*")) if path.name.count(":") == 1]
        named = [path for path in packages if (path / "name").is_file() and (path / "name").read_text().startswith("package")]
        try:
            return cls(named) if named else None
        except (OSError, ValueError):
            return None

    def __call__(self) -> float:
        for path, largest in self._counters.items():
            now = int(path.read_text())
            self._microjoules += now - self._last[path] + (largest if now < self._last[path] else 0)
            self._last[path] = now
        return self._microjoules / 1e6


def cards_meter(indices: Sequence[int], nvml: Any = None) -> Meter | None:
    """Joules of some cards by NVML's own numbers; None without ``pynvml`` or a card that counts."""
    if nvml is None:
        with suppress(ImportError):
            nvml = import_module("pynvml")
    if nvml is None or not indices:
        return None
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in indices]
        for handle in handles:
            nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # noqa: BLE001  NVMLError has a class of its own in each version of the package; no meter is no failure
        return None
    return lambda: sum(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1e3


def energy_meter(cards: Sequence[int] = (), powercap: Path = POWERCAP, nvml: Any = None) -> Meter | None:
    """What a trial on these cards (none: on the processor) spends: its cards and the processors. None when one of the two has no meter."""
    parts = [Rapl.found(powercap), *([cards_meter(cards, nvml)] if cards else [])]
    meters = [part for part in parts if part is not None]
    return (lambda: sum(meter() for meter in meters)) if len(meters) == len(parts) else None
