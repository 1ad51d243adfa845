"""Any ``torch.optim.Optimizer`` class, a schedule and a table of hyperparameters: a training algorithm without code.

Every hyperparameter is passed to the optimizer's constructor. A step has the schedule's value at the progress that it leads to, so a
warm-up never starts with a useless step of size zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, ParameterKind, Problem, StepReport, TrainingAlgorithm, mean_loss
from ..config import ENTRY_PACKAGE
from ..errors import ConfigError
from .schedules import schedule as learning_rate_schedule

__all__ = ["OptimizerAlgorithm", "optimizer_class"]

ALLOWED_MODULES = ("torch.optim", "pytorch_optimizer", "timetrial.suite.algorithms")
"""Beside these, the code of an entry."""


@dataclass
class State:
    problem: Problem
    optimizer: torch.optim.Optimizer
    losses: Callable[[Batch], Tensor]
    base_rates: list[float]


@final
class OptimizerAlgorithm(TrainingAlgorithm):
    """``optimizer``: dotted path of the class. ``schedule``: options of :func:`.schedules.schedule`. ``no_decay``: parameter
    kinds whose weight decay is 0. ``by_kind``: further settings of the optimizer's parameter groups, by parameter kind.
    ``rate_factors``: learning rates by parameter kind, as multiples of ``lr``.
    ``horizon_steps``: settings that count steps, each as a fraction of the steps that the budget holds. ``clip_norm``: global
    gradient norm is cut to this (None: never). ``compile``: the loss goes through ``torch.compile``, charged as ``setup``.
    ``contiguous``: weights lie row by row in memory, for optimizers that cannot read channels-last ones."""

    def __init__(
        self,
        *,
        optimizer: str,
        schedule: Mapping[str, Any] | None = None,
        no_decay: Sequence[str] = (ParameterKind.NORM, ParameterKind.BIAS),
        by_kind: Mapping[str, Mapping[str, Any]] | None = None,
        rate_factors: Mapping[str, float] | None = None,
        horizon_steps: Mapping[str, float] | None = None,
        clip_norm: float | None = None,
        compile: bool = False,
        contiguous: bool = False,
    ) -> None:
        self.optimizer_path, self.factor = optimizer, learning_rate_schedule(schedule or {})
        self.no_decay = frozenset(ParameterKind(kind) for kind in no_decay)
        self.by_kind = {ParameterKind(kind): dict(settings) for kind, settings in (by_kind or {}).items()}
        self.rate_factors = {ParameterKind(kind): factor for kind, factor in (rate_factors or {}).items()}
        self.horizon_steps = dict(horizon_steps or {})
        self.clip_norm, self.compile, self.contiguous = clip_norm, compile, contiguous

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """Build the optimizer over the trainable parameters; parameters with equal settings share a group."""
        if self.contiguous:
            for parameter in model.parameters():
                parameter.data = parameter.data.contiguous()
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in problem.hyperparameters.items()}
        settings |= {name: max(1, round(fraction * problem.step_count)) for name, fraction in self.horizon_steps.items()}
        cls = optimizer_class(self.optimizer_path)
        try:
            optimizer = cls(self._groups(model, problem), **settings)
        except (TypeError, ValueError) as problem_:
            raise ConfigError(f"{self.optimizer_path}: {problem_}; hyperparameters given: {', '.join(settings)}") from None
        losses = _compiled(model, problem) if self.compile else problem.losses
        return State(problem, optimizer, losses, [group["lr"] for group in optimizer.param_groups])

    def _groups(self, model: nn.Module, problem: Problem) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            kind = problem.kinds[name]
            rate = {"lr": self.rate_factors[kind] * problem.hyperparameters["lr"]} if kind in self.rate_factors else {}
            own = ({"weight_decay": 0.0} if kind in self.no_decay else {}) | rate | self.by_kind.get(kind, {})
            group = next((g for g in groups if own == {k: v for k, v in g.items() if k != "params"}), None)
            if group is None:
                groups.append(group := {"params": [], **own})
            group["params"].append(parameter)
        return groups

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
        try:
            optimizer.step()
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # eigenvectors of numbers that are none: the training has diverged, the optimizer has not failed
            if torch.isfinite(loss):
                raise
        optimizer.zero_grad(set_to_none=True)
        return StepReport(loss.detach(), losses.detach())

    def state_dict(self, state: State) -> dict[str, Any]:
        """The optimizer's own state; the schedule is a function of progress and needs none."""
        return {"optimizer": state.optimizer.state_dict()}

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore the optimizer."""
        state.optimizer.load_state_dict(payload["optimizer"])


def _compiled(model: nn.Module, problem: Problem) -> Callable[[Batch], Tensor]:
    """The loss through ``torch.compile``, compiled on the dummy batch, which leaves no trace in buffers or random state."""
    losses = torch.compile(problem.losses)
    buffers = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng():
        problem.backward(mean_loss(losses(problem.dummy_batch), problem.dummy_batch))
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    return losses


def optimizer_class(path: str) -> type[torch.optim.Optimizer]:
    """Import an optimizer class by dotted path. ``ConfigError`` outside the allowed libraries and entries, or when it is no optimizer."""
    module, _, name = path.rpartition(".")
    allowed = any(module == library or module.startswith(library + ".") for library in ALLOWED_MODULES)
    if not allowed and not module.startswith(ENTRY_PACKAGE):
        raise ConfigError(f"optimizer {path!r}: expected a class in {', '.join(ALLOWED_MODULES)}, or FILE.CLASS in the folder of an entry")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise ConfigError(f"optimizer {path!r}: {problem}") from None
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ConfigError(f"optimizer {path!r}: expected a torch.optim.Optimizer class, found {found!r}")
    return found
