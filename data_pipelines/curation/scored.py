"""Score × sampler: the methods that train a proxy of the workload's model and rank examples by what it says of them.

Source  EL2N, GraNd: Paul et al. 2021 (2107.07075); forgetting: Toneva et al. 2019 (1812.05159); AUM: Pleiss et al. 2020 (2001.10528);
        coverage: Zheng et al. 2023 (2210.15809); TDDS: Zhang et al. 2024 (2311.13613); DUAL: Cho et al. 2025 (2502.06905).
Expect  hard examples win when data are abundant and lose, far below random, when they are scarce or labels are noisy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from ...suite.errors import ConfigError, unknown_name
from . import scores
from .interface import Context, CurationMethod, Pool, ProxyEpoch, Selection, kept_count
from .samplers import make_sampler, per_class

__all__ = ["PROXY_SCORES", "ProxyScore", "keep_by"]


@final
@dataclass(frozen=True)
class _Score:
    """How a score is made: ``row(entry, previous entry, y)`` -> ``[n]`` after every epoch, ``over(rows [E, n], window)`` at the end.

    ``collect`` is what the proxy must report; ``labels`` says whether the row needs ``y``.
    """

    row: Callable[[ProxyEpoch, ProxyEpoch | None, np.ndarray], np.ndarray]
    over: Callable[[np.ndarray, int], np.ndarray] = lambda rows, window: rows[-1]
    collect: tuple[str, ...] = ("logits",)
    labels: bool = True


def _p(entry: ProxyEpoch) -> np.ndarray:
    return scores.probabilities(_given(entry.logits))


def _given(values: np.ndarray | None) -> np.ndarray:
    if values is None:
        raise ConfigError("the proxy training did not report what this score needs")
    return values


def _change(now: ProxyEpoch, before: ProxyEpoch | None, y: np.ndarray) -> np.ndarray:
    return np.zeros(len(now.losses)) if before is None else scores.output_change(_p(before), _p(now))


PROXY_SCORES: Mapping[str, _Score] = {
    "loss": _Score(lambda now, before, y: now.losses, collect=(), labels=False),
    "grand": _Score(lambda now, before, y: _given(now.gradient_norms), collect=("gradient_norms",), labels=False),
    "el2n": _Score(lambda now, before, y: scores.el2n(_p(now), y)),
    "entropy": _Score(lambda now, before, y: scores.entropy(_p(now)), labels=False),
    "margin": _Score(lambda now, before, y: scores.narrow_margin(_p(now)), labels=False),
    "least_confidence": _Score(lambda now, before, y: scores.least_confidence(_p(now)), labels=False),
    "forgetting": _Score(lambda now, before, y: _given(now.logits).argmax(axis=1) == y, lambda rows, window: scores.forgetting(rows)),
    "aum": _Score(lambda now, before, y: scores.true_margin(_p(now), y), lambda rows, window: scores.aum(rows)),
    "dual": _Score(lambda now, before, y: _p(now)[np.arange(len(y)), y], scores.dual),
    "tdds": _Score(_change, lambda rows, window: scores.tdds(rows[1:], window), labels=False),
}


def keep_by(
    score: np.ndarray,
    pool: Pool,
    keep_fraction: float,
    generator: np.random.Generator,
    sampler: str,
    options: Mapping[str, Any],
    balanced: bool = False,
) -> np.ndarray:
    """Positions that a named sampler keeps of a score; ``balanced`` runs it inside every class, each with its own part of the budget."""
    budget = kept_count(len(pool), keep_fraction)
    if not balanced:
        return make_sampler(sampler, options)(score, budget, generator)

    def choose(members: np.ndarray, part: int) -> np.ndarray:
        own = {key: value[members] if isinstance(value, np.ndarray) else value for key, value in options.items()}
        return make_sampler(sampler, own)(score[members], part, generator)

    return per_class(pool.labels, budget, choose)


@final
class ProxyScore(CurationMethod):
    """Trains ``runs`` proxies for ``epochs`` each, averages their scores, and samples.

    ``score`` is one of :data:`PROXY_SCORES`; ``sampler`` and the remaining options are those of :mod:`.samplers`. ``window`` (epochs)
    belongs to ``dual`` and ``tdds``. ``balanced`` runs the sampler inside every class.
    """

    def __init__(
        self,
        score: str,
        epochs: float = 1,
        runs: int = 1,
        sampler: str = "top",
        window: int = 10,
        balanced: bool = False,
        **sampler_options: Any,
    ) -> None:
        if score not in PROXY_SCORES:
            raise unknown_name("score", score, PROXY_SCORES)
        if runs < 1 or epochs < 0:
            raise ConfigError(f"{score}: expected at least one run of at least 0 epochs, given {runs} of {epochs}")
        if sampler == "beta" and score != "dual":
            raise ConfigError(f"sampler 'beta' needs the mean true probability that only score 'dual' collects; given {score!r}")
        if sampler != "beta":
            make_sampler(sampler, sampler_options)
        self.score, self.epochs, self.runs, self.sampler, self.sampler_options = score, epochs, runs, sampler, sampler_options
        self.window, self.balanced, self.needs_proxy = window, balanced, True
        self.needs_labels = PROXY_SCORES[score].labels or balanced

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Mean score over the runs, then the sampler."""
        kept_count(len(pool), keep_fraction)
        with context.span("score"):
            labels = pool.labels if self.needs_labels else np.zeros(len(pool), np.int64)
            rows = [self._rows(labels, context) for _ in range(self.runs)]
            score = np.mean([PROXY_SCORES[self.score].over(run, self.window) for run in rows], axis=0)
            options = dict(self.sampler_options)
            if self.sampler == "beta":
                options["ease"] = np.mean([run.mean(axis=0) for run in rows], axis=0)
            context.note("score", score)
            kept = keep_by(score, pool, keep_fraction, context.generator, self.sampler, options, self.balanced)
        provenance = {"method": self.score, "epochs": self.epochs, "runs": self.runs, "sampler": self.sampler, "balanced": self.balanced}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance | dict(self.sampler_options))

    def _rows(self, labels: np.ndarray, context: Context) -> np.ndarray:
        """One proxy's rows over its epochs, ``[E, n]``; only the last two epochs' outputs are held at any time."""
        made = PROXY_SCORES[self.score]
        rows: list[np.ndarray] = []
        before: list[ProxyEpoch] = []

        def take(entry: ProxyEpoch) -> None:
            rows.append(made.row(entry, before[0] if before else None, labels))
            before[:] = [entry]

        seed = int(context.generator.integers(2**31))
        context.proxy()(self.epochs, seed, collect=made.collect, every_epoch=take)
        return np.stack(rows)
