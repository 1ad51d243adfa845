"""RS2: a fresh random subset every epoch. The baseline that every selection must beat, and it costs nothing.

Source  Okanovic et al. 2024, Repeated random sampling for minimizing the time-to-accuracy of learning (2305.18424).
Expect  beats a static random subset at equal examples seen, at every keep fraction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from .interface import Context, DynamicMethod, Pool, kept_count

__all__ = ["RandomEpochs"]


@final
class RandomEpochs(DynamicMethod):
    """``kept_count(n, keep_fraction)`` examples an epoch.

    Without ``replacement`` (default): consecutive pieces of a permutation, a new permutation when one is used up in the middle of an
    epoch, so that every example comes once before any comes twice. With it: an independent subset every epoch.
    """

    def __init__(self, replacement: bool = False) -> None:
        super().__init__()
        self.replacement = replacement
        self._size, self._rest = 0, np.empty(0, np.int64)

    def prepare(self, pool: Pool, keep_fraction: float, context: Context) -> None:
        """Set the size of an epoch."""
        self._size = kept_count(len(pool), keep_fraction)

    def plan_epoch(self, epoch: int, generator: np.random.Generator) -> tuple[np.ndarray, None]:
        """The next piece."""
        if self.replacement:
            return generator.choice(self.ids, self._size, replace=False), None
        plan = self._rest[: self._size]
        self._rest = self._rest[self._size :]
        if len(plan) < self._size:
            fresh = generator.permutation(self.ids)
            taken = np.isin(fresh, plan)  # what this epoch already holds waits for the next, so that no epoch repeats an example
            fresh = np.concatenate([fresh[~taken], fresh[taken]])
            cut = self._size - len(plan)
            plan, self._rest = np.concatenate([plan, fresh[:cut]]), fresh[cut:]
        return plan, None

    def state(self) -> dict[str, Any]:
        """The size of an epoch and what is left of the running permutation."""
        return {"size": self._size, "rest": self._rest}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on with it."""
        self._size, self._rest = state["size"], np.asarray(state["rest"], np.int64)
