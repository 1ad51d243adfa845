"""The other side of :mod:`.isolation`: sets the limits in its own process, calls one function and writes down what it returned."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from .files import write_json

__all__: list[str] = []


def _limit(limits: dict[str, Any]) -> None:
    """Memory, files, CPU time and processes, counted from what this process has mapped by now."""
    try:
        import resource
    except ImportError:  # no such limits on this system; the parent's time limit stays
        return
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, int(limits["file_bytes"]))
    _lower(resource.RLIMIT_CPU, int(limits["seconds"] * (os.cpu_count() or 1)) + 5)
    status = Path("/proc/self/status")
    if not status.is_file():
        return
    sizes = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    # The driver of an accelerator reserves addresses without end: there only data that can be written to are counted.
    accelerator = Path("/proc/driver/nvidia").exists()
    kind, size = (resource.RLIMIT_DATA, "VmData") if accelerator else (resource.RLIMIT_AS, "VmSize")
    _lower(kind, int(sizes[size].split()[0]) * 1024 + int(limits["memory_bytes"]))
    _lower(resource.RLIMIT_NPROC, _own_tasks() + int(limits["processes"]))


def _lower(kind: int, value: int) -> None:
    import resource

    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _own_tasks() -> int:
    """Threads that the user runs now."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == os.getuid():
                count += sum(1 for _ in (process / "task").iterdir())
        except OSError:  # it has ended
            continue
    return count


def _main(path: str) -> int:
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    module = import_module(order["module"])
    _limit(order["limits"])
    place = Path(order["answer"])
    try:
        value = module.answer(order["request"])
    except BaseException as problem:  # written down for the host, then raised again
        write_json(place, {"error": f"{type(problem).__name__}: {problem}"[:2000]})
        raise
    write_json(place, {"value": value})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that foreign code left behind must not keep the process


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1]))
