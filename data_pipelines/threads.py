"""Threads, OpenMP and the folder of compiled code: set here, once, and read back for the record.

Two calls, because some of it must stand in the environment before torch and numba are imported: ``prepare_environment``
first thing in a process, ``set_threads`` when a trial starts.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ..suite.errors import ConfigError

__all__ = ["prepare_environment", "set_threads"]

# OpenMP threads that wait must sleep: spinning ones take the core that the reader needs (2 to 6 times the CPU time on two cores).
# Of numba's threading layers `workqueue` aborts the process when two threads enter it at once, and `tbb` is there only by accident.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "NUMBA_THREADING_LAYER": "omp"}


def prepare_environment(home: Path) -> None:
    """Set what torch and numba read when they are imported; imports neither. A value that the user has set stays.

    Compiled kernels are cached below ``home``, so that only the first process ever pays for compiling them, in a folder named after
    their sources: numba itself notices a change in a function's own file, not in one that it calls.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    folder = os.environ.setdefault("NUMBA_CACHE_DIR", str(home / "cache" / "numba" / _kernel_digest()))
    if "numba" in sys.modules:  # it has read its environment already; the folder can still be changed
        import numba

        numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]


def set_threads(count: int) -> Mapping[str, str | int]:
    """Give torch ``count`` compute threads and return the thread settings of this process, for the record.

    Raises ``ConfigError`` when ``count`` is below 1.
    """
    if count < 1:
        raise ConfigError(f"threads must be at least 1, given {count}")
    import torch

    torch.set_num_threads(count)
    return {
        "torch_threads": torch.get_num_threads(),
        "torch_interop_threads": torch.get_num_interop_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "unset"),
        "numba_threading_layer": os.environ.get("NUMBA_THREADING_LAYER", "unset"),
    }


def _kernel_digest() -> str:
    """A short name for the present text of every module here that holds compiled functions."""
    texts = (path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
    return hashlib.sha256(b"".join(text for text in texts if b"numba" in text)).hexdigest()[:16]
