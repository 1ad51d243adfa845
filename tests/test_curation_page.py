"""The page of a curation study: what the tables say, on one page that fetches nothing and is the same for the same records."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from timetrial.leaderboards.claims import Claim, Measure, Side
from timetrial.leaderboards.curation import comparisons, report
from timetrial.leaderboards.curation_page import curation_page
from timetrial.leaderboards.curation_summary import summaries, summary_markdown
from timetrial.suite.cli import main
from timetrial.suite.cli.study import show_board
from timetrial.suite.record import write_record

from .synthetic_records import LOSS, trial, workload

CLAIM = Claim(
    "good <b>beats</b> random",
    "Nobody 2026",
    "page 1",
    "elsewhere",
    "cifar10_cnn",
    Side("good", 0.5),
    Side("random", 0.5),
    Measure.QUALITY_AT_EXAMPLES,
)
ABSENT = replace(CLAIM, claim="what nobody ran", better=Side("rs2", 0.1))
COST = replace(CLAIM, claim="good is sooner", measure=Measure.SECONDS_TO_TARGET, margin=1.2)


def study(of, sizes=(0.1, 0.3, 0.5)):
    trials = [trial(of, "adamw", seed, 20.0 + seed) for seed in range(3)]
    for name, seconds in (("good", 12.0), ("random", 25.0)):
        for kept in sizes:
            ceiling = 0.95 - 0.05 / kept**0.5
            trials += [trial(of, f"adamw + {name} {kept}", seed, seconds + seed, ceiling=ceiling) for seed in range(3)]
    return trials


@pytest.fixture(scope="module")
def page():
    return curation_page(comparisons(study(workload()), [CLAIM, ABSENT, COST]), "a study", 5)


def test_the_page_holds_budgets_claims_and_scaling(page):
    assert page.count("<section") == 3 and 'id="claims-1"' in page
    assert re.search(r"good &lt;b&gt;beats&lt;/b&gt; random.*?verdict held.*?what nobody ran.*?verdict not\b.*?not measured", page, re.S)
    assert "1 held, 0 did not hold, 1 undecided, 1 not measured" in page and "3/5" in page
    assert len(re.findall(r'<g class="series', page)) == 2 + 3  # good and random against kept examples; against seconds all data too
    assert len(re.findall(r'<path class="dots"', page)) >= 2 * (9 + 3)
    assert "1 − accuracy, validation, against kept examples" in page


def test_the_page_fetches_nothing_and_does_not_depend_on_the_order_of_records(page):
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    trials = study(workload())
    assert curation_page(comparisons(trials[::-1], [CLAIM, ABSENT, COST]), "a study", 5) == page


def test_without_sizes_or_claims_their_parts_are_left_out_and_losses_are_errors_too():
    of = workload("digits_mlp", metric=LOSS)
    page = curation_page(comparisons(study(of, sizes=(0.5,)), [CLAIM]), "small")
    assert 'id="claims-1"' not in page and "against kept examples" not in page
    assert "loss, validation, against charged seconds" in page
    assert page.count("<section") == 2


def test_what_nobody_measured_is_said_once_a_workload_where_most_was_measured():
    of = workload()
    other = [(replace(r, entry=replace(r.entry, algorithm="lion"), record_id=f"lion-{r.record_id}"), c) for r, c in study(of, sizes=(0.1,))]
    page = curation_page(comparisons([*other, *study(of)], [CLAIM, ABSENT, COST]), "two")
    assert page.count('verdict not"') == 1
    assert page.count('id="budgets-') == 2 and page.count('id="claims-') == 1
    assert report(comparisons([*other, *study(of)], [CLAIM, ABSENT, COST])).count(ABSENT.claim) == 1


def test_a_page_without_anything_to_compare_is_empty():
    assert "<section" not in curation_page(comparisons([trial(workload(), "adamw + random 0.5")], []), "nothing")


def test_a_study_writes_the_page_beside_its_board_where_data_were_chosen(tmp_path, capsys):
    of = workload(main=0.7)
    trials = [(replace(r, study="s", trial_digest=r.record_id), c) for r, c in study(of, sizes=(0.5,))]
    for record, curve in trials:
        write_record(tmp_path / "records" / record.record_id, record, curve, "")
    plans = [SimpleNamespace(digest=r.record_id, seed=r.seed) for r, _ in trials]
    show_board("s", plans, tmp_path)
    page = tmp_path / "boards" / "s" / "curation.html"
    assert page.read_text(encoding="utf-8") == curation_page(comparisons(trials), "s", 3)
    assert str(page) in capsys.readouterr().err
    show_board("s", [p for p, (r, _) in zip(plans, trials, strict=True) if r.entry.curation == "all"], tmp_path / "none")
    assert not (tmp_path / "none" / "boards" / "s" / "curation.html").exists()


def test_a_site_has_the_same_tables_as_markdown_and_its_front_says_what_became_of_the_claims(tmp_path):
    trials = study(workload(main=0.7), sizes=(0.5,))
    for record, curve in trials:
        write_record(tmp_path / "records" / record.record_id, record, curve, "")
    assert main(["leaderboard", "build", "--home", str(tmp_path), "--out", str(tmp_path / "site"), "--quiet"]) == 0
    assert (tmp_path / "site" / "curation.md").read_text() == report(comparisons(trials))
    front = (tmp_path / "site" / "front.md").read_text()
    assert summary_markdown(summaries(comparisons(trials))) in front and "| 2 |" in front and "26: 0 held" in front
    assert [one["methods"] for one in json.loads((tmp_path / "site" / "front.json").read_text())["choosing"]] == [2]
    page = (tmp_path / "site" / "index.html").read_text()
    assert all(cell in page for one in summaries(comparisons(trials)) for cell in one.cells)
