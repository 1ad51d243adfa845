"""One trial: a workload, a training algorithm, a curation method and a seed, timed on one clock, ending in one record.

The loop in words: open data (free) -> curate (charged) -> build model (free) -> algorithm setup (charged) -> until the
budget is spent, the hardest level is confirmed or the loss is no number: train up to the next evaluation (charged),
evaluate on the harness' copy (free), checkpoint and log (free).
"""

from __future__ import annotations

import math
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from ..data_pipelines.batcher import Batcher
from ..data_pipelines.curation.interface import Context, CurationMethod, Pool, Selection
from . import machine
from .algorithm import Batch, Problem, StepReport, TrainingAlgorithm, parameter_kinds
from .checkpoint import RunningTrial
from .clock import Bucket, Clock
from .config import Plan, instantiate
from .curve import CurvePoint, crossings
from .errors import NeedsUnmet, TimetrialError
from .evaluate import Evaluator, Measured
from .flops import StepFlops, count_step_flops, dummy_batch
from .inputs import Inputs, open_inputs
from .record import (
    SCHEMA_VERSION,
    Cost,
    Entry,
    Origin,
    Record,
    Result,
    Selected,
    Status,
    TimeLedger,
    WorkloadIdentity,
    write_record,
)
from .schema import plain
from .seeds import derive_seeds

__all__ = ["Trial", "run_trial"]

SMOKE_STEPS = 3


@dataclass
class _Progress:
    """All that changes while a trial runs and is neither model, algorithm nor loader."""

    examples: int = 0
    steps: int = 0
    flops: float = 0.0
    gradient_depth: int = 0
    batch_size: int = 0
    train_loss: float | None = None
    test_at_hit: float | None = None
    curve: list[CurvePoint] = field(default_factory=list)


def run_trial(
    plan: Plan,
    home: Path,
    *,
    inputs: Inputs | None = None,
    clock: Clock | None = None,
    on_point: Callable[[Plan, CurvePoint], None] | None = None,
    smoke: bool = False,
    fresh: bool = False,
) -> tuple[Record, Path]:
    """Run or resume one trial and write its record; returns it with its folder ``<home>/records/<record_id>``.

    ``inputs`` may be shared by the trials of one process. ``on_point`` is called after every evaluation, off the clock. With
    ``smoke`` a few steps run and the record's status is ``smoke``. ``fresh`` discards an earlier checkpoint. An algorithm or
    method that raises leaves a record with status ``failed``; refusals before training raise ``TimetrialError``.
    """
    started = time.perf_counter()
    running = RunningTrial(home, plan.digest)
    finished = False
    try:
        if fresh:
            running.discard()
        trial = Trial(plan, home, running, inputs, clock or Clock(), on_point, smoke, started)
        record, folder = trial.run()
        finished = record.status is not Status.INTERRUPTED
        return record, folder
    finally:
        running.close(remove=finished)


