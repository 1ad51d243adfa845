"""MLPerf's reading of a section: its numbers are the statistics of the trials of a row and of the reference."""

import numpy as np
import pytest
from scipy import stats

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.mlperf import as_mlperf
from timetrial.suite.workload import Lens

from .synthetic_records import lognormal_times, trials, workload

W = workload()


def read(*groups, reference="adamw"):
    records = {record.record_id: record for group in groups for record, _ in group}
    (section,) = board(list(records.values())).sections
    return {row.label: row for row in as_mlperf(section, records, reference)}, records


def times(seed, median, n=6):
    return lognormal_times(np.random.default_rng(seed), median, n, 0.05)


def test_numbers_are_those_of_the_trials():
    found, records = read(trials(W, "adamw", times(0, 20)), trials(W, "muon", times(1, 15)))
    costs = {
        (name, lens): np.array([r.crossing().cost[lens] for r in records.values() if r.entry.name == name])
        for name in ("adamw", "muon")
        for lens in (Lens.CHARGED_SECONDS, Lens.EXAMPLES)
    }
    muon = found["muon"]
    assert muon.olympic_seconds == pytest.approx(np.sort(costs["muon", Lens.CHARGED_SECONDS])[1:-1].mean())
    test = stats.ttest_ind(*(np.log(costs[n, Lens.EXAMPLES]) for n in ("muon", "adamw")), equal_var=False, alternative="less")
    assert muon.examples.p == pytest.approx(test.pvalue) and muon.seconds.p < 1e-4
    reference = costs["adamw", Lens.EXAMPLES]
    slack = stats.t.ppf(0.95, 10) * reference.std(ddof=1) * np.sqrt(2 / 6)
    assert muon.allowed == pytest.approx(reference.mean() / (reference.mean() - slack) - 1)
    assert muon.examples.ratio > 1 + muon.allowed


def test_the_reference_is_not_tested_against_itself_and_without_one_nobody_is():
    found, _ = read(trials(W, "adamw", times(0, 20)), trials(W, "muon", times(1, 15)))
    assert found["adamw"].seconds is None and found["adamw"].olympic_seconds is not None
    found, _ = read(trials(W, "lion", times(0, 20)), trials(W, "muon", times(1, 15)))
    assert all(row.seconds is None and row.olympic_seconds is not None for row in found.values())


def test_one_miss_is_the_slowest_that_is_dropped_and_allows_no_test():
    one, _ = read(trials(W, "adamw", times(0, 20)), trials(W, "muon", [*times(1, 15, 5), 500.0]))
    assert one["muon"].olympic_seconds is not None and one["muon"].seconds is None and one["muon"].allowed is None
    two, _ = read(trials(W, "adamw", times(0, 20)), trials(W, "muon", [*times(1, 15, 4), 500.0, 500.0]))
    assert two["muon"].olympic_seconds is None
