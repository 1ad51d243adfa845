"""The other processes of a trial: they train on their shares as the first process says, and write nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

__all__: list[str] = []


def _leave_with_parent() -> None:
    """Our stdin is a pipe of the first process that nothing is written to: it ends when that process does, however it does."""
    os.read(0, 1)
    os._exit(1)


def _main(path: str) -> int:
    order = json.loads(Path(path).read_text(encoding="utf-8"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it and tells the others
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    home = Path(order["home"])

    from ..data_pipelines.threads import prepare_environment

    prepare_environment(home)
    from .config import plan_of
    from .distributed import Processes
    from .trial import follow_trial

    (Path(path).parent / f"ready{order['rank']}").touch()
    processes = Processes.join(Path(path).parent, order["rank"], order["count"])
    follow_trial(plan_of(order["plan"]), home, processes, smoke=order["smoke"])
    sys.stderr.flush()
    os._exit(0)  # the thread that waits for the parent must not keep the process


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1]))
