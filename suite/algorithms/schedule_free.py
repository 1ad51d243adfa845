"""Schedule-Free AdamW and SGD: no decay of the learning rate, an average of the iterates instead.

Gradients are taken at y = (1 - beta) z + beta x, steps are made by z, x averages z and is what is evaluated (Defazio et al., The Road
Less Scheduled, arXiv 2405.15682). The model holds y while it trains; x is computed from y and z without touching them.
Batch-norm statistics gathered at y are wrong for x. They are measured anew at x, on copies of the last ``calibration`` batches; models
without batch norm pay nothing for this.
Expect  nearly what a tuned decay gives, at every moment of the training. The learning rate wants to be higher than usual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, Problem, StepReport, TrainingAlgorithm
from ..errors import ConfigError
from .inner import trainable
from .optimizer import OptimizerAlgorithm
from .optimizer import State as OptimizerState

__all__ = ["ScheduleFree"]

CLASSES = {"adamw": "pytorch_optimizer.ScheduleFreeAdamW", "sgd": "pytorch_optimizer.ScheduleFreeSGD"}


@dataclass
class State:
    inner: OptimizerState
    model: nn.Module
    losses: Callable[[Batch], Tensor]
    parameters: dict[str, Tensor]
    norms: list[nn.modules.batchnorm._BatchNorm]
    recent: list[Batch] = field(default_factory=list)


@final
class ScheduleFree(TrainingAlgorithm):
    """``base``: adamw or sgd. ``warmup``: fraction of the budget in which the rate rises. ``calibration``: batches kept for batch norm."""

    def __init__(self, *, base: Literal["adamw", "sgd"], warmup: float = 0.05, calibration: int = 4) -> None:
        if base not in CLASSES:
            raise ConfigError(f"base: expected adamw or sgd, given {base!r}")
        self.optimizer = OptimizerAlgorithm(optimizer=CLASSES[base], horizon_steps={"warmup_steps": warmup})
        self.calibration = calibration

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The optimizer's state; the model's weights become y."""
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
        return State(self.optimizer.setup(model, problem), model, problem.losses, trainable(model), norms)

    def step(self, state: State, batch: Batch) -> StepReport:
        """One step of z, x and y."""
        if state.norms:
            state.recent = [*state.recent, _copy(batch)][-self.calibration :]
        return self.optimizer.step(state.inner, batch)

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """x, and batch-norm statistics measured at x."""
        weights: dict[str, Tensor] = {}
        optimizer = state.inner.optimizer
        names = {parameter: name for name, parameter in state.parameters.items()}
        with torch.no_grad():
            for group in optimizer.param_groups:
                beta = group["betas"][0] if "betas" in group else group["momentum"]
                for y in group["params"]:
                    z = optimizer.state.get(y, {}).get("z")
                    weights[names[y]] = y.detach().clone() if z is None else torch.lerp(y, z, 1 - 1 / beta)
        return weights | self._statistics(state, weights)

    def _statistics(self, state: State, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Running statistics of the model at ``weights``; everything is put back as it was, random state included."""
        if not state.recent or not state.norms:
            return {}
        values = {name: parameter.data for name, parameter in state.parameters.items()}
        buffers = [(buffer, buffer.clone()) for buffer in state.model.buffers()]
        momenta = [norm.momentum for norm in state.norms]
        try:
            for name, parameter in state.parameters.items():
                parameter.data = weights[name]
            for norm in state.norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean over batches
            with torch.no_grad(), torch.random.fork_rng():
                for batch in state.recent:
                    state.losses(batch)
            owned = {id(buffer) for norm in state.norms for buffer in norm.buffers()}
            return {name: buffer.clone() for name, buffer in state.model.named_buffers() if id(buffer) in owned}
        finally:
            for name, parameter in state.parameters.items():
                parameter.data = values[name]
            for norm, momentum in zip(state.norms, momenta, strict=True):
                norm.momentum = momentum
            for buffer, value in buffers:
                buffer.copy_(value)

    def state_dict(self, state: State) -> dict[str, Any]:
        """The optimizer's state and the batches kept for batch norm."""
        recent = [{"ids": b.ids, "fields": dict(b.fields), "weights": b.weights} for b in state.recent]
        return {"inner": self.optimizer.state_dict(state.inner), "recent": recent}

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore both."""
        self.optimizer.load_state_dict(state.inner, payload["inner"])
        device = next(iter(state.parameters.values())).device
        state.recent = [
            Batch(kept["ids"].cpu(), {name: value.to(device) for name, value in kept["fields"].items()}, kept["weights"])
            for kept in payload["recent"]
        ]


def _copy(batch: Batch) -> Batch:
    return Batch(batch.ids.clone(), {name: value.clone() for name, value in batch.fields.items()}, batch.weights)
