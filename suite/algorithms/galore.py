"""GaLore: AdamW whose moments live in the low-rank space of the gradients' leading singular vectors.

Zhao et al., GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection (arXiv 2403.03507, algorithm 2): of a gradient matrix
[m, n] with m <= n the r leading left singular vectors P are taken every ``refresh_every`` steps; Adam runs on P^T G; the update is
``scale`` P times Adam's. With m > n the right singular vectors are used. Convolutions are matrices [O, I h w]; vectors, and groups
that are not to be projected, are left to plain AdamW. ``rank_fraction`` of the shorter side is the rank, so one setting suits every width.
Expect  state of r (m + 2 n) instead of 2 m n numbers, and AdamW's curve if gradients are of low rank.
Why not a library's: the state of pytorch_optimizer's GaLore holds a projector object that a checkpoint cannot; it is the tests' oracle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

__all__ = ["GaLore"]


@final
class GaLore(torch.optim.Optimizer):
    """``project`` (a group's setting): whether its matrices are projected. Decay of the weights is decoupled."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        rank_fraction: float = 0.25,
        refresh_every: int = 50,
        scale: float = 0.25,
        project: bool = False,
    ) -> None:
        adam = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        low_rank = {"rank_fraction": rank_fraction, "refresh_every": refresh_every, "scale": scale, "project": project}
        super().__init__(params, {**adam, **low_rank, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One update."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            refresh = group["steps"] % group["refresh_every"] == 0
            group["steps"] += 1
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                matrix = parameter.grad.reshape(len(parameter), -1) if parameter.ndim > 1 else parameter.grad
                if group["project"] and parameter.ndim > 1:
                    update = self._low_rank_update(parameter, matrix, group, refresh)
                else:
                    update = self._adam(parameter, matrix, group)
                parameter.sub_(update.reshape(parameter.shape), alpha=group["lr"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
        return loss

    def _low_rank_update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], refresh: bool) -> Tensor:
        state, wide = self.state[parameter], gradient.shape[0] < gradient.shape[1]
        if refresh or "basis" not in state:
            left, _, right = torch.linalg.svd(gradient, full_matrices=False)
            rank = max(1, round(group["rank_fraction"] * min(gradient.shape)))
            state["basis"] = (left[:, :rank] if wide else right[:rank].T).contiguous()  # [short side, rank]
        basis = state["basis"]
        low = self._adam(parameter, basis.T @ gradient if wide else gradient @ basis, group)
        return group["scale"] * (basis @ low if wide else low @ basis.T)

    def _adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Adam's step for a gradient of any shape: bias-corrected mean over the root of the mean square."""
        state, (beta1, beta2), count = self.state[parameter], group["betas"], group["steps"]
        if "mean" not in state:
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].lerp_(gradient.square(), 1 - beta2)
        size = state["square"].sqrt().add_(group["eps"]).mul_((1 - beta1**count) / math.sqrt(1 - beta2**count))
        return state["mean"] / size
