"""Algorithm x curation: which rows make a matrix, what its cells hold, and what may be said of it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.matrix import matrices, sentence
from timetrial.leaderboards.scores import MISS_MULTIPLE
from timetrial.suite.record import Status
from timetrial.suite.workload import Lens

from .synthetic_records import lognormal_times, trials, workload

ALGORITHMS = {"adamw": 20.0, "lion": 26.0, "muon": 15.0}
SELECTIONS = {"": 1.0, " + random 0.5": 0.8, " + rs2 0.5": 0.6}
W = workload()


def crossed(lean=None, n=5, seed=0, **changes):
    """Trials of every algorithm with every selection; ``lean`` multiplies the seconds of some entries."""
    rng = np.random.default_rng(seed)
    found = []
    for algorithm, seconds in ALGORITHMS.items():
        for selection, factor in SELECTIONS.items():
            median = seconds * factor * (lean or {}).get(algorithm + selection, 1.0)
            found += trials(W, algorithm + selection, lognormal_times(rng, median, n, 0.03), **changes)
    return [record for record, _ in found]


def of(records):
    return matrices(board(records), {record.record_id: record for record in records})


def cell(reading, algorithm, selection):
    return next(c for c in reading.cells if (c.algorithm, c.selection) == (algorithm, selection))


def test_a_cell_holds_the_median_cost_of_its_trials_in_every_lens():
    records = crossed()
    (matrix,) = of(records)
    assert (matrix.algorithms, matrix.selections) == (("adamw", "lion", "muon"), ("all data", "random 0.5", "rs2 0.5"))
    mine = [record for record in records if record.entry.name == "lion + rs2 0.5"]
    for reading in (r for r in matrix.readings if r.main and r.state.uses == 1):
        expected = float(np.median([record.crossing().cost[reading.state.lens] for record in mine]))
        assert cell(reading, "lion", "rs2 0.5").cost.value == pytest.approx(expected)
    assert {reading.state.lens for reading in matrix.readings} == {Lens.CHARGED_SECONDS, Lens.EXAMPLES, Lens.FLOPS}


def test_only_the_largest_complete_rectangle_is_a_matrix():
    single = [r for r, _ in trials(W, "soap", [20.0] * 5)]
    (matrix,) = of(crossed() + single)
    assert "soap" not in matrix.algorithms
    partial = [r for r, _ in trials(W, "soap", [20.0] * 5) + trials(W, "soap + random 0.5", [20.0] * 5)]
    (matrix,) = of(crossed() + partial)
    assert len(matrix.algorithms) * len(matrix.selections) == 9  # 3 x 3 before 4 x 2
    extra = [r for r, _ in trials(W, "adamw + herding 0.5", [20.0] * 5)]
    assert of(crossed() + extra)[0].selections == matrix.selections


def test_another_setting_of_an_algorithm_is_another_row():
    tuned = [r for r, _ in trials(W, "adamw", [18.0] * 5, hyperparameters={"lr": 0.01})]
    tuned = [replace(record, record_id=f"tuned-{record.record_id}") for record in tuned]
    assert of(crossed() + tuned)[0].readings == of(crossed())[0].readings
    both = [replace(r, record_id=f"tuned-{r.record_id}", entry=replace(r.entry, hyperparameters={"lr": 0.01})) for r in crossed(seed=1)]
    names = of(crossed() + both)[0].algorithms
    assert len(names) == len(set(names)) == 6 and all(name.endswith(")") for name in names)


def test_one_row_or_one_column_is_no_matrix():
    assert of([r for r in crossed() if r.entry.curation == "all"]) == ()
    assert of([r for r in crossed() if r.entry.algorithm == "muon"]) == ()


def test_costs_that_multiply_show_no_dependence_and_a_planted_one_is_found():
    (plain,) = of(crossed())
    assert "is not shown" in sentence(plain.readings[0])
    (leaning,) = of(crossed({"muon + rs2 0.5": 1.6}))
    reading = leaning.readings[0]
    assert reading.coupling.p < 1e-6 and "depends on the algorithm here" in sentence(reading)
    found = cell(reading, "muon", "rs2 0.5")
    assert found.surprise == pytest.approx(1.6 ** (4 / 9), rel=0.05)  # what is left of it beside its row and its column
    assert found.interval.low > 1


def test_one_trial_a_cell_claims_nothing():
    (matrix,) = of(crossed({"muon + rs2 0.5": 1.6}, n=1))
    assert "cannot tell that from chance" in sentence(matrix.readings[0])
    assert all(c.interval is None for c in matrix.readings[0].cells)


def test_a_miss_counts_like_in_a_factor_and_the_hardest_level_without_one_is_read_too():
    slow = [r for r, _ in trials(W, "lion + rs2 0.5", [15.0] * 5, ceiling=0.86)]
    records = [r for r in crossed() if r.entry.name != "lion + rs2 0.5"] + slow
    (matrix,) = of(records)
    main = matrix.readings[0]
    assert main.misses == 5 and cell(main, "lion", "rs2 0.5").cost.value is None
    assert main.miss == MISS_MULTIPLE * W.budget.charged_seconds
    logs = {pair: math.log(pair.cost) for pair in main.coupling.pairs}
    assert max(logs.values()) == pytest.approx(math.log(main.miss))
    other = matrix.readings[-1]
    reached = {c.level for c in slow[0].crossings if c.hit}
    assert not other.main and other.level == max(reached) and other.misses == 0
    assert matrix.shown is other and "depends on the algorithm here" in sentence(other)
    assert sentence(main).startswith("5 of 45 trials missed") and "algorithm here" not in sentence(main)


def test_a_diverged_trial_is_a_miss_at_every_level():
    records = crossed()
    (matrix,) = of([replace(records[0], status=Status.DIVERGED), *records[1:]])
    assert [reading.main for reading in matrix.readings] == [True] * len(matrix.readings)
    assert all(reading.misses == 1 for reading in matrix.readings) and matrix.shown is matrix.readings[0]


def test_a_lens_that_a_trial_lacks_is_not_read():
    records = crossed()
    seconds = Lens.CHARGED_SECONDS
    blind = replace(
        records[0], crossings=tuple(replace(c, cost={k: v for k, v in c.cost.items() if k is seconds}) for c in records[0].crossings)
    )
    (matrix,) = of([blind, *records[1:]])
    assert {reading.state.lens for reading in matrix.readings} == {seconds}


def test_cells_that_several_studies_ran_count_by_the_seeds_that_all_have():
    later = crossed(seed=1)
    elsewhere = [replace(r, seed=r.seed + 5, record_id=f"{r.record_id}-later") for r in later if r.entry.algorithm == "adamw"]
    assert of(crossed() + elsewhere)[0].readings == of(crossed())[0].readings
