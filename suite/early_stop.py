"""Early stop: trials that cannot hit any more, ended by a rule that is fixed before they start.

From half of its horizon on, a trial is hopeless that never had the quality which every seed of the frozen reference had by a tenth of
its own run (the shares are the protocol's). The rule is in examples seen and rests on the logs of the frozen targets alone, so that
neither the machine nor other entries decide. Of AlgoPerf's 3,700 published trials (v0.5, external tuning) it would have stopped 235,
none of which went on to hit its target (``tests/test_early_stop.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path

from .config import REFERENCE, Plan
from .curve import Curve
from .errors import ConfigError
from .protocol import EarlyStop, protocol
from .record import Stopped, StopRule
from .registry import targets_path
from .target_logs import Purpose, logged_trials, read_logs
from .workload import Lens, Metric, TargetStatus

__all__ = ["derive_rule", "reason", "stop_rule", "stopped"]


def stop_rule(plan: Plan) -> StopRule | None:
    """The rule for a trial; None where there is none: provisional targets, a budget in another lens than examples, the reference itself.

    Raises ``ConfigError`` when the logs are not there, or not those that the frozen targets derive from.
    """
    workload = plan.workload
    frozen = workload.ladder.status is TargetStatus.FROZEN and workload.budget.lens is Lens.EXAMPLES
    if not frozen or plan.entry_name == REFERENCE:
        return None
    curves = _reference_curves(targets_path(workload.base or workload.name), workload.ladder.evidence_digest or "")
    return derive_rule(curves, workload.metric, workload.ladder.main, plan.horizon * workload.budget.examples, protocol().early_stop)


def derive_rule(reference: Sequence[Curve], metric: Metric, main: float, horizon_examples: float, shares: EarlyStop) -> StopRule:
    """The rule from the reference's curves, one a seed, for a trial with a horizon of so many examples.

    Never before the same share of the reference's own runs, and never for want of more than the main target.
    """
    early = [[p for p in curve if p.examples <= round(shares.reference * curve[-1].examples)] for curve in reference]
    level = metric.worst([main, *(_best(points, metric) for points in early)])
    return StopRule(round(shares.after * max(horizon_examples, *(curve[-1].examples for curve in reference))), level)


def stopped(curve: Curve, metric: Metric, rule: StopRule | None) -> Stopped | None:
    """That the trial is hopeless at the end of its curve so far, or None; without a rule none is."""
    if rule is None or curve[-1].examples < rule.from_examples or any(metric.reached(point.quality, rule.level) for point in curve):
        return None
    return Stopped(rule, curve[-1].examples, _best(curve, metric))


def reason(found: Stopped, metric: Metric) -> str:
    """Why it was ended, in a line."""
    had = f"every seed of the reference had {metric.name} {found.rule.level:.4g} early on"
    return f"stopped at {found.examples} examples as hopeless: {had}, it had {found.quality:.4g} at best"


def _best(curve: Curve, metric: Metric) -> float:
    return metric.best(point.quality for point in curve)


@cache
def _reference_curves(frozen: Path, evidence_digest: str) -> tuple[Curve, ...]:
    logs = read_logs(frozen)
    if sha256(logs.encode()).hexdigest() != evidence_digest:
        raise ConfigError(f"{frozen}: the logs beside it are not those that its targets derive from")
    return tuple(trial.points() for trial in logged_trials(logs) if trial.purpose is Purpose.REFERENCE)
