"""Negative controls: what a method must beat before its score means anything.

``random_score`` and ``input_norm`` are scores without information. ``reversed`` keeps what another method would drop first;
``label_shuffled`` runs another method on labels that belong to other examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

import numpy as np

from ...suite.config import CurationDefinition, instantiate
from ...suite.errors import ConfigError
from ...suite.registry import definition
from ...suite.schema import build
from . import scores
from .context import make_context
from .interface import Context, CurationMethod, DynamicMethod, Pool, ProxyRun, Selection, kept_count
from .samplers import make_sampler
from .scored import keep_by

__all__ = ["InputNorm", "LabelShuffled", "RandomScore", "Reversed"]


@final
class RandomScore(CurationMethod):
    """A random score through a sampler. Differs from ``random`` only where the sampler looks at the score's shape."""

    def __init__(self, sampler: str = "top", **sampler_options: Any) -> None:
        make_sampler(sampler, sampler_options)
        self.sampler, self.sampler_options = sampler, sampler_options

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Standard normal scores, then the sampler."""
        with context.span("score"):
            score = context.generator.standard_normal(len(pool))
            kept = keep_by(score, pool, keep_fraction, context.generator, self.sampler, self.sampler_options)
        return Selection(pool.ids[kept], keep_fraction, pool.digest, {"method": "random_score", "sampler": self.sampler})


@final
class InputNorm(CurationMethod):
    """Keeps the inputs of greatest length, which is what GraNd at initialisation measures (Kirsch 2023, 2303.14753)."""

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """The longest inputs, flattened and joined."""
        vectors = context.embed("raw")
        with context.span("score"):
            kept = keep_by(scores.input_norm(vectors), pool, keep_fraction, context.generator, "top", {})
        return Selection(pool.ids[kept], keep_fraction, pool.digest, {"method": "input_norm"})


@final
class Reversed(CurationMethod):
    """Keeps what the method ``of`` drops when it keeps the rest; for a score, its lowest values.

    A method that does not beat its own reversal ranks by nothing, or in the wrong direction.
    """

    def __init__(self, of: str = "el2n", options: Mapping[str, Any] | None = None) -> None:
        self.of, self.options, self.method = of, dict(options or {}), _static(of, options)
        self.needs, self.needs_labels, self.needs_proxy = self.method.needs, self.method.needs_labels, self.method.needs_proxy

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """The complement of the method's selection of the complementary size."""
        budget = kept_count(len(pool), keep_fraction)
        kept = pool.ids
        if budget < len(pool):
            others = self.method.select(pool, (len(pool) - budget) / len(pool), context)
            kept = np.setdiff1d(pool.ids, others.ids)
        return Selection(kept, keep_fraction, pool.digest, {"method": "reversed", "of": self.of} | self.options)


@final
class LabelShuffled(CurationMethod):
    """Runs the method ``of`` on shuffled labels, proxies included: what is left of it without the labels' meaning."""

    needs_labels = True

    def __init__(self, of: str = "el2n", options: Mapping[str, Any] | None = None) -> None:
        self.of, self.options, self.method = of, dict(options or {}), _static(of, options)
        self.needs, self.needs_proxy = self.method.needs, self.method.needs_proxy

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """The method's selection of the relabelled pool."""
        labels = context.generator.permutation(pool.labels)
        given = context.train_proxy

        def proxy(epochs: float, seed: int, **options: Any) -> ProxyRun:
            return context.proxy()(epochs, seed, labels=labels, **options)

        relabelled = pool.relabelled(labels)
        inner = make_context(
            relabelled,
            context.generator,
            span=context.span,
            charge=context.charge,
            train_proxy=None if given is None else proxy,
            cache=context.cache,
            memory_bytes=context.memory_bytes,
        )
        view = relabelled if self.method.needs_labels else relabelled.without_labels()
        made = self.method.select(view, keep_fraction, inner)
        return replace(made, provenance={"method": "label_shuffled", "of": self.of} | self.options)


def _static(name: str, options: Mapping[str, Any] | None) -> CurationMethod:
    found = build(CurationDefinition, definition("curation", name), f"curation {name}")
    method: CurationMethod = instantiate(found.target, {**found.options, **(options or {})}, CurationMethod)
    if isinstance(method, (DynamicMethod, Reversed, LabelShuffled)):
        raise ConfigError(f"of: expected a static method that is no control itself, given {name!r}")
    return method
