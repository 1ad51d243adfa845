"""1-bit Adam: after a warm-up with Adam, processes exchange the signs of their momentum and one size a tensor.

Tang et al., 1-bit Adam (arXiv 2102.02888, algorithm 1). Warm-up: Adam on averaged gradients. Then the variance is frozen, and each
process compresses its momentum m = beta1 m + (1 - beta1) g, plus what compression left out before, to sign(m) |m| / sqrt(d); the mean over
processes, plus its own left-over, is compressed once more and is the momentum of all. Here every process does the server's part from the
signs of all, so nothing is sent back. Weights whose frozen variance is below ``floor`` times their tensor's mean stay as they are: a sign
has a size even where there was no gradient, and divided by next to nothing it would blow them up.
Expect  Adam's curve at nearly 1/32 of the bytes after the warm-up; gains where the wire is slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, Need, Problem, StepReport, TrainingAlgorithm
from ..distributed import averaged, gathered, own_part
from .inner import trainable
from .optimizer import OptimizerAlgorithm
from .optimizer import State as OptimizerState

if TYPE_CHECKING:
    from torch.distributed import GradBucket  # type: ignore[attr-defined]

__all__ = ["FrozenAdam", "OneBitAdam", "compress", "pack", "unpack"]


@final
class FrozenAdam(torch.optim.Optimizer):
    """AdamW for ``warmup_steps``; after them the variance rests, and a parameter's ``grad`` holds the momentum to use."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 100,
        floor: float = 1e-3,
    ) -> None:
        adam = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**adam, "warmup_steps": warmup_steps, "floor": floor, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One update; decay of the weights is decoupled, both moments are bias-corrected."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            frozen = group["steps"] >= group["warmup_steps"]
            group["steps"] += 1
            (beta1, beta2), count = group["betas"], group["steps"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                mean, square = self.moments(parameter)
                if frozen:
                    mean.copy_(parameter.grad)
                else:
                    mean.lerp_(parameter.grad, 1 - beta1)
                    square.lerp_(parameter.grad.square(), 1 - beta2)
                size = (square / (1 - beta2 ** min(count, group["warmup_steps"]))).sqrt_().add_(group["eps"])
                update = mean / size
                if frozen:
                    update = torch.where(square <= group["floor"] * square.mean(), 0.0, update)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(update, alpha=group["lr"] / (1 - beta1**count))
        return loss

    def moments(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """First and second moment of a parameter; zero before the first step."""
        state = self.state[parameter]
        if not state:
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state["mean"], state["square"]


@dataclass
class State:
    inner: OptimizerState
    names: dict[Tensor, str]
    own_errors: dict[str, Tensor] = field(default_factory=dict)  # what compression left out here
    mean_errors: dict[str, Tensor] = field(default_factory=dict)  # and what it left out of the mean, the same in all processes


@final
class OneBitAdam(TrainingAlgorithm):
    """``warmup``: fraction of the budget before compression. Other options are those of an optimizer."""

    needs = frozenset({Need.TWO_PROCESSES})

    def __init__(self, *, warmup: float = 0.2, schedule: Mapping[str, Any] | None = None) -> None:
        path = f"{FrozenAdam.__module__}.{FrozenAdam.__qualname__}"
        self.optimizer = OptimizerAlgorithm(optimizer=path, schedule=schedule, horizon_steps={"warmup_steps": warmup})

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The optimizer's state, and the hook in place of plain averaging."""
        state = State(self.optimizer.setup(model, problem), {parameter: name for name, parameter in trainable(model).items()})
        if problem.communicate is not None:
            problem.communicate(lambda bucket: self._exchange(state, bucket))
        return state

    def _exchange(self, state: State, bucket: GradBucket) -> tuple[torch.futures.Future[Tensor], int]:
        """The bucket's mean gradients during the warm-up, its agreed momenta after it."""
        optimizer = state.inner.optimizer
        assert isinstance(optimizer, FrozenAdam)
        group = optimizer.param_groups[0]
        if group["steps"] < group["warmup_steps"]:
            return averaged(bucket)
        beta1 = group["betas"][0]
        parameters, gradients = bucket.parameters(), bucket.gradients()
        momenta = {
            state.names[parameter]: torch.lerp(gradient, optimizer.moments(parameter)[0], beta1)
            for parameter, gradient in zip(parameters, gradients, strict=True)
        }
        signs = _compressed(momenta, state.own_errors)
        sent = pack(list(signs.values()))
        parts = [unpack(packed, list(momenta.values())) for packed in gathered(sent)]
        means = {name: torch.stack([part[i] for part in parts]).mean(dim=0) for i, name in enumerate(momenta)}
        for gradient, agreed in zip(gradients, _compressed(means, state.mean_errors).values(), strict=True):
            gradient.copy_(agreed)
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future, sent.nbytes

    def step(self, state: State, batch: Batch) -> StepReport:
        """A step of the optimizer."""
        return self.optimizer.step(state.inner, batch)

    def state_dict(self, state: State) -> dict[str, Any]:
        """The optimizer's state, the mean's error and every process' own."""
        own = {name: gathered(error) for name, error in sorted(state.own_errors.items())}
        return {"inner": self.optimizer.state_dict(state.inner), "own_errors": own, "mean_errors": state.mean_errors}

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore all of it; of the errors this process' own."""
        self.optimizer.load_state_dict(state.inner, payload["inner"])
        state.own_errors = {name: own_part(errors) for name, errors in payload["own_errors"].items()}
        state.mean_errors = dict(payload["mean_errors"])


def compress(tensor: Tensor) -> Tensor:
    """Signs (+1 for 0) of a tensor times one size, |tensor| / sqrt(d), which keeps its norm."""
    return torch.where(tensor < 0, -1.0, 1.0) * (tensor.norm() / math.sqrt(tensor.numel()))


def _compressed(tensors: Mapping[str, Tensor], errors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor plus its error, compressed; ``errors`` becomes what is left out now."""
    found = {}
    for name, tensor in tensors.items():
        wanted = tensor + errors[name] if name in errors else tensor
        found[name] = compress(wanted)
        errors[name] = wanted - found[name]
    return found


def pack(compressed: Sequence[Tensor]) -> Tensor:
    """Compressed float32 tensors as bytes, uint8 ``[ceil(total / 8) + 4 n]``: a bit a number, then the n sizes."""
    signs = torch.cat([tensor.flatten() >= 0 for tensor in compressed])
    signs = nn.functional.pad(signs, (0, -len(signs) % 8)).reshape(-1, 8)
    bits = (signs << torch.arange(8, dtype=torch.uint8)).sum(dim=1, dtype=torch.uint8)
    sizes = torch.stack([tensor.flatten()[0].abs() for tensor in compressed])
    return torch.cat([bits, sizes.view(torch.uint8)])


def unpack(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that were packed, in the shapes of ``like``."""
    count = sum(tensor.numel() for tensor in like)
    bits, sizes = packed[: -(-count // 8)], packed[-(-count // 8) :].clone().view(torch.float32)
    signs = ((bits[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten()[:count].float() * 2 - 1
    parts = signs.split([tensor.numel() for tensor in like])
    return [(part * size).reshape(tensor.shape) for part, size, tensor in zip(parts, sizes, like, strict=True)]
