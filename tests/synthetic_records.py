"""Synthetic trials with known truth, for the tests of boards and scores: exponential learning curves with seeded noise."""

from __future__ import annotations

import math

import numpy as np

from timetrial.suite.curve import CurvePoint, crossings
from timetrial.suite.record import SCHEMA_VERSION, Entry, Origin, Record, Result, Ruleset, Selected, Status, TimeLedger, WorkloadIdentity
from timetrial.suite.workload import Budget, Direction, Metric, ResultRule, TargetLadder, TargetStatus, Tier

LEVELS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.74, 0.78, 0.82, 0.85, 0.88, 0.9, 0.91)
ACCURACY = Metric("accuracy", Direction.MAXIMIZE, "fraction")
LOSS = Metric("loss", Direction.MINIMIZE, "nats")
BUDGET_EXAMPLES = 40_000


def workload(name="cifar10_cnn", *, frozen=True, metric=ACCURACY, budget_seconds=60.0, main=0.88, ranked=True):
    """A nano workload with a ladder of twelve levels; for a metric to minimise, the levels are mirrored (1 - level)."""
    flip = metric.direction is Direction.MINIMIZE
    levels = tuple(round(1 - level, 6) for level in LEVELS) if flip else LEVELS
    status = TargetStatus.FROZEN if frozen else TargetStatus.PROVISIONAL
    ladder = TargetLadder(levels, round(1 - main, 6) if flip else main, status, 1, "e" * 64 if frozen else None)
    budget = Budget(BUDGET_EXAMPLES, budget_seconds)
    return WorkloadIdentity(
        name, 1, Tier.NANO, "image_classification", metric, ladder, budget, ResultRule.FIRST_CROSSING, f"digest of {name}", ranked
    )


def curve(of, seconds_to_main, *, ceiling=0.93, points=40, wobble=None):
    """Quality that rises exponentially and passes the main level after ``seconds_to_main``; it stops at the budget."""
    flip = of.metric.direction is Direction.MINIMIZE
    main = 1 - of.ladder.main if flip else of.ladder.main
    rate = -math.log((ceiling - main) / (ceiling - 0.1)) / seconds_to_main if ceiling > main else 1 / seconds_to_main
    found = []
    for i in range(points + 1):
        seconds = of.budget.charged_seconds * i / points
        quality = ceiling - (ceiling - 0.1) * math.exp(-rate * seconds) + (0.0 if wobble is None or i == 0 else wobble[i])
        quality = 1 - quality if flip else quality
        examples = BUDGET_EXAMPLES * i // points
        steps = examples // 100
        loss = 1 - quality
        train_loss = None if i == 0 else loss
        found.append(CurvePoint(examples, steps, seconds, seconds * 1.9, examples * 4e7, steps, None, train_loss, loss, quality))
    return tuple(found)


def trial(
    of, entry="adamw", seed=0, seconds_to_main=20.0, *, study=None, status=None, hardware_class="cpu2", ceiling=0.93, wobble=None, **changes
):
    """One record and its curve. ``entry`` may be ``algorithm`` or ``algorithm + curation fraction``, as plans name them."""
    algorithm, _, curated = entry.partition(" + ")
    curation, _, fraction = curated.partition(" ")
    points = curve(of, seconds_to_main, ceiling=ceiling, wobble=wobble)
    found = crossings(points, of.metric, of.ladder)
    hit = next(c for c in found if c.level == of.ladder.main).hit
    kept = float(fraction or 1)
    record = Record(
        schema_version=SCHEMA_VERSION,
        record_id=changes.pop("record_id", f"{of.name}-{entry.replace(' ', '_')}-s{seed}"),
        origin=changes.pop("origin", Origin.NATIVE),
        workload=of,
        entry=Entry(
            entry,
            algorithm,
            curation or "all",
            hyperparameters=changes.pop("hyperparameters", {"lr": 0.001}),
            at_defaults=changes.pop("at_defaults", None),
        ),
        seed=seed,
        status=status or (Status.HIT if hit else Status.MISSED),
        crossings=found,
        result=Result(points[-1].quality, points[-1].loss, points[-1].quality - 0.01 if hit else None, points[-1].quality - 0.01),
        time=TimeLedger({"train": points[-1].charged_seconds}, {}, {}, points[-1].charged_seconds, points[-1].charged_seconds + 3),
        study=study,
        selected=Selected(45_000, int(45_000 * kept), kept),
        hardware_class=hardware_class,
        started_at=changes.pop("started_at", f"2026-01-01T00:00:{seed:02d}.000+00:00"),
        ruleset=changes.pop("ruleset", Ruleset.EXTERNAL_TUNING),
    )
    assert not changes, f"unknown changes {changes}"
    return record, points


def trials(of, entry, times, **changes):
    """One trial a seed, seconds to the main target as given; a time beyond the budget is a miss."""
    return [trial(of, entry, seed, seconds, **changes) for seed, seconds in enumerate(times)]


def lognormal_times(rng, median, n, spread=0.1):
    """``n`` times around a median, log-normal with the given standard deviation of the logarithm."""
    return (median * np.exp(spread * rng.standard_normal(n))).tolist()
