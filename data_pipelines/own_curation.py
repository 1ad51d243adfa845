"""Prune or deduplicate a user's own data with the methods of the benchmark: the selection, and what is known about every example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from ..suite.clock import Bucket, Clock
from ..suite.config import CurationDefinition, instantiate
from ..suite.errors import ConfigError, NeedsUnmet
from ..suite.files import atomic_path, object_digest, write_json, write_text
from ..suite.registry import definition, names
from ..suite.schema import build
from .curation.context import make_context
from .curation.interface import CurationMethod, DynamicMethod, Selection, curate
from .curation.ledger import Ledger, peak_memory_bytes
from .curation.selection import Cost, kept_count
from .own_beton import write_pruned_beton
from .own_data import OwnData

__all__ = ["Curated", "curate_own_data", "own_scratch", "usable_methods", "with_beton", "write_curated"]

STREAMING = ("all", "random", "random_score", "exact_dedup", "near_dedup")  # hold no vectors of the whole pool in memory


@final
@dataclass(frozen=True, eq=False)
class Curated:
    """``selection`` with its cost; ``notes``: arrays ``[n]`` aligned with the pool that the method left (score, cluster, duplicate_of …).

    ``reasons``: one line for every example, empty for the kept ones. ``peak_memory_bytes``: of this process so far.
    """

    data: OwnData
    method: str
    options: Mapping[str, Any]
    selection: Selection
    notes: Mapping[str, np.ndarray]
    reasons: np.ndarray
    peak_memory_bytes: int

    @property
    def kept(self) -> np.ndarray:
        """Bool ``[n]``, aligned with the pool."""
        return np.isin(self.data.pool.ids, self.selection.ids)

    def summary(self) -> dict[str, Any]:
        """The result as JSON values."""
        cost = self.selection.cost
        return {
            "method": self.method,
            "options": dict(self.options),
            "kind": self.data.kind,
            "examples": len(self.data.pool),
            "kept": len(self.selection),
            "unreadable": len(self.data.unreadable),
            "digest": self.selection.digest,
            "seconds": cost.wall_seconds if cost else None,
            "cpu_seconds": cost.cpu_seconds if cost else None,
            "spans": dict(cost.span_seconds) if cost else {},
            "ledger": {name: dict(line) for name, line in cost.ledger.items()} if cost else {},
            "peak_memory_bytes": self.peak_memory_bytes,
            "provenance": dict(self.selection.provenance),
        }


def own_scratch(home: Path, source: Path, side: int) -> Path:
    """The folder below ``home`` that holds what can be taken up again for this input at this picture size."""
    return home / "curate" / object_digest([str(source), side])[:16]


def usable_methods() -> tuple[str, ...]:
    """Names of the static methods that need neither labels nor a model: those that work on data alone."""
    found = []
    for name in names("curation"):
        known = build(CurationDefinition, definition("curation", name), f"curation {name}")
        if known.kind != "static" or name in ("all", "ids"):
            continue
        if _on_data_alone(instantiate(known.target, known.options, CurationMethod)):
            found.append(name)
    return tuple(found)


def curate_own_data(
    data: OwnData,
    method: str,
    keep_fraction: float = 1.0,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    scratch: Path | None = None,
    memory_bytes: int = 4 * 2**30,
    on_progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Curated:
    """Run a method by name on one's own data, timed as in a trial.

    ``options`` override the method's; the embedder is the one that fits the data unless named. ``scratch`` makes long searches
    resumable. Raises ``UnknownName``, ``ConfigError`` (options, budget, memory) or ``NeedsUnmet`` (labels or a model) before work begins.
    """
    found = build(CurationDefinition, definition("curation", method), f"curation {method}")
    made, chosen = _instantiate(found, data, dict(options or {}))
    pool = data.pool
    if not _on_data_alone(made):
        raise NeedsUnmet(f"{method} needs {'labels' if made.needs_labels else 'a model'}; on data alone: {', '.join(usable_methods())}")
    kept_count(len(pool), keep_fraction)
    _check_memory(data, method, memory_bytes)
    notes: dict[str, np.ndarray] = {}
    encoders: list[str] = []
    clock = Clock()
    ledger = Ledger(pool, clock.span)

    def charge(cost: Cost) -> None:
        clock.charge(Bucket.CURATE, cost.wall_seconds, cost.cpu_seconds, cost.span_seconds)
        ledger.charge(cost)

    with clock.bucket(Bucket.CURATE):
        context = make_context(
            pool,
            np.random.default_rng(seed),
            span=ledger.span,
            charge=charge,
            cache=scratch,
            memory_bytes=memory_bytes,
            note=notes.__setitem__,
            progress=on_progress,
            on_pretrained=encoders.append,
        )
        selection = curate(made, pool, keep_fraction, context).made_with(encoders)
    reading = clock.read()
    spans = {name.partition("/")[2]: seconds for name, seconds in reading.span_seconds.items()}
    selection = replace(selection, cost=Cost(reading.charged_seconds, reading.charged_cpu_seconds, spans, ledger.read()))
    return Curated(data, method, chosen, selection, notes, _reasons(data, selection, notes), peak_memory_bytes())


def with_beton(
    result: Curated, source: Path, path: Path, scratch: Path, on_progress: Callable[[str, float], None] = lambda stage, share: None
) -> Curated:
    """Write what was kept of ``source`` as the FFCV file ``path``; the result with the seconds that this took in the span ``rewrite``."""
    clock = Clock()
    ledger = Ledger(result.data.pool, clock.span)
    with clock.bucket(Bucket.CURATE), ledger.span("rewrite"):
        write_pruned_beton(result.data, result.selection, source, path, scratch, on_progress)
    spent, before = clock.read(), result.selection.cost or Cost(0.0, 0.0)
    spans = {**before.span_seconds, "rewrite": spent.charged_seconds}
    cost = Cost(
        before.wall_seconds + spent.charged_seconds,
        before.cpu_seconds + spent.charged_cpu_seconds,
        spans,
        {**before.ledger, **ledger.read()},
    )
    return replace(result, selection=result.selection.with_cost(cost), peak_memory_bytes=peak_memory_bytes())


def write_curated(result: Curated, folder: Path) -> list[Path]:
    """Write ``selection.npz``, ``ids.npy``, ``kept.txt`` (names), ``examples.parquet`` (all that is known) and ``summary.json``."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    pool, kept = result.data.pool, result.kept
    label = [result.data.names[int(i)] for i in pool.ids]
    columns: dict[str, Any] = {"id": pool.ids, "name": label, "kept": kept, "reason": result.reasons.tolist(), **result.notes}
    result.selection.write(folder / "selection.npz")
    with atomic_path(folder / "ids.npy") as part, part.open("wb") as stream:
        np.save(stream, result.selection.ids)
    write_text(folder / "kept.txt", "".join(f"{name}\n" for name, stays in zip(label, kept, strict=True) if stays))
    with atomic_path(folder / "examples.parquet") as part:
        pq.write_table(pa.table(columns), part)
    write_json(folder / "summary.json", result.summary())
    return [folder / name for name in ("selection.npz", "ids.npy", "kept.txt", "examples.parquet", "summary.json")]


