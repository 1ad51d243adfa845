"""A user's LightningModule in the words of a task: what it finds as its trainer, what it logs, and what is refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
import torch.utils._pytree as pytree
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torchmetrics import Metric as RunningMetric

from .algorithm import Batch
from .errors import ConfigError, NeedsUnmet
from .task import Task

__all__ = ["Bench", "Factory", "module_task", "supported"]

REFUSED = (
    *("configure_callbacks", "configure_gradient_clipping", "configure_sharded_model"),
    *("transfer_batch_to_device", "on_before_batch_transfer", "on_validation_model_eval", "on_validation_model_train"),
)
Factory = Callable[[], LightningModule]


@final
@dataclass
class Bench:
    """What a module finds as ``self.fabric`` and, through it, as ``self.trainer``: counters, and a place for what it logs.

    ``structures``: the user's shape of a training (True) and an evaluation batch; ``takes_index``: whether its step wants ``batch_idx``.
    """

    structures: Mapping[bool, pytree.TreeSpec]
    num_training_batches: int
    takes_index: Mapping[bool, bool] = field(default_factory=dict)
    batch_idx: int = 0
    current_epoch: int = 0
    global_step: int = 0
    max_steps: int = 0
    max_epochs: int = 0
    world_size: int = 1
    global_rank: int = 0
    local_rank: int = 0
    is_global_zero: bool = True
    sanity_checking: bool = False
    logger: None = None
    loggers: tuple[()] = ()
    logged: dict[str, Any] = field(default_factory=dict)
    running: list[RunningMetric] = field(default_factory=list)

    @property
    def estimated_stepping_batches(self) -> int:
        """Steps in the whole budget, as ``Trainer`` tells it to one-cycle schedules."""
        return self.max_steps

    def __deepcopy__(self, memo: dict[int, Any]) -> Bench:
        """A copied module (for evaluation, for counting FLOPs) counts for itself; the structures never change."""
        return replace(self, logged={}, running=[])

    def log(self, name: str, value: Any, **options: Any) -> None:
        """In place of ``LightningModule.log``: keeps the value of this step."""
        self.log_dict({name: value})

    def log_dict(self, metrics: Mapping[str, Any], **options: Any) -> None:
        """In place of ``LightningModule.log_dict``."""
        self.logged.update(metrics)
        self.running += [value for value in metrics.values() if isinstance(value, RunningMetric) and value not in self.running]

    def end_epoch(self) -> None:
        """Reset the torchmetrics that were logged, as ``Trainer`` does after training and validation epochs."""
        for metric in self.running:
            metric.reset()
        self.running.clear()
        self.batch_idx = 0

    def backward(self, loss: Tensor, *arguments: Any, **named: Any) -> None:
        """What ``LightningModule.backward`` calls by default."""
        loss.backward(*arguments, **named)


@dataclass(frozen=True)
class Outputs:
    """What one step of a module gave. ``loss``: the scalar loss; ``logged``: what it logged meanwhile."""

    module: LightningModule
    loss: Tensor
    logged: Mapping[str, Any]


@final
class LoggedQuality:
    """What a module logs under one name over a whole split: means weighted by batch size, torchmetrics computed at the end."""

    def __init__(self, name: str) -> None:
        self.name, self.total, self.count = name, 0.0, 0
        self.last: Outputs | None = None

    def to(self, device: torch.device) -> LoggedQuality:
        """Nothing is kept on a device."""
        return self

    def update(self, outputs: Outputs, size: int) -> None:
        """Take one batch's value; a torchmetrics metric collects by itself."""
        self.last = outputs
        value = outputs.logged.get(self.name)
        if value is not None and not isinstance(value, RunningMetric):
            self.total, self.count = self.total + float(value) * size, self.count + size

    def compute(self) -> Tensor:
        """The split's value. Raises ``ConfigError`` when the module logged nothing of that name."""
        if self.last is None:
            raise ConfigError("an empty split has no quality")
        module, logged = self.last.module, dict(self.last.logged)
        bench: Any = module.fabric
        bench.logged.clear()
        module.on_validation_epoch_end()
        logged |= bench.logged
        value = logged.get(self.name)
        if value is None:
            raise ConfigError(f"{type(module).__name__} logs {', '.join(sorted(logged)) or 'nothing'} in validation, not {self.name!r}")
        result = float(value.compute()) if isinstance(value, RunningMetric) else self.total / self.count if self.count else float(value)
        bench.end_epoch()
        return torch.tensor(result, dtype=torch.float64)


def module_task(module: Factory, bench: Bench, names: Sequence[str], quality: str) -> Task:
    """The module's own steps in the words of a task."""

    def build_model(options: Mapping[str, Any], facts: Mapping[str, Any]) -> nn.Module:
        made = supported(module())
        steps = {True: made.training_step, False: made.validation_step}
        takes_index = {training: len(inspect.signature(step).parameters) > 1 for training, step in steps.items()}
        own = Bench(bench.structures, bench.num_training_batches, takes_index)
        for part in made.modules():
            if isinstance(part, LightningModule):
                # Private names: the setters keep weak references only, which no copy survives.
                part._fabric, part._trainer, part.log, part.log_dict = own, own, own.log, own.log_dict  # type: ignore[assignment, method-assign]
        made.configure_model()
        made.setup("fit")
        return made

    def forward(model: LightningModule, batch: Batch) -> Outputs:
        own: Any = model.fabric
        own.logged.clear()
        fields = [batch.fields[name] for name in batch.fields]
        user_batch = model.on_after_batch_transfer(pytree.tree_unflatten(fields, own.structures[model.training]), 0)
        if not model.training and own.batch_idx == 0:
            model.on_validation_epoch_start()
        step = model.training_step if model.training else model.validation_step
        given = step(user_batch, own.batch_idx) if own.takes_index[model.training] else step(user_batch)
        loss = given.get("loss") if isinstance(given, Mapping) else given
        if not model.training:
            own.batch_idx += 1
            loss = own.logged.get("val_loss") if loss is None else loss
        if not isinstance(loss, Tensor) or loss.ndim:
            where = "training_step" if model.training else "validation_step (or self.log('val_loss', …) in it)"
            raise NeedsUnmet(f"{type(model).__name__}.{where}: expected the loss as a scalar tensor, given {type(loss).__name__}")
        return Outputs(model, loss, dict(own.logged))

    def update(metric: LoggedQuality, outputs: Outputs, batch: Batch) -> None:
        metric.update(outputs, len(batch))

    def losses(outputs: Outputs, batch: Batch, options: Mapping[str, Any]) -> Tensor:
        return outputs.loss.expand(len(batch))

    return Task(tuple(names), build_model, forward, losses, lambda facts: LoggedQuality(quality), update)  # type: ignore[arg-type]


def supported(module: LightningModule) -> LightningModule:
    """The module, or ``NeedsUnmet`` naming what the adapter cannot do."""
    name = type(module).__name__
    if not isinstance(module, LightningModule):
        raise ConfigError(f"module: expected a function that makes a LightningModule, it made a {name}")
    if not module.automatic_optimization:
        raise NeedsUnmet(f"{name}: manual optimisation is not supported; its step belongs in a TrainingAlgorithm")
    for hook in REFUSED:
        if is_overridden(hook, module):
            raise NeedsUnmet(f"{name}.{hook}: this hook is not supported and would be ignored")
    for step in ("training_step", "validation_step", "configure_optimizers"):
        if not is_overridden(step, module):
            raise NeedsUnmet(f"{name}: no {step}")
    return module
