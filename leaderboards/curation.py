"""Curation methods under two budgets: quality at equal examples seen and at equal charged seconds, and when a selection pays.

Both are read off the same curves. The budget in examples is the workload's; the budget in seconds is what training on all data took
(median over seeds). A learning-rate schedule stretches over examples, so a method that spent the seconds on choosing is read in the
middle of its schedule: that is the price of choosing under this protocol, and it is stated rather than tuned away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy import stats

from ..suite.errors import UserError
from ..suite.record import Entry, Record
from ..suite.workload import Direction
from . import formats
from .break_even import NOISE, BreakEven, break_even, selection_seconds
from .claims import Claim, Outcome, Verdict, claims_markdown, decide, load_claims
from .curation_scaling import Scaling, scaling, scaling_markdown
from .curation_trials import ArmKey, Place, Trial, arms_of, at_examples, at_seconds, drift, finished, full_seconds, place
from .render import markdown_row
from .statistics import Estimate, median

__all__ = [
    "CONTROLS",
    "Arm",
    "Comparison",
    "comparisons",
    "flags",
    "markdown",
    "places",
    "report",
    "two_budgets",
    "verdicts",
]

CONTROLS = frozenset({"random_score", "input_norm", "label_shuffled", "reversed"})
"""Curations without information, run to be beaten."""
ABOVE, BELOW, NEITHER = "above", "below", "not told apart"
CUT_OFF = "cut off before equal examples"
"""Flag of an arm of which a trial could not see all examples: what it would have reached is not known."""


@dataclass(frozen=True)
class Arm:
    """One way to choose data at one keep fraction, over ``n`` seeds.

    ``selection_seconds``: median of the bucket ``curate``. ``at_examples`` and ``at_seconds``: median quality at the two budgets.
    ``wins``: seeds at which quality at equal examples is above that of ``random`` with the same seed and keep fraction, of ``pairs``.
    ``against_random``: what these show (:func:`against_random`), empty for ``all`` and ``random``. ``pays``: after how many uses, None for
    training on all data. ``flags``: what casts doubt on the method, in words (:func:`flags`), and ``open encoder`` where one that knows
    other data took part.
    """

    curation: str
    keep_fraction: float
    n: int
    selection_seconds: float
    at_examples: Estimate
    at_seconds: Estimate
    wins: int
    pairs: int
    against_random: str = ""
    pays: BreakEven | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The trials of one of :func:`places` and what they come to: arms under two budgets, verdicts on published claims, fits over sizes."""

    where: Place
    trials: tuple[Trial, ...]
    arms: tuple[Arm, ...]
    verdicts: tuple[Verdict, ...]
    scaling: tuple[Scaling, ...]

    @property
    def heading(self) -> str:
        """``cifar10_cnn@1, adamw (settings 1a2b3c), cpu2, budget 112 k examples and 120 s``: what tells a place from every other."""
        where, budget = self.where, self.trials[0][0].workload.budget
        seconds = f"{', cut off at' if budget.cut_off_only else ' and'} {formats.seconds(budget.charged_seconds)}"
        spent = f"budget {formats.count(budget.examples)} examples{seconds}"
        return f"{where.identity}, {where.algorithm} (settings {where.settings}), {where.hardware}, {spent}"


def two_budgets(trials: Sequence[Trial]) -> tuple[Arm, ...]:
    """The arms of one workload, algorithm and hardware class, by keep fraction (largest first) and then by quality at equal examples.

    ``UserError`` when the trials differ in one of these or none was on all data. A seed that ran twice counts once, the earliest.
    """
    combinations = len({place(record) for record, _ in finished(trials)})
    if combinations != 1:
        raise UserError(f"expected trials of one workload, algorithm and hardware class, given {combinations} combinations")
    groups = arms_of(trials)
    full = {seed: record for key, own in groups.items() if key.curation == "all" for seed, (record, _) in own.items()}
    seconds = full_seconds(groups)
    if seconds is None:
        raise UserError("expected trials on all data (curation 'all') to compare with, given none")
    found = []
    for (name, fraction), own in groups.items():
        random = groups.get(ArmKey("random", fraction), {})
        reversal = _reversal(own, [group for key, group in groups.items() if key.keep_fraction == fraction])
        against = against_random(own, random)
        doubts = [*flags(own, against, reversal)]
        doubts += ["open encoder"] if any(_open(record) for record, _ in own.values()) else []
        doubts += [CUT_OFF] if any(at_examples(trial) is None for trial in own.values()) else []
        pays = None if name == "all" else break_even({seed: record for seed, (record, _) in own.items()}, full)
        found.append(replace(_arm(name, fraction, own, random, seconds), against_random=against, pays=pays, flags=tuple(doubts)))
    sign = -1 if next(iter(full.values())).workload.metric.direction is Direction.MAXIMIZE else 1
    return tuple(sorted(found, key=lambda arm: (-arm.keep_fraction, sign * (arm.at_examples.value or 0.0), arm.curation)))


