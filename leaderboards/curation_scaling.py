"""How error falls with the examples that a method keeps, and with the seconds that it is charged: power law against exponential.

Kept examples    error at the end of the trials, one point a trial, all data being the largest size. Of a method that chooses anew every
                 epoch these are the examples of an epoch.
Charged seconds  the least median error that a method had reached by then, whatever share it kept: one point for every evaluation at which
                 that error fell. Choosing is in the seconds, so a method that chooses long begins late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from . import formats
from .curation_trials import Trial, arms_of, at_examples, error_of
from .render import markdown_row
from .scaling import Decay, Repetition, fit_decay, fit_repetition

__all__ = ["FRACTIONS", "Scaling", "TimeScaling", "scaling", "scaling_markdown", "time_scaling"]

FRACTIONS = 3
"""Different sizes that a law needs, all data among them."""


@dataclass(frozen=True)
class Scaling:
    """A method over its sizes: ``points`` are (kept examples, error) of every trial, sorted; the two forms of :func:`~.scaling.fit_decay`
    and, where examples repeat, the law of repetition, fitted to at most so many ``passes`` over the same examples."""

    curation: str
    kept: tuple[int, ...]
    points: tuple[tuple[float, float], ...]
    power: Decay
    exponential: Decay
    repetition: Repetition | None
    passes: float

    @property
    def half_life(self) -> str:
        """That of repeated examples, as far as the passes made tell it: a longer one, or one within a pass, moves no point by much."""
        if self.repetition is None:
            return "not measured"
        if self.repetition.half_life > self.passes:
            return f"above {self.passes:.2g} epochs"
        return "below 1 epoch" if self.repetition.half_life < 1 else f"{self.repetition.half_life:.2g} epochs"


@dataclass(frozen=True)
class TimeScaling:
    """A method's ``points`` (charged seconds, error): the least median error reached by then over all shares kept, and both forms."""

    curation: str
    points: tuple[tuple[float, float], ...]
    power: Decay
    exponential: Decay


def scaling(trials: Sequence[Trial]) -> tuple[Scaling, ...]:
    """Error against kept examples, for every method with at least :data:`FRACTIONS` sizes; by name.

    The error is 1 - quality for a fraction to maximise and the quality itself for a metric to minimise; others have none. Trials
    are of one place; those that were cut off before the budget in examples are left out. No fit where an error is 0; no law of
    repetition where a loss is not positive or no example repeats.
    """
    arms = arms_of(trials)
    full = [trial for key, own in arms.items() if key.curation == "all" for trial in own.values()]
    found = []
    for name in sorted({key.curation for key in arms} - {"all"}):
        own = [trial for key, group in arms.items() if key.curation == name for trial in group.values()]
        rows = sorted(row for trial in own + full if (row := _row(trial)) is not None)
        kept = tuple(sorted({row[0] for row in rows}))
        if len(kept) < FRACTIONS or min(row[1] for row in rows) <= 0:
            continue
        sizes, errors, seen, losses = ([float(value) for value in column] for column in zip(*rows, strict=True))
        power, exponential = fit_decay(sizes, errors)
        passes = max(s / k for k, s in zip(sizes, seen, strict=True))
        law = fit_repetition(sizes, seen, losses) if min(losses) > 0 and passes > 1 else None
        found.append(Scaling(name, kept, tuple(zip(sizes, errors, strict=True)), power, exponential, law, passes))
    return tuple(found)


def time_scaling(trials: Sequence[Trial]) -> tuple[TimeScaling, ...]:
    """Error against charged seconds for every method, all data among them, that improved at three evaluations or more; by name.

    Seconds and errors of an arm are medians over its seeds, evaluation by evaluation, as far as all seeds were evaluated.
    """
    arms = arms_of(trials)
    found = []
    for name in sorted({key.curation for key in arms}):
        reached: list[tuple[float, float]] = []
        for key, group in arms.items():
            if key.curation == name:
                reached += _median_curve(list(group.values()))
        points = _falling(reached)
        if len(points) >= FRACTIONS:
            power, exponential = fit_decay([x for x, _ in points], [y for _, y in points])
            found.append(TimeScaling(name, points, power, exponential))
    return tuple(found)


def scaling_markdown(found: Sequence[Scaling]) -> str:
    """The fits against kept examples as a table."""
    head = (
        "curation",
        "kept examples",
        "power law: exponent",
        "log residual",
        "exponential: decade per",
        "log residual",
        "fits better",
        "half-life of repeats",
    )
    lines = [markdown_row(head), f"|{'---|' * len(head)}"]
    for one in found:
        rate = one.power.rate_interval
        decade = math.log(10) / one.exponential.rate if one.exponential.rate > 0 else None
        cells = (
            one.curation,
            ", ".join(map(formats.count, one.kept)),
            f"{one.power.rate:.3f}" + (f" ({rate.low:.3f} – {rate.high:.3f})" if rate is not None and rate.high is not None else ""),
            f"{one.power.residual:.3f}",
            "error does not fall" if decade is None else f"{formats.count(decade)} examples",
            f"{one.exponential.residual:.3f}",
            better(one).form,
            one.half_life,
        )
        lines.append(markdown_row(cells))
    return "\n".join(lines) + "\n"


def better(one: Scaling | TimeScaling) -> Decay:
    """The form that leaves the smaller residual; both have as many parameters."""
    return one.power if one.power.residual <= one.exponential.residual else one.exponential


def _row(trial: Trial) -> tuple[int, float, int, float] | None:
    """Kept examples, error, examples seen and loss at the end of a trial."""
    record, curve = trial
    quality = at_examples(trial)
    error = None if quality is None else error_of(record, quality)
    if error is None or record.selected is None:
        return None
    kept = min(record.selected.kept_examples, round(record.selected.keep_fraction * record.selected.pool_examples))
    return kept, error, curve[-1].examples, curve[-1].loss


def _median_curve(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """Charged seconds and error at every evaluation after training began, the median over trials."""
    points = []
    for column in zip(*(curve for _, curve in trials), strict=False):
        errors = [error_of(record, point.quality) for (record, _), point in zip(trials, column, strict=True)]
        known = [error for error in errors if error is not None and error > 0]
        seconds = median(point.charged_seconds for point in column)
        if column[0].examples and seconds > 0 and len(known) == len(errors):
            points.append((seconds, median(known)))
    return points


def _falling(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The points at which the least error so far fell, in the order of their seconds."""
    found: list[tuple[float, float]] = []
    for seconds, error in sorted(points):
        if not found or (error < found[-1][1] and seconds > found[-1][0]):
            found.append((seconds, error))
    return tuple(found)
