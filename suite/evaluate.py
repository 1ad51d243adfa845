"""Quality of a set of weights on held-out examples, on a copy of the model that the harness owns."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from ..data_pipelines.loaders import Loader
from .algorithm import Batch
from .inputs import Examples, Inputs

__all__ = ["Evaluator", "Measured", "finite"]


@dataclass(frozen=True)
class Measured:
    """Mean loss as trained on (label smoothing included), quality in the workload's unit, and what else the task reports, by name."""

    loss: float
    quality: float
    others: Mapping[str, float] = field(default_factory=dict)


def finite(measures: Mapping[str, float]) -> dict[str, float]:
    """Measures that are numbers: what a record may hold."""
    return {name: value for name, value in measures.items() if math.isfinite(value)}


@final
class Evaluator:
    """Evaluates on validation and test without touching the model that trains, its buffers or the random state."""

    def __init__(
        self, inputs: Inputs, model: nn.Module, device: torch.device, autocast: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._inputs, self._device, self._autocast = inputs, device, autocast
        self._twin = copy.deepcopy(model).eval()
        self._loaders: dict[int, Loader] = {}

    def load(self, model: nn.Module, weights: Mapping[str, Tensor] | None) -> None:
        """Copy the model's weights and buffers, then the algorithm's own evaluation weights over them."""
        with torch.no_grad():
            self._twin.load_state_dict(model.state_dict())
            if weights:
                target = dict(self._twin.named_parameters()) | dict(self._twin.named_buffers())
                for name, value in weights.items():
                    target[name].copy_(value)

    def measure(self, examples: Examples) -> Measured:
        """One pass over ``examples`` in fixed batches; on the test split the task's slow measures too.

        Where copies of training examples are known in the test split, quality and measures without them are added as ``cleaned_…``.
        """
        task, options, facts = self._inputs.task, self._inputs.workload.loss, self._inputs.dataset.facts
        metric, others = self._metric(), dict[str, float]()
        copies = self._inputs.known_copies if examples is self._inputs.test else np.empty(0, np.int64)
        cleaned = self._metric() if copies.size else None
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        with torch.inference_mode():
            for batch, is_copy in self._parts(examples, copies):
                with self._autocast():
                    outputs = task.forward(self._twin, batch)
                total += task.losses(outputs, batch, options).double().sum()
                task.update(metric, outputs, batch)
                if cleaned is not None and not is_copy:
                    task.update(cleaned, outputs, batch)
            quality, found = self._named(metric.compute())
            others |= found
            if cleaned is not None:
                name = self._inputs.workload.metric.name
                value, found = self._named(cleaned.compute())
                others |= {f"cleaned_{key}": part for key, part in {name: task.quality(value), **found}.items()}
            if task.slow_measures is not None and examples is self._inputs.test:
                with self._autocast():
                    others |= task.slow_measures(self._twin, self._batches(examples), facts)
        return Measured(float(total) / len(examples), task.quality(quality), others)

    def close(self) -> None:
        """Close the loaders."""
        for loader in self._loaders.values():
            loader.close()

    def _metric(self) -> Any:
        """A fresh metric of the task that asks no other process: one alone measures."""
        metric = self._inputs.task.metric(self._inputs.dataset.facts).to(self._device)
        for part in metric.modules() if isinstance(metric, nn.Module) else ():  # a LightningModule's own logging is no torchmetrics module
            part.distributed_available_fn = lambda: False  # type: ignore[assignment]  # torch types every attribute as tensor or module
        return metric

    def _batches(self, examples: Examples) -> Iterator[Batch]:
        for chunk in self._loader(examples).serve(examples.ids, 0):
            yield Batch(torch.as_tensor(chunk.ids), {name: value.to(self._device) for name, value in chunk.fields.items()})

    def _parts(self, examples: Examples, copies: np.ndarray) -> Iterator[tuple[Batch, bool]]:
        """Batches in two parts where some of their examples are ``copies`` (sorted ids): those that are none, then those that are."""
        for batch in self._batches(examples):
            is_copy = np.isin(batch.ids.numpy(), copies)
            if not is_copy.any() or is_copy.all():
                yield batch, bool(is_copy.any())
                continue
            for wanted in (False, True):
                rows = torch.from_numpy(np.flatnonzero(is_copy == wanted))
                yield Batch(batch.ids[rows], {name: value[rows.to(value.device)] for name, value in batch.fields.items()}), wanted

    def _named(self, value: Tensor | dict[str, Tensor]) -> tuple[float, dict[str, float]]:
        """The value that is the quality, and the others by name."""
        if isinstance(value, Tensor):
            return float(value), {}
        values = {name: float(part) for name, part in value.items()}
        return values.pop(self._inputs.workload.metric.name), values

    def _loader(self, examples: Examples) -> Loader:
        key = id(examples)
        if key not in self._loaders:
            self._loaders[key] = self._inputs.evaluation_loader(examples)
        return self._loaders[key]
