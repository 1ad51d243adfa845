"""Any ``torch.optim.Optimizer`` class, a schedule and a table of hyperparameters: a training algorithm without code.

Every hyperparameter is passed to the optimizer's constructor. The first steps have the schedule's value at progress 0 plus one
step, so a warm-up never starts with a useless step of size zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, ParameterKind, Problem, StepReport, TrainingAlgorithm, mean_loss
from ..errors import ConfigError
from .schedules import schedule as learning_rate_schedule

__all__ = ["OptimizerAlgorithm", "optimizer_class"]

ALLOWED_MODULES = ("torch.optim", "pytorch_optimizer", "timetrial.suite.algorithms")


@dataclass
class State:
    problem: Problem
    optimizer: torch.optim.Optimizer
    losses: Callable[[Batch], Tensor]
    base_rates: list[float]


@final
class OptimizerAlgorithm(TrainingAlgorithm):
    """``optimizer``: dotted path of the class. ``schedule``: options of :func:`.schedules.schedule`. ``no_decay``: parameter
    kinds whose weight decay is 0. ``clip_norm``: global gradient norm is cut to this (None: never). ``compile``: the loss goes
    through ``torch.compile``, whose time is charged as ``setup``."""

    def __init__(
        self,
        *,
        optimizer: str,
        schedule: Mapping[str, Any] | None = None,
        no_decay: Sequence[str] = (ParameterKind.NORM, ParameterKind.BIAS),
        clip_norm: float | None = None,
        compile: bool = False,
    ) -> None:
        self.optimizer_path, self.factor = optimizer, learning_rate_schedule(schedule or {})
        self.no_decay = frozenset(ParameterKind(kind) for kind in no_decay)
        self.clip_norm, self.compile = clip_norm, compile

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """Build the optimizer over the trainable parameters, decayed and not decayed ones as two groups."""
        decayed = [p for n, p in model.named_parameters() if p.requires_grad and problem.kinds[n] not in self.no_decay]
        others = [p for n, p in model.named_parameters() if p.requires_grad and problem.kinds[n] in self.no_decay]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        cls = optimizer_class(self.optimizer_path)
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in problem.hyperparameters.items()}
        try:
            optimizer = cls([g for g in groups if g["params"]], **settings)
        except TypeError as problem_:
            raise ConfigError(f"{self.optimizer_path}: {problem_}; hyperparameters given: {', '.join(settings)}") from None
        losses = problem.losses
        if self.compile:
            losses = torch.compile(problem.losses)
            problem.backward(mean_loss(losses(problem.dummy_batch), problem.dummy_batch))
            model.zero_grad(set_to_none=True)
        return State(problem, optimizer, losses, [group["lr"] for group in optimizer.param_groups])

    def step(self, state: State, batch: Batch) -> StepReport:
        """Forward, backward, clip, update at the scheduled learning rate."""
        problem, optimizer = state.problem, state.optimizer
        factor = self.factor(problem.progress() + 1 / problem.step_count)
        for group, rate in zip(optimizer.param_groups, state.base_rates, strict=True):
            group["lr"] = rate * factor
        losses = state.losses(batch)
        loss = mean_loss(losses, batch)
        problem.backward(loss)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], self.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return StepReport(loss.detach(), losses.detach())

    def state_dict(self, state: State) -> dict[str, Any]:
        """The optimizer's own state; the schedule is a function of progress and needs none."""
        return {"optimizer": state.optimizer.state_dict()}

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore the optimizer."""
        state.optimizer.load_state_dict(payload["optimizer"])


def optimizer_class(path: str) -> type[torch.optim.Optimizer]:
    """Import an optimizer class by dotted path. ``ConfigError`` outside the allowed libraries, or when it is no optimizer."""
    module, _, name = path.rpartition(".")
    if not any(module == allowed or module.startswith(allowed + ".") for allowed in ALLOWED_MODULES):
        raise ConfigError(f"optimizer {path!r}: expected a class in {', '.join(ALLOWED_MODULES)}")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        raise ConfigError(f"optimizer {path!r}: {module} has no {name}") from None
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ConfigError(f"optimizer {path!r}: expected a torch.optim.Optimizer class, found {found!r}")
    return found
