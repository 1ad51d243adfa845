"""Two entries against each other: how many times sooner one reaches the target, with interval and p, in every lens.

The factor is B's cost over A's on logarithms: 1.25 means that B takes 1.25 times as long. Trials are paired by seed where both
entries have five common seeds or no other trials (a seed fixes initial weights and order of the data, so its difficulty cancels), and
compared by Welch's test otherwise. A miss has no cost: with misses the p-value comes from an exact test on order alone (sign test,
Mann and Whitney's test), the factor counts a miss at :data:`~timetrial.leaderboards.scores.MISS_MULTIPLE` budgets, and there is no
interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..suite.errors import RecordError, unknown_name
from ..suite.record import Record
from ..suite.workload import Lens
from .boards import Board, Row, Section, cost_to_target
from .cells import budget_in
from .scores import MISS_MULTIPLE
from .statistics import CONFIDENCE, MINIMUM_N, Estimate, Floats, Interval

__all__ = ["Duel", "Effect", "compare", "effect", "sentence", "verdict"]

ALPHA = 1 - CONFIDENCE
POWER = 0.8
MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Effect:
    """A against B in one lens. ``factor`` above 1: A needs less. ``pairs`` is 0 where trials are not paired.

    ``error`` and ``freedom`` are the standard error of the factor's logarithm and its degrees of freedom, ``deviation`` that of one
    seed; all None with misses or below two trials a side. ``p`` is two-sided, of no difference.
    """

    factor: Estimate
    p: float | None
    pairs: int
    n_a: int
    n_b: int
    misses_a: int
    misses_b: int
    error: float | None = None
    freedom: float | None = None
    deviation: float | None = None

    @property
    def n(self) -> int:
        """Trials of the entry with fewer of them: what an interval rests on."""
        return self.factor.n

    def seeds_needed(self, difference: float) -> int | None:
        """Seeds a side that show a difference of this fraction (0.05) in four of five experiments; None when noise is not known.

        Power of the two-sided t-test at 5 % by the noncentral t distribution.
        """
        if self.deviation is None:
            return None
        if self.deviation == 0:
            return MINIMUM_N
        shift = math.log1p(difference) / self.deviation
        low, high = MINIMUM_N - 1, MOST_SEEDS
        while high - low > 1:  # power grows with n
            middle = (low + high) // 2
            low, high = (low, middle) if _power(shift, middle, paired=self.pairs > 0) >= POWER else (middle, high)
        return high


@dataclass(frozen=True)
class Duel:
    """A against B: effects by workload (``name@version``) and lens, and over all workloads that both were measured on, by lens.

    ``hardware_class`` is the place of the sections: the class, and the ruleset unless it is external tuning.
    """

    a: str
    b: str
    hardware_class: str
    workloads: Mapping[str, Mapping[Lens, Effect]]
    overall: Mapping[Lens, Effect]
    absent: tuple[str, ...]
    ranked: bool


def compare(board: Board, records: Sequence[Record], a: str, b: str) -> tuple[Duel, ...]:
    """Compare two entries (or labels) of a board, one result a hardware class and ruleset.

    ``records`` are those the board was made of. Raises ``UnknownName`` for an entry that the board lacks and ``RecordError`` when
    the two never met on the same workload, targets and hardware.
    """
    known = sorted({name for section in board.sections for row in section.rows for name in (row.entry, row.label)})
    for name in (a, b):
        if name not in known:
            raise unknown_name("entry", name, known)
    by_id = {record.record_id: record for record in records}
    duels = []
    for place in sorted({s.place for s in board.sections}):
        met: dict[str, Mapping[Lens, Effect]] = {}
        absent, ranked = [], True
        for section in (s for s in board.sections if s.place == place):
            one, other = _row(section, a, by_id), _row(section, b, by_id)
            if one is None or other is None:
                if one is not other:
                    absent.append(f"{section.workload.identity}: no trial of {a if one is None else b}")
                continue
            met[section.workload.identity] = _effects(section, one, other, by_id)
            ranked &= section.ranked
        if met:
            duels.append(Duel(a, b, place, met, _overall(met), tuple(absent), ranked))
    if not duels:
        raise RecordError(f"{a!r} and {b!r} have no workload in common on one hardware class and with the same targets")
    return tuple(duels)


def effect(a: Mapping[int, float], b: Mapping[int, float], budget: float) -> Effect:
    """The effect of costs by seed, NaN where missed. ``budget`` is in the unit of the costs and prices a miss."""
    common = sorted(a.keys() & b.keys())
    paired = len(common) >= MINIMUM_N or (bool(common) and a.keys() == b.keys())
    seeds_a, seeds_b = (common, common) if paired else (sorted(a), sorted(b))
    one, other = np.array([a[s] for s in seeds_a]), np.array([b[s] for s in seeds_b])
    counts = (len(common) if paired else 0, len(one), len(other), int(np.isnan(one).sum()), int(np.isnan(other).sum()))
    n = min(len(one), len(other))
    if counts[3] or counts[4]:
        logs = [np.log(np.where(np.isnan(x), MISS_MULTIPLE * budget, x)) for x in (one, other)]
        value = math.exp(float(logs[1].mean() - logs[0].mean()))
        return Effect(Estimate(value, None, n), _order_p(one, other, paired) if n >= MINIMUM_N else None, *counts)
    return _measured(np.log(one), np.log(other), paired, counts)


def verdict(found: Effect) -> str:
    """``sooner``, ``later``, ``not told apart`` or ``too few``: the only four things that may be said of A against B."""
    if found.n < MINIMUM_N or found.p is None:
        return "too few"
    if found.p >= ALPHA:
        return "not told apart"
    return "sooner" if (found.factor.value or 1.0) > 1 else "later"


def sentence(duel: Duel, where: str, found: Effect, lens: Lens = Lens.CHARGED_SECONDS) -> str:
    """What can and cannot be claimed, in one plain sentence."""
    a, b, unit = duel.a, duel.b, lens.value.replace("_", " ")
    value = found.factor.value or 1.0
    how = f"{found.pairs} paired seeds" if found.pairs else f"{found.n_a} and {found.n_b} trials"
    bounds = found.factor.interval
    range_text = "" if bounds is None or bounds.high is None else f"95 % interval {bounds.low:.3g}x to {bounds.high:.3g}x, "
    misses = f"; misses: {found.misses_a} of {a}, {found.misses_b} of {b}" if found.misses_a or found.misses_b else ""
    evidence = f"{range_text}p = {found.p:.2g}, {how}{misses}" if found.p is not None else f"{how}{misses}"
    match verdict(found):
        case "too few":
            return f"{where}: nothing can be claimed below n = {MINIMUM_N}; these trials gave {value:.3g}x in {unit} ({evidence})."
        case "not told apart":
            size = "" if not range_text else " A difference outside the interval is ruled out; none inside it is shown."
            return f"{where}: {a} and {b} cannot be told apart in {unit} ({value:.3g}x, {evidence}).{size}"
        case "sooner":
            return f"{where}: {a} reaches the target with less {unit} than {b}: {value:.3g}x ({evidence})."
    return f"{where}: {a} needs more {unit} than {b} to reach the target: {1 / value:.3g} times as much ({evidence})."


def _row(section: Section, name: str, by_id: Mapping[str, Record]) -> Row | None:
    """The row of a label, or of an entry: its settings with most trials, then those started first; never chosen by result."""
    rows = [row for row in section.rows if row.label == name] or [row for row in section.rows if row.entry == name]
    return min(rows, key=lambda r: (-r.n, min(by_id[i].started_at or "" for i in r.record_ids), r.record_ids), default=None)


def _effects(section: Section, one: Row, other: Row, by_id: Mapping[str, Record]) -> dict[Lens, Effect]:
    """By lens; a lens that not every hit carries is left out."""
    found = {}
    for lens in Lens:
        a, b = (_costs([by_id[i] for i in row.record_ids], lens) for row in (one, other))
        if a is None or b is None:
            continue
        seen = [cost for cost in (*a.values(), *b.values()) if not math.isnan(cost)]
        if not seen or min(seen) <= 0:
            continue
        trials = [by_id[i] for i in (*one.record_ids, *other.record_ids)]
        found[lens] = effect(a, b, budget_in(section.workload, lens, trials, max(seen)))
    return found


def _costs(records: Sequence[Record], lens: Lens) -> dict[int, float] | None:
    found = {}
    for record in records:
        crossing = record.crossing()
        cost = cost_to_target(record, lens)
        if cost is None and cost_to_target(record, Lens.CHARGED_SECONDS) is not None:
            return None
        found[record.seed] = math.nan if crossing is None or cost is None else cost
    return found


def _measured(one: Floats, other: Floats, paired: bool, counts: tuple[int, int, int, int, int]) -> Effect:
    """The t-test on logarithms, paired or Welch's."""
    n = min(len(one), len(other))
    middle = float(other.mean() - one.mean())
    if n < 2:
        return Effect(Estimate(math.exp(middle), None, n), None, *counts)
    if paired:
        deviation = float((other - one).std(ddof=1))
        error, freedom = deviation / math.sqrt(n), float(n - 1)
    else:
        parts = np.array([x.var(ddof=1) / len(x) for x in (one, other)])
        error = math.sqrt(float(parts.sum()))
        sizes = np.array([len(one) - 1, len(other) - 1])
        freedom = float(parts.sum() ** 2 / (parts**2 / sizes).sum()) if error else float(sizes.sum())
        deviation = math.sqrt(float(np.mean([x.var(ddof=1) for x in (one, other)])))
    return _inferred(middle, error, freedom, n, counts, deviation)


