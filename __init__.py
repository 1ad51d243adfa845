"""One clock for training algorithms and for data.

``timetrial.run("cifar10_cnn", algorithm="adamw", curation="random", keep_fraction=0.5, seed=0)`` gives a :class:`Record`,
``timetrial.records(home)`` those made earlier, ``timetrial.board(records)`` the table that compares them;
``timetrial.curate(data, "near_dedup")`` prunes or deduplicates one's own data, ``timetrial.contamination("cifar10_cnn")`` says which
examples of one split are there in another.

Names are loaded on first use: ``import timetrial`` alone imports neither torch nor anything else that is slow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .suite.algorithm import Batch, Problem, StepReport, TrainingAlgorithm
    from .suite.api import board, contamination, curate, records, run
    from .suite.errors import TimetrialError
    from .suite.record import Record, Status, read_record
    from .suite.workload import Workload

    __version__: str

__all__ = [
    "Batch",
    "Problem",
    "Record",
    "Status",
    "StepReport",
    "TimetrialError",
    "TrainingAlgorithm",
    "Workload",
    "__version__",
    "board",
    "contamination",
    "curate",
    "read_record",
    "records",
    "run",
]

_HOMES = {
    "Batch": "suite.algorithm",
    "Problem": "suite.algorithm",
    "Record": "suite.record",
    "Status": "suite.record",
    "StepReport": "suite.algorithm",
    "TimetrialError": "suite.errors",
    "TrainingAlgorithm": "suite.algorithm",
    "Workload": "suite.workload",
    "board": "suite.api",
    "contamination": "suite.api",
    "curate": "suite.api",
    "read_record": "suite.record",
    "records": "suite.api",
    "run": "suite.api",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562) and keep it."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("timetrial")
    elif name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
