"""AlgoPerf's ranking and ours, from the same logs.

Their score (a performance profile) moves with the field of entrants; ours is a speed-up factor against the round's baseline. Both
are computed here with intervals over studies, each entrant is left out in turn, and targets are relaxed by up to 20 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..suite.curve import Curve
from ..suite.record import Record
from ..suite.workload import Direction, Lens
from .algoperf_logs import LoggedTrial, Logs, Round, Target, to_records
from .boards import board, cost_to_target
from .cells import Field, field, pin, relaxed
from .profile import held_out_rule, profile_score, profile_score_trapezoid
from .scores import Headline, LevelFactor, headlines, leave_one_entry_out, level_factors
from .statistics import DRAWS, MINIMUM_N, Estimate, Floats, bootstrap_medians, percentile_interval

__all__ = [
    "RELAXATIONS",
    "Comparison",
    "Dropped",
    "Standing",
    "algoperf_as_published",
    "algoperf_exact",
    "best_of_study",
    "compare",
    "time_saving",
]

RELAXATIONS = (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2)


@dataclass(frozen=True)
class Standing:
    """One submission under both scores. ``saving`` is the published headline: 1 - geometric mean of time ratios."""

    submission: str
    framework: str
    published_rank: int
    published: Estimate
    exact: float
    exact_rank: int
    saving: float
    ours: Headline

    @property
    def published_factor(self) -> float:
        """The published time saving as the factor it is: 27.9 % of the time saved is 1.39 times as fast."""
        return 1 / (1 - self.saving)


@dataclass(frozen=True)
class Dropped:
    """What leaving one submission out does to the others: who is first, the largest move of a score, and how many change places."""

    submission: str
    published_first: str
    published_scores: Mapping[str, float]
    published_move: float
    published_swaps: int
    our_first: str
    our_move: float
    our_swaps: int


@dataclass(frozen=True)
class Comparison:
    """Everything that the page shows; scores by relaxation are in the order of ``RELAXATIONS``."""

    round: Round
    trials: int
    standings: tuple[Standing, ...]
    factors: tuple[LevelFactor, ...]
    dropped: tuple[Dropped, ...]
    published_by_relaxation: Mapping[str, tuple[float, ...]]
    ours_by_relaxation: Mapping[str, tuple[float, ...]]


def algoperf_as_published(logs: Logs, relaxation: float = 0.0) -> dict[str, float]:
    """AlgoPerf's score as its code computes it: the trial of a study with the fewest evaluations counts, 100-point trapezoid."""
    return _scored(logs, _study_times(logs, by_evaluation=True, relaxation=relaxation), exact=False)


def algoperf_exact(logs: Logs) -> dict[str, float]:
    """AlgoPerf's score as its rules define it: the fastest trial of a study counts, area in closed form."""
    return _scored(logs, _study_times(logs, by_evaluation=False), exact=True)


def time_saving(logs: Logs) -> dict[str, float]:
    """The published headline: 1 - geometric mean over workloads of time / baseline's time, a miss taken as the budget + 1 s."""
    medians = np.median(_study_times(logs, by_evaluation=True)[:, : len(logs.round.workloads)], axis=2)
    missed = np.array([_budget(logs.targets[w]) + 1 for w in logs.round.workloads])
    filled = np.log(np.where(np.isfinite(medians), medians, missed))
    reference = filled[logs.submissions.index(logs.round.reference)]
    savings = 1 - np.exp((filled - reference).mean(axis=1))
    return dict(zip(logs.submissions, savings.tolist(), strict=True))


def best_of_study(records: Sequence[Record]) -> list[Record]:
    """Of each submission's study on a workload the trial that counts: the fastest to the target, else the one that ended best."""

    def order(record: Record) -> tuple[float, float, str]:
        seconds = cost_to_target(record, Lens.CHARGED_SECONDS)
        quality = record.result.final_quality
        sign = -1 if record.workload.metric.direction is Direction.MAXIMIZE else 1
        return (np.inf if seconds is None else seconds, np.inf if quality is None else sign * quality, record.record_id)

    best: dict[tuple[str, str, str | None], Record] = {}
    for record in records:
        key = (record.entry.name, record.workload.identity, record.study)
        if key not in best or order(record) < order(best[key]):
            best[key] = record
    return list(best.values())


def compare(logs: Logs, draws: int = DRAWS) -> Comparison:
    """Score a round under both rules. ``UserError`` or ``RecordError`` when the logs lack the round's reference."""
    found = to_records(logs)
    ours = _field(logs, [record for record, _ in found])
    placed = {h.entry: h for h in headlines(ours, draws)}
    published, exact, saving = algoperf_as_published(logs), algoperf_exact(logs), time_saving(logs)
    intervals = _intervals(logs, draws)
    framework = {t.submission: t.framework for t in logs.trials}
    standings = [
        Standing(s, framework[s], _rank(published, s), intervals[s], exact[s], _rank(exact, s), saving[s], placed[s])
        for s in sorted(logs.submissions, key=lambda s: (-published[s], s))
    ]
    mains = {w.identity: w.ladder.main for w in ours.workloads}
    return Comparison(
        round=logs.round,
        trials=len(logs.trials),
        standings=tuple(standings),
        factors=tuple(f for f in level_factors(ours, draws) if f.level == mains[f.workload]),
        dropped=_dropped(logs, ours, published, placed, draws),
        published_by_relaxation=_by_submission([algoperf_as_published(logs, amount) for amount in RELAXATIONS]),
        ours_by_relaxation=_relaxed_factors(logs, [r for r, _ in found], {r.record_id: c for r, c in found}),
    )


