"""A record as an MLflow run, and back: which field becomes a tag, a parameter, a metric or a metric history.

Pure functions without MLflow. Numbers live in metrics, the curve in their history, identity in tags; what is none of these is
kept as JSON in tags named ``record.FIELD``. Parameters are a view for people: the entry itself is read from ``record.entry``.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from .curve import Crossing, Curve, CurvePoint, crossings
from .errors import RecordError
from .record import Record, Status, WorkloadIdentity
from .schema import build, plain
from .workload import Lens

__all__ = ["CURVE", "RunContent", "Sample", "experiment_name", "history_key", "rebuild", "run_content"]

TAG_LIMIT = 8000  # characters of a tag's value that MLflow keeps
PARAM_LIMIT = 6000  # characters of a parameter's value that MLflow accepts

SCALARS = (
    *("schema_version", "record_id", "origin", "seed", "status", "trial_digest", "study", "resumed_count"),
    *("hardware_class", "numerics_key", "curve_digest", "started_at", "ended_at", "ruleset"),
)
NUMBERS = ("result", "time", "cost")
SECTIONS = tuple(f.name for f in fields(Record) if f.name not in (*SCALARS, *NUMBERS, "crossings"))
CURVE = tuple(f.name for f in fields(CurvePoint) if f.name != "examples")


@dataclass(frozen=True)
class Sample:
    """One value of a metric. ``timestamp_ms`` is Unix time, ``step`` the examples seen."""

    key: str
    value: float
    timestamp_ms: int
    step: int


@dataclass(frozen=True)
class RunContent:
    """All that is written into one run. ``status`` is MLflow's own word: a missed target is a finished run. Times are Unix ms."""

    name: str
    status: str
    start_ms: int | None
    end_ms: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Sequence[Sample]


def experiment_name(record: Record) -> str:
    """``TIER/NAME@VERSION``: trials that may be compared at all stand in one experiment."""
    return f"{record.workload.tier}/{record.workload.identity}"


def run_content(record: Record, curve: Curve) -> RunContent:
    """A record in MLflow's words. Raises ``RecordError`` when the record could not be rebuilt from them, bit for bit."""
    status = {Status.FAILED: "FAILED", Status.INTERRUPTED: "KILLED"}.get(record.status, "FINISHED")
    start, end = (None if text is None else _milliseconds(text) for text in (record.started_at, record.ended_at))
    samples = _metrics(record, curve, start or 0, end or 0)
    content = RunContent(_run_name(record), status, start, end, _tags(record), _params(record), samples)
    histories = {history_key(column) for column in CURVE}
    history, single = ([s for s in samples if (s.key in histories) is wanted] for wanted in (True, False))
    again, points = rebuild(content.tags, {s.key: s.value for s in single}, history, record.record_id)
    if plain(again) != plain(record) or points != tuple(curve):
        raise RecordError(f"{record.record_id}: holds something that MLflow's tags and metrics cannot give back unchanged")
    return content


def _run_name(record: Record) -> str:
    """``adamw · random 0.5 · seed 3``: what the trial was, readable in a list."""
    entry, selected = record.entry, record.selected
    kept = f" {selected.keep_fraction:g}" if selected is not None and selected.keep_fraction < 1 else ""
    return f"{entry.algorithm} · {entry.curation}{kept} · seed {record.seed}"


def _tags(record: Record) -> dict[str, str]:
    """Identity and pins as plain tags, and every field that is no number as JSON in pieces that fit into a tag."""
    value = plain(record)
    workload, entry, selected = record.workload, record.entry, record.selected
    tags = {name: str(value[name]) for name in SCALARS if value[name] is not None}
    tags |= {
        "suite.version": str(record.software.get("timetrial", "unknown")),
        "workload": workload.name,
        "workload.version": str(workload.version),
        "workload.digest": workload.digest,
        "target.digest": workload.ladder.digest,
        "target.status": str(workload.ladder.status),
        "tier": str(workload.tier),
        "entry": entry.name,
        "algorithm": entry.algorithm,
        "curation": entry.curation,
        "mlflow.source.name": "timetrial",
        "mlflow.source.type": "LOCAL",
    }
    if commit := record.software.get("git", {}).get("commit"):
        tags["mlflow.source.git.commit"] = commit
    if selected is not None:
        tags["keep_fraction"] = f"{selected.keep_fraction:g}"
    for name in SECTIONS:
        if value[name] is not None:
            tags |= {_piece(name, i): piece for i, piece in enumerate(_cut(json.dumps(value[name], allow_nan=False)))}
    return tags


def _params(record: Record) -> dict[str, str]:
    """Hyperparameters under their own names, options as ``algorithm.NAME`` and ``curation.NAME``, nested ones with dots.

    Values too long for MLflow are left out: the artefact has them.
    """
    entry = record.entry
    found = dict(_flat(entry.hyperparameters))
    found |= _flat(entry.algorithm_options, "algorithm.") | _flat(entry.curation_options, "curation.")
    return {_encode(key): value for key, value in found.items() if len(value) <= PARAM_LIMIT}


