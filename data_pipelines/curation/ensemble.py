"""Methods that train several proxies and compare them: memorization, ensemble disagreement, label-noise filter.

Source  memorization: Feldman and Zhang 2020 (2008.03703), on few subset runs. Disagreement: Houlsby et al. 2011 (1112.5745). Label
        noise: self-confidence of Northcutt et al. 2021 (1911.00068), ``cleanlab.rank.get_self_confidence_for_each_label``.
Expect  the costliest family: only amortised over many uses can it pay.
"""

from __future__ import annotations

from typing import final

import numpy as np

from ...suite.errors import ConfigError, NeedsUnmet
from .interface import Context, CurationMethod, Pool, ProxyEpoch, Selection
from .scored import keep_by
from .scores import disagreement, memorization, probabilities

__all__ = ["Disagreement", "LabelNoise", "Memorization", "folds"]


@final
class Memorization(CurationMethod):
    """Keeps the examples that a model gets right only when it was trained on them.

    ``runs`` proxies train on random subsets of share ``fraction``; a run's standard error is about 1/√(runs·(1 − fraction)).
    """

    needs_labels = True
    needs_proxy = True

    def __init__(self, runs: int = 20, epochs: float = 10, fraction: float = 0.7) -> None:
        if runs < 2 or not 0 < fraction < 1:
            raise ConfigError(f"memorization: expected at least 2 runs and a fraction in (0, 1), given {runs} and {fraction}")
        self.runs, self.epochs, self.fraction = runs, epochs, fraction

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Subset runs, then the top."""
        with context.span("score"):
            included = _subsets(len(pool), self.runs, self.fraction, context.generator)
            correct = np.empty((self.runs, len(pool)), dtype=bool)
            for run, inside in enumerate(included):
                last = _last(context, self.epochs, np.flatnonzero(inside))
                correct[run] = _logits(last).argmax(axis=1) == pool.labels
            score = memorization(correct, included)
            context.note("score", score)
            kept = keep_by(score, pool, keep_fraction, context.generator, "top", {})
        provenance = {"method": "memorization", "runs": self.runs, "epochs": self.epochs, "fraction": self.fraction}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)


@final
class Disagreement(CurationMethod):
    """Keeps the examples on which independently trained proxies disagree most."""

    needs_proxy = True

    def __init__(self, runs: int = 5, epochs: float = 1) -> None:
        if runs < 2:
            raise ConfigError(f"disagreement: expected at least 2 runs, given {runs}")
        self.runs, self.epochs = runs, epochs

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Members, then the top."""
        with context.span("score"):
            members = np.stack([probabilities(_logits(_last(context, self.epochs, None))) for _ in range(self.runs)])
            score = disagreement(members)
            context.note("score", score)
            kept = keep_by(score, pool, keep_fraction, context.generator, "top", {})
        provenance = {"method": "disagreement", "runs": self.runs, "epochs": self.epochs}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)


@final
class LabelNoise(CurationMethod):
    """Drops the examples whose given label a proxy that never saw them finds least likely (cross-validated self-confidence)."""

    needs_labels = True
    needs_proxy = True

    def __init__(self, splits: int = 4, epochs: float = 2) -> None:
        if splits < 2:
            raise ConfigError(f"label_noise: expected at least 2 splits, given {splits}")
        self.splits, self.epochs = splits, epochs

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Out-of-sample predictions, then the top."""
        if len(pool) < self.splits:
            raise ConfigError(f"label_noise: {len(pool)} examples cannot be cut into {self.splits} splits")
        with context.span("score"):
            score = np.empty(len(pool))
            for held in folds(len(pool), self.splits, context.generator):
                last = _last(context, self.epochs, np.setdiff1d(np.arange(len(pool)), held))
                score[held] = probabilities(_logits(last)[held])[np.arange(len(held)), pool.labels[held]]
            context.note("score", score)
            kept = keep_by(score, pool, keep_fraction, context.generator, "top", {})
        provenance = {"method": "label_noise", "splits": self.splits, "epochs": self.epochs}
        return Selection(pool.ids[kept], keep_fraction, pool.digest, provenance)


def folds(count: int, splits: int, generator: np.random.Generator) -> list[np.ndarray]:
    """A random partition of ``count`` positions into ``splits`` sorted parts of equal size (±1)."""
    return [np.sort(part) for part in np.array_split(generator.permutation(count), splits)]


def _subsets(count: int, runs: int, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Memberships bool ``[runs, count]``: each example in ``round(runs·fraction)`` runs, at least 1 and at most all but 1.

    Which ones is random. Fixing their number leaves the estimator unbiased and rules out examples that were always in or always out.
    """
    times = min(max(round(runs * fraction), 1), runs - 1)
    return np.asarray(generator.permuted(np.tile((np.arange(runs) < times)[:, None], (1, count)), axis=0))


def _last(context: Context, epochs: float, subset: np.ndarray | None) -> ProxyEpoch:
    return context.proxy()(epochs, int(context.generator.integers(2**31)), subset=subset, collect=("logits",)).last


def _logits(entry: ProxyEpoch) -> np.ndarray:
    if entry.logits is None:
        raise NeedsUnmet("this method needs a classifier: the proxy reported no logits")
    return entry.logits
