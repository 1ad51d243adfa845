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
from typing import final

import numpy as np
import torch

from ..data_pipelines.batcher import Batcher
from ..data_pipelines.curation.interface import DynamicMethod
from . import machine, machine_load
from .algorithm import Batch, StepReport
from .allowance import Allowance
from .assembly import Assembly
from .checkpoint import RunningTrial
from .clock import TEST, Bucket, Clock
from .config import Plan
from .curated import Curated
from .curve import CurvePoint, crossings
from .distributed import Processes, launch
from .early_stop import reason, stopped
from .errors import ConfigError, NeedsUnmet, TimetrialError
from .evaluate import Evaluator, finite
from .flops import StepFlops
from .inputs import Inputs, open_inputs
from .meters import energy_meter
from .proxy import ProxyTrainer
from .record import Record, Status, Stopped
from .seeds import derive_seeds
from .trial_checkpoint import checkpoint_trial, restore_trial
from .trial_record import write_trial
from .workload import Lens, TargetStatus

__all__ = ["Trial", "follow_trial", "run_trial"]

SMOKE_STEPS = 3
PACKAGE = Path(__file__).resolve().parent.parent


@dataclass
class _Progress:
    """All that changes while a trial runs and is neither model, algorithm nor loader."""

    examples: int = 0
    steps: int = 0
    flops: float = 0.0
    gradient_depth: int = 0
    sent_bytes: int = 0
    optimizer_state_bytes: int | None = None
    batch_size: int = 0
    train_loss: float | None = None
    test_at_hit: float | None = None
    test_measures_at_hit: dict[str, float] = field(default_factory=dict)
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


