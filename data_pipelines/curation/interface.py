"""The interface of a curation entry: everything that decides which examples are seen, when, and with what weight.

A *static* method chooses once, before training: :meth:`CurationMethod.select`. A *dynamic* one also decides in every epoch
(:meth:`DynamicMethod.begin_epoch`) or for every batch (:meth:`DynamicMethod.reweight`). All calls are on the clock, bucket
``curate`` for ``select`` and ``train`` for the rest; a method never sees the workload's name, the validation set or the target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np

from ...suite.errors import DataError, NeedsUnmet
from .pool import Pool
from .selection import Cost, Selection, kept_count

__all__ = [
    "SPANS",
    "Context",
    "Cost",
    "CurationMethod",
    "DynamicMethod",
    "Embed",
    "Pool",
    "ProxyEpoch",
    "ProxyRun",
    "Selection",
    "TrainProxy",
    "curate",
    "kept_count",
]

SPANS = ("embed", "cluster", "score", "dedup", "rewrite")


@final
@dataclass(frozen=True, eq=False)
class ProxyEpoch:
    """What a proxy model says of every example of the pool, in eval mode and without augmentation, after ``epoch`` epochs.

    Rows are aligned with the pool's ids. ``losses``: float32 ``[n]``. The rest is None unless collected: ``logits`` float32
    ``[n, C]``, ``features`` float32 ``[n, d]`` (input of the head), ``gradient_norms`` float32 ``[n]`` (norm of the gradient of one
    example's loss over all weights).
    """

    epoch: float
    losses: np.ndarray
    logits: np.ndarray | None = None
    features: np.ndarray | None = None
    gradient_norms: np.ndarray | None = None


@final
@dataclass(frozen=True)
class ProxyRun:
    """One proxy training: ``history`` has one entry for every finished epoch, in order.

    When the caller gave ``every_epoch``, the entries went there as they came and ``history`` holds the last one only.
    """

    history: tuple[ProxyEpoch, ...]

    def stack(self, name: str) -> np.ndarray:
        """One collected quantity over the epochs, float32 ``[E, n, …]``; ``NeedsUnmet`` when it was not collected."""
        values = [getattr(entry, name) for entry in self.history]
        if any(value is None for value in values):
            raise NeedsUnmet(f"proxy run: {name} was not collected, or this workload's model has none")
        return np.stack(values)

    @property
    def last(self) -> ProxyEpoch:
        """The state after the last epoch."""
        return self.history[-1]


class TrainProxy(Protocol):
    """Train a fresh copy of the workload's own model on the pool, charged; supplied by the trial loop.

    ``epochs``: passes over the trained examples; 0 evaluates the untrained model. ``seed`` decides initial weights and order.
    ``subset``: int64 positions in the pool to train on (None: all); evaluation is always of the whole pool. ``labels``: int64
    ``[n]`` to train on in place of the pool's (negative controls). ``collect``: names of :class:`ProxyEpoch`'s optional arrays.
    ``every_epoch`` receives each epoch's entry, so that a long history need not be kept.
    """

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
        """Run the training and return what was collected. ``NeedsUnmet`` when the model cannot give a collected quantity."""


class Embed(Protocol):
    """Embed the pool by an embedder of :mod:`~timetrial.data_pipelines.embed`: float32 ``[n, d]``, rows aligned with the pool's ids."""

    def __call__(self, name: str, **options: Any) -> np.ndarray:
        """Run the embedder in its own ``embed`` span, or load it from the cache and charge its recorded cost."""


@final
@dataclass(frozen=True)
class Context:
    """The services of one curation call; whatever they do is charged.

    ``generator``: the method's only source of randomness. ``span(name)``: counts a block under one of :data:`SPANS`; spans do not
    nest. ``embed(name, **options)``: see :class:`Embed`. ``train_proxy``: None where there is no model (a user's own data).
    ``charge(cost)``: books the recorded cost of a cached artefact. ``cache``: folder for artefacts keyed by content, or None.
    ``memory_bytes``: what the method may hold at once, beside the pool. ``note(name, values)``: leave something to look at about
    every example, ``[n]`` aligned with the pool (a score, a cluster, the id of a duplicate); it never reaches training.
    ``progress(stage, share)``: how far a long stage is, 0 to 1.
    """

    generator: np.random.Generator
    span: Callable[[str], AbstractContextManager[None]]
    embed: Embed
    charge: Callable[[Cost], None]
    train_proxy: TrainProxy | None = None
    cache: Path | None = None
    memory_bytes: int = 2**31
    note: Callable[[str, np.ndarray], None] = lambda name, values: None
    progress: Callable[[str, float], None] = lambda stage, share: None

    def proxy(self) -> TrainProxy:
        """The proxy training, or ``NeedsUnmet`` where there is no model to train."""
        if self.train_proxy is None:
            raise NeedsUnmet("this method trains a proxy model; there is none here, only data")
        return self.train_proxy


class CurationMethod(ABC):
    """A curation entry; a subclass is final. The object itself is configuration: its options and nothing else.

    ``needs``: names of :class:`~timetrial.suite.algorithm.Need`, checked before training. ``needs_labels``: without it the pool's
    labels cannot be read. ``needs_proxy``: it trains proxies of the workload's model. ``own_size``: the method decides how much it
    keeps when the keep fraction is 1 (deduplication by a threshold); otherwise exactly ``kept_count(n, keep_fraction)`` examples must
    come back, repeats counted.
    """

    needs: frozenset[str] = frozenset()
    needs_labels: bool = False
    needs_proxy: bool = False
    own_size: bool = False

    @abstractmethod
    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Choose what is kept of the pool. Same pool, options and generator state: same selection."""


class DynamicMethod(CurationMethod):
    """A method that goes on deciding while the model trains; a subclass is final and gives :meth:`plan_epoch`.

    The harness calls ``select`` once (default: everything, so that all of the pool can be served), then ``begin_epoch`` when the
    first example of an epoch is needed. It calls ``observe`` after every step with the losses of that step (deterministic order).
    When ``candidate_factor`` is above 1, it draws that many times the batch size, computes the candidates' losses without
    gradient (charged), asks ``reweight``, and trains only on the candidates with a weight above zero.
    """

    candidate_factor: int = 1

    def __init__(self) -> None:
        self.ids: np.ndarray = np.empty(0, np.int64)
        self._epoch: tuple[int, np.ndarray, np.ndarray | None] | None = None

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Remember the pool's ids in :attr:`ids`, prepare; everything stays reachable."""
        kept_count(len(pool), keep_fraction)
        self.ids = pool.ids
        self.prepare(pool, keep_fraction, context)
        return Selection(pool.ids, keep_fraction, pool.digest)

    @abstractmethod
    def prepare(self, pool: Pool, keep_fraction: float, context: Context) -> None:
        """Set up the state that ``plan_epoch`` draws on; charged as ``curate``."""

    @abstractmethod
    def plan_epoch(self, epoch: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Ids of this epoch in the order to serve them (int64, repeats allowed) and their weights float32, or None."""

    def begin_epoch(self, epoch: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """The plan of an epoch. ``generator`` is a pure function of the trial's seed and the epoch.

        Asked again for the running epoch (a trial resumed in its middle), it returns the plan that was made, not a new one.
        """
        if self._epoch is None or self._epoch[0] != epoch:
            ids, weights = self.plan_epoch(epoch, generator)
            self._epoch = (epoch, np.asarray(ids, np.int64), None if weights is None else np.asarray(weights, np.float32))
        return self._epoch[1], self._epoch[2]

    def observe(self, batch_ids: np.ndarray, per_example_loss: np.ndarray) -> None:
        """Take note of a step's losses: ids int64 ``[B]``, unweighted losses float32 ``[B]``. Default: nothing."""

    def reweight(self, batch_ids: np.ndarray, per_example_loss: np.ndarray) -> np.ndarray | None:
        """Weights float32 ``[B]`` of a batch of candidates before the step; None leaves them as planned."""
        return None

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """All that the subclass's ``prepare`` and training have set: numpy arrays of int64, float32 or bool, and plain values."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`state` gave."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a bit-exact resume needs, the running epoch's plan and what ``select`` prepared included."""
        ids = np.array(self.ids)  # a pool's ids are read-only, which torch warns of when it saves them
        payload: dict[str, Any] = {"own": self.state(), "pool_ids": ids, "candidate_factor": self.candidate_factor}
        if self._epoch is not None:
            payload |= {"epoch": self._epoch[0], "ids": self._epoch[1], "weights": self._epoch[2]}
        return payload

    def load_state_dict(self, payload: Mapping[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave, into a fresh method of the same options: ``select`` need not be run, or paid, again."""
        self.load_state(payload["own"])
        self.ids, self.candidate_factor = np.asarray(payload["pool_ids"], np.int64), payload["candidate_factor"]
        self._epoch = (payload["epoch"], payload["ids"], payload["weights"]) if "epoch" in payload else None


def curate(method: CurationMethod, pool: Pool, keep_fraction: float, context: Context) -> Selection:
    """Run a method's ``select`` under the rules: labels only where declared, its own pool, the size that was asked for.

    Raises ``NeedsUnmet`` when labels are declared and the pool has none, ``DataError`` when the selection breaks a rule.
    """
    wanted = kept_count(len(pool), keep_fraction)
    if method.needs_labels and not pool.has_labels:
        raise NeedsUnmet(f"{type(method).__name__} needs labels; this pool has none")
    view = pool if method.needs_labels else pool.without_labels()
    selection = method.select(view, keep_fraction, context).checked(pool)
    free = isinstance(method, DynamicMethod) or (method.own_size and keep_fraction == 1)
    if not free and selection.epoch_size != wanted:
        kept = f"kept {selection.epoch_size} of {len(pool)} examples"
        raise DataError(f"{type(method).__name__} {kept}; keep_fraction {keep_fraction} is {wanted}")
    return selection
