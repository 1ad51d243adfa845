"""A LightningModule and a LightningDataModule, timed as a workload through the same clock.

The module's ``training_step`` gives the loss, its ``validation_step`` the quality, its ``configure_optimizers`` the training algorithm
(or any algorithm of timetrial trains it instead). The data module gives datasets, collation and workers; the order of the examples,
the evaluation schedule, the seeds and the clock are the harness' own, so a trial resumes bit for bit.

    inputs = open_module(lambda: MyModule(lr=0.1), MyData(), name="mine", metric=Metric("val_accuracy", Direction.MAXIMIZE, "fraction"),
                         ladder=TargetLadder(levels, main=0.9), budget=Budget(1_000_000, charged_seconds=600), every_examples=50_000)
    own, other = run_module(inputs), run_module(inputs, algorithm="lion")

Refused by name: manual optimisation, several optimizers, schedulers that watch a metric, and the hooks in ``lightning_module.REFUSED``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
import torch.utils._pytree as pytree
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.core.optimizer import _configure_optimizers, _configure_schedulers_automatic_opt
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from ..data_pipelines.augment import Augmentation
from ..data_pipelines.dataset import Dataset, Split
from .algorithm import Batch, Problem, StepReport, TrainingAlgorithm
from .config import AlgorithmDefinition, Plan, resolve_definition
from .errors import ConfigError, NeedsUnmet
from .files import home_folder, object_digest
from .inputs import Examples, Inputs
from .lightning_data import Feed, Reader, feed_of
from .lightning_module import Bench, Factory, module_task, supported
from .record import Record
from .workload import Budget, Data, Evaluation, Metric, TargetLadder, Tier, Workload

__all__ = ["LightningAlgorithm", "LightningInputs", "module_plan", "open_module", "run_module"]


@final
@dataclass(frozen=True)
class LightningInputs(Inputs):
    """A data module's splits, served to the trial by example id."""

    feeds: Mapping[str, Feed] = field(default_factory=dict)

    def training_loader(self, kind: str, seed: int, workers: int, batch_size: int) -> Reader:  # type: ignore[override]  # same contract
        """A reader over the training dataset; how it is read is the data module's own choice."""
        return Reader(self.feeds["train"], seed, batch_size)

    def evaluation_loader(self, examples: Examples) -> Reader:  # type: ignore[override]
        """A reader over the split's dataset in batches of the validation loader's size."""
        return Reader(self.feeds[examples.split.name], 0, self.workload.evaluation.batch_size)


def open_module(
    module: Factory,
    data: LightningDataModule,
    *,
    name: str,
    metric: Metric,
    ladder: TargetLadder,
    budget: Budget,
    every_examples: int,
    tier: Tier = Tier.NANO,
    precision: str = "32-true",
) -> LightningInputs:
    """Make a workload of a module and its data, ready for :func:`module_plan` and :func:`~timetrial.suite.trial.run_trial`.

    ``module()`` makes a fresh module, its weights drawn from torch's global generator. ``metric.name`` is the name under which
    ``validation_step`` logs the quality; the loss is what it returns, or else logs as ``val_loss``. Needs training, validation and
    test loaders. Raises ``NeedsUnmet`` for what the adapter does not support, ``ConfigError`` for goals that do not fit together.
    """
    owner = type(data).__qualname__
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    if not is_overridden("test_dataloader", data):
        raise NeedsUnmet(f"{owner}: no test_dataloader; quality is measured on a test split at the hit and at the end")
    loaders = {"train": data.train_dataloader, "validation": data.val_dataloader, "test": data.test_dataloader}
    feeds = {split: feed_of(loader(), f"{owner}, {split}") for split, loader in loaders.items()}
    digests = {split: feed.digest for split, feed in feeds.items()}
    train, validation = feeds["train"], feeds["validation"]
    with torch.random.fork_rng(devices=[]):
        example = supported(module())
    workload = Workload(
        name=name,
        version=1,
        tier=tier,
        family="lightning",
        summary=f"{type(example).__qualname__} on {owner}, a module of the user's own",
        task="lightning",
        data=Data(owner, 0, {"digests": digests}),
        metric=metric,
        ladder=ladder,
        budget=budget,
        evaluation=Evaluation(every_examples, validation.batch_size),
        batch_size=train.batch_size,
        model=_description(example),
        precision=precision,
        ranked=False,
    ).checked(f"workload {name}")
    splits = {split: Split(split, {}, None, digest) for split, digest in digests.items()}
    dataset = Dataset(owner, 1, object_digest(digests), splits, {})
    bench = Bench({True: train.structure, False: validation.structure}, len(train.loader))
    parts = {split: Examples(splits[split], np.arange(len(feed), dtype=np.int64)) for split, feed in feeds.items()}
    task = module_task(module, bench, train.names, metric.name)
    return LightningInputs(workload, task, dataset, parts["train"], parts["validation"], parts["test"], Augmentation(), feeds)


def module_plan(inputs: LightningInputs, *, algorithm: str | None = None, clip_norm: float | None = None, seed: int = 0) -> Plan:
    """A trial of the module with its own optimizer (``clip_norm``: the Trainer's ``gradient_clip_val``), or with a named algorithm."""
    if algorithm is None:
        target, summary = f"timetrial.suite.lightning_adapter.{LightningAlgorithm.__name__}", "the module's own configure_optimizers"
        options, hyperparameters = {"clip_norm": clip_norm}, inputs.workload.model["hyperparameters"]
        chosen = AlgorithmDefinition("configure_optimizers", summary, target, options=options, hyperparameters=hyperparameters)
    else:
        if clip_norm is not None:
            raise ConfigError(f"clip_norm belongs to the module's own optimizer; algorithm {algorithm!r} has options of its own")
        chosen = resolve_definition("algorithm", algorithm)
    return Plan(inputs.workload, chosen, resolve_definition("curation", "all"), seed=seed, loader="torch").checked()


