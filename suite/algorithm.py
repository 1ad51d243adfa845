"""The interface of a training entry: everything that turns batches into weights.

An algorithm sees batches, parameters with their kinds, the loss, its hyperparameters, a generator of its own and the
fraction of the budget that is spent. It never sees the workload's name, the clock, the validation set or the target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed import GradBucket  # type: ignore[attr-defined]

__all__ = [
    "Batch",
    "CommunicationHook",
    "Need",
    "ParameterKind",
    "Problem",
    "StepReport",
    "TrainingAlgorithm",
    "mean_loss",
    "parameter_kinds",
]


class Need(StrEnum):
    """What an algorithm or method requires of a workload or machine; unmet needs are refused by name before training."""

    IMAGE_INPUT = "image_input"
    TOKEN_INPUT = "token_input"
    CLASSIFIER_HEAD = "classifier_head"
    LABELS = "labels"
    CONTINUOUS_INPUT = "continuous_input"
    DROPOUT = "dropout"
    RESIDUAL_BLOCKS = "residual_blocks"
    TWO_PROCESSES = "two_processes"


class ParameterKind(StrEnum):
    """What a parameter does in the model: what an update rule may condition on instead of names."""

    MATRIX = "matrix"
    CONVOLUTION = "convolution"
    EMBEDDING = "embedding"
    NORM = "norm"
    BIAS = "bias"
    HEAD = "head"


@dataclass(frozen=True)
class Batch:
    """Some examples, valid until the next batch is asked for: clone what must be kept longer.

    ``fields`` maps a field's name to a tensor whose first dimension is the batch, on the trial's device. ``ids`` are the
    examples' original ids, int64 ``[B]`` on the CPU. ``weights`` are float32 ``[B]`` importance weights of a curation
    method, or None when all count the same; the mean loss honours them.
    """

    ids: Tensor
    fields: Mapping[str, Tensor]
    weights: Tensor | None = None

    def __getitem__(self, name: str) -> Tensor:
        return self.fields[name]

    def __len__(self) -> int:
        return len(self.ids)


CommunicationHook = Callable[["GradBucket"], tuple[torch.futures.Future[Tensor], int]]
"""Takes this process' gradients of some parameters; gives, later, those to use in all processes, and how many bytes it handed on."""


@dataclass(frozen=True)
class StepReport:
    """What one step tells the harness.

    ``loss``: the mean training loss as a detached scalar tensor on the device (the harness reads it only at evaluations,
    so a step never waits for the device). ``per_example_loss``: detached float ``[B]``, if the algorithm has it; dynamic
    curation methods then need no second forward pass. ``next_batch_size`` changes the size of later batches.
    """

    loss: Tensor
    per_example_loss: Tensor | None = None
    next_batch_size: int | None = None


@dataclass(frozen=True)
class Problem:
    """All that an algorithm may know about what it trains.

    ``losses(batch)``: float ``[B]``, differentiable; :func:`mean_loss` turns them into the scalar to minimise. ``backward(loss)``
    must be used in place of ``loss.backward()`` so that precision and devices work. ``progress()`` is the fraction of the
    budget spent, 0 to 1, in the workload's deterministic lens, so that schedules do not depend on the machine.
    ``next_batch()`` draws a further batch inside a step; it is charged and counted like any other. ``dummy_batch`` has the
    shapes and value ranges of a real batch but labels that do not belong to their inputs: for compiling and warming up.
    ``batch_size`` is the workload's suggestion; ``step_count`` the number of steps that the budget holds at that size.
    ``communicate``: None on one process; on several, each of which has an equal share of every batch, it takes the hook that is to
    replace the plain averaging of gradients. Batch sizes are those of all shares together.
    """

    losses: Callable[[Batch], Tensor]
    backward: Callable[[Tensor], None]
    next_batch: Callable[[], Batch]
    dummy_batch: Batch
    progress: Callable[[], float]
    kinds: Mapping[str, ParameterKind]
    hyperparameters: Mapping[str, Any]
    generator: torch.Generator
    batch_size: int
    step_count: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    communicate: Callable[[CommunicationHook], None] | None = None


class TrainingAlgorithm(ABC):
    """The five calls of a training entry; a subclass is final. All calls are on the clock.

    The object itself is configuration: whatever changes during training lives in the state that ``setup`` returns, of any
    type the algorithm likes.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    @abstractmethod
    def setup(self, model: nn.Module, problem: Problem) -> Any:
        """Make the state (optimizer, averages, compiled functions); charged as ``setup``."""

    @abstractmethod
    def step(self, state: Any, batch: Batch) -> StepReport:
        """Turn one batch into an update of the model's parameters, in place; owns forward, backward and update."""

    def weights_for_evaluation(self, state: Any) -> Mapping[str, Tensor] | None:
        """The weights to evaluate, by parameter or buffer name; None means the model's own. Must not disturb training."""
        return None

    @abstractmethod
    def state_dict(self, state: Any) -> dict[str, Any]:
        """Everything beside the model that a bit-exact resume needs, as tensors and plain values."""

    @abstractmethod
    def load_state_dict(self, state: Any, payload: Mapping[str, Any]) -> None:
        """Put back what ``state_dict`` gave, into a state that ``setup`` has just made."""


def mean_loss(losses: Tensor, batch: Batch) -> Tensor:
    """The scalar training loss of per-example losses ``[B]``: their mean, each multiplied by its weight when the batch has weights.

    Weights are not normalised by their sum, so that importance weights keep the gradient unbiased.
    """
    return losses.mean() if batch.weights is None else (losses * batch.weights).mean()


def parameter_kinds(model: nn.Module) -> dict[str, ParameterKind]:
    """Kind of every parameter, read from the module that owns it; the last ``Linear`` or ``Conv`` with a weight is the head.

    A parameter held directly by a container (a position table, a scale) is ``MATRIX`` from two dimensions on, else ``BIAS``.
    """
    norms = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.RMSNorm)
    convolutions = nn.modules.conv._ConvNd
    kinds: dict[str, ParameterKind] = {}
    head = ""
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{leaf}" if prefix else leaf
            if isinstance(module, norms):
                kinds[name] = ParameterKind.NORM
            elif isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
                kinds[name] = ParameterKind.EMBEDDING
            elif parameter.ndim < 2:
                kinds[name] = ParameterKind.BIAS
            elif isinstance(module, convolutions):
                kinds[name] = ParameterKind.CONVOLUTION
            else:
                kinds[name] = ParameterKind.MATRIX
            if leaf == "weight" and isinstance(module, (nn.Linear, convolutions)):
                head = name
    if head:
        kinds[head] = ParameterKind.HEAD
    return kinds