def _study_times(logs: Logs, *, by_evaluation: bool, relaxation: float = 0.0) -> Floats:
    """Seconds to target of each study's counted trial: (submissions, workloads then held-out variants, studies), infinite if missed."""
    rows = {submission: i for i, submission in enumerate(logs.submissions)}
    columns = {name: i for i, name in enumerate((*logs.round.workloads, *logs.round.held_out.values()))}
    times = np.full((len(rows), len(columns), logs.round.studies), np.inf)
    places: dict[tuple[str, str], dict[int, int]] = {}
    best: dict[tuple[int, int, int], float] = {}
    for trial in logs.trials:
        if trial.workload not in columns:
            continue
        seen = places.setdefault((trial.submission, trial.workload), {})
        place = (rows[trial.submission], columns[trial.workload], seen.setdefault(trial.study, len(seen)))
        order, seconds = _hit(trial, logs.targets[trial.workload], by_evaluation, relaxation)
        if order < best.get(place, np.inf):
            best[place], times[place] = order, seconds
    return times


def _hit(trial: LoggedTrial, target: Target, by_evaluation: bool, relaxation: float) -> tuple[float, float]:
    """What the trial of a study is chosen by, and its seconds; infinite when it missed."""
    eased = Target(target.metric, relaxed(target.level, target.metric.direction, relaxation), None)
    index = trial.first_hit(eased)
    if index is None:
        return np.inf, np.inf
    seconds = float(trial.seconds[index])
    return (float(index) if by_evaluation else seconds), seconds


def _scored(logs: Logs, times: Floats, *, exact: bool) -> dict[str, float]:
    medians = np.median(times, axis=2)
    return dict(zip(logs.submissions, _profile(logs, medians, exact).tolist(), strict=True))


def _profile(logs: Logs, medians: Floats, exact: bool) -> Floats:
    """Scores (…, submissions) of median times (…, submissions, workloads then variants)."""
    count = len(logs.round.workloads)
    variants = {logs.round.workloads.index(base): medians[..., count + i] for i, base in enumerate(logs.round.held_out)}
    kept = held_out_rule(medians[..., :count], variants)
    return profile_score(kept) if exact else profile_score_trapezoid(kept)


def _intervals(logs: Logs, draws: int) -> dict[str, Estimate]:
    """The published score with its interval over studies: every cell resampled on its own, the whole field scored again."""
    times = _study_times(logs, by_evaluation=True)
    published = _profile(logs, np.median(times, axis=2), exact=False)
    columns = (*logs.round.workloads, *logs.round.held_out.values())
    drawn = np.array(
        [
            [bootstrap_medians(times[i, j][None, :], f"{submission} {column}", draws)[0] for j, column in enumerate(columns)]
            for i, submission in enumerate(logs.submissions)
        ]
    )
    scores = _profile(logs, np.moveaxis(drawn, 2, 0), exact=False)
    n = logs.round.studies
    return {
        submission: Estimate(float(published[i]), percentile_interval(scores[:, i]) if n >= MINIMUM_N else None, n)
        for i, submission in enumerate(logs.submissions)
    }


def _field(
    logs: Logs, records: Sequence[Record], curves: Mapping[str, Curve] | None = None, relaxations: Sequence[float] | None = None
) -> Field:
    """Our field: the best trial of a study is a unit, the round's baseline is the reference, what is absent was missed."""
    built = board(records)
    core = [s.workload.identity for name in logs.round.workloads for s in built.sections if s.workload.name == name]
    pinned = pin(built, logs.round.reference, logs.round.hardware, logs.round.name)
    units = logs.round.studies
    return field(built, records, pinned, core=core, unit_of=lambda r: r.study, required_units=units, curves=curves, relaxations=relaxations)


def _relaxed_factors(logs: Logs, records: Sequence[Record], curves: Mapping[str, Curve]) -> dict[str, tuple[float, ...]]:
    eased = _field(logs, records, curves, RELAXATIONS)
    found = [headlines(eased, 1, dict.fromkeys(eased.main, i)) for i in range(len(RELAXATIONS))]
    return _by_submission([{h.entry: h.factor.value or 0.0 for h in placed} for placed in found])


def _dropped(logs: Logs, ours: Field, published: Mapping[str, float], placed: Mapping[str, Headline], draws: int) -> tuple[Dropped, ...]:
    factors = {entry: h.factor.value or 0.0 for entry, h in placed.items()}
    found = []
    for gone, rest in leave_one_entry_out(ours, draws).items():
        theirs = algoperf_as_published(logs.without(gone))
        own = {h.entry: h.factor.value or 0.0 for h in rest}
        found.append(
            Dropped(
                submission=gone,
                published_first=max(theirs, key=lambda s: theirs[s]),
                published_scores=theirs,
                published_move=max(abs(theirs[s] - published[s]) for s in theirs),
                published_swaps=_swaps(published, theirs),
                our_first=max(own, key=lambda s: own[s]),
                our_move=max(abs(own[s] - factors[s]) for s in own),
                our_swaps=_swaps(factors, own),
            )
        )
    return tuple(found)


def _swaps(before: Mapping[str, float], after: Mapping[str, float]) -> int:
    """How many of the entries left stand at another place among themselves."""
    old, new = (sorted(after, key=lambda s: (-scores[s], s)) for scores in (before, after))
    return sum(a != b for a, b in zip(old, new, strict=True))


def _rank(scores: Mapping[str, float], submission: str) -> int:
    return 1 + sum(score > scores[submission] for score in scores.values())


def _by_submission(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    return {submission: tuple(row[submission] for row in rows) for submission in rows[0]}


def _budget(target: Target) -> float:
    assert target.budget_seconds is not None  # read_logs sees to it for every workload of the round
    return target.budget_seconds