def run_module(
    inputs: LightningInputs,
    *,
    algorithm: str | None = None,
    clip_norm: float | None = None,
    seed: int = 0,
    home: str | os.PathLike[str] | None = None,
) -> Record:
    """Run one trial of an opened module and return its record, which is also written below ``home``."""
    from .trial import run_trial

    record, _ = run_trial(module_plan(inputs, algorithm=algorithm, clip_norm=clip_norm, seed=seed), home_folder(home), inputs=inputs)
    return record


@dataclass
class State:
    module: LightningModule
    bench: Bench
    problem: Problem
    optimizer: torch.optim.Optimizer
    schedulers: list[Any]


@final
class LightningAlgorithm(TrainingAlgorithm):
    """The module's own ``configure_optimizers``, stepped as ``Trainer`` steps it: same closure, same hooks, same schedules.

    An epoch, to schedulers and hooks, is as many steps as the training loader has batches. ``clip_norm``: the global gradient norm
    is cut to this before every update (None: never).
    """

    def __init__(self, *, clip_norm: float | None = None) -> None:
        self.clip_norm = clip_norm

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """Ask the module for its optimizer and schedulers."""
        if not isinstance(model, LightningModule):
            raise NeedsUnmet(f"configure_optimizers trains LightningModules; this workload's model is a {type(model).__name__}")
        bench: Any = model.fabric
        bench.max_steps, bench.max_epochs = problem.step_count, -(-problem.step_count // bench.num_training_batches)
        optimizers, given, monitor = _configure_optimizers(model.configure_optimizers() or ())  # type: ignore[arg-type]
        name = type(model).__name__
        if len(optimizers) != 1:
            raise NeedsUnmet(f"{name}.configure_optimizers: the adapter steps exactly one optimizer, given {len(optimizers)}")
        schedulers = _configure_schedulers_automatic_opt(given, monitor)
        if any(scheduler.reduce_on_plateau for scheduler in schedulers):
            raise NeedsUnmet(f"{name}.configure_optimizers: a scheduler that watches a metric would see the validation set; use another")
        model.on_train_start()
        return State(model, bench, problem, optimizers[0], schedulers)

    def step(self, state: State, batch: Batch) -> StepReport:
        """One ``Trainer`` step: the closure inside ``optimizer_step``, then schedulers and hooks."""
        module, bench, optimizer = state.module, state.bench, state.optimizer
        user_batch = pytree.tree_unflatten(list(batch.fields.values()), bench.structures[True])
        if bench.batch_idx == 0:
            module.on_train_epoch_start()
        if module.on_train_batch_start(user_batch, bench.batch_idx) == -1:
            raise NeedsUnmet(f"{type(module).__name__}.on_train_batch_start: skipping the rest of an epoch is not supported")
        losses: list[Tensor] = []

        def closure() -> Tensor:
            loss = state.problem.losses(batch)[0]
            module.on_before_zero_grad(optimizer)
            module.optimizer_zero_grad(bench.current_epoch, bench.batch_idx, optimizer)
            module.on_before_backward(loss)
            module.backward(loss)
            module.on_after_backward()
            module.on_before_optimizer_step(optimizer)
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.clip_norm)
            losses.append(loss.detach())
            return loss

        module.optimizer_step(bench.current_epoch, bench.batch_idx, optimizer, torch.enable_grad()(closure))
        if not losses:
            raise NeedsUnmet(f"{type(module).__name__}.optimizer_step: it did not call the closure, so there is no loss")
        bench.global_step += 1
        _advance(state, "step", bench.batch_idx)
        module.on_train_batch_end({"loss": losses[0]}, user_batch, bench.batch_idx)
        bench.batch_idx += 1
        if bench.batch_idx == bench.num_training_batches:
            module.on_train_epoch_end()
            _advance(state, "epoch", bench.current_epoch)
            bench.end_epoch()
            bench.current_epoch += 1
        return StepReport(losses[0])

    def state_dict(self, state: State) -> dict[str, Any]:
        """Optimizer, schedulers, counters and what the module's own ``on_save_checkpoint`` adds."""
        own: dict[str, Any] = {}
        state.module.on_save_checkpoint(own)
        counters = {name: getattr(state.bench, name) for name in ("batch_idx", "current_epoch", "global_step")}
        schedulers = [config.scheduler.state_dict() for config in state.schedulers]
        return {"optimizer": state.optimizer.state_dict(), "schedulers": schedulers, "counters": counters, "module": own}

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Put all of it back."""
        state.optimizer.load_state_dict(payload["optimizer"])
        for config, saved in zip(state.schedulers, payload["schedulers"], strict=True):
            config.scheduler.load_state_dict(saved)
        for name, value in payload["counters"].items():
            setattr(state.bench, name, value)
        state.module.on_load_checkpoint(dict(payload["module"]))


def _advance(state: State, interval: str, index: int) -> None:
    for config in state.schedulers:
        if config.interval == interval and (index + 1) % config.frequency == 0:
            state.module.lr_scheduler_step(config.scheduler, None)


def _description(module: LightningModule) -> dict[str, Any]:
    """What a module is, as plain values; the source's digest is None where there is none (a console)."""
    hyperparameters = {
        str(key): value if isinstance(value, (str, int, float, bool, type(None))) else repr(value) for key, value in module.hparams.items()
    }
    try:
        source_digest = object_digest(inspect.getsource(type(module)))
    except (OSError, TypeError):
        source_digest = None
    return {"module": type(module).__qualname__, "source_digest": source_digest, "hyperparameters": hyperparameters}
