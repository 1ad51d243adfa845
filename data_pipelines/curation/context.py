"""Binds the services of a curation call to a pool and to whoever holds the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..embed import EMBEDDERS, embed
from .interface import SPANS, Context, Cost, TrainProxy
from .pool import Pool

__all__ = ["make_context"]


def make_context(
    pool: Pool,
    generator: np.random.Generator,
    *,
    span: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext(),
    charge: Callable[[Cost], None] = lambda cost: None,
    train_proxy: TrainProxy | None = None,
    cache: Path | None = None,
    memory_bytes: int = 2**31,
    note: Callable[[str, np.ndarray], None] = lambda name, values: None,
    progress: Callable[[str, float], None] = lambda stage, share: None,
    on_pretrained: Callable[[str], None] = lambda name: None,
) -> Context:
    """A :class:`Context` for one call of ``curate``. Embedders never see labels, whatever the method declares.

    ``span`` and ``charge`` come from the clock's owner; by default nothing is counted, noted or shown. ``on_pretrained`` hears of every
    encoder that was used and knows other data than the pool.
    """
    flat = _flat(span)
    unlabelled = pool.without_labels()
    seed = int(generator.integers(2**31))

    def embed_pool(name: str, **options: Any) -> np.ndarray:
        if name in EMBEDDERS and EMBEDDERS[name].pretrained:
            on_pretrained(name)
        return embed(unlabelled, name, options, seed=seed, span=flat, charge=charge, cache=cache, train_proxy=train_proxy)

    return Context(generator, flat, embed_pool, charge, train_proxy, cache, memory_bytes, note, progress)


def _flat(span: Callable[[str], AbstractContextManager[None]]) -> Callable[[str], AbstractContextManager[None]]:
    """Spans that refuse to nest, so that no second is counted under two names."""
    running: list[str] = []

    @contextmanager
    def checked(name: str) -> Iterator[None]:
        if name not in SPANS:
            raise ValueError(f"span {name!r}: expected one of {', '.join(SPANS)}")
        if running:
            raise RuntimeError(f"span {name!r} inside span {running[-1]!r}: their seconds would be counted twice")
        running.append(name)
        try:
            with span(name):
                yield
        finally:
            running.pop()

    return checked