def follow_trial(plan: Plan, home: Path, processes: Processes, *, smoke: bool = False) -> None:
    """Take part, as one of the further processes, in a trial that the first process runs and records."""
    running = RunningTrial(home, plan.digest, lock=False)
    try:
        Trial(plan, home, running, None, Clock(), None, smoke, time.perf_counter(), processes).follow()
    finally:
        running.close(remove=False)


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
        processes: Processes | None = None,
    ) -> None:
        self.plan, self.home, self.running, self.clock = plan, home, running, clock
        self.on_point, self.smoke, self.started = on_point, smoke, started
        self.started_at = datetime.now(UTC)
        self.seeds = derive_seeds(plan.seed)
        self.progress = _Progress()
        self.resumed_count = 0
        self.earlier_seconds = 0.0
        self.stop_requested = self.interrupted = False
        self.reason: str | None = None
        self.stopped: Stopped | None = None
        self.loader_name: str | None = None
        with clock.bucket(Bucket.PREPARE):
            self.load_at_start, self.stolen_at_start = machine_load.load(), machine_load.stolen_seconds()
            self.inputs = inputs or open_inputs(plan.workload, home)
            self._check_needs()
            self.assembly = Assembly(plan, self.inputs, self.seeds)
            self.algorithm = self.assembly.algorithm()
            self.curated = Curated(plan, self.inputs, self.seeds)
            self._ready_clock()
            self.processes = processes or launch(plan, home, smoke=smoke)

    def _ready_clock(self) -> None:
        """Tell the clock about the device, and about the energy meter where there is one."""
        device = self.assembly.device
        if device.type == "cuda":
            self.clock.synchronize_with(lambda: torch.cuda.synchronize(device))
        meter = energy_meter([device.index or 0] if device.type == "cuda" else [])
        if meter is not None:
            self.clock.meter_with(meter)
        elif Lens.JOULES in self.plan.workload.budget.limits:
            raise ConfigError("budget.limits.joules: this machine has no energy meter that may be read, so nothing would end the trial")

    # ---------------------------------------------------------------- the run

    def run(self) -> tuple[Record, Path]:
        """Everything from curation to the record."""
        try:
            status = self._run_parts()
            return write_trial(self, status)
        finally:
            self._close()

    def follow(self) -> None:
        """Everything but the record; raises what goes wrong, which the first process notices."""
        try:
            self.begin()
            self._train()
        finally:
            self._close()

    def begin(self) -> None:
        """Everything before the first step: take up a checkpoint if there is one, curate, build, set the algorithm up."""
        self.payload = self.processes.told(self.running.load)
        if self.payload is None and self.processes.first:
            self.running.discard()
        kept = self.running.folder / "selection.npz"
        self.processes.in_turn(lambda: self.curated.select(self.clock, kept, ProxyTrainer(self.assembly)))
        self._build()

    def _run_parts(self) -> Status:
        try:
            with self._interruptible():
                self.begin()
                return self._train()
        except TimetrialError:
            raise
        except Exception as problem:  # noqa: BLE001  whatever an entry raises is recorded, and never takes a study down
            self.reason = _without_folders(problem)
            return Status.FAILED

    def _train(self) -> Status:
        progress, workload = self.progress, self.plan.workload
        if not progress.curve:
            self._evaluate()
        every = workload.evaluation.every_examples
        while not self.stop_requested:
            boundary = self.allowance.boundary((progress.examples // every + 1) * every)
            with self.clock.bucket(Bucket.TRAIN):
                report = self._steps_until(boundary)
                progress.train_loss = self.processes.mean(float(report.loss)) if report is not None else progress.train_loss
            if self.stop_requested and progress.examples < boundary:
                break
            if progress.train_loss is None or not math.isfinite(progress.train_loss) or not self._evaluate():
                self.reason = f"loss {progress.train_loss} after step {progress.steps}"
                return Status.DIVERGED
            if self.smoke:
                return Status.SMOKE
            if self._over():
                main = workload.ladder.levels.index(workload.ladder.main)
                return Status.HIT if crossings(progress.curve, workload.metric, workload.ladder)[main].hit else Status.MISSED
            self.stopped = stopped(progress.curve, workload.metric, self.plan.early_stop)
            if self.stopped is not None:
                self.reason = reason(self.stopped, workload.metric)
                return Status.MISSED
            checkpoint_trial(self)
        checkpoint_trial(self)
        self.reason = "stopped by Ctrl-C; run the same command again to resume"
        return Status.INTERRUPTED

    def _steps_until(self, examples: int) -> StepReport | None:
        """Train until ``examples`` are seen, the charged budget is spent, or somebody asks to stop: the hot loop."""
        progress, algorithm, state, batcher = self.progress, self.algorithm, self.state, self.batcher
        self.allowance.watch(self.clock.read())
        dynamic, share, agreed, report = self.curated.dynamic, self.processes.share, self.processes.agreed, None
        limit = progress.steps + SMOKE_STEPS if self.smoke else math.inf
        while progress.examples < examples and progress.steps < limit and not self.stop_requested:
            batch = share(batcher.next(progress.batch_size)) if dynamic is None else self._chosen_batch(dynamic)
            report = algorithm.step(state, batch)
            progress.steps += 1
            progress.gradient_depth += 1
            progress.examples = batcher.examples_served
            progress.flops += self._step_flops().total
            if report.next_batch_size is not None:
                progress.batch_size = min(max(1, report.next_batch_size), len(self.inputs.pool))
            if dynamic is not None:
                self._observe(batch, report)
            self.stop_requested, spent = agreed(self.interrupted, self.allowance.spent(progress))
            if spent:
                break
        return report

    def _chosen_batch(self, method: DynamicMethod) -> Batch:
        """The next batch, or what a method keeps of several times as many candidates after a forward pass over them."""
        size, factor = self.progress.batch_size, method.candidate_factor
        if factor == 1:
            return self.batcher.next(size)
        candidates = self.batcher.next(size * factor)
        with torch.no_grad():
            losses = self.problem.losses(candidates)
        self.progress.flops += factor * self._step_flops().forward
        weights = method.reweight(candidates.ids.numpy(), losses.float().cpu().numpy())
        if weights is None:
            return candidates
        kept = torch.from_numpy(np.flatnonzero(weights))
        fields = {name: value[kept.to(value.device)] for name, value in candidates.fields.items()}
        return Batch(candidates.ids[kept], fields, torch.from_numpy(weights)[kept].to(self.assembly.device))

    def _observe(self, batch: Batch, report: StepReport) -> None:
        losses = report.per_example_loss
        if losses is None:
            with torch.no_grad():
                losses = self.problem.losses(batch)
        self.curated.observe(batch, losses)

    def _evaluate(self) -> bool:
        """Add a point to the curve; False when the validation loss is no number."""
        progress, workload = self.progress, self.plan.workload
        with self.clock.bucket(Bucket.TRAIN):
            weights = self.algorithm.weights_for_evaluation(self.state) if progress.steps else None
        cost = self.processes.told(self.clock.read)
        with self.clock.bucket(Bucket.EVALUATE):
            self.evaluator.load(self.model, weights)
            measured = self.processes.told(lambda: self.evaluator.measure(self.inputs.validation))
            if not (math.isfinite(measured.loss) and math.isfinite(measured.quality)):
                return False
            reached = [workload.metric.reached(point.quality, workload.ladder.main) for point in progress.curve]
            if workload.metric.reached(measured.quality, workload.ladder.main) and not (reached and reached[-1]):
                with self.clock.span(TEST):
                    on_test = self.processes.told(lambda: self.evaluator.measure(self.inputs.test))
                progress.test_at_hit, progress.test_measures_at_hit = on_test.quality, finite(on_test.others)
        point = CurvePoint(
            progress.examples,
            progress.steps,
            cost.charged_seconds,
            cost.charged_cpu_seconds,
            progress.flops,
            progress.gradient_depth,
            cost.charged_joules,
            progress.train_loss,
            measured.loss,
            measured.quality,
            machine.peak_memory_bytes(),
            progress.optimizer_state_bytes,
        )
        progress.curve.append(point)
        if self.on_point is not None:
            with self.clock.bucket(Bucket.LOG):
                self.on_point(self.plan, point)
        return True

    def _over(self) -> bool:
        """Whether the budget is spent, or the hardest level is reached and confirmed; provisional levels end nothing."""
        progress, workload = self.progress, self.plan.workload
        if self.allowance.over(progress.curve[-1]):
            return True
        if workload.ladder.status is TargetStatus.PROVISIONAL:
            return False  # frozen ones are derived from whole curves
        tail = progress.curve[-1 - workload.ladder.confirmations :]
        hardest = workload.ladder.levels[-1]
        return len(tail) > workload.ladder.confirmations and all(workload.metric.reached(p.quality, hardest) for p in tail)

    # ---------------------------------------------------------------- parts

    def _check_needs(self) -> None:
        for kind, chosen in (("algorithm", self.plan.algorithm), ("curation method", self.plan.curation)):
            unmet = sorted(set(chosen.needs) - {*self.plan.workload.provides, *self.plan.provides})
            if unmet:
                provides = ", ".join(self.plan.workload.provides) or "nothing"
                workload = self.plan.workload.name
                raise NeedsUnmet(f"{kind} {chosen.name!r} needs {', '.join(unmet)}; workload {workload!r} provides {provides}")

    def _build(self) -> None:
        plan, assembly = self.plan, self.assembly
        with self.clock.bucket(Bucket.PREPARE):
            size = self.progress.batch_size = assembly.batch_size(len(self.inputs.pool))
            self.loader = loader = self.inputs.training_loader(plan.loader, self.seeds["augmentation"], plan.workers, size)
            self.loader_name = type(loader).__name__
            list(loader.serve(self.inputs.pool.ids[:1], 0))  # loads compiled code; reading an example changes nothing
            static = self.curated.dynamic is None
            self.batcher = Batcher(loader, self.curated.order, device=assembly.device, order_known_ahead=static)
            model = assembly.model(self.seeds["model"])
            self.model = model
            self.evaluator = Evaluator(self.inputs, model, assembly.device, assembly.fabric.autocast)
            self.allowance = Allowance(plan.workload.budget, plan.horizon, size, assembly.step_flops(model, size).total)
            self.problem = assembly.problem(
                model,
                next_batch=lambda: self.processes.share(self.batcher.next(self.progress.batch_size)),
                dummy=assembly.dummy_batch(size),
                progress=lambda: self.allowance.fraction(self.progress),
                seed=self.seeds["algorithm"],
                horizon_examples=self.allowance.examples,
            )
            torch.manual_seed(self.seeds["framework"])
            self.problem = self.processes.parallel(model, self.problem)
        with self.clock.bucket(Bucket.SETUP):
            self.state = self.algorithm.setup(model, self.problem)
        if self.payload is not None:
            restore_trial(self, self.payload)

    def _step_flops(self) -> StepFlops:
        """Of a step at the current batch size; counting a new size is the harness' work and not charged."""
        found = self.assembly.counted.get(self.progress.batch_size)
        if found is None:
            with self.clock.bucket(Bucket.PREPARE):
                found = self.assembly.step_flops(self.model, self.progress.batch_size)
        return found

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C asks the loop to stop between two steps; a second one raises ``KeyboardInterrupt`` at once."""

        def request(signum: int, frame: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, request)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _close(self) -> None:
        for part in ("batcher", "loader", "evaluator"):
            if hasattr(self, part):
                getattr(self, part).close()
        self.processes.close()


def _without_folders(problem: Exception) -> str:
    """The end of a traceback with files named from their package on: a record holds no absolute path."""
    told = traceback.TracebackException.from_exception(problem, limit=-8)
    for frame in told.stack:
        *folders, name = Path(frame.filename).parts
        first = next((i + 1 for i in range(len(folders) - 1, -1, -1) if folders[i] == "site-packages"), None)
        if first is None and Path(frame.filename).is_relative_to(PACKAGE):
            first = len(PACKAGE.parts)
        frame.filename = "/".join([*folders[first:], name]) if first is not None else name
    return "".join(told.format())
