"""Curriculum and anti-curriculum: the share of the pool that is open grows from epoch to epoch, easy (or hard) examples first.

Source  Bengio et al. 2009; scoring by a proxy's loss and linear pacing as in Wu, Dyer and Neyshabur 2021 (2012.03107).
Expect  no gain over random order on clean, balanced data with enough budget; some with little budget or noisy labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from ...suite.errors import ConfigError
from .interface import Context, DynamicMethod, Pool, kept_count

__all__ = ["Curriculum", "open_count"]

ORDERS = ("easy_first", "hard_first", "random")


def open_count(count: int, epoch: int, start_fraction: float, epochs_to_full: float) -> int:
    """Examples open in an epoch: ``start_fraction`` of them in epoch 0, all from ``epochs_to_full`` on, linear between."""
    share = min(1.0, start_fraction + (1.0 - start_fraction) * epoch / epochs_to_full)
    return kept_count(count, share)


@final
class Curriculum(DynamicMethod):
    """Opens the pool in the order of a proxy's loss after ``epochs``; serves ``keep_fraction`` of the pool per epoch from the open part.

    ``order``: ``easy_first``, ``hard_first`` (anti-curriculum) or ``random`` (the control: same pacing, random order). An open part
    smaller than the epoch is served whole and the epoch is that short.
    """

    def __init__(self, order: str = "easy_first", epochs: float = 1, start_fraction: float = 0.2, epochs_to_full: float = 5) -> None:
        super().__init__()
        if order not in ORDERS:
            raise ConfigError(f"order: expected one of {', '.join(ORDERS)}, given {order!r}")
        if not 0 < start_fraction <= 1 or epochs_to_full <= 0:
            given = f"{start_fraction} and {epochs_to_full}"
            raise ConfigError(f"curriculum: expected start_fraction in (0, 1] and epochs_to_full above 0, given {given}")
        self.order, self.epochs, self.start_fraction, self.epochs_to_full = order, epochs, start_fraction, epochs_to_full
        self._ordered, self._size, self.needs_proxy = np.empty(0, np.int64), 0, order != "random"

    def prepare(self, pool: Pool, keep_fraction: float, context: Context) -> None:
        """Order the ids once; the random control trains no proxy."""
        with context.span("score"):
            seed = int(context.generator.integers(2**31))
            score = context.generator.random(len(pool)) if self.order == "random" else context.proxy()(self.epochs, seed).last.losses
            rank = np.lexsort((np.arange(len(pool)), -score if self.order == "hard_first" else score))
        self._ordered, self._size = pool.ids[rank], kept_count(len(pool), keep_fraction)

    def plan_epoch(self, epoch: int, generator: np.random.Generator) -> tuple[np.ndarray, None]:
        """A random part of what is open."""
        open_part = self._ordered[: open_count(len(self._ordered), epoch, self.start_fraction, self.epochs_to_full)]
        return generator.choice(open_part, min(self._size, len(open_part)), replace=False), None

    def state(self) -> dict[str, Any]:
        """The order of the ids and the size of an epoch."""
        return {"ordered": self._ordered, "size": self._size}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        self._ordered, self._size = np.array(state["ordered"], np.int64), state["size"]
