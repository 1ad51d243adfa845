"""Sensitivity plots: a dot a tuning trial, where its value and its final quality say."""

from __future__ import annotations

import math

import pytest

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.pages import write_site
from timetrial.leaderboards.sensitivity import sensitivity

from .synthetic_records import LOSS, trial, trials, workload
from .test_pages import tab  # noqa: F401  the fixture
from .test_site import browser  # noqa: F401  the fixture

RATES = [0.0003, 0.003, 0.03, 0.3]


def tuned(of, seconds=(30.0, 10.0, 20.0, 500.0)):
    """Four tuning trials over three decades of one hyperparameter, with another that is always the same and one that is no number."""
    tuning = [
        trial(of, "adamw", 0, s, record_id=f"t{i}", study="s/tuning", hyperparameters={"lr": rate, "momentum": 0.9, "name": f"n{i}"})[0]
        for i, (rate, s) in enumerate(zip(RATES, seconds, strict=True))
    ]
    return [*tuning, *(record for record, _ in trials(of, "adamw", [11.0] * 5, study="s", hyperparameters={"lr": 0.003}))]


@pytest.mark.parametrize("of", [workload(), workload(metric=LOSS)], ids=["maximize", "minimize"])
def test_dots_stand_at_equal_steps_of_a_logarithmic_axis_and_tell_hits_from_misses(of):
    records = tuned(of)
    (plot,) = sensitivity(board(records).sections[0], "adamw", records)
    assert plot.hyperparameter == "lr" and [dot.hit for dot in plot.dots] == [True, True, True, False]
    steps = [b.x - a.x for a, b in zip(plot.dots, plot.dots[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * 3)
    assert all(0 < dot.x < 100 and 0 < dot.y < 100 for dot in plot.dots)
    exponents = [math.log10(float(tick.label)) for tick in plot.x_ticks]
    assert len(exponents) >= 3 and exponents == sorted(exponents)
    main = of.ladder.main
    better = [(r.result.final_quality > main) == (of.metric.direction == "maximize") for r in records[:4]]
    assert [(dot.y > plot.goal.at) == (of.metric.direction == "maximize") for dot in plot.dots] == better


def test_what_was_not_tuned_has_no_plot():
    records = tuned(workload())
    section = board(records).sections[0]
    assert sensitivity(section, "lion", records) == () and sensitivity(section, "adamw", records[4:]) == ()


@pytest.mark.browser
def test_the_page_of_an_entry_draws_it(tab, tmp_path):  # noqa: F811
    records = tuned(workload())
    write_site(board(records), records, {}, tmp_path, "adamw")
    tab.goto(next((tmp_path / "entry").glob("adamw-*.html")).as_uri())
    figure = tab.locator("figure.scatter")
    assert figure.count() == 1 and "lr" in figure.inner_text()
    assert figure.locator("path.trial").count() == 4 and figure.locator("path.trial.missed").count() == 1
