"""Agreement of orders: what agrees, what does not, and what was not measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.prediction import agreement, predictions, rank_agreement
from timetrial.leaderboards.tracks import front_boards
from timetrial.suite.workload import Tier

from .synthetic_records import lognormal_times, trials, workload

MEDIANS = {"muon": 12, "adamw": 20, "lion": 26, "sgd": 34, "adagrad": 45}


def found(tiers, spread=0.02):
    rng = np.random.default_rng(0)
    for tier, order in tiers.items():
        for name in ("one", "two"):
            of = replace(workload(f"{name}_{tier}"), tier=tier)
            for entry, seconds in zip(order, MEDIANS.values(), strict=True):
                yield from (record for record, _ in trials(of, entry, lognormal_times(rng, seconds, 6, spread)))


def cells(records):
    built = board(records)
    return predictions(built, {r.record_id: r for r in records}, front_boards(built, records, "adamw"))


def test_tiers_with_one_order_agree_and_reversed_ones_do_the_opposite():
    same = cells(list(found({Tier.NANO: list(MEDIANS), Tier.SMALL: list(MEDIANS)})))
    reverse = cells(list(found({Tier.NANO: list(MEDIANS), Tier.SMALL: list(MEDIANS)[::-1]})))
    by_what = [{c.what: c for c in found} for found in (same, reverse)]
    assert [c["nano and small"].tau.value for c in by_what] == pytest.approx([1, -1])
    assert by_what[0]["nano and full"].tau is None and by_what[0]["nano and full"].entries == 0  # not measured


def test_halves_of_the_seeds_agree_where_entries_differ_and_less_where_they_do_not():
    apart = [c.tau.value for c in cells(list(found({Tier.NANO: list(MEDIANS)}))) if c.kind == "seeds"]
    noisy = [c.tau.value for c in cells(list(found({Tier.NANO: list(MEDIANS)}, spread=3.0))) if c.kind == "seeds"]
    assert apart == [pytest.approx(1)] * 2
    assert np.mean(noisy) < 0.9


def test_horizons_are_compared_where_entries_were_run_at_both():
    records = list(found({Tier.NANO: list(MEDIANS)}))
    half = [
        replace(r, record_id=f"{r.record_id}-half", entry=replace(r.entry, algorithm_options={"horizon": 0.5}), started_at=None)
        for r in records
    ]
    by_kind = [c for c in cells(records + half) if c.kind == "horizons"]
    assert [c.entries for c in by_kind] == [5, 5] and "0.5 and 1 of the budget" in by_kind[0].what
    assert all(c.tau is None for c in cells(records) if c.kind == "horizons")


def test_tau_is_kendalls_and_has_no_interval_below_five_entries():
    one, other = [1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]
    found = rank_agreement(one, other)
    assert found.value == pytest.approx(stats.kendalltau(one, other).statistic)
    assert found.interval.low < found.value < found.interval.high < 1
    assert rank_agreement(one[:4], other[:4]).interval is None
    assert rank_agreement([1, 1, 1], [1, 2, 3]) is None
    assert agreement("seeds", "x", {"a": 1, "b": 2}, {"a": 1, "b": 2}).tau is None
