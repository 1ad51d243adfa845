"""Proxy training: the workload's own model, trained by the trial's own algorithm on the pool, so that a score can look at it.

Every second of it is charged to the curation method that asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from ..data_pipelines.batcher import Batcher
from ..data_pipelines.curation.interface import ProxyEpoch, ProxyRun
from .algorithm import Batch, ParameterKind, Problem, parameter_kinds
from .assembly import Assembly
from .errors import NeedsUnmet
from .seeds import derive_seeds

__all__ = ["ProxyTrainer"]

COLLECTABLE = frozenset({"logits", "features", "gradient_norms"})


@final
class ProxyTrainer:
    """The :class:`~timeparts.data_pipelines.curation.interface.TrainProxy` of one plan."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def __call__(
        self,
        epochs: float,
        seed: int,
        *,
        subset: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        collect: Collection[str] = (),
        every_epoch: Callable[[ProxyEpoch], None] | None = None,
    ) -> ProxyRun:
        """Train for ``epochs`` passes, measuring the whole pool after every started epoch; the contract is ``TrainProxy``'s."""
        unknown = sorted(set(collect) - COLLECTABLE)
        if unknown:
            raise NeedsUnmet(f"proxy training cannot collect {', '.join(unknown)}; known: {', '.join(sorted(COLLECTABLE))}")
        parts, seeds = self._assembly, derive_seeds(seed)
        pool_ids = parts.inputs.pool.ids
        trained_ids = pool_ids if subset is None else pool_ids[subset]
        relabel = _Relabel(parts.inputs.label, pool_ids, labels)
        history: list[ProxyEpoch] = []

        def order(epoch: int) -> tuple[np.ndarray, None]:
            return np.random.default_rng([seeds["order"], epoch]).permutation(trained_ids), None

        size = parts.batch_size(len(trained_ids))
        loader = parts.inputs.training_loader(parts.plan.loader, seeds["augmentation"], 1, size)
        with torch.random.fork_rng(devices=[]), loader:
            torch.manual_seed(seeds["framework"])
            model = parts.model(seeds["model"])
            batcher = Batcher(loader, order, device=parts.device)
            horizon = max(math.ceil(epochs * len(trained_ids)), 1)

            def next_batch() -> Batch:
                return relabel(batcher.next(size))

            problem = parts.problem(
                model,
                next_batch=next_batch,
                dummy=parts.dummy_batch(size),
                progress=lambda: batcher.examples_served / horizon,
                seed=seeds["algorithm"],
                horizon_examples=horizon,
            )
            for epoch in self._train(model, problem, batcher, epochs, len(trained_ids)):
                entry = self._measure(model, epoch, relabel, collect)
                if every_epoch is not None:
                    every_epoch(entry)
                    history.clear()
                history.append(entry)
        return ProxyRun(tuple(history))

    def _train(self, model: nn.Module, problem: Problem, batcher: Batcher, epochs: float, length: int) -> Iterator[float]:
        """Take steps; yield the epochs trained so far whenever one is complete, and at the end."""
        if not epochs:
            yield 0.0
            return
        algorithm = self._assembly.algorithm()
        state = algorithm.setup(model, problem)
        for whole in range(1, math.ceil(epochs) + 1):
            end = min(float(whole), epochs)
            while batcher.examples_served < end * length:
                algorithm.step(state, problem.next_batch())
            yield end

    def _measure(self, model: nn.Module, epoch: float, relabel: _Relabel, collect: Collection[str]) -> ProxyEpoch:
        """Losses and what else was asked for, of the whole pool in id order, in eval mode, without augmentation."""
        parts = self._assembly
        found: dict[str, list[Tensor]] = {name: [] for name in ("losses", *collect)}
        was_training = model.training
        model.eval()
        with parts.inputs.evaluation_loader(parts.inputs.pool) as loader, _captured_features(model, "features" in collect) as features:
            for chunk in loader.serve(parts.inputs.pool.ids, 0):
                fields = {name: value.to(parts.device) for name, value in chunk.fields.items()}
                batch = relabel(Batch(torch.as_tensor(chunk.ids), fields))
                with torch.no_grad(), parts.fabric.autocast():
                    outputs = parts.inputs.task.forward(model, batch)
                    found["losses"].append(parts.inputs.task.losses(outputs, batch, parts.plan.workload.loss).float())
                if "logits" in collect:
                    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
                        raise NeedsUnmet(f"workload {parts.plan.workload.name!r} has no class logits to collect")
                    found["logits"].append(outputs.float())
                if "features" in collect:
                    found["features"].append(features.pop().float().flatten(1))
                if "gradient_norms" in collect:
                    found["gradient_norms"].append(self._gradient_norms(model, batch))
        model.train(was_training)
        arrays = {name: torch.cat(parts).cpu().numpy().astype(np.float32) for name, parts in found.items()}
        return ProxyEpoch(epoch, **arrays)

    def _gradient_norms(self, model: nn.Module, batch: Batch) -> Tensor:
        """Norm of every example's own gradient over all trainable weights: ``[B]`` (GraNd; Paul et al., arXiv 2107.07075)."""
        task, options = self._assembly.inputs.task, self._assembly.plan.workload.loss
        frozen = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad} | dict(model.named_buffers())
        weights = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

        def loss(weights: dict[str, Tensor], fields: dict[str, Tensor]) -> Tensor:
            one = Batch(batch.ids[:1], {name: value[None] for name, value in fields.items()})
            stateless = _Stateless(model, weights | frozen)
            return task.losses(task.forward(stateless, one), one, options)[0]

        gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0), chunk_size=64)(weights, dict(batch.fields))
        squares = [g.float().flatten(1).square().sum(1) for g in gradients.values()]
        return torch.stack(squares).sum(0).sqrt()


@final
class _Stateless(nn.Module):
    """A model called with weights passed in; it owns none, so that autograd sees those alone."""

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self._parts = (model, weights)

    def forward(self, *arguments: Tensor) -> Tensor:
        model, weights = self._parts
        result: Tensor = torch.func.functional_call(model, weights, arguments)
        return result


@final
class _Relabel:
    """Puts other labels into batches, for controls that train on shuffled ones; does nothing when there are none."""

    def __init__(self, field: str | None, pool_ids: np.ndarray, labels: np.ndarray | None) -> None:
        self._field, self._labels = field, None
        if labels is not None:
            if field is None:
                raise NeedsUnmet("this workload has no labels to replace")
            table = np.full(int(pool_ids[-1]) + 1, -1, np.int64)
            table[pool_ids] = labels
            self._labels = torch.from_numpy(table)

    def __call__(self, batch: Batch) -> Batch:
        if self._labels is None or self._field is None:
            return batch
        own = self._labels[batch.ids].to(batch[self._field].device)
        return Batch(batch.ids, {**batch.fields, self._field: own}, batch.weights)


@contextmanager
def _captured_features(model: nn.Module, wanted: bool) -> Iterator[list[Tensor]]:
    """The inputs of the model's head, one entry a forward pass; ``NeedsUnmet`` when the model has no head."""
    captured: list[Tensor] = []
    if not wanted:
        yield captured
        return
    heads = [name for name, kind in parameter_kinds(model).items() if kind is ParameterKind.HEAD]
    if not heads:
        raise NeedsUnmet("this model has no head whose input could be collected")
    head = model.get_submodule(heads[0].rpartition(".")[0])
    hook = head.register_forward_pre_hook(lambda module, inputs: captured.append(inputs[0].detach()))
    try:
        yield captured
    finally:
        hook.remove()
