"""Foreign code in a process of its own: time, memory, process and file limits, and no network where the machine allows to take it away.

What happens to such a process is a result, never an exception of the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["MEMORY_WORDS", "Ending", "Limits", "Outcome", "network_prefix", "refuse_network", "run_isolated"]

_KEPT = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "TEMP", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SYSTEMROOT")
_KEPT_PREFIXES = ("LC_", "PYTHON", "TIMETRIAL_", "OMP_", "MKL_", "OPENBLAS_", "NUMBA_", "TORCH", "CUDA_", "NVIDIA_", "CI_")
_TAIL_CHARACTERS = 4000
MEMORY_WORDS = ("MemoryError", "can't allocate memory", "std::bad_alloc", "Cannot allocate memory", "out of memory")
"""One of these is in what Python, torch or C++ say when they get no more memory."""


class Ending(StrEnum):
    """How the process ended. ``crashed``: a signal, or an exit without an answer. ``out_of_memory``: it could not allocate more."""

    ANSWERED = "answered"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"


@dataclass(frozen=True)
class Limits:
    """What a process may use. ``memory_bytes`` comes on top of what the harness itself maps before foreign code is loaded;
    ``processes`` on top of what the user already runs; ``file_bytes`` bounds each file that is written."""

    seconds: float = 90.0
    memory_bytes: int = 8 * 2**30
    processes: int = 256
    file_bytes: int = 4 * 2**30


@dataclass(frozen=True)
class Outcome:
    """``answer`` is what the child returned, None unless it ``answered``. ``output`` is the end of what it wrote on stdout and stderr.

    ``network`` is False when the operating system had taken the network away.
    """

    ending: Ending
    answer: Any
    detail: str
    output: str
    seconds: float
    network: bool


def run_isolated(module: str, request: Mapping[str, Any], limits: Limits | None = None, *, cwd: Path | None = None) -> Outcome:
    """Call ``answer(request)`` of a module of this package in a new process and return what came of it.

    Request and answer are JSON. The process leads a group of its own, which is killed as a whole when the time is up or the answer is
    there, so that nothing it started outlives it. No file in ``cwd`` stands in for a module (``-P``). Of the environment only what Python,
    torch and timetrial read is handed on.
    """
    limits = limits or Limits()
    prefix = network_prefix()
    with tempfile.TemporaryDirectory(prefix="timetrial-") as scratch:
        place = Path(scratch)
        order = {"module": module, "request": dict(request), "limits": asdict(limits), "answer": str(place / "answer.json")}
        (place / "order.json").write_text(json.dumps(order), encoding="utf-8")
        command = [*prefix, sys.executable, "-P", "-m", f"{__package__}.isolation_child", str(place / "order.json")]
        started = time.monotonic()
        with (place / "output").open("wb") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                cwd=cwd or place,
                env=_environment(),
            )
            status = _wait(process, limits.seconds)
        seconds = time.monotonic() - started
        output = _tail(place / "output")
        answer = _read(place / "answer.json")
    ending, detail = _ending(status, answer, output, limits)
    value = answer.get("value") if ending is Ending.ANSWERED and answer is not None else None
    return Outcome(ending, value, detail, output, seconds, network=not prefix)


@cache
def network_prefix() -> tuple[str, ...]:
    """The command that starts another one without network; empty where the machine does not permit it."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    prefix = (unshare, "--map-root-user", "--net")
    tried = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False)
    return prefix if tried.returncode == 0 else ()


def refuse_network() -> None:
    """From now on this process makes no connection: the weaker way, for where :func:`network_prefix` is empty. It cannot be taken back."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"):
            raise PermissionError(f"{event}: an entry has no network")

    sys.addaudithook(refuse)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit status, None when the time was up; either way nothing of the group is left."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ending(status: int | None, answer: Mapping[str, Any] | None, output: str, limits: Limits) -> tuple[Ending, str]:
    if status is None:
        return Ending.TIMED_OUT, f"no answer within {limits.seconds:g} s"
    if answer is not None and "value" in answer:
        return Ending.ANSWERED, ""
    failed = "" if answer is None else str(answer.get("error", ""))
    if any(word in failed or word in output for word in MEMORY_WORDS):
        return Ending.OUT_OF_MEMORY, f"needs more than {limits.memory_bytes / 2**30:.3g} GiB"
    if failed:
        return Ending.CRASHED, failed
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return Ending.CRASHED, f"the process ended with {name}"


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(_KEPT_PREFIXES)}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def _tail(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL_CHARACTERS))
        return stream.read().decode("utf-8", errors="replace")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