def flags(own: Mapping[int, Trial], against: str, reversal: Mapping[int, Trial]) -> tuple[str, ...]:
    """What a method's trials say against it, at equal examples seen, paired by seed: ``own`` and ``reversal`` map seeds to trials,
    ``against`` is what :func:`against_random` says.

    A method must beat its own reversal outside noise, and must not lose to ``random`` outside noise; a negative control must not beat
    ``random`` outside noise. Fewer than two common seeds decide nothing.
    """
    curation = next(iter(own.values()))[0].entry.curation
    if curation in ("all", "random"):
        return ()
    if curation in CONTROLS:
        return ("a control above random",) if against == ABOVE else ()
    found = ["below random"] if against == BELOW else []
    over_reversal = _above(own, reversal)
    if over_reversal is not None and over_reversal >= NOISE:
        under_reversal = _above(reversal, own)
        worse = under_reversal is not None and under_reversal < NOISE
        found.append("below its own reversal" if worse else "not above its own reversal")
    return tuple(found)


def against_random(own: Mapping[int, Trial], random: Mapping[int, Trial]) -> str:
    """``above``, ``below`` or ``not told apart``: a method against ``random``, paired by seed at equal examples; empty below two pairs and
    for ``all`` and ``random``, which are no method."""
    if next(iter(own.values()))[0].entry.curation in ("all", "random"):
        return ""
    above, below = _above(own, random), _above(random, own)
    if above is None or below is None:
        return ""
    return ABOVE if above < NOISE else BELOW if below < NOISE else NEITHER


def markdown(arms: Sequence[Arm], seeds: int | None = None) -> str:
    """The arms as a table; ``seeds``: how many were planned, so that missing ones show."""
    head = (
        "keep",
        "curation",
        "choosing",
        "quality, equal examples",
        "quality, equal seconds",
        "above random",
        "pays after",
        "seeds",
        "flags",
    )
    lines = [markdown_row(head), f"|{'---|' * len(head)}"]
    for arm in arms:
        planned = f"/{seeds}" if seeds is not None else ""
        cells = (
            f"{arm.keep_fraction:g}",
            arm.curation,
            formats.seconds(arm.selection_seconds),
            _quality(arm.at_examples),
            _quality(arm.at_seconds),
            formats.rate(arm.wins, arm.pairs) if arm.pairs and arm.curation != "random" else "",
            "" if arm.pays is None else arm.pays.said,
            f"{arm.n}{planned}",
            "; ".join(arm.flags),
        )
        lines.append(markdown_row(cells))
    return "\n".join(lines) + "\n"


def places(trials: Sequence[Trial]) -> dict[Place, list[Trial]]:
    """The trials of every workload, algorithm and hardware class that was trained both on all data and on chosen ones, in order.

    Of those on all data only the ones with a seed of chosen ones: these ran beside them, others in another study's hours.
    """
    found: dict[Place, list[Trial]] = {}
    for record, curve in trials:
        found.setdefault(place(record), []).append((record, curve))
    paired = {where: _paired(own) for where, own in sorted(found.items())}
    chosen = {where: {record.entry.curation for record, _ in finished(own)} for where, own in paired.items()}
    return {where: own for where, own in paired.items() if "all" in chosen[where] and len(chosen[where]) > 1}


def _paired(trials: Sequence[Trial]) -> list[Trial]:
    """Without trials on all data whose seed no other trial has, unless they all are such."""
    seeds = {record.seed for record, _ in finished(trials) if record.entry.curation != "all"}
    common = seeds & {record.seed for record, _ in finished(trials) if record.entry.curation == "all"}
    return [trial for trial in trials if not common or trial[0].entry.curation != "all" or trial[0].seed in common]


def verdicts(of: Mapping[Place, Sequence[Trial]], claims: Sequence[Claim]) -> dict[Place, tuple[Verdict, ...]]:
    """Verdicts by place. What was not measured is said once a workload, where most was."""
    found = {where: decide(claims, trials) for where, trials in of.items()}
    measured = {where: tuple(one for one in own if one.outcome is not Outcome.NOT_MEASURED) for where, own in found.items()}
    fullest: dict[str, Place] = {}
    for where in of:
        best = fullest.setdefault(where.identity, where)
        if len(measured[where]) > len(measured[best]):
            fullest[where.identity] = where
    return {where: own if fullest[where.identity] == where else measured[where] for where, own in found.items()}


