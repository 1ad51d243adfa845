"""Selection inside the loop: draw more candidates than a batch holds, look at their losses, train on the best of them.

Source  hardest mini-batches: Loshchilov and Hutter 2016 (1511.06343); Jiang et al. 2019, selective backprop (1910.00762), here without
        sampling. Reducible loss: Mindermann et al. 2022, RHO-LOSS (2206.07137), with the holdout cut from the pool itself.
Expect  fewer steps, not less time, unless the candidates' forward passes are cheap: they are charged here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from ...suite.errors import ConfigError
from .interface import Context, DynamicMethod, Pool, kept_count
from .samplers import top

__all__ = ["HardestBatches", "ReducibleLoss", "highest"]


def highest(score: np.ndarray, factor: int) -> np.ndarray:
    """Weights float32 ``[B]``: 1 for the ``B/factor`` highest scores (rounded half up, at least one), 0 for the rest; ties: first."""
    weights = np.zeros(len(score), dtype=np.float32)
    weights[top(np.nan_to_num(score, nan=-np.inf, neginf=-np.inf), max(1, (2 * len(score) + factor) // (2 * factor)))] = 1.0
    return weights


def _factor(keep_fraction: float) -> int:
    """How many candidates per trained example: 1/keep_fraction, a whole number."""
    factor = round(1.0 / keep_fraction)
    if factor < 1 or abs(factor * keep_fraction - 1.0) > 0.05:
        raise ConfigError(f"keep_fraction: expected one over a whole number (0.5, 0.25, 0.2, 0.1 …) of candidates, given {keep_fraction}")
    return factor


@final
class HardestBatches(DynamicMethod):
    """Of 1/keep_fraction times a batch, trains on the candidates of highest loss (``reverse``: lowest, the negative control)."""

    def __init__(self, reverse: bool = False) -> None:
        super().__init__()
        self.reverse = reverse

    def prepare(self, pool: Pool, keep_fraction: float, context: Context) -> None:
        """Set the number of candidates."""
        self.candidate_factor = _factor(keep_fraction)

    def plan_epoch(self, epoch: int, generator: np.random.Generator) -> tuple[np.ndarray, None]:
        """All of the pool in random order, as candidates."""
        return generator.permutation(self.ids), None

    def reweight(self, batch_ids: np.ndarray, per_example_loss: np.ndarray) -> np.ndarray:
        """1 for the hardest, 0 for the rest."""
        return highest(-per_example_loss if self.reverse else per_example_loss, self.candidate_factor)

    def state(self) -> dict[str, Any]:
        """Nothing changes during training."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to put back."""


@final
class ReducibleLoss(DynamicMethod):
    """Of 1/keep_fraction times a batch, trains on the candidates whose loss exceeds most what a holdout model leaves.

    The holdout model is trained for ``epochs`` on a random ``held_fraction`` of the pool, which is then not trained on any more; its
    losses on the rest are the irreducible ones.
    """

    needs_proxy = True

    def __init__(self, held_fraction: float = 0.2, epochs: float = 5, reverse: bool = False) -> None:
        super().__init__()
        if not 0 < held_fraction < 1 or epochs <= 0:
            raise ConfigError(f"reducible_loss: expected held_fraction in (0, 1) and epochs above 0, given {held_fraction} and {epochs}")
        self.held_fraction, self.epochs, self.reverse = held_fraction, epochs, reverse
        self._rest, self._irreducible = np.empty(0, np.int64), np.empty(0, np.float32)

    def prepare(self, pool: Pool, keep_fraction: float, context: Context) -> None:
        """Train the holdout model, keep its losses on the rest."""
        self.candidate_factor = _factor(keep_fraction)
        with context.span("score"):
            held = top(context.generator.random(len(pool)), kept_count(len(pool), self.held_fraction))
            rest = np.setdiff1d(np.arange(len(pool)), held)
            run = context.proxy()(self.epochs, int(context.generator.integers(2**31)), subset=held)
        self._rest, self._irreducible = pool.ids[rest], run.last.losses[rest].astype(np.float32)

    def plan_epoch(self, epoch: int, generator: np.random.Generator) -> tuple[np.ndarray, None]:
        """The rest of the pool in random order, as candidates."""
        return generator.permutation(self._rest), None

    def reweight(self, batch_ids: np.ndarray, per_example_loss: np.ndarray) -> np.ndarray:
        """1 for the most reducible, 0 for the rest."""
        score = per_example_loss - self._irreducible[np.searchsorted(self._rest, batch_ids)]
        return highest(-score if self.reverse else score, self.candidate_factor)

    def state(self) -> dict[str, Any]:
        """The irreducible losses and whose they are."""
        return {"rest": self._rest, "irreducible": self._irreducible}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        self._rest, self._irreducible = np.array(state["rest"], np.int64), np.array(state["irreducible"], np.float32)