def _metrics(record: Record, curve: Curve, start: int, end: int) -> list[Sample]:
    """Every number of a record, the curve as one sample per column and evaluation.

    ``hit.03.charged_seconds`` is the cost of level 3 of the ladder (from 0), ``to_target/charged_seconds`` that of the main level
    again, so that it can be found and sorted by. A level that was not hit has no metric. Samples of one evaluation share a
    timestamp: the trial's start plus the charged time, so that MLflow's relative time axis shows charged time.
    """
    value = plain(record)
    target = record.crossing()
    samples = [Sample(f"to_target/{lens}", cost, end, 0) for lens, cost in (target.cost.items() if target else ())]
    samples += [Sample(key, number, end, 0) for name in NUMBERS for key, number in _numbers(name, value[name])]
    for i, crossing in enumerate(record.crossings):
        samples += [Sample(_hit_key(i, lens), cost, end, 0) for lens, cost in crossing.cost.items()]
    moment = start - 1
    for point in curve:
        moment = max(moment + 1, start + round(1000 * point.charged_seconds))
        row = ((name, getattr(point, name)) for name in CURVE)
        samples += [Sample(history_key(name), float(number), moment, point.examples) for name, number in row if number is not None]
    return samples


def history_key(column: str) -> str:
    """The metric whose history is a column of the curve."""
    return f"curve/{column}"


def rebuild(
    tags: Mapping[str, str], metrics: Mapping[str, float], history: Iterable[Sample], where: str
) -> tuple[Record, tuple[CurvePoint, ...]]:
    """The record and curve that a run was made from.

    ``metrics`` are the latest values, ``history`` all samples of the curve's columns in any order. Raises ``RecordError`` when
    something is missing or the crossings do not follow from the curve.
    """
    value: dict[str, Any] = {name: tags[name] for name in SCALARS if name in tags}
    value |= {name: _section(tags, name, where) for name in SECTIONS if _piece(name, 0) in tags}
    value["time"] = {"wall_seconds": {}, "cpu_seconds": {}, "span_seconds": {}}
    value["result"] = {}
    for key, number in metrics.items():
        name, _, rest = key.partition(".")
        if name in NUMBERS:
            field, _, inner = rest.partition(".")
            group = value.setdefault(name, {})
            if inner:
                group.setdefault(field, {})[_decode(inner)] = number
            else:
                group[field] = number
    workload = build(WorkloadIdentity, value.get("workload", {}), f"{where}: workload", RecordError)
    value["crossings"] = [_hit(i, level, metrics) for i, level in enumerate(workload.ladder.levels)]
    record, curve = build(Record, value, where, RecordError), _curve(history, where)
    if record.crossings != crossings(curve, workload.metric, workload.ladder):
        raise RecordError(f"{where}: crossings: they do not follow from the curve; one of the two was altered")
    return record, curve


def _hit(index: int, level: float, metrics: Mapping[str, float]) -> Crossing:
    cost = {lens: metrics[key] for lens in Lens if (key := _hit_key(index, lens)) in metrics}
    return Crossing(level, bool(cost), cost)


def _hit_key(index: int, lens: Lens) -> str:
    return f"hit.{index:02d}.{lens}"


def _curve(history: Iterable[Sample], where: str) -> tuple[CurvePoint, ...]:
    rows: dict[int, dict[str, Any]] = {}
    for sample in history:
        row = rows.setdefault(sample.timestamp_ms, {"examples": sample.step, "joules": None, "train_loss": None})
        row[sample.key.partition("/")[2]] = sample.value
    return tuple(build(CurvePoint, row, f"{where}: curve at {row['examples']} examples", RecordError) for _, row in sorted(rows.items()))


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """Paths and values of the numbers in a nested mapping; absent ones have none."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}.{_encode(key)}", inner)
    elif value is not None:
        yield name, float(value)


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _encode(name: str) -> str:
    """A name in the letters that MLflow allows: percent encoding with a colon in place of the percent sign."""
    safe = "/ " if posixpath.normpath(name) == name else " "
    return quote(name, safe=safe).replace("%", ":").replace("~", ":7E")


def _decode(name: str) -> str:
    return unquote(name.replace(":", "%"))


def _piece(name: str, index: int) -> str:
    return f"record.{name}" + (f".{index}" if index else "")


def _cut(text: str) -> list[str]:
    return [text[i : i + TAG_LIMIT] for i in range(0, len(text), TAG_LIMIT)]


def _section(tags: Mapping[str, str], name: str, where: str) -> Any:
    text, index = "", 0
    while (piece := tags.get(_piece(name, index))) is not None:
        text, index = text + piece, index + 1
    try:
        return json.loads(text)
    except ValueError as problem:
        raise RecordError(f"{where}: tag {_piece(name, 0)}: no JSON: {problem}") from None


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
