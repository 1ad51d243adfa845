"""Trials of curation methods as every table of them reads them: which belong together, what an arm is called, quality at a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from ..suite.curve import Curve
from ..suite.files import object_digest
from ..suite.record import TRAINED, Record, Status
from ..suite.workload import Direction, Lens
from . import formats

__all__ = [
    "ArmKey",
    "Place",
    "Trial",
    "arms_of",
    "at_examples",
    "at_seconds",
    "drift",
    "error_of",
    "finished",
    "full_seconds",
    "place",
    "quality_at",
]

Trial = tuple[Record, Curve]


class Place(NamedTuple):
    """What trials must share to be compared. ``settings``: short digest of the algorithm's options and hyperparameters."""

    identity: str
    digest: str
    algorithm: str
    hardware: str
    settings: str


class ArmKey(NamedTuple):
    """A way to choose data: the method's name, with the options in which its arms differ, and the share of the pool that it keeps."""

    curation: str
    keep_fraction: float


def place(record: Record) -> Place:
    """The workload, algorithm with its settings and hardware class of a record."""
    of, entry = record.workload, record.entry
    settings = object_digest([dict(entry.algorithm_options), dict(entry.hyperparameters)])[:6]
    return Place(of.identity, of.digest, entry.algorithm, record.hardware_class or "unknown hardware", settings)


def finished(trials: Sequence[Trial]) -> list[Trial]:
    """Those that came to an end, know what they kept and have a curve."""
    return [(record, curve) for record, curve in trials if record.status in TRAINED and record.selected is not None and curve]


def arms_of(trials: Sequence[Trial]) -> dict[ArmKey, dict[int, Trial]]:
    """Finished trials by arm and seed; a seed that ran twice counts once."""
    ended = finished(trials)
    names = _names({_options(record) for record, _ in ended})
    found: dict[ArmKey, dict[int, Trial]] = {}
    for record, curve in sorted(ended, key=lambda trial: trial[0].precedence, reverse=True):
        kept = 1.0 if record.selected is None else record.selected.keep_fraction
        found.setdefault(ArmKey(names[_options(record)], kept), {})[record.seed] = (record, curve)
    return found


def full_seconds(arms: Mapping[ArmKey, Mapping[int, Trial]]) -> float | None:
    """The budget of *equal charged seconds*: what training on all data took, the median over seeds; None where nobody did."""
    ends = _full(arms)
    return median(ends) if ends else None


def drift(arms: Mapping[ArmKey, Mapping[int, Trial]]) -> str:
    """How far the seconds of equal work were apart, in a sentence; empty below two seeds on all data."""
    ends = _full(arms)
    if len(ends) < 2:
        return ""
    spread = f"{formats.seconds(min(ends))} to {formats.seconds(max(ends))}"
    return f"Training on all data took {spread} over seeds: that far the machine alone moves seconds."


def _full(arms: Mapping[ArmKey, Mapping[int, Trial]]) -> list[float]:
    return [curve[-1].charged_seconds for key, own in arms.items() if key.curation == "all" for _, curve in own.values()]


def at_examples(trial: Trial) -> float | None:
    """Quality when all examples of the workload's budget are seen; None for a trial that something else cut off before."""
    return _read(trial, Lens.EXAMPLES, trial[0].workload.budget.examples)


def at_seconds(trial: Trial, seconds: float) -> float | None:
    """Quality after so many charged seconds, selection included; None for a trial that was cut off before."""
    return _read(trial, Lens.CHARGED_SECONDS, seconds)


def quality_at(curve: Curve, lens: Lens, cost: float) -> float | None:
    """Quality at a cost, linear between evaluations; held before the first one (untrained) and after the last; None without a meter."""
    before = None
    for point in curve:
        at = point.cost(lens)
        if at is None:
            return None
        if at >= cost:
            if before is None:
                return point.quality
            start, quality = before
            share = (cost - start) / (at - start) if at > start else 1.0
            return quality + share * (point.quality - quality)
        before = (at, point.quality)
    return None if before is None else before[1]


def error_of(record: Record, quality: float) -> float | None:
    """What falls to 0 at best: 1 - quality for a fraction to maximise, the quality itself to minimise; None for other metrics."""
    metric = record.workload.metric
    if metric.direction is Direction.MINIMIZE:
        return quality
    return 1 - quality if metric.unit == "fraction" else None


def _read(trial: Trial, lens: Lens, cost: float) -> float | None:
    """What a curve says at a cost. Beyond its end only if it ended by itself: its examples were seen, or nothing was left to reach."""
    record, curve = trial
    end = curve[-1].cost(lens)
    if end is None or (end < cost and not _ended_by_itself(record, curve)):
        return None
    return quality_at(curve, lens, cost)


def _ended_by_itself(record: Record, curve: Curve) -> bool:
    hardest = record.crossing(record.workload.ladder.levels[-1])
    return (
        record.status is Status.DIVERGED or curve[-1].examples >= record.workload.budget.examples or (hardest is not None and hardest.hit)
    )


def _options(record: Record) -> tuple[str, frozenset[tuple[str, str]]]:
    return record.entry.curation, frozenset((name, str(value)) for name, value in record.entry.curation_options.items())


def _names(found: set[tuple[str, frozenset[tuple[str, str]]]]) -> dict[tuple[str, frozenset[tuple[str, str]]], str]:
    """What to call each method; where one occurs with several options, those in which they differ are added."""
    names = {}
    for curation, options in found:
        shared = frozenset.intersection(*(others for name, others in found if name == curation))
        own = ", ".join(f"{name}={value}" for name, value in sorted(options - shared))
        names[curation, options] = f"{curation} ({own})" if own else curation
    return names
