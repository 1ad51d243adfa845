"""What a trial will do and cost, without doing it."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median
from typing import Any

from ..config import Plan
from ..forecast import Forecast
from ..record import readable_records
from ..workload import Lens

__all__ = ["describe"]


def describe(plan: Plan, home: Path) -> dict[str, Any]:
    """The resolved plan in the words of the CLI, with its upper bound and what it cost the last times on this machine."""
    w = plan.workload
    batch = plan.algorithm.batch_size or w.batch_size
    examples = math.ceil(w.budget.examples * plan.horizon)
    like_it = readable_records(home, f"{w.name}-{plan.algorithm.name}-*")
    taken = Forecast(record for record, _ in like_it).taken(plan)
    return {
        "workload": f"{w.identity} ({w.tier}): {w.summary}",
        "target": f"{w.metric.name} {'>=' if w.metric.direction == 'maximize' else '<='} {w.ladder.main:g} ({w.ladder.status})",
        "algorithm": plan.algorithm.name,
        "hyperparameters": dict(plan.algorithm.hyperparameters),
        "options": dict(plan.algorithm.options),
        "curation": f"{plan.curation.name}, keep fraction {plan.keep_fraction:g}",
        "ruleset": plan.ruleset.value,
        "seed": plan.seed,
        "budget": _budget(plan, examples, batch),
        "evaluations": 1 + math.ceil(examples / w.evaluation.every_examples) if w.budget.lens is Lens.EXAMPLES else "not known before",
        "precision": w.precision,
        "loader": plan.loader,
        "expected": f"{median(taken):.1f} s (median of {len(taken)} earlier trials here)" if taken else "not known yet",
        "trial": plan.digest[:16],
    }


def _budget(plan: Plan, examples: int, batch: int) -> str:
    """What ends the trial, then what cuts it off."""
    budget = plan.workload.budget
    ends = f"{examples} examples = {math.ceil(examples / batch)} steps of {batch}"
    if budget.lens is not Lens.EXAMPLES:
        ends = f"{plan.horizon * (budget.amount(budget.lens) or 0):g} {budget.lens}"
    limits = [f"{amount:g} {lens}" for lens, amount in budget.limits.items() if lens is not budget.lens]
    return ", at most ".join([ends, *limits, f"{budget.charged_seconds:g} charged s"])
