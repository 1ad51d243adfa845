"""Tuning under a fixed number of trials: which points are tried, and which one is chosen.

The points are quasi-random, drawn once and the same for every entry and everybody, so that no luck of a draw and no second
draw can help: coordinates of one scrambled Halton sequence, laid over the entry's own ranges in the order of their names. Or
the entry lists its points. Both are what AlgoPerf's external tuning asks for (Dahl et al., arXiv 2306.07179, section 4.4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .config import AlgorithmDefinition
from .errors import ConfigError
from .record import Record, Status
from .schema import STRICT, build
from .workload import Direction, Lens

__all__ = ["Dimension", "best_trial", "search_space", "tuning_points"]

SEQUENCE_SEED = 0
MOST_DIMENSIONS = 16


@dataclass(frozen=True)
class Dimension:
    """The range of one hyperparameter: ``low`` to ``high`` on a ``linear`` or ``log`` scale, or equally likely ``choices``.

    ``integer``: whole numbers, both ends included.
    """

    __pydantic_config__: ClassVar = STRICT
    low: float | None = None
    high: float | None = None
    scale: Literal["linear", "log"] = "linear"
    integer: bool = False
    choices: tuple[Any, ...] = field(default_factory=tuple)

    def checked(self, where: str) -> Dimension:
        """This range, or ``ConfigError`` saying what it lacks."""
        if self.choices:
            if self.low is not None or self.high is not None:
                raise ConfigError(f"{where}: expected either choices or low and high, given both")
            return self
        if self.low is None or self.high is None:
            raise ConfigError(f"{where}: expected low and high, or choices")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"{where}: expected finite low < high, given {self.low} and {self.high}")
        if self.scale == "log" and self.low <= 0:
            raise ConfigError(f"{where}: a log scale needs low > 0, given {self.low}")
        return self

    def at(self, share: float) -> Any:
        """The value at ``share`` of the range, 0 <= share < 1."""
        if self.choices:
            return self.choices[int(share * len(self.choices))]
        low, high = float(self.low or 0.0), float(self.high or 0.0) + self.integer
        value = low * (high / low) ** share if self.scale == "log" else low + (high - low) * share
        return min(math.floor(value), round(high) - 1) if self.integer else value  # rounding may reach the open end


def search_space(definition: AlgorithmDefinition) -> dict[str, Dimension]:
    """The checked ranges of an algorithm, by hyperparameter, in the order of their names.

    Raises ``ConfigError`` for a range of something that is no hyperparameter of it, or one that cannot be drawn from.
    """
    unknown = sorted(set(definition.search_space) - set(definition.hyperparameters))
    if unknown:
        known = ", ".join(sorted(definition.hyperparameters)) or "none"
        raise ConfigError(f"algorithm {definition.name}: search_space.{unknown[0]}: no such hyperparameter; known: {known}")
    if len(definition.search_space) > MOST_DIMENSIONS:
        raise ConfigError(f"algorithm {definition.name}: search_space: expected at most {MOST_DIMENSIONS} ranges")
    space = {}
    for name, value in sorted(definition.search_space.items()):
        where = f"algorithm {definition.name}: search_space.{name}"
        space[name] = build(Dimension, value, where).checked(where)
    return space


def tuning_points(definition: AlgorithmDefinition, count: int) -> tuple[Mapping[str, Any], ...]:
    """The first ``count`` settings to try, each a complete table of hyperparameters.

    A longer list begins with the shorter one. An algorithm without a search space has one point, its defaults.
    """
    if count < 1:
        raise ConfigError(f"tuning: expected at least 1 trial, given {count}")
    from scipy.stats import qmc

    space = search_space(definition)
    if not space:
        return (dict(definition.hyperparameters),)
    shares = qmc.Halton(MOST_DIMENSIONS, scramble=True, rng=SEQUENCE_SEED).random(count)
    return tuple(
        {**definition.hyperparameters, **{name: d.at(float(row[i])) for i, (name, d) in enumerate(space.items())}} for row in shares
    )


def best_trial(records: Sequence[Record]) -> Record:
    """The trial that tuning chooses: the least charged seconds to the main target; where none hit it, the best final quality; where all
    were stopped early, the best until then (all are judged at the same examples); where all diverged, the first of those, so that an
    algorithm which diverges everywhere is measured and not left out.

    Ties go to the trial given first. ``ConfigError`` when no trial says anything.
    """
    hits = [(c.cost[Lens.CHARGED_SECONDS], i) for i, r in enumerate(records) if r.status is Status.HIT and (c := r.crossing()) and c.hit]
    if hits:
        return records[min(hits)[1]]
    missed = [(r.result.final_quality, i) for i, r in enumerate(records) if r.status is Status.MISSED]
    finished = [(quality, i) for quality, i in missed if quality is not None]
    finished = finished or [(r.stopped.quality, i) for i, r in enumerate(records) if r.stopped is not None]
    diverged = [record for record in records if record.status is Status.DIVERGED]
    if not finished and diverged:
        return diverged[0]
    if not finished:
        raise ConfigError(f"tuning: none of {len(records)} trials hit the target or finished, so no point can be chosen")
    sign = -1.0 if records[0].workload.metric.direction is Direction.MAXIMIZE else 1.0
    return records[min((sign * quality, i) for quality, i in finished)[1]]