def _inferred(
    middle: float, error: float, freedom: float, n: int, counts: tuple[int, int, int, int, int], deviation: float | None
) -> Effect:
    if error < 1e-12:
        p, bounds = (1.0 if abs(middle) < 1e-12 else 0.0), Interval(math.exp(middle), math.exp(middle), CONFIDENCE)
    else:
        p = 2 * float(stats.t.sf(abs(middle) / error, freedom))
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
        bounds = Interval(math.exp(middle - reach), math.exp(middle + reach), CONFIDENCE)
    enough = n >= MINIMUM_N
    value = Estimate(math.exp(middle), bounds if enough else None, n)
    return Effect(value, p if enough else None, *counts, error, freedom, deviation)


def _order_p(one: Floats, other: Floats, paired: bool) -> float:
    """Exact two-sided p from order alone, a miss above every hit and level with another miss."""
    a, b = (np.where(np.isnan(x), np.inf, x) for x in (one, other))
    if paired:
        wins, losses = int((a < b).sum()), int((a > b).sum())
        return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    ranks = stats.rankdata(np.concatenate([a, b]))
    if len(set(ranks)) == 1:
        return 1.0
    return float(stats.mannwhitneyu(ranks[: len(a)], ranks[len(a) :], method="auto").pvalue)


def _overall(met: Mapping[str, Mapping[Lens, Effect]]) -> dict[Lens, Effect]:
    """Geometric mean over workloads; standard errors add in squares, degrees of freedom by Satterthwaite.

    The workloads are taken as given: the interval is about other seeds, not about other workloads.
    """
    found = {}
    for lens in Lens:
        effects = [by_lens[lens] for by_lens in met.values() if lens in by_lens]
        if len(effects) < len(met):
            continue
        middle = float(np.mean([math.log(e.factor.value or 1.0) for e in effects]))
        n = min(e.n for e in effects)
        paired = sum(e.pairs for e in effects) if all(e.pairs for e in effects) else 0
        sums = [sum(getattr(e, name) for e in effects) for name in ("n_a", "n_b", "misses_a", "misses_b")]
        counts = (paired, sums[0], sums[1], sums[2], sums[3])
        known = [(e.error, e.freedom) for e in effects if e.error is not None and e.freedom is not None]
        if len(known) < len(effects):
            found[lens] = Effect(Estimate(math.exp(middle), None, n), None, *counts)
            continue
        squares = np.array([error**2 for error, _ in known])
        error = math.sqrt(float(squares.sum())) / len(known)
        weights = squares**2 / np.array([freedom for _, freedom in known])
        freedom = float(squares.sum() ** 2 / weights.sum()) if weights.sum() else float(sum(f for _, f in known))
        deviations = [e.deviation or 0.0 for e in effects]
        deviation = math.sqrt(float(np.square(deviations).sum())) / len(deviations)
        found[lens] = _inferred(middle, error, freedom, n, counts, deviation)
    return found


def _power(shift: float, n: int, *, paired: bool) -> float:
    """Power of the two-sided t-test at ``n`` >= 5 seeds a side for a shift in standard deviations."""
    freedom, size = (n - 1, shift * math.sqrt(n)) if paired else (2 * n - 2, shift * math.sqrt(n / 2))
    if size > 8:  # from five seeds on power is 0.99 and more there; further out scipy's noncentral t is no number
        return 1.0
    edge = float(stats.t.ppf(1 - ALPHA / 2, freedom))
    return float(stats.nct.sf(edge, freedom, size) + stats.nct.cdf(-edge, freedom, size))
