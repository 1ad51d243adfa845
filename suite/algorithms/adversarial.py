"""ConAdv: half of the loss on adversarial inputs made with stale weights, over any training algorithm.

Liu et al., Concurrent Adversarial Learning for Large-Batch Training (arXiv 2106.00221): x' = x + epsilon sign(grad_x L(w_old, x)) with
the weights of ``staleness`` steps ago, so that the two gradients of a step do not wait for each other: its chain of dependent
gradients is one long, that of adversarial training (staleness 0) two. Loss = (L(w, x) + L(w, x')) / 2; the adversarial pass has batch
statistics of its own and leaves the running ones to the clean pass. epsilon is in units of each input field's standard deviation.
Expect  flatter minima at large batches, at 2x the computation a step; on one device nothing runs side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from ..algorithm import Batch, Need, Problem, StepReport, TrainingAlgorithm, mean_loss
from .inner import make_inner, own_hyperparameters, trainable

__all__ = ["ConcurrentAdversarial"]


@dataclass
class State:
    inner: Any
    model: nn.Module
    parameters: dict[str, Tensor]
    stale: list[dict[str, Tensor]] = field(default_factory=list)  # oldest first, at most ``staleness``


@final
class ConcurrentAdversarial(TrainingAlgorithm):
    """Hyperparameter ``epsilon``: size of the perturbation. ``staleness``: age in steps of the weights that make it."""

    needs = frozenset({Need.CONTINUOUS_INPUT, Need.CLASSIFIER_HEAD, Need.LABELS})

    def __init__(self, *, inner: Mapping[str, Any], staleness: int = 1) -> None:
        self.inner, self.staleness = make_inner(inner), staleness

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The inner algorithm's state, over a problem whose loss is half adversarial."""
        (epsilon,), rest = own_hyperparameters(problem, ["epsilon"])
        state = State(None, model, trainable(model))

        def losses(batch: Batch) -> Tensor:
            with _running_statistics_kept(model):
                perturbed = self._perturbed(state, problem, batch, epsilon)
                adversarial = problem.losses(perturbed)
            return (problem.losses(batch) + adversarial) / 2

        state.inner = self.inner.setup(model, replace(rest, losses=losses))
        return state

    def _perturbed(self, state: State, problem: Problem, batch: Batch, epsilon: float) -> Batch:
        leaves = {name: value.clone().requires_grad_() for name, value in batch.fields.items() if value.is_floating_point()}
        inputs = {name: leaf.view_as(leaf) for name, leaf in leaves.items()}  # the FLOP counter's hooks refuse leaves as inputs
        with _weights(state.parameters, state.stale[0] if state.stale else {}):
            loss = mean_loss(problem.losses(replace(batch, fields={**batch.fields, **inputs})), batch)
            gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        moved = {
            name: value.detach() + epsilon * value.detach().std() * gradient.sign()
            for (name, value), gradient in zip(leaves.items(), gradients, strict=True)
            if gradient is not None
        }
        return replace(batch, fields={**batch.fields, **moved})

    def step(self, state: State, batch: Batch) -> StepReport:
        """A step of the inner algorithm; the weights before it become stale."""
        before = {name: parameter.detach().clone() for name, parameter in state.parameters.items()} if self.staleness else {}
        report = self.inner.step(state.inner, batch)
        if self.staleness:
            state.stale = [*state.stale, before][-self.staleness :]
        return report

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """The inner algorithm's choice."""
        return self.inner.weights_for_evaluation(state.inner)

    def state_dict(self, state: State) -> dict[str, Any]:
        """Stale weights and the inner algorithm's state."""
        return {"inner": self.inner.state_dict(state.inner), "stale": state.stale}

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore both."""
        self.inner.load_state_dict(state.inner, payload["inner"])
        state.stale = [{name: old.to(state.parameters[name].device) for name, old in weights.items()} for weights in payload["stale"]]


@contextmanager
def _weights(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Iterator[None]:
    """The model computes with other values of its parameters; their storage is swapped, so the originals come back bit for bit."""
    originals = {name: parameters[name].data for name in values}
    for name, value in values.items():
        parameters[name].data = value
    try:
        yield
    finally:
        for name, original in originals.items():
            parameters[name].data = original


@contextmanager
def _running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch norm computes with the statistics of its batch and forgets them."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
