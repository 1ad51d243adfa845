"""Curation inside a trial: the selection made once, and the order and weights of every epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor

from ..data_pipelines.curation.context import make_context
from ..data_pipelines.curation.interface import CurationMethod, DynamicMethod, Pool, Selection, TrainProxy, curate
from ..data_pipelines.curation.ledger import Ledger
from ..data_pipelines.curation.selection import Cost as CurationCost
from .algorithm import Batch
from .clock import Bucket, Clock, Reading
from .config import Plan, instantiate
from .inputs import Inputs

__all__ = ["Curated"]


@final
class Curated:
    """What a curation method decided for one trial, and goes on deciding if it is dynamic."""

    def __init__(self, plan: Plan, inputs: Inputs, seeds: dict[str, int]) -> None:
        self._plan, self._seeds = plan, seeds
        self._selection: Selection | None = None
        self._method: CurationMethod = instantiate(plan.curation.target, plan.curation.options, CurationMethod)
        split = inputs.pool.split
        self.pool = Pool(
            inputs.pool.ids,
            {name: field.values for name, field in split.fields.items() if field.offsets is None},
            data_digest=split.digest,
            label=inputs.label,
            facts=inputs.dataset.facts,
        )
        self.dynamic = self._method if isinstance(self._method, DynamicMethod) else None

    def select(self, clock: Clock, kept: Path, train_proxy: TrainProxy) -> None:
        """Run the method on the clock and keep its selection in ``kept``, or take it from there when a trial is resumed."""
        if kept.exists() and self.dynamic is None:
            self._selection = Selection.read(kept).checked(self.pool)
            return

        ledger = Ledger(self.pool, clock.span)

        def charge(cost: CurationCost) -> None:
            clock.charge(Bucket.CURATE, cost.wall_seconds, cost.cpu_seconds, cost.span_seconds)
            ledger.charge(cost)

        generator, encoders = np.random.default_rng(self._seeds["curation"]), list[str]()
        with clock.bucket(Bucket.CURATE):
            context = make_context(
                self.pool, generator, span=ledger.span, charge=charge, train_proxy=train_proxy, on_pretrained=encoders.append
            )
            made = curate(self._method, self.pool, self._plan.keep_fraction, context)
        self._selection = made.made_with(encoders).with_cost(replace(_curation_cost(clock.read()), ledger=ledger.read()))
        self._selection.write(kept)

    @property
    def selection(self) -> Selection | None:
        """What was kept; None before :meth:`select`."""
        return self._selection

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Ids and weights of an epoch, in serving order: the dynamic method's plan, else the selection in a fresh permutation."""
        generator = np.random.default_rng([self._seeds["order"], epoch])
        if self.dynamic is not None:
            return self.dynamic.begin_epoch(epoch, generator)
        if self._selection is None:
            raise RuntimeError("select comes before order")
        ids, weights = self._selection.epoch()
        rows = generator.permutation(len(ids))
        return ids[rows], None if weights is None else weights[rows]

    def observe(self, batch: Batch, losses: Tensor) -> None:
        """Tell a dynamic method the losses of a step."""
        if self.dynamic is not None:
            self.dynamic.observe(batch.ids.numpy(), losses.float().cpu().numpy())

    def state_dict(self) -> dict[str, Any]:
        """State of a dynamic method; nothing for a static one, whose selection is a file."""
        return {} if self.dynamic is None else self.dynamic.state_dict()

    def load_state_dict(self, payload: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave."""
        if self.dynamic is not None:
            self.dynamic.load_state_dict(payload)


def _curation_cost(reading: Reading) -> CurationCost:
    """What the bucket ``curate`` holds so far: the whole cost of the selection, which is made once in a trial."""
    spans = {key.partition("/")[2]: seconds for key, seconds in reading.span_seconds.items() if key.startswith(f"{Bucket.CURATE}/")}
    return CurationCost(reading.wall_seconds.get(Bucket.CURATE, 0.0), reading.cpu_seconds.get(Bucket.CURATE, 0.0), spans)