def comparisons(trials: Sequence[Trial], claims: Sequence[Claim] | None = None) -> tuple[Comparison, ...]:
    """What the trials of every place of :func:`places` come to, worked out once for every form. ``claims``: those shipped by default."""
    comparable = places(trials)
    decided = verdicts(comparable, load_claims() if claims is None else claims)
    return tuple(Comparison(where, tuple(own), two_budgets(own), decided[where], scaling(own)) for where, own in comparable.items())


def report(compared: Sequence[Comparison], seeds: int | None = None) -> str:
    """The tables of every place as Markdown: two budgets, published claims, scaling. ``UserError`` when there is no place."""
    parts = []
    for one in compared:
        moved = drift(arms_of(one.trials))
        parts.append(f"### {one.heading}\n\n{markdown(one.arms, seeds)}" + f"\n{moved}\n" * bool(moved))
        if one.verdicts:
            parts.append(f"Published claims:\n\n{claims_markdown(one.verdicts)}")
        if one.scaling:
            parts.append(f"Error at the end against kept examples (all data included):\n\n{scaling_markdown(one.scaling)}")
    if not parts:
        raise UserError("no workload was trained both on all data and on chosen ones; run `timetrial study nano_curation`")
    return "\n".join(parts)


def _open(record: Record) -> bool:
    """Whether a pretrained encoder took part in the selection, or in the one that it re-uses."""
    told: Any = {} if record.selected is None else record.selected.provenance
    while isinstance(told, Mapping):
        if told.get("track") == "open_encoder":
            return True
        told = told.get("made_by")
    return False


def _arm(curation: str, fraction: float, own: dict[int, Trial], random: dict[int, Trial], budget_seconds: float) -> Arm:
    by_seed = {seed: at_examples(trial) for seed, trial in own.items()}
    in_time = [at_seconds(trial, budget_seconds) for trial in own.values()]
    by_chance = {seed: at_examples(trial) for seed, trial in random.items()}
    sign = 1 if next(iter(own.values()))[0].workload.metric.direction is Direction.MAXIMIZE else -1
    paired = [(sign * a, sign * b) for seed, a in by_seed.items() if a is not None and (b := by_chance.get(seed)) is not None]
    return Arm(
        curation,
        fraction,
        len(own),
        selection_seconds(record for record, _ in own.values()),
        median([value for value in by_seed.values() if value is not None]),
        median([value for value in in_time if value is not None]),
        sum(a > b for a, b in paired),
        len(paired),
    )


def _above(one: Mapping[int, Trial], other: Mapping[int, Trial]) -> float | None:
    """p-value that ``one`` is no better than ``other`` at equal examples, paired by seed; None below two pairs."""
    differences = []
    for seed in sorted(set(one) & set(other)):
        a, b = at_examples(one[seed]), at_examples(other[seed])
        if a is not None and b is not None:
            differences.append(a - b if one[seed][0].workload.metric.direction is Direction.MAXIMIZE else b - a)
    if len(differences) < 2:
        return None
    if max(differences) == min(differences):
        return 0.0 if differences[0] > 0 else 1.0
    return float(stats.ttest_1samp(differences, 0.0, alternative="greater").pvalue)


def _reversal(own: Mapping[int, Trial], others: Sequence[dict[int, Trial]]) -> dict[int, Trial]:
    """The trials of the control that reverses this very method; none where several settings of the method could be meant."""

    def reverses(control: Entry, method: Entry) -> bool:
        asked = control.curation_options.get("options") or {}
        same = all(str(method.curation_options.get(key)) == str(value) for key, value in asked.items())
        return control.curation == "reversed" and control.curation_options.get("of") == method.curation and same

    entries = [next(iter(group.values()))[0].entry for group in others]
    mine = next(iter(own.values()))[0].entry
    for control, group in zip(entries, others, strict=True):
        if reverses(control, mine) and sum(reverses(control, entry) for entry in entries) == 1:
            return group
    return {}


def _quality(estimate: Estimate) -> str:
    if estimate.value is None:
        return "not measured"
    between = f" ({formats.interval(estimate, formats.quality)})" if estimate.interval is not None else ""
    return formats.quality(estimate.value) + between