@final
class Trial:
    """The parts of one trial, put together once. Use :func:`run_trial`."""

    def __init__(
        self,
        plan: Plan,
        home: Path,
        running: RunningTrial,
        inputs: Inputs | None,
        clock: Clock,
        on_point: Callable[[Plan, CurvePoint], None] | None,
        smoke: bool,
        started: float,
    ) -> None:
        self.plan, self.home, self.running, self.clock = plan, home, running, clock
        self.on_point, self.smoke, self.started = on_point, smoke, started
        self.started_at = datetime.now(UTC)
        self.load_at_start = machine.load()
        self.seeds = derive_seeds(plan.seed)
        self.progress = _Progress()
        self.resumed_count = 0
        self.lost_seconds = 0.0
        self.stop_requested = False
        self.reason: str | None = None
        with clock.bucket(Bucket.PREPARE):
            self.inputs = inputs or open_inputs(plan.workload, home)
            self._check_needs()
            self.algorithm: TrainingAlgorithm = instantiate(plan.algorithm.target, plan.algorithm.options, TrainingAlgorithm)
            self.method: CurationMethod = instantiate(plan.curation.target, plan.curation.options, CurationMethod)
            self._open_device()

    # ---------------------------------------------------------------- the run

    def run(self) -> tuple[Record, Path]:
        """Everything from curation to the record."""
        status = Status.FAILED
        try:
            with self._interruptible():
                self._curate()
                self._build()
                status = self._train()
        except TimetrialError:
            raise
        except Exception:
            self.reason = traceback.format_exc(limit=-8)
        finally:
            self._close()
        return self._write(status)

    def _train(self) -> Status:
        progress, workload = self.progress, self.plan.workload
        if not progress.curve:
            self._evaluate()
        while not self.stop_requested:
            boundary = (progress.examples // workload.evaluation.every_examples + 1) * workload.evaluation.every_examples
            with self.clock.bucket(Bucket.TRAIN):
                report = self._steps_until(min(boundary, self.horizon_examples))
                progress.train_loss = float(report.loss) if report is not None else progress.train_loss
            if self.stop_requested:
                break
            if progress.train_loss is None or not math.isfinite(progress.train_loss) or not self._evaluate():
                self.reason = f"loss {progress.train_loss} after step {progress.steps}"
                return Status.DIVERGED
            if self.smoke:
                return Status.SMOKE
            if self._over():
                break
            self._checkpoint()
        if self.stop_requested:
            self._checkpoint()
            self.reason = "stopped by Ctrl-C; run the same command again to resume"
            return Status.INTERRUPTED
        hit = crossings(progress.curve, workload.metric, workload.ladder)[workload.ladder.levels.index(workload.ladder.main)].hit
        return Status.HIT if hit else Status.MISSED

    def _steps_until(self, examples: int) -> StepReport | None:
        """Train until ``examples`` are seen, the charged budget is spent, or somebody asks to stop: the hot loop."""
        progress, algorithm, state, batcher = self.progress, self.algorithm, self.state, self.batcher
        deadline = time.perf_counter() + self.plan.workload.budget.charged_seconds - self.clock.read().charged_seconds
        dynamic = self.plan.curation.kind == "dynamic"
        report = None
        limit = progress.steps + SMOKE_STEPS if self.smoke else math.inf
        while progress.examples < examples and progress.steps < limit and not self.stop_requested:
            batch = batcher.next(progress.batch_size)
            report = algorithm.step(state, batch)
            progress.steps += 1
            progress.gradient_depth += 1
            progress.examples = batcher.examples_served
            progress.flops += self._step_flops(progress.batch_size).total
            if report.next_batch_size is not None:
                progress.batch_size = min(max(1, report.next_batch_size), len(self.inputs.pool))
            if dynamic:
                self._observe(batch, report)
            if time.perf_counter() > deadline:
                break
        return report

    def _observe(self, batch: Batch, report: StepReport) -> None:
        losses = report.per_example_loss
        if losses is None:
            with torch.no_grad():
                losses = self.problem.losses(batch)
        self.method.reweight(batch.ids.numpy(), losses.float().cpu().numpy())

    def _evaluate(self) -> bool:
        """Add a point to the curve; False when the validation loss is no number."""
        progress, workload = self.progress, self.plan.workload
        with self.clock.bucket(Bucket.TRAIN):
            weights = self.algorithm.weights_for_evaluation(self.state) if progress.steps else None
        cost = self.clock.read()
        with self.clock.bucket(Bucket.EVALUATE):
            self.evaluator.load(self.model, weights)
            measured = self.evaluator.measure(self.inputs.validation)
            if not (math.isfinite(measured.loss) and math.isfinite(measured.quality)):
                return False
            reached = [workload.metric.reached(point.quality, workload.ladder.main) for point in progress.curve]
            if workload.metric.reached(measured.quality, workload.ladder.main) and not (reached and reached[-1]):
                progress.test_at_hit = self.evaluator.measure(self.inputs.test).quality
        point = CurvePoint(
            progress.examples,
            progress.steps,
            cost.charged_seconds,
            cost.charged_cpu_seconds,
            progress.flops,
            progress.gradient_depth,
            None,
            progress.train_loss,
            measured.loss,
            measured.quality,
        )
        progress.curve.append(point)
        if self.on_point is not None:
            with self.clock.bucket(Bucket.LOG):
                self.on_point(self.plan, point)
        return True

    def _over(self) -> bool:
        """Whether the budget is spent, or the hardest level is reached and confirmed."""
        progress, workload = self.progress, self.plan.workload
        if progress.examples >= self.horizon_examples or progress.curve[-1].charged_seconds >= workload.budget.charged_seconds:
            return True
        tail = progress.curve[-1 - workload.ladder.confirmations :]
        hardest = workload.ladder.levels[-1]
        return len(tail) > workload.ladder.confirmations and all(workload.metric.reached(p.quality, hardest) for p in tail)

    # ---------------------------------------------------------------- parts

    def _check_needs(self) -> None:
        for kind, chosen in (("algorithm", self.plan.algorithm), ("curation method", self.plan.curation)):
            unmet = sorted(set(chosen.needs) - set(self.plan.workload.provides))
            if unmet:
                provides = ", ".join(self.plan.workload.provides) or "nothing"
                raise NeedsUnmet(f"{kind} {chosen.name!r} needs {', '.join(unmet)}; workload {self.plan.workload.name!r} provides {provides}")

    def _open_device(self) -> None:
        from lightning_fabric import Fabric

        threads = self.plan.threads or machine.cpu_count()
        torch.set_num_threads(threads)
        self.fabric = Fabric(accelerator="auto", devices=1, precision=self.plan.workload.precision)  # type: ignore[arg-type]
        self.device = self.fabric.device
        if self.device.type == "cuda":
            self.clock.synchronize_with(lambda: torch.cuda.synchronize(self.device))

    def _curate(self) -> None:
        plan, checkpoint = self.plan, self.running.load()
        self.payload = checkpoint
        pool = self.inputs.pool
        labels = self.inputs.task.label if plan.curation.needs_labels else None
        self.pool = Pool(pool.split, pool.ids, labels)
        kept = self.running.folder / "selection.npz"
        if checkpoint is not None and kept.exists():
            self.selection = Selection.read(kept)
        else:
            generator = np.random.default_rng(self.seeds["curation"])
            with self.clock.bucket(Bucket.CURATE):
                context = Context(generator=generator, span=self.clock.span, cache=None)
                self.selection = self.method.select(self.pool, plan.keep_fraction, context)
            self.selection.write(kept)

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Ids and weights of an epoch: the method's, if it is dynamic, else the selection in a fresh permutation."""
        generator = np.random.default_rng([self.seeds["order"], epoch])
        if self.plan.curation.kind == "dynamic":
            return self.method.begin_epoch(epoch, generator)
        chosen = self.selection
        rows = np.arange(len(chosen.ids)) if chosen.counts is None else np.repeat(np.arange(len(chosen.ids)), chosen.counts)
        rows = generator.permutation(rows)
        return chosen.ids[rows], None if chosen.weights is None else chosen.weights[rows]

    def _build(self) -> None:
        plan, workload = self.plan, self.plan.workload
        self.horizon_examples = math.ceil(workload.budget.examples * plan.horizon)
        with self.clock.bucket(Bucket.PREPARE):
            loader = self.inputs.training_loader(plan.loader, self.seeds["augmentation"], plan.workers)
            self.loader_name = type(loader).__name__
            self.batcher = Batcher(loader, self._order, device=self.device)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seeds["model"])
                model = self.inputs.task.build_model(workload.model, self.inputs.dataset.facts)
            if workload.channels_last:
                model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.model: nn.Module = model.to(self.device)
            self.evaluator = Evaluator(self.inputs, self.model, self.device, self.fabric.autocast)
            self.progress.batch_size = min(plan.algorithm.batch_size or workload.batch_size, len(self.inputs.pool))
            self.dummy = self._dummy_batch(self.progress.batch_size)
            self._counted: dict[int, StepFlops] = {}
            self._step_flops(self.progress.batch_size)
            self.problem = self._problem(self.model, self._next_batch)
            torch.manual_seed(self.seeds["framework"])
        with self.clock.bucket(Bucket.SETUP):
            self.state = self.algorithm.setup(self.model, self.problem)
        if self.payload is not None:
            self._restore(self.payload)

    def _problem(self, model: nn.Module, next_batch: Callable[[], Batch]) -> Problem:
        plan, workload, task, loss_options = self.plan, self.plan.workload, self.inputs.task, self.plan.workload.loss
        autocast, progress, horizon = self.fabric.autocast, self.progress, self.horizon_examples

        def losses(batch: Batch) -> Tensor:
            with autocast():
                outputs = task.forward(model, batch)
            return task.losses(outputs, batch, loss_options)

        if workload.precision == "32-true":

            def losses(batch: Batch) -> Tensor:  # noqa: F811  full precision needs no autocast, whose entry costs microseconds a step
                return task.losses(task.forward(model, batch), batch, loss_options)

        return Problem(
            losses=losses,
            backward=self.fabric.backward,
            next_batch=next_batch,
            dummy_batch=self.dummy,
            progress=lambda: progress.examples / horizon,
            kinds=parameter_kinds(model),
            hyperparameters=dict(plan.algorithm.hyperparameters),
            generator=torch.Generator(device=self.device).manual_seed(self.seeds["algorithm"]),
            batch_size=progress.batch_size,
            step_count=math.ceil(horizon / progress.batch_size),
            device=self.device,
        )

    def _next_batch(self) -> Batch:
        return self.batcher.next(self.progress.batch_size)

    def _dummy_batch(self, size: int) -> Batch:
        """A shuffled batch from a loader of its own, so that the trial's stream of examples does not move."""
        ids = self.inputs.pool.ids[np.arange(size) % len(self.inputs.pool)]
        with self.inputs.training_loader("torch", self.seeds["augmentation"], 1) as loader:
            batcher = Batcher(loader, lambda epoch: (ids, None), device=self.device)
            return dummy_batch(batcher.next(size))

    def _step_flops(self, size: int) -> StepFlops:
        if size not in self._counted:
            with self.clock.bucket(Bucket.PREPARE):
                twin: TrainingAlgorithm = instantiate(self.plan.algorithm.target, self.plan.algorithm.options, TrainingAlgorithm)
                dummy = self._dummy_batch(size)
                self._counted[size] = count_step_flops(twin, self.model, lambda model: self._problem(model, lambda: dummy), dummy)
        return self._counted[size]

    # ---------------------------------------------------------------- resume

    def _checkpoint(self) -> None:
        if self.smoke:
            return
        with self.clock.bucket(Bucket.TRAIN):
            algorithm = self.algorithm.state_dict(self.state)
        with self.clock.bucket(Bucket.LOG):
            progress = self.progress
            payload: dict[str, Any] = {
                "model": self.model.state_dict(),
                "algorithm": algorithm,
                "batcher": self.batcher.state_dict(),
                "method": self.method.state_dict() if self.plan.curation.kind == "dynamic" else {},
                "random": torch.get_rng_state(),
                "generator": self.problem.generator.get_state(),
                "progress": {k: v for k, v in vars(progress).items() if k != "curve"},
                "curve": [plain(point) for point in progress.curve],
                "resumed_count": self.resumed_count,
                "clock": self.clock.state_dict(),
            }
            if self.device.type == "cuda":
                payload["cuda_random"] = torch.cuda.get_rng_state(self.device)
            self.running.save(payload)

    def _restore(self, payload: dict[str, Any]) -> None:
        self.model.load_state_dict(payload["model"])
        self.algorithm.load_state_dict(self.state, payload["algorithm"])
        self.batcher.load_state_dict(payload["batcher"])
        if self.plan.curation.kind == "dynamic":
            self.method.load_state_dict(payload["method"])
        torch.set_rng_state(payload["random"])
        self.problem.generator.set_state(payload["generator"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(payload["cuda_random"], self.device)
        for name, value in payload["progress"].items():
            setattr(self.progress, name, value)
        self.progress.curve = [CurvePoint(**point) for point in payload["curve"]]
        self.resumed_count = payload["resumed_count"] + 1
        self.clock.load_state_dict(payload["clock"])

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C asks the loop to stop between two steps; a second one raises ``KeyboardInterrupt`` at once."""

        def request(signum: int, frame: object) -> None:
            if self.stop_requested:
                raise KeyboardInterrupt
            self.stop_requested = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, request)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _close(self) -> None:
        for part in ("batcher", "evaluator"):
            if hasattr(self, part):
                getattr(self, part).close()

    # ---------------------------------------------------------------- the record

    def _write(self, status: Status) -> tuple[Record, Path]:
        plan, workload, progress = self.plan, self.plan.workload, self.progress
        final_test = self._test_at_end() if status in (Status.HIT, Status.MISSED) else None
        stamp = self.started_at.strftime("%Y%m%dT%H%M%S%f")[:-3]
        record_id = f"{workload.name}-{plan.algorithm.name}-{plan.curation.name}-s{plan.seed}-{plan.digest[:8]}-{stamp}"
        reading = self.clock.read()
        record = Record(
            schema_version=SCHEMA_VERSION,
            record_id=record_id,
            origin=Origin.NATIVE,
            workload=workload_identity(plan),
            entry=Entry(
                plan.entry_name,
                plan.algorithm.name,
                plan.curation.name,
                plain(plan.algorithm)["options"] | {"batch_size": plan.algorithm.batch_size, "horizon": plan.horizon},
                dict(plan.curation.options),
                dict(plan.algorithm.hyperparameters),
            ),
            seed=plan.seed,
            status=status,
            status_reason=self.reason,
            crossings=crossings(progress.curve, workload.metric, workload.ladder),
            result=Result(
                progress.curve[-1].quality if progress.curve else None,
                progress.curve[-1].loss if progress.curve else None,
                progress.test_at_hit if status is Status.HIT else None,
                None if final_test is None else final_test.quality,
            ),
            time=TimeLedger(
                dict(reading.wall_seconds),
                dict(reading.cpu_seconds),
                dict(reading.span_seconds),
                reading.charged_seconds,
                time.perf_counter() - self.started,
                self.lost_seconds,
            ),
            trial_digest=plan.digest,
            study=plan.study,
            seeds=self.seeds,
            selected=self._selected(),
            cost=self._cost(),
            resumed_count=self.resumed_count,
            hardware_class=machine.hardware_class(),
            numerics_key=machine.numerics_key(),
            machine={**machine.fingerprint(), "load_at_start": self.load_at_start, "load_at_end": machine.load()},
            software={**machine.software_versions(), "git": machine.git_state()},
            loader={"kind": getattr(self, "loader_name", None), "workers": plan.workers, "threads": torch.get_num_threads()},
            data_digests={"dataset": self.inputs.dataset.digest, "pool": self.pool.digest if hasattr(self, "pool") else ""},
            started_at=self.started_at.isoformat(timespec="milliseconds"),
            ended_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        folder = self.home / "records" / record_id
        write_record(folder, record, tuple(progress.curve), yaml.safe_dump(plain(plan), sort_keys=False, allow_unicode=True))
        return record, folder

    def _test_at_end(self) -> Measured:
        with self.clock.bucket(Bucket.EVALUATE):
            return self.evaluator.measure(self.inputs.test)

    def _selected(self) -> Selected | None:
        if not hasattr(self, "selection"):
            return None
        pool, kept = len(self.inputs.pool), len(self.selection.ids)
        return Selected(pool, kept, kept / pool, self.selection.digest)

    def _cost(self) -> Cost | None:
        if not hasattr(self, "model"):
            return None
        flops = self._counted.get(self.progress.batch_size)
        return Cost(
            parameters=sum(p.numel() for p in self.model.parameters()),
            model_flops_per_example=None if flops is None else flops.model / self.progress.batch_size,
            update_flops_per_step=None if flops is None else flops.update,
            peak_memory_bytes=machine.peak_memory_bytes(),
            data_bytes=sum(f.values.nbytes for f in self.inputs.pool.split.fields.values()),
        )


def workload_identity(plan: Plan) -> WorkloadIdentity:
    """The part of a workload that its records embed."""
    w = plan.workload
    return WorkloadIdentity(w.name, w.version, w.tier, w.family, w.metric, w.ladder, w.budget, w.result_rule, w.digest, w.ranked)
