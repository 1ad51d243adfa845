"""The page of comparisons shows what the comparison of two entries gives, whichever is named first."""

from __future__ import annotations

import numpy as np
import pytest

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.compare import compare, verdict
from timetrial.leaderboards.duels import MOST_ENTRIES, duel_table
from timetrial.leaderboards.pages import write_site
from timetrial.suite.workload import Lens

from .synthetic_records import LOSS, lognormal_times, trials, workload
from .test_pages import tab  # noqa: F401  the fixture
from .test_site import browser  # noqa: F401  the fixture


def entered(entries, n=5):
    rng = np.random.default_rng(0)
    found = []
    for of in (workload(), workload("shakespeare_gpt", metric=LOSS)):
        for entry, seconds in entries.items():
            found += trials(of, entry, lognormal_times(rng, seconds, n, 0.03))
    return [record for record, _ in found]


RECORDS = entered({"adamw": 20.0, "lion": 30.0, "muon": 20.2})


def test_every_pair_has_the_numbers_of_its_comparison():
    built = board(RECORDS)
    table = duel_table(built, RECORDS)
    assert table["entries"] == ["adamw", "lion", "muon"] and sorted(table["pairs"]) == ["0 1", "0 2", "1 2"]
    (duel,) = compare(built, RECORDS, "adamw", "lion")
    rows = {where: by_lens for where, _, by_lens in table["pairs"]["0 1"]}
    assert list(rows) == [*duel.workloads, "overall"]
    found = duel.overall[Lens.CHARGED_SECONDS]
    factor, low, high, p, *counts, said = rows["overall"]["charged_seconds"]
    assert [factor, low, high] == pytest.approx([found.factor.value, found.factor.interval.low, found.factor.interval.high], rel=1e-3)
    assert p == pytest.approx(found.p, rel=1e-3) and counts == [10, 10, 0, 0] and said == verdict(found) == "sooner"


def test_a_page_holds_the_entries_with_most_trials():
    records = entered({f"entry{i:02d}": 20.0 + i for i in range(MOST_ENTRIES + 2)}, n=1) + entered({"zz": 12.0})
    table = duel_table(board(records), records)
    assert len(table["entries"]) == MOST_ENTRIES and "zz" in table["entries"] and table["left_out"] == 3


@pytest.mark.browser
def test_the_page_shows_a_pair_in_both_orders_and_has_an_address_for_it(tab, tmp_path):  # noqa: F811
    write_site(board(RECORDS), RECORDS, {}, tmp_path, "adamw")
    tab.goto((tmp_path / "compare.html").as_uri() + "#a=lion&b=adamw")
    row = tab.locator("#duel tr").last
    assert "overall" in row.inner_text() and "the second reaches the target sooner" in row.inner_text()
    later = float(row.locator("td").nth(0).inner_text().removesuffix("x"))
    tab.locator("#a").select_option(label="adamw")
    tab.locator("#b").select_option(label="lion")
    sooner = float(tab.locator("#duel tr").last.locator("td").nth(0).inner_text().removesuffix("x"))
    assert later == pytest.approx(1 / sooner, rel=0.01) and "a=adamw&b=lion" in tab.url
    tab.locator("#b").select_option(label="adamw")
    assert tab.locator("#nothing").is_visible() and tab.locator("#duel tr").count() == 0
