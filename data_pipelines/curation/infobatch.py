"""InfoBatch: skip a random part of the examples whose loss is below average, and weigh the rest of them up.

Source  Qin et al. 2024 (2303.04947). Two corrections: the weight is m/kept instead of 1/keep_fraction, so that rounding leaves no
        bias; and annealing starts at the first epoch at or after ``anneal_from``·E whatever E is.
Expect  the loss of full training with a third fewer examples; small keep fractions raise the variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from ...suite.errors import ConfigError
from .interface import Context, DynamicMethod, Pool, kept_count

__all__ = ["InfoBatch", "thin"]


def thin(losses: np.ndarray, keep_fraction: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions kept (sorted int64) and their weights float32: everything at or above the mean loss with weight 1, of the m below it a
    random ``kept_count(m, keep_fraction)`` with weight m/kept, so that the weights of that group sum to m."""
    below = losses < np.float64(losses.mean(dtype=np.float64))
    group = np.flatnonzero(below)
    weights = np.ones(len(losses), dtype=np.float32)
    keep = ~below
    if len(group):
        kept = generator.choice(group, kept_count(len(group), keep_fraction), replace=False)
        keep[kept] = True
        weights[kept] = len(group) / len(kept)
    positions = np.flatnonzero(keep)
    return positions, weights[positions]


@final
class InfoBatch(DynamicMethod):
    """Unbiased dynamic pruning. ``keep_fraction`` is the share kept of the well-learned examples (the paper's 1 − r, there 0.5).

    Scores start at infinity for all, so the first epoch serves everything. After the share ``anneal_from`` of ``epochs`` all examples are
    served with weight 1. ``epochs`` is the number of epochs that the trial is expected to last (None: never anneals).
    """

    def __init__(self, anneal_from: float = 0.875, epochs: float | None = None) -> None:
        super().__init__()
        if not 0 <= anneal_from <= 1 or (epochs is not None and epochs <= 0):
            raise ConfigError(f"infobatch: expected anneal_from in [0, 1] and epochs above 0, given {anneal_from} and {epochs}")
        self.anneal_from, self.epochs = anneal_from, epochs
        self._losses, self._keep_fraction = np.empty(0, np.float32), 1.0

    def prepare(self, pool: Pool, keep_fraction: float, context: Context) -> None:
        """No loss is known yet."""
        self._keep_fraction = keep_fraction
        self._losses = np.full(len(pool), np.nan, dtype=np.float32)

    def plan_epoch(self, epoch: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Everything while losses are unknown or annealing, else the thinned pool; in random order."""
        annealing = self.epochs is not None and epoch >= self.anneal_from * self.epochs
        known = np.isfinite(self._losses)
        if annealing or not known.any():
            return generator.permutation(self.ids), None
        losses = np.where(known, self._losses, self._losses[known].max())  # unseen so far: treated as not learned
        kept, weights = thin(losses, self._keep_fraction, generator)
        order = generator.permutation(len(kept))
        return self.ids[kept[order]], weights[order]

    def observe(self, batch_ids: np.ndarray, per_example_loss: np.ndarray) -> None:
        """The last loss of an example is its score; losses that are not finite are left out."""
        positions = np.searchsorted(self.ids, batch_ids)
        finite = np.isfinite(per_example_loss)
        self._losses[positions[finite]] = per_example_loss[finite]

    def state(self) -> dict[str, Any]:
        """The scores and the share kept."""
        return {"losses": self._losses, "keep_fraction": self._keep_fraction}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        self._losses, self._keep_fraction = np.array(state["losses"], np.float32), state["keep_fraction"]
