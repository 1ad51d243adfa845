"""What a training is put together from: model, problem, dummy batches and counted FLOPs, for a trial and for its proxies alike."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from ..data_pipelines.batcher import Batcher
from ..data_pipelines.threads import set_threads
from . import machine
from .algorithm import Batch, Problem, TrainingAlgorithm, parameter_kinds
from .config import Plan, instantiate
from .errors import ConfigError
from .flops import StepFlops, count_step_flops, dummy_batch
from .inputs import Inputs

__all__ = ["Assembly"]


@final
class Assembly:
    """Builds the parts of a plan on the device that Lightning Fabric finds; holds nothing that training changes."""

    def __init__(self, plan: Plan, inputs: Inputs, seeds: Mapping[str, int]) -> None:
        from lightning_fabric import Fabric

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every precision on stderr
        self.threads = set_threads(plan.threads or max(1, machine.cpu_count() // plan.processes))
        self.plan, self.inputs, self.seeds = plan, inputs, seeds
        accelerator = "auto" if plan.processes == 1 else "cpu"
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=plan.workload.precision)  # type: ignore[arg-type]
        self.device = self.fabric.device
        self.counted: dict[int, StepFlops] = {}

    def algorithm(self) -> TrainingAlgorithm:
        """A fresh object of the plan's training algorithm."""
        found: TrainingAlgorithm = instantiate(self.plan.algorithm.target, self.plan.algorithm.options, TrainingAlgorithm)
        return found

    def batch_size(self, examples: int) -> int:
        """The first batch size: the algorithm's, else the workload's, at most all ``examples``."""
        return min(self.plan.algorithm.batch_size or self.plan.workload.batch_size, examples)

    def model(self, seed: int) -> nn.Module:
        """The workload's model with initial weights that are a pure function of ``seed``, in its memory format, on the device."""
        workload = self.plan.workload
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                model = self.inputs.task.build_model(workload.model, self.inputs.dataset.facts)
            except (KeyError, TypeError) as problem:
                raise self._unfit("cannot build its model from the options and the facts of", problem) from problem
        if workload.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.to(self.device)

    def losses(self, model: nn.Module) -> Callable[[Batch], Tensor]:
        """The per-example loss of a model in the workload's precision."""
        task, options = self.inputs.task, self.plan.workload.loss
        if self.plan.workload.precision == "32-true":  # needs no autocast, whose entry costs microseconds a step
            return lambda batch: task.losses(task.forward(model, batch), batch, options)
        autocast = self.fabric.autocast

        def losses(batch: Batch) -> Tensor:
            with autocast():
                outputs = task.forward(model, batch)
            return task.losses(outputs, batch, options)

        return losses

    def problem(
        self,
        model: nn.Module,
        *,
        next_batch: Callable[[], Batch],
        dummy: Batch,
        progress: Callable[[], float],
        seed: int,
        horizon_examples: int,
    ) -> Problem:
        """What an algorithm is told about a model that it trains for ``horizon_examples``."""
        return Problem(
            losses=self.losses(model),
            backward=self.fabric.backward,
            next_batch=next_batch,
            dummy_batch=dummy,
            progress=progress,
            kinds=parameter_kinds(model),
            hyperparameters=dict(self.plan.algorithm.hyperparameters),
            generator=torch.Generator(device=self.device).manual_seed(seed),
            batch_size=len(dummy),
            step_count=math.ceil(horizon_examples / len(dummy)),
            device=self.device,
        )

    def dummy_batch(self, size: int) -> Batch:
        """A shuffled batch from a loader of its own, so that no stream of examples moves."""
        ids = self.inputs.pool.ids[np.arange(size) % len(self.inputs.pool)]
        with self.inputs.training_loader("torch", self.seeds["augmentation"], 1, size) as loader:
            return dummy_batch(Batcher(loader, lambda epoch: (ids, None), device=self.device).next(size))

    def step_flops(self, model: nn.Module, size: int) -> StepFlops:
        """FLOPs of a step at a batch size, counted on a copy of ``model`` the first time that the size occurs."""
        if size not in self.counted:
            dummy = self.dummy_batch(size)

            def problem(twin: nn.Module) -> Problem:
                seed = self.seeds["algorithm"]
                return self.problem(
                    twin, next_batch=lambda: dummy, dummy=dummy, progress=lambda: 0.5, seed=seed, horizon_examples=100 * size
                )

            try:
                self.counted[size] = count_step_flops(self.algorithm(), model, problem, dummy)
            except Exception:
                self._check_task(model, dummy)
                raise
        return self.counted[size]

    def _check_task(self, model: nn.Module, dummy: Batch) -> None:
        """``ConfigError`` when the loss alone fails on a batch: then the data do not fit the task, whatever the algorithm does."""
        with torch.random.fork_rng(devices=[]):
            try:
                self.losses(copy.deepcopy(model))(dummy)
            except (RuntimeError, ValueError, LookupError, TypeError) as problem:
                raise self._unfit("cannot take", problem) from problem

    def _unfit(self, what: str, problem: Exception) -> ConfigError:
        workload = self.plan.workload
        reason = f"{type(problem).__name__}: {' '.join(str(problem).split())}"
        return ConfigError(f"workload {workload.name}: task {workload.task!r} {what} data of {workload.data.source}: {reason}")
