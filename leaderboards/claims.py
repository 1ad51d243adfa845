"""What papers say of choosing data, held against our own trials: one table, every row decided by an interval or not at all.

A claim compares two arms of one workload at a budget, or by what each needs to the main target. Trials are paired by seed, since equal
seeds share model, order of evaluation and validation split. The verdict comes from Student's interval of the mean of the differences,
which takes them to be normal: with three seeds it is wide, and what it cannot decide is called undecided, never *held*.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml
from scipy import stats

from ..suite.errors import ConfigError
from ..suite.record import Record, Status
from ..suite.schema import STRICT, build
from ..suite.workload import Direction, Lens
from .cells import budget_in
from .curation_trials import Trial, arms_of, at_examples, at_seconds, finished, full_seconds
from .render import markdown_row
from .scores import MISS_MULTIPLE
from .statistics import CONFIDENCE, Interval

__all__ = ["MINIMUM_PAIRS", "Claim", "Measure", "Outcome", "Side", "Verdict", "claims_markdown", "decide", "load_claims", "tally"]

SHIPPED = Path(__file__).with_name("claims.yaml")
MINIMUM_PAIRS = 3
"""Common seeds below which nothing is decided."""


class Measure(StrEnum):
    """In what arms are compared: quality at a budget (a difference), or cost to the main target (a factor; a miss counts as in scores)."""

    QUALITY_AT_EXAMPLES = "quality at equal examples"
    QUALITY_AT_SECONDS = "quality at equal seconds"
    EXAMPLES_TO_TARGET = "examples to the target"
    SECONDS_TO_TARGET = "seconds to the target"

    @property
    def is_cost(self) -> bool:
        """Whether arms are compared as a factor."""
        return self in (Measure.EXAMPLES_TO_TARGET, Measure.SECONDS_TO_TARGET)


_LENSES = {Measure.EXAMPLES_TO_TARGET: Lens.EXAMPLES, Measure.SECONDS_TO_TARGET: Lens.CHARGED_SECONDS}


class Outcome(StrEnum):
    """Held: the whole interval lies beyond the margin. Did not hold: the whole interval lies short of it."""

    HELD = "held"
    NOT_HELD = "did not hold"
    UNDECIDED = "undecided"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Side:
    """One arm: a curation method, the share it keeps and, where it runs in several settings, the options that are meant."""

    __pydantic_config__: ClassVar = STRICT
    curation: str
    keep_fraction: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """``el2n 0.5``."""
        return self.curation if self.curation == "all" else f"{self.curation} {self.keep_fraction:g}"


@dataclass(frozen=True)
class Claim:
    """``better`` beats ``worse`` by more than ``margin``, in a ``measure`` on a workload.

    ``margin`` is a difference of quality, above 0 towards better whichever way the metric improves, or a factor of cost; where it is not
    given, 0 or 1. Below 0 (or 1) it is what may be lost for a claim of *no worse*. ``paper`` and ``where`` name the source, ``published``
    the setting in which it was seen there.
    """

    __pydantic_config__: ClassVar = STRICT
    claim: str
    paper: str
    where: str
    published: str
    workload: str
    better: Side
    worse: Side
    measure: Measure
    margin: float | None = None

    @property
    def threshold(self) -> float:
        """The margin, or its neutral value."""
        return self.margin if self.margin is not None else 1.0 if self.measure.is_cost else 0.0


@dataclass(frozen=True)
class Verdict:
    """A claim decided from ``n`` common seeds. ``effect``: the mean difference of quality, or the geometric mean of the factor.

    ``misses``: of these seeds, how many have a miss on one side, whose cost is then a convention and no measurement.
    """

    claim: Claim
    outcome: Outcome
    n: int
    effect: float | None = None
    interval: Interval | None = None
    misses: int = 0

    @property
    def text(self) -> str:
        """``held``, ``undecided at 3 seeds``."""
        return f"{self.outcome} at {self.n} seed{'s' * (self.n != 1)}" if self.outcome is Outcome.UNDECIDED else str(self.outcome)

    @property
    def measured(self) -> str:
        """The effect with its interval as it is read: ``+0.012 (+0.004 to +0.020)``, ``1.31x (1.10x to 1.55x)``."""
        if self.effect is None:
            return "–" if self.outcome is Outcome.NOT_MEASURED else "both missed"
        write = "{:.2f}x".format if self.claim.measure.is_cost else "{:+.4f}".format
        missed = f", {self.misses} of {self.n} with a miss" if self.misses else ""
        if self.interval is None or self.interval.high is None:
            return write(self.effect) + missed
        return f"{write(self.effect)} ({write(self.interval.low)} to {write(self.interval.high)}){missed}"

    @property
    def compared(self) -> str:
        """``rs2 0.1 above random 0.1``, with the margin where there is one."""
        claim = self.claim
        margin = "" if claim.margin is None else f" by {claim.margin:g}{'x' * claim.measure.is_cost}"
        if claim.margin is not None and not claim.measure.is_cost and claim.margin < 0:
            return f"{claim.better.text} at most {-claim.margin:g} below {claim.worse.text}"
        return f"{claim.better.text} {'sooner than' if claim.measure.is_cost else 'above'} {claim.worse.text}{margin}"


@cache
def load_claims(path: Path = SHIPPED) -> tuple[Claim, ...]:
    """The claims of a YAML file (a list of mappings), in its order. ``ConfigError`` names the first key that does not fit."""
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(value, list):
        raise ConfigError(f"{path.name}: expected a list of claims, given {type(value).__name__}")
    return tuple(_checked(build(Claim, item, f"{path.name}: claim {i}"), f"{path.name}: claim {i}") for i, item in enumerate(value, 1))


def decide(claims: Sequence[Claim], trials: Sequence[Trial]) -> tuple[Verdict, ...]:
    """A verdict on every claim about the workload that the trials, all of one place, are of; none where no claim is about it."""
    ended = finished(trials)
    about = {record.workload.name for record, _ in ended}
    seconds = full_seconds(arms_of(ended))
    return tuple(_decide(claim, ended, seconds) for claim in claims if claim.workload in about)


def tally(verdicts: Sequence[Verdict]) -> str:
    """``7 held, 3 did not hold, 4 undecided, 0 not measured``."""
    found = Counter(verdict.outcome for verdict in verdicts)
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in Outcome)


def claims_markdown(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a table, with what it rests on below."""
    lines = ["| claim | source | compared here | measured | verdict |", "|---|---|---|---|---|"]
    for one in verdicts:
        claim = one.claim
        cells = (claim.claim, f"{claim.paper}, {claim.where}; there: {claim.published}", f"{one.compared}; {claim.measure}", one.measured)
        lines.append(markdown_row([*cells, f"**{one.text}**"]))
    return "\n".join([*lines, "", f"{tally(verdicts)}. {note()}"]) + "\n"


