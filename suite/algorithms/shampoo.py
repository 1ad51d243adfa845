"""Shampoo: gradients preconditioned on both sides by the inverse roots of their second-moment matrices.

For a matrix, W -= lr L^(-1/4) G R^(-1/4) with L = sum G G^T and R = sum G^T G (Gupta, Koren and Singer, arXiv 1802.09568,
algorithm 1), each plus ``eps`` times its largest eigenvalue (Anil et al., arXiv 2002.09018), so the scale of the loss does not
matter. Convolutions [O, I, h, w] are matrices [O, I h w]; vectors, and sides longer than ``max_side``, use the diagonal of their
matrix only, which for vectors is AdaGrad. ``root_every``: steps from one computation of the roots to the next. Momentum is
heavy-ball, over preconditioned gradients.
Why not a library's: pytorch_optimizer's Shampoo mixes raw and preconditioned gradients in its momentum, and the state of its
ScalableShampoo holds objects that a checkpoint cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

__all__ = ["Shampoo", "inverse_root"]


@final
class Shampoo(torch.optim.Optimizer):
    """``eps``: ridge of the second moments, relative to their largest eigenvalue; how far unseen directions are damped."""

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eps: float = 1e-6,
        root_every: int = 10,
        max_side: int = 1024,
    ) -> None:
        settings = {"momentum": momentum, "weight_decay": weight_decay, "eps": eps, "root_every": root_every, "max_side": max_side}
        super().__init__(params, {"lr": lr, **settings, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One update; decay of the weights is decoupled."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            # Early roots know few directions and blow all others up, so they are computed anew at every one of the first steps.
            refresh = group["steps"] < group["root_every"] or group["steps"] % group["root_every"] == 0
            group["steps"] += 1
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._preconditioned(parameter, group, refresh)
                state = self.state[parameter]
                if group["momentum"]:
                    state["momentum"] = update = update.add(state["momentum"], alpha=group["momentum"]) if "momentum" in state else update
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update.reshape(parameter.shape), alpha=group["lr"])
        return loss

    def _preconditioned(self, parameter: Tensor, group: dict[str, Any], refresh: bool) -> Tensor:
        """The gradient as a matrix [rows, columns] (a vector has one column), times the inverse roots of its sides."""
        assert parameter.grad is not None
        state = self.state[parameter]
        gradient = parameter.grad.reshape(len(parameter), -1) if parameter.ndim > 1 else parameter.grad.reshape(-1, 1)
        sides = ("left", "right") if parameter.ndim > 1 else ("left",)
        update = gradient
        for side in sides:
            matrix = gradient if side == "left" else gradient.T
            full = parameter.ndim > 1 and len(matrix) <= group["max_side"]
            new = matrix @ matrix.T if full else matrix.square().sum(dim=1)
            state[side] = state[side].add_(new) if side in state else new
            if refresh or f"{side}_root" not in state:
                state[f"{side}_root"] = inverse_root(state[side], 2 * len(sides), group["eps"])
            root = state[f"{side}_root"]
            along = update if side == "left" else update.T
            along = root @ along if full else root[:, None] * along
            update = along if side == "left" else along.T
        return update


def inverse_root(matrix: Tensor, order: int, eps: float) -> Tensor:
    """(matrix + eps times its largest eigenvalue)^(-1/order) of a symmetric, positive semidefinite ``[n, n]`` or of a diagonal ``[n]``.

    Zero where the matrix is zero altogether.
    """
    if matrix.ndim == 1:
        return _power(matrix, order, eps)
    shift = matrix.abs().max().double()  # of few gradients nearly all eigenvalues are 0, and then LAPACK may not converge
    values, vectors = torch.linalg.eigh(matrix.double() + shift * torch.eye(len(matrix), device=matrix.device))
    return ((vectors * _power((values - shift).clamp_min(0), order, eps)) @ vectors.T).to(matrix.dtype)


def _power(values: Tensor, order: int, eps: float) -> Tensor:
    raised = values + eps * values.max()
    return torch.where(raised > 0, raised.pow(-1 / order), 0.0)
