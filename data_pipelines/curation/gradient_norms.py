"""GraNd's ingredient: the norm of the gradient of each example's own loss over all weights of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ...suite.algorithm import Batch

__all__ = ["gradient_norms"]

FLOATS = 2**26  # of per-example gradients held at once: 256 MiB


class _Losses(nn.Module):
    """The losses of a batch as a module, so that the model's weights can be replaced from outside."""

    def __init__(self, model: nn.Module, losses: Callable[[nn.Module, Batch], Tensor]) -> None:
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, batch: Batch) -> Tensor:
        return self.losses(self.model, batch)


def gradient_norms(model: nn.Module, losses: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> Tensor:
    """Norms float32 ``[B]`` of the gradients of ``losses(model, batch)`` ``[B]``, each over all trainable weights.

    The model must be in eval mode: in training mode batch norm mixes the examples. Paul et al. 2021 (2107.07075).
    """
    whole = _Losses(model, losses)
    weights = {name: weight.detach() for name, weight in whole.named_parameters() if weight.requires_grad}

    def one(weights: Mapping[str, Tensor], fields: Mapping[str, Tensor]) -> Tensor:
        single = Batch(torch.zeros(1, dtype=torch.int64), {name: value.unsqueeze(0) for name, value in fields.items()})
        loss: Tensor = functional_call(whole, dict(weights), (single,))
        return loss.squeeze(0)

    chunk = max(1, FLOATS // sum(weight.numel() for weight in weights.values()))
    gradients = vmap(grad(one), in_dims=(None, 0))
    squares = torch.zeros(len(batch))
    for start in range(0, len(batch), chunk):
        part = {name: value[start : start + chunk] for name, value in batch.fields.items()}
        found = gradients(weights, part)
        squares[start : start + chunk] = sum(g.flatten(1).square().sum(dim=1) for g in found.values()).cpu()
    return squares.sqrt()