def note() -> str:
    """What every table of verdicts says below itself."""
    return (
        f"Differences are paired by seed; intervals are Student's at {CONFIDENCE:.0%}, each on its own: of twenty claims that lie exactly "
        f"on their margin one is decided by chance. Below {MINIMUM_PAIRS} common seeds nothing is decided. A miss costs {MISS_MULTIPLE:g} "
        "times the budget, so where there are misses the factor is a convention and only its direction is measured. Settings "
        "differ from those of the papers; a claim that does not hold here may hold there."
    )


def _checked(claim: Claim, where: str) -> Claim:
    for side in (claim.better, claim.worse):
        if not 0 < side.keep_fraction <= 1:
            raise ConfigError(f"{where}: keep_fraction: expected more than 0 and at most 1, given {side.keep_fraction:g}")
    if claim.measure.is_cost and claim.threshold <= 0:
        raise ConfigError(f"{where}: margin: expected a factor above 0, given {claim.threshold:g}")
    return claim


def _decide(claim: Claim, trials: Sequence[Trial], seconds: float | None) -> Verdict:
    sides = [_values(claim, side, trials, seconds) for side in (claim.better, claim.worse)]
    met = sorted(set(sides[0]) & set(sides[1]))
    # Where both missed the target, which of the two is nearer to it is not known.
    common = [seed for seed in met if not sides[0][seed] == sides[1][seed] == -math.inf]
    if not common:
        return Verdict(claim, Outcome.UNDECIDED if met else Outcome.NOT_MEASURED, len(met))
    misses = sum(-math.inf in (sides[0][seed], sides[1][seed]) for seed in common)
    sides = [{seed: max(value, _price(claim, trials)) for seed, value in side.items()} for side in sides]
    differences = np.array([sides[0][seed] - sides[1][seed] for seed in common])
    read = math.exp if claim.measure.is_cost else float
    effect = read(float(differences.mean()))
    if len(common) < MINIMUM_PAIRS:
        return Verdict(claim, Outcome.UNDECIDED, len(common), effect, misses=misses)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(common) - 1)) * float(differences.std(ddof=1)) / math.sqrt(len(common))
    low, high = (read(float(differences.mean()) + sign * reach) for sign in (-1, 1))
    outcome = Outcome.HELD if low > claim.threshold else Outcome.NOT_HELD if high < claim.threshold else Outcome.UNDECIDED
    if low == high == claim.threshold:
        outcome = Outcome.NOT_HELD  # no difference at all, where one was claimed
    return Verdict(claim, outcome, len(common), effect, Interval(low, high, CONFIDENCE), misses)


def _values(claim: Claim, side: Side, trials: Sequence[Trial], seconds: float | None) -> dict[int, float]:
    """What each seed of an arm says, larger being better; nothing where several settings could be meant."""
    meant = [trial for trial in trials if _is(trial[0], side)]
    if len({repr(sorted(record.entry.curation_options.items())) for record, _ in meant}) > 1:
        return {}
    counting_last = sorted(meant, key=lambda trial: trial[0].precedence, reverse=True)
    found = {record.seed: _value(claim.measure, (record, curve), seconds) for record, curve in counting_last}
    return {seed: value for seed, value in found.items() if value is not None}


def _is(record: Record, side: Side) -> bool:
    kept = 1.0 if record.selected is None else record.selected.keep_fraction
    options = record.entry.curation_options
    asked = all(str(options.get(key)) == str(value) for key, value in side.options.items())
    return record.entry.curation == side.curation and math.isclose(kept, side.keep_fraction) and asked


def _value(measure: Measure, trial: Trial, seconds: float | None) -> float | None:
    """Quality, its sign so that more is better; or minus the logarithm of the cost, minus infinity for a miss."""
    record, _ = trial
    if not measure.is_cost:
        in_time = None if seconds is None else at_seconds(trial, seconds)
        quality = at_examples(trial) if measure is Measure.QUALITY_AT_EXAMPLES else in_time
        return quality if quality is None or record.workload.metric.direction is Direction.MAXIMIZE else -quality
    crossing = record.crossing()
    if record.status is Status.DIVERGED or crossing is None or not crossing.hit:
        return -math.inf
    cost = crossing.cost.get(_LENSES[measure])
    return None if cost is None or cost <= 0 else -math.log(cost)


def _price(claim: Claim, trials: Sequence[Trial]) -> float:
    """What a miss is worth, on the scale of :func:`_value`; nothing below it where quality is compared."""
    if not claim.measure.is_cost:
        return -math.inf
    records = [record for record, _ in trials]
    return -math.log(MISS_MULTIPLE * budget_in(records[0].workload, _LENSES[claim.measure], records, math.inf))
