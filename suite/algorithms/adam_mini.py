"""Adam-mini: AdamW with one second moment for each row of a matrix, or one for the whole tensor.

Zhang et al., Adam-mini: Use Fewer Learning Rates To Gain More (arXiv 2406.16793): one learning rate per block of the Hessian is enough.
Blocks are the rows (output neurons) of matrices, convolutions, embeddings (one a token) and heads (one a class), and whole vectors. The
paper groups the rows of queries and keys by head; heads cannot be read off a parameter, and rows are the finer partition.
Expect  AdamW's curve with about half of its state.
Why not a library's: pytorch_optimizer's AdamMini finds blocks by parameter names and wants the model's number of heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

__all__ = ["AdamMini"]


@final
class AdamMini(torch.optim.Optimizer):
    """Decay of the weights is decoupled; both moments are bias-corrected, as in AdamW."""

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One update."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            group["steps"] += 1
            (beta1, beta2), count = group["betas"], group["steps"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient, state = parameter.grad, self.state[parameter]
                block = tuple(range(1, parameter.ndim)) if parameter.ndim > 1 else (0,) if parameter.ndim else ()
                square = gradient.square().mean(dim=block, keepdim=True) if block else gradient.square()  # [rows, 1, …] or [1]
                if not state:
                    state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(square)
                state["mean"].lerp_(gradient, 1 - beta1)
                state["square"].lerp_(square, 1 - beta2)
                size = (state["square"] / (1 - beta2**count)).sqrt_().add_(group["eps"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.addcdiv_(state["mean"], size, value=-group["lr"] / (1 - beta1**count))
        return loss