def _on_data_alone(method: CurationMethod) -> bool:
    return not (method.needs_labels or method.needs_proxy or isinstance(method, DynamicMethod))


def _instantiate(found: CurationDefinition, data: OwnData, given: dict[str, Any]) -> tuple[CurationMethod, dict[str, Any]]:
    """The method with its options, the embedder chosen by the data's kind unless given."""
    chosen = {**found.options, **given}
    if "embedder" in chosen and "embedder" not in given:
        chosen["embedder"] = data.embedder
    if "clusters" in chosen and "clusters" not in given:
        chosen["clusters"] = min(chosen["clusters"], max(1, len(data.pool) // 8))
    method: CurationMethod = instantiate(found.target, chosen, CurationMethod)
    unknown = set(given) - set(inspect.signature(type(method)).parameters)
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(type(method)).parameters.values()):
        raise ConfigError(f"{found.name} has no option {sorted(unknown)[0]!r}")
    return method, chosen


def _check_memory(data: OwnData, method: str, memory_bytes: int) -> None:
    """Refuse what cannot fit before hours are spent on it: methods that are not streaming hold about three copies of the vectors."""
    head = data.pool.rows(data.pool.inputs[0], slice(0, 1))
    width = int(np.prod(head.shape[1:])) if data.kind == "vectors" else 64
    needed = 3 * 4 * len(data.pool) * width
    if method not in STREAMING and needed > memory_bytes:
        raise ConfigError(
            f"{method} holds about {needed / 2**30:.1f} GiB for {len(data.pool):,} x {width} vectors; "
            f"memory is {memory_bytes / 2**30:.1f} GiB; allow more, or use {' or '.join(STREAMING[-2:])}, which stream"
        )


def _reasons(data: OwnData, selection: Selection, notes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Why each example was dropped, in words; empty for the kept ones."""
    pool = data.pool
    kept = np.isin(pool.ids, selection.ids)
    reasons = np.full(len(pool), "", dtype=object)
    reasons[~kept] = "not drawn"
    for name, words in (("score", "score"), ("class_distance", "distance to its class"), ("centroid_distance", "distance to its centroid")):
        if name in notes:
            for i in np.flatnonzero(~kept):
                reasons[i] = f"{words} {notes[name][i]:.4g}"
    if "duplicate_of" in notes:
        for i in np.flatnonzero(~kept & (notes["duplicate_of"] >= 0)):
            alike = f" (closest: {notes['similarity'][i]:.4f})" if "similarity" in notes else ""
            reasons[i] = f"duplicate of {data.names[int(notes['duplicate_of'][i])]}{alike}"
    return reasons
