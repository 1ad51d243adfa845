"""The Python face: what the command line does, as functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Plan, resolve
from .curve import CurvePoint
from .files import home_folder
from .record import Record, read_record
from .registry import adopt

if TYPE_CHECKING:
    from ..data_pipelines.contamination import Overlap
    from ..data_pipelines.own_curation import Curated
    from ..leaderboards.boards import Board

__all__ = ["board", "contamination", "curate", "records", "run"]

_SPLITS = {"train": "pool", "validation": "validation", "test": "test"}


def run(
    workload: str,
    *,
    algorithm: str = "adamw",
    curation: str = "all",
    keep_fraction: float = 1.0,
    seed: int = 0,
    home: str | os.PathLike[str] | None = None,
    on_point: Callable[[Plan, CurvePoint], None] | None = None,
    **overrides: Any,
) -> Record:
    """Run one trial of a workload (a name, or the path of its folder) and return its record.

    The record is also written below ``home`` (see :func:`~timetrial.suite.files.home_folder`).

    ``overrides`` are those of ``timetrial run``: hyperparameters (``lr=0.1``), ``horizon``, ``loader``, ``study`` …; use
    ``**{"workload.budget.examples": 1000}`` for nested ones. Raises ``UnknownName``, ``ConfigError`` or ``NeedsUnmet`` before
    training; an entry that raises while training gives a record with status ``failed``.
    """
    from ..data_pipelines.threads import prepare_environment

    folder = home_folder(home)
    prepare_environment(folder)
    from .trial import run_trial

    name = adopt(workload)
    named = {"workload": name, "algorithm": algorithm, "curation": curation, "keep_fraction": keep_fraction, "seed": seed, **overrides}
    record, _ = run_trial(resolve([f"{key}={value}" for key, value in named.items()]), folder, on_point=on_point)
    return record


def records(home: str | os.PathLike[str] | None = None) -> list[tuple[Record, tuple[CurvePoint, ...]]]:
    """All records below ``home`` with their curves, oldest first. ``RecordError`` names the first that cannot be trusted."""
    folders = sorted(path.parent for path in (home_folder(home) / "records").glob("*/record.json"))
    return sorted((read_record(Path(folder)) for folder in folders), key=lambda pair: (pair[0].started_at or "", pair[0].record_id))


def curate(
    data: str | os.PathLike[str],
    method: str = "near_dedup",
    *,
    keep_fraction: float = 1.0,
    seed: int = 0,
    column: str | None = None,
    side: int = 32,
    memory_bytes: int = 4 * 2**30,
    out: str | os.PathLike[str] | None = None,
    out_beton: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Curated:
    """Prune or deduplicate one's own data: a folder of pictures or ``.npy`` shards, a ``.npy`` of vectors, a ``.beton``, a file of texts.

    ``options`` are the method's and its embedder's; ``column`` names the column of texts or the field of a ``.beton``, ``side`` the pixels
    at which pictures are compared. What ``timetrial curate`` writes is written to the folder ``out`` if given, what is kept as an
    FFCV file to ``out_beton``; intermediate results stay below ``home``, so that a second call resumes. Raises ``UserError`` for data or
    names that are wrong, ``DataError`` for data that cannot be read, and ``NeedsUnmet`` for methods that need labels or a model.
    """
    from ..data_pipelines.own_beton import check_beton_output, open_own_data
    from ..data_pipelines.own_curation import curate_own_data, own_scratch, with_beton, write_curated

    source = Path(data).expanduser().absolute()
    scratch = own_scratch(home_folder(home), source, side)
    own = open_own_data(source, scratch, column=column, side=side)
    pruned = None if out_beton is None else Path(out_beton).expanduser().absolute()
    if pruned is not None:
        check_beton_output(own, source, pruned)
    result = curate_own_data(own, method, keep_fraction, options=options, seed=seed, scratch=scratch, memory_bytes=memory_bytes)
    if pruned is not None:
        result = with_beton(result, source, pruned, scratch)
    if out is not None:
        write_curated(result, Path(out).expanduser().absolute())
    return result


def contamination(workload: str, threshold: float = 0.9, *, home: str | os.PathLike[str] | None = None) -> tuple[Overlap, ...]:
    """Which examples of a workload's splits are there in another of its splits, exactly or nearly, under their original ids.

    What counts as near is said in :mod:`~timetrial.data_pipelines.contamination`. The data are prepared first where that has not been
    done. Raises ``UnknownName``, ``DataMissing``, or ``ConfigError`` for a threshold outside (0, 1].
    """
    from ..data_pipelines.contamination import contamination as across
    from .config import resolve_definition
    from .inputs import open_inputs

    inputs = open_inputs(resolve_definition("workload", adopt(workload)), home_folder(home))
    return across({name: getattr(inputs, part).pool_of(inputs.fields, inputs.label) for name, part in _SPLITS.items()}, threshold)


def board(of: Iterable[Record]) -> Board:
    """The leaderboard of some records: a pure function of them, whatever their order."""
    from ..leaderboards.boards import board as build_board

    return build_board(list(of))
