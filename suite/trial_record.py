"""From a finished trial to its record folder."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from . import machine, machine_load
from .clock import TEST, Bucket
from .config import Plan, hardware_of
from .curve import crossings
from .entry_code import code_digest, copy_code, source_of
from .evaluate import finite
from .protocol import protocol
from .record import (
    SCHEMA_VERSION,
    Cost,
    Entry,
    Origin,
    Record,
    Result,
    Selected,
    SpanCost,
    Status,
    TimeLedger,
    WorkloadIdentity,
    write_record,
)
from .schema import build, plain

if TYPE_CHECKING:
    from .trial import Trial

__all__ = ["write_failed", "write_trial"]


def write_trial(trial: Trial, status: Status) -> tuple[Record, Path]:
    """Measure test quality at the end, assemble the record and write its folder below ``<home>/records``."""
    plan, curve = trial.plan, tuple(trial.progress.curve)
    result = _result(trial, status)
    source = source_of(*plan.code)
    stamp = trial.started_at.strftime("%Y%m%dT%H%M%S%f")[:-3]
    reading, outer_seconds = trial.clock.read(), time.perf_counter() - trial.started + trial.earlier_seconds
    record = Record(
        schema_version=SCHEMA_VERSION,
        record_id=f"{plan.workload.name}-{plan.algorithm.name}-{plan.curation.name}-s{plan.seed}-{plan.digest[:8]}-{stamp}",
        origin=Origin.NATIVE,
        workload=_workload_identity(plan),
        entry=_entry(plan, source),
        seed=plan.seed,
        status=status,
        status_reason=trial.reason,
        crossings=crossings(curve, plan.workload.metric, plan.workload.ladder),
        result=result,
        time=TimeLedger(
            wall_seconds=dict(reading.wall_seconds),
            cpu_seconds=dict(reading.cpu_seconds),
            span_seconds=dict(reading.span_seconds),
            charged_seconds=reading.charged_seconds,
            outer_seconds=outer_seconds,
        ),
        trial_digest=plan.digest,
        study=plan.study,
        seeds=trial.seeds,
        selected=_selected(trial),
        cost=_cost(trial),
        resumed_count=trial.resumed_count,
        hardware_class=hardware_of(plan),
        numerics_key=machine.numerics_key(),
        machine=_machine(trial),
        software={**machine.software_versions(), "git": machine.git_state()},
        loader={"kind": trial.loader_name, "workers": plan.workers, "processes": plan.processes, **trial.assembly.threads},
        data_digests={"dataset": trial.inputs.dataset.digest, "pool": trial.curated.pool.digest},
        started_at=trial.started_at.isoformat(timespec="milliseconds"),
        ended_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        ruleset=plan.ruleset,
        stopped=trial.stopped,
    )
    folder = trial.home / "records" / record.record_id
    if source is not None:
        copy_code(source, folder / "source")
    if trial.curated.selection is not None and plan.curation.name != "all":
        trial.curated.selection.write(folder / "selection.npz")
    write_record(folder, record, curve, yaml.safe_dump(plain(plan), sort_keys=False, allow_unicode=True))
    return record, folder


def write_failed(plan: Plan, home: Path, reason: str, started_at: datetime) -> Path:
    """The record of a trial whose process ended without an answer: status ``failed``, no curve, nothing charged."""
    source = source_of(*plan.code)
    stamp = started_at.strftime("%Y%m%dT%H%M%S%f")[:-3]
    now = datetime.now(UTC)
    lasted = (now - started_at).total_seconds()
    record = Record(
        schema_version=SCHEMA_VERSION,
        record_id=f"{plan.workload.name}-{plan.algorithm.name}-{plan.curation.name}-s{plan.seed}-{plan.digest[:8]}-{stamp}",
        origin=Origin.NATIVE,
        workload=_workload_identity(plan),
        entry=_entry(plan, source),
        seed=plan.seed,
        status=Status.FAILED,
        status_reason=reason,
        crossings=crossings((), plan.workload.metric, plan.workload.ladder),
        result=Result(),
        time=TimeLedger(wall_seconds={}, cpu_seconds={}, span_seconds={}, charged_seconds=0.0, outer_seconds=lasted),
        trial_digest=plan.digest,
        study=plan.study,
        hardware_class=hardware_of(plan),
        numerics_key=machine.numerics_key(),
        machine=machine.fingerprint(),
        started_at=started_at.isoformat(timespec="milliseconds"),
        ended_at=now.isoformat(timespec="milliseconds"),
        ruleset=plan.ruleset,
    )
    folder = home / "records" / record.record_id
    if source is not None:
        copy_code(source, folder / "source")
    write_record(folder, record, (), yaml.safe_dump(plain(plan), sort_keys=False, allow_unicode=True))
    return folder


def _machine(trial: Trial) -> dict[str, Any]:
    """What it ran on, how busy that was, and how much of it the hypervisor kept."""
    stolen = machine_load.stolen_fraction(trial.stolen_at_start, time.perf_counter() - trial.started)
    loads = {"load_at_start": trial.load_at_start, "load_at_end": machine_load.load()}
    return {**machine.fingerprint(), **loads, "stolen_fraction": stolen, "stolen_limit": protocol().disturbance.stolen_fraction}


def _workload_identity(plan: Plan) -> WorkloadIdentity:
    w = plan.workload
    return WorkloadIdentity(w.name, w.version, w.tier, w.family, w.metric, w.ladder, w.budget, w.result_rule, w.digest, w.ranked)


def _entry(plan: Plan, source: Path | None) -> Entry:
    return Entry(
        name=plan.entry_name,
        algorithm=plan.algorithm.name,
        curation=plan.curation.name,
        algorithm_options=dict(plan.algorithm.options) | {"batch_size": plan.algorithm.batch_size, "horizon": plan.horizon},
        curation_options=dict(plan.curation.options),
        hyperparameters=dict(plan.algorithm.hyperparameters),
        source_digest=None if source is None else code_digest(source),
        at_defaults=plan.at_defaults,
    )


def _result(trial: Trial, status: Status) -> Result:
    if trial.stopped is not None:
        return Result()  # it has no end, and half of a training says nothing of it
    last = trial.progress.curve[-1] if trial.progress.curve else None
    at_end, measures = None, dict[str, float]()
    if status in (Status.HIT, Status.MISSED):
        with trial.clock.bucket(Bucket.EVALUATE), trial.clock.span(TEST):
            measured = trial.evaluator.measure(trial.inputs.test)
        at_end, measures = measured.quality, finite(measured.others)
    return Result(
        final_quality=None if last is None else last.quality,
        final_loss=None if last is None else last.loss,
        test_quality_at_hit=trial.progress.test_at_hit if status is Status.HIT else None,
        test_quality_at_end=at_end,
        test_measures_at_hit=trial.progress.test_measures_at_hit if status is Status.HIT else {},
        test_measures_at_end=measures,
    )


def _selected(trial: Trial) -> Selected | None:
    selection = trial.curated.selection
    if selection is None:
        return None
    pool = len(trial.inputs.pool)
    lines = {} if selection.cost is None else selection.cost.ledger
    ledger = {name: build(SpanCost, line, f"span {name}") for name, line in lines.items()}
    return Selected(pool, len(selection), trial.plan.keep_fraction, selection.digest, dict(selection.provenance), ledger)


def _cost(trial: Trial) -> Cost | None:
    if not hasattr(trial, "model"):  # it failed before there was one
        return None
    size = trial.progress.batch_size
    flops = trial.assembly.counted.get(size)
    return Cost(
        parameters=sum(p.numel() for p in trial.model.parameters()),
        model_flops_per_example=None if flops is None else flops.model / size,
        update_flops_per_step=None if flops is None else flops.update,
        peak_memory_bytes=machine.peak_memory_bytes(),
        optimizer_state_bytes=trial.progress.optimizer_state_bytes,
        data_bytes=sum(field.values.nbytes for field in trial.inputs.pool.split.fields.values()),
        sent_bytes=trial.processes.sent_bytes if trial.processes.count > 1 else None,
    )
