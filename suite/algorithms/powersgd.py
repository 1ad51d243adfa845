"""PowerSGD: processes exchange low-rank factors of their gradients instead of the gradients, under any training algorithm.

Vogels, Karimireddy and Jaggi, PowerSGD (arXiv 1905.13727): each gradient matrix [n, m] becomes P Q^T of rank r by one step of power
iteration that starts from the last Q; what the approximation leaves out is added to the process' next gradient (error feedback,
algorithms 1 and 2). Vectors, and matrices that would not become half as small, are averaged as they are. torch's hook does the work; it
compresses from the third step on at the earliest, or after ``warmup``.
Expect  the inner algorithm's curve at r (n + m) / (n m) of the bytes; gains where the wire is slow, which between two processes of one
        machine it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, Need, Problem, StepReport, TrainingAlgorithm
from ..distributed import gathered, own_part
from ..errors import ConfigError
from .inner import make_inner

if TYPE_CHECKING:
    from torch.distributed import GradBucket  # type: ignore[attr-defined]
    from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState

__all__ = ["PowerSGD"]


@dataclass
class State:
    inner: Any
    compression: PowerSGDState | None  # None on one process, where only FLOPs are counted


@final
class _WithoutScalars:
    """A bucket whose gradients have at least one dimension, without which torch's hook cannot take them."""

    def __init__(self, bucket: GradBucket) -> None:
        self.index, self.buffer, self.is_last, self._gradients = bucket.index, bucket.buffer, bucket.is_last, bucket.gradients

    def gradients(self) -> list[Tensor]:
        return [gradient if gradient.ndim else gradient.view(1) for gradient in self._gradients()]


@final
class _Prompt:
    """The processes' group as torch's hook uses it, but a reduction is over when it returns.

    What the hook does after one then runs in this thread, which has the trial's number of compute threads. In gloo's threads, where it
    runs otherwise whenever the other process is late, products take all CPUs and sum in another order. It also reduces again: this way
    one bucket is done before the next begins, where else two processes might reduce in another order and wait for each other for ever.
    """

    def __init__(self, group: Any) -> None:
        self._group = group

    def size(self) -> int:
        return int(self._group.size())

    def allreduce(self, tensors: list[Tensor], options: Any) -> Any:
        work = self._group.allreduce(tensors, options)
        work.get_future().wait()
        return work


@final
class PowerSGD(TrainingAlgorithm):
    """``rank`` of the approximation. ``warmup``: fraction of the budget in which gradients are averaged whole."""

    needs = frozenset({Need.TWO_PROCESSES})

    def __init__(self, *, inner: Mapping[str, Any], rank: int = 2, warmup: float = 0.0) -> None:
        if rank < 1 or not 0 <= warmup <= 1:
            raise ConfigError(f"powersgd: expected rank of at least 1 and warmup from 0 to 1, given {rank} and {warmup}")
        self.inner, self.rank, self.warmup = make_inner(inner), rank, warmup

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The inner algorithm's state, and the hook in place of plain averaging."""
        inner = self.inner.setup(model, problem)
        if problem.communicate is None:
            return State(inner, None)
        from torch.distributed import group
        from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook

        first = max(2, round(self.warmup * problem.step_count))
        # With the ridge a gradient of zero (a unit that is never active) stays zero; without it the division makes it no number.
        compression = PowerSGDState(_Prompt(group.WORLD), self.rank, start_powerSGD_iter=first, orthogonalization_epsilon=1e-8)

        def hook(bucket: GradBucket) -> tuple[torch.futures.Future[Tensor], int]:
            buffer, before = bucket.buffer(), compression.total_numel_after_compression
            future = powerSGD_hook(compression, _WithoutScalars(bucket))
            sent = compression.total_numel_after_compression - before
            return future, (sent or buffer.numel()) * buffer.element_size()

        problem.communicate(hook)
        return State(inner, compression)

    def step(self, state: State, batch: Batch) -> StepReport:
        """A step of the inner algorithm."""
        return self.inner.step(state.inner, batch)

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """The inner algorithm's choice."""
        return self.inner.weights_for_evaluation(state.inner)

    def state_dict(self, state: State) -> dict[str, Any]:
        """The inner algorithm's state, both factors, and every process' error, by bucket."""
        payload: dict[str, Any] = {"inner": self.inner.state_dict(state.inner)}
        if state.compression is not None:
            c = state.compression
            errors = {bucket: gathered(error) for bucket, error in sorted(c.error_dict.items())}
            payload |= {"steps": c.iter, "errors": errors, "p": dict(c.p_memory_dict), "q": dict(c.q_memory_dict)}
        return payload

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore all of it; of the errors this process' own."""
        self.inner.load_state_dict(state.inner, payload["inner"])
        if state.compression is not None:
            c = state.compression
            c.iter, c.p_memory_dict, c.q_memory_dict = payload["steps"], dict(payload["p"]), dict(payload["q"])
            c.error_dict = {bucket: own_part(errors) for bucket, errors in payload["errors"].items()}
