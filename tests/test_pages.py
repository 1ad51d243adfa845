"""The static site: every page loads clean in a browser, its switches show what the Python functions give, and forms are golden."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from timetrial.leaderboards import pages
from timetrial.leaderboards.boards import Rejected, board
from timetrial.leaderboards.breakdown import breakdown
from timetrial.leaderboards.compare import compare, sentence
from timetrial.leaderboards.exports import BEGIN, END, latex, section_svg, with_region
from timetrial.leaderboards.horizons import horizon_points
from timetrial.leaderboards.matrix import matrices
from timetrial.leaderboards.matrix import sentence as matrix_sentence
from timetrial.leaderboards.states import Standing, Verdict, read_states
from timetrial.leaderboards.tracks import State, Track, amortised, front_boards, states
from timetrial.suite.cli import main
from timetrial.suite.errors import RecordError, UserError
from timetrial.suite.files import file_digest
from timetrial.suite.record import write_record
from timetrial.suite.workload import Lens

from .synthetic_records import LOSS, lognormal_times, trials, workload
from .test_site import NASTY, browser  # noqa: F401  the fixture

ENTRIES = {"adamw": 20, "lion": 30, "muon": 12, "adamw + random 0.5": 25, "lion + random 0.5": 28, NASTY: 33, "adagrad": 90}
CURATE_SECONDS = 4.0


def example(frozen=True, n=5):
    rng = np.random.default_rng(0)
    found = []
    for of in (workload(frozen=frozen), workload("shakespeare_gpt", metric=LOSS, frozen=frozen)):
        for entry, seconds in ENTRIES.items():
            found += trials(of, entry, lognormal_times(rng, seconds, n, 0.03))
    return [(with_curation(record), curve) for record, curve in found]


def with_curation(record):
    """The record with some of its seconds spent on choosing data, where it chose."""
    if record.entry.curation == "all":
        return record
    train = record.time.charged_seconds - CURATE_SECONDS
    return replace(record, time=replace(record.time, wall_seconds={"curate": CURATE_SECONDS, "train": train}))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    found = example()
    records, curves = [r for r, _ in found], {r.record_id: c for r, c in found}
    built = board(records, [Rejected("broken", NASTY)])
    folder = tmp_path_factory.mktemp("site")
    paths = pages.write_site(built, records, curves, folder, "adamw")
    return built, records, folder, paths


@pytest.fixture
def tab(browser):  # noqa: F811
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    trouble = []
    page.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: trouble.append(str(e)))
    page.on("dialog", lambda d: (trouble.append(d.message), d.dismiss()))
    page.on("request", lambda r: trouble.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    yield page
    page.close()
    assert trouble == []


def shown(tab, table, column):
    rows = tab.locator(f"{table} tbody tr:visible")
    return [
        (rows.nth(i).locator("th").get_attribute("data-value"), rows.nth(i).locator(column).first.get_attribute("data-value"))
        for i in range(rows.count())
    ]


@pytest.mark.browser
def test_every_page_loads_clean_and_no_link_leads_nowhere(tab, site):
    _, _, folder, paths = site
    for path in (p for p in paths if p.suffix == ".html"):
        tab.goto(path.as_uri())
        assert tab.locator("h1").count() == 1
        for link in tab.locator("a[href]").evaluate_all("all => all.map(a => a.getAttribute('href'))"):
            assert link.startswith("#") or (path.parent / link.partition("#")[0]).resolve().is_file(), f"{path.name}: {link}"
    assert (folder / "index.html").stat().st_size < 500_000


@pytest.mark.browser
def test_the_front_board_shows_the_headlines_of_every_state(tab, site):
    built, records, folder, _ = site
    tab.goto((folder / "index.html").as_uri())
    for i, front in enumerate(front_boards(built, records, "adamw"), 1):
        section = tab.locator(f"#front-{i}")
        for state, headlines in front.headlines.items():
            section.locator(f'button[data-state="{state.key}"]').click()
            values = shown(tab, f"#front-{i} div[data-state='{state.key}']", ".time")
            assert [(name, float(value)) for name, value in values] == [(h.entry, h.factor.value) for h in headlines]
            assert section.locator("div[data-state]:visible").count() == 1


@pytest.mark.browser
def test_the_matrix_shows_what_the_functions_give_in_every_reading(tab, site):
    built, records, folder, _ = site
    tab.goto((folder / "index.html").as_uri())
    found = matrices(built, {record.record_id: record for record in records})
    assert len(found) == 2
    for matrix in found:
        section = tab.locator(f"#matrix-{matrix.section.key}")
        for reading in matrix.readings:
            section.locator(f'button[data-state="{reading.key}"]').click()
            shown_now = section.locator("div[data-state]:visible")
            assert shown_now.count() == 1 and matrix_sentence(reading) in shown_now.inner_text()
            values = [float(v) if v else None for v in shown_now.locator("td").evaluate_all("cells => cells.map(c => c.dataset.value)")]
            assert values == [cell.cost.value for cell in reading.cells]
    front = json.loads((folder / "front.json").read_text())
    assert [len(one["readings"][0]["cells"]) for one in front["matrices"]] == [4, 4]
    assert (folder / "front.md").read_text().count("median seconds, trials that came so far") == 2


@pytest.mark.browser
def test_the_page_of_headlines_shows_the_factor_on_every_workload(tab, site):
    built, records, folder, _ = site
    tab.goto((folder / "index.html").as_uri())
    tab.locator("#front-1 a", has_text="By workload").click()
    for i, front in enumerate(front_boards(built, records, "adamw"), 1):
        headlines = next(iter(front.headlines.values()))
        parts = breakdown(front.field, headlines).parts
        cells = tab.locator(f"#front-{i} tbody td.r:not(.time)").evaluate_all("cells => cells.map(c => Number(c.dataset.value))")
        assert cells == [part.factor.factor.value for h in headlines for part in parts[h.entry].values()]


@pytest.mark.browser
def test_switching_level_and_lens_shows_what_the_functions_give(tab, site):
    built, records, folder, _ = site
    by_id = {r.record_id: r for r in records}
    section = built.sections[0]
    tab.goto((folder / "workload" / f"{section.key}.html").as_uri())
    for state in states():
        tab.locator(f'button[data-choice="{state.key}"]').click()
        table = pages.level_table(section, by_id, state)
        for i, level in enumerate(section.workload.ladder.levels):
            tab.locator("#level").select_option(str(i))
            expected = [None if e is None or e.value is None else e.value for e in table[level]]
            values = [value for _, value in shown(tab, "#by-level", ".time")]
            assert [float(v) if v else None for v in values] == expected


@pytest.mark.browser
def test_the_page_of_an_entry_says_what_may_be_claimed_against_the_reference(tab, site):
    built, records, folder, _ = site
    tab.goto(next((folder / "entry").glob("muon-*.html")).as_uri())
    (duel,) = compare(built, records, "muon", "adamw")
    claims = tab.locator(".findings li").all_inner_texts()
    assert claims == [
        *(sentence(duel, name, by_lens[Lens.CHARGED_SECONDS]) for name, by_lens in duel.workloads.items()),
        sentence(duel, "overall", duel.overall[Lens.CHARGED_SECONDS]),
    ]
    tab.goto(next((folder / "entry").glob("adamw-??????.html")).as_uri())
    assert tab.locator(".findings").count() == 0


@pytest.mark.browser
def test_a_horizon_is_chosen_in_the_page(tab, tmp_path):
    found = trials(workload(), "adamw", [20] * 5)
    found += [
        (replace(r, record_id=f"{r.record_id}-half", entry=replace(r.entry, algorithm_options={"horizon": 0.5})), c)
        for r, c in trials(workload(), "adamw", [10] * 5)
    ]
    records = [r for r, _ in found]
    curves = {record.record_id: curve for record, curve in found}
    pages.write_site(board(records), records, curves, tmp_path, "adamw")
    tab.goto(next((tmp_path / "workload").glob("*.html")).as_uri())
    points = horizon_points(records, curves)
    rows = tab.locator(".horizons tbody tr")
    assert [(rows.nth(i).locator("td").first.inner_text(), rows.nth(i).locator("td").last.inner_text()) for i in range(rows.count())] == [
        (f"{p.horizon:g} of the budget", "on it" if p.on_frontier else "") for p in points
    ]
    assert len(shown(tab, "#by-level", ".time")) == 2
    tab.locator("#horizon").select_option("0.5")
    ((_, value),) = shown(tab, "#by-level", ".time")
    assert float(value) == pytest.approx(10, rel=0.02)


@pytest.mark.browser
@pytest.mark.parametrize("name", ["index.html", "method.html", "rejected.html", "workload", "entry"])
def test_a_phone_needs_no_sideways_scrolling(browser, site, name):  # noqa: F811
    _, _, folder, _ = site
    path = folder / name if name.endswith(".html") else sorted((folder / name).glob("*.html"))[0]
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.close()


def test_tracks_hold_their_entries_and_the_reference_scores_one(site):
    built, records, *_ = site
    fronts = {front.track: front for front in front_boards(built, records, "adamw")}
    seconds = State(Lens.CHARGED_SECONDS)
    names = {track: {h.entry for h in front.headlines[seconds]} for track, front in fronts.items()}
    assert names[Track.TRAINING] == {"adamw", "lion", "muon", "adagrad", NASTY}
    assert names[Track.CURATION] == {"adamw", "adamw + random 0.5"}
    assert names[Track.MATRIX] == set(ENTRIES)
    assert all(h.factor.value == 1.0 for front in fronts.values() for h in front.headlines[seconds] if h.entry == "adamw")
    assert fronts[Track.TRAINING].claim and fronts[Track.TRAINING].headlines[seconds][0].entry == "muon"


def test_a_workload_that_few_entries_ran_on_unranks_nobody():
    ways = ["random", "loss", "dbp"]
    entries = {"adamw": 20, **{f"adamw + {way} 0.5": 15 + i for i, way in enumerate(ways)}}
    few = {"adamw": 20, "adamw + dbp 0.5": 21, "lion": 30, "lion + dbp 0.5": 33}
    every = (workload(), workload("shakespeare_gpt", metric=LOSS))
    found = [r for of in every for entry, seconds in entries.items() for r, _ in trials(of, entry, [seconds] * 5)]
    found += [r for entry, seconds in few.items() for r, _ in trials(workload("emoji_clip"), entry, [seconds] * 5)]
    (front,) = front_boards(board(found), found, "adamw")
    assert front.track is Track.CURATION and front.workloads == ("cifar10_cnn@1", "shakespeare_gpt@1")
    assert {h.entry for h in front.headlines[State(Lens.CHARGED_SECONDS)] if h.rank is not None} == set(entries)


def test_provisional_targets_are_shown_without_a_claim():
    found = [r for r, _ in example(frozen=False)]
    assert not any(front.claim for front in front_boards(board(found), found, "adamw"))


def test_no_headline_without_a_reference_on_two_workloads():
    found = [r for r, _ in trials(workload(), "adamw", [20] * 5) + trials(workload(), "lion", [20] * 5)]
    assert front_boards(board(found), found, "adamw") == ()
    assert front_boards(board(found), found, "nobody") == ()


def test_amortising_gives_back_all_but_a_share_of_the_selection():
    record = next(r for r, _ in example() if r.entry.curation == "random")
    main, spread = record.crossing().cost, amortised(record, 4).crossing().cost
    assert main[Lens.CHARGED_SECONDS] - spread[Lens.CHARGED_SECONDS] == pytest.approx(CURATE_SECONDS * 3 / 4)
    assert main[Lens.EXAMPLES] == spread[Lens.EXAMPLES]
    assert amortised(replace(record, selected=None), 4).crossings == record.crossings  # it decided while training
    assert amortised(record, 1).crossings == record.crossings


def test_the_same_records_in_any_order_give_the_same_site(tmp_path):
    found = example()
    for name, order in (("one", found), ("other", found[::-1])):
        records, curves = [r for r, _ in order], {r.record_id: c for r, c in order}
        pages.write_site(board(records), records, curves, tmp_path / name, "adamw")
    files = {p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()}
    assert len(files) > 10
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "other" / f).read_bytes() for f in files)


def test_latex_and_svg_escape_what_records_say(site):
    built = site[0]
    assert "\\#" not in latex(built) and "<script" not in section_svg(built.sections[0])
    assert latex(board([r for r, _ in trials(workload("a_b"), "x_{y}\\z", [20] * 5)])).count(r"x\_\{y\}\textbackslash{}z") == 1
    root = ElementTree.fromstring(section_svg(built.sections[0]))
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == len(ENTRIES) - 1  # one missed


def test_a_readme_keeps_everything_but_its_region(site):
    text = f"before\n{BEGIN}\nOUTDATED\n{END}\nafter\n"
    body = (site[2] / "front.md").read_text()
    once = with_region(text, body)
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "OUTDATED" not in once and "| muon |" in once
    assert with_region(once, body) == once
    with pytest.raises(UserError, match="one region"):
        with_region("no markers", body)


def test_withdrawn_trials_leave_and_disputed_ones_are_marked():
    records = [r for r, _ in trials(workload(), "adamw", [20] * 5) + trials(workload(), "lion", [30] * 5)]
    said = {records[0].record_id: Verdict(Standing.WITHDRAWN, "wrong data"), "lion": Verdict(Standing.DISPUTED, "not reproduced", "#3")}
    built = board(records, states=said)
    rows = {row.entry: row for row in built.sections[0].rows}
    assert rows["adamw"].n == 4 and rows["lion"].label == "lion [disputed]" and rows["lion"].states == ("disputed: not reproduced (by #3)",)
    assert built.rejected == (Rejected(records[0].record_id, "withdrawn: wrong data"),)


def test_states_are_read_strictly(tmp_path):
    path = tmp_path / "states.yaml"
    assert read_states(path) == {}
    path.write_text("r1: {state: superseded, reason: re-timed, by: r2}\n")
    assert read_states(path) == {"r1": Verdict(Standing.SUPERSEDED, "re-timed", "r2")}
    path.write_text("r1: {state: doubtful, reason: x}\n")
    with pytest.raises(RecordError, match="r1"):
        read_states(path)


def test_the_command_builds_the_site_and_the_readme(tmp_path, capsys):
    for record, curve in example():
        write_record(tmp_path / "records" / record.record_id.replace("/", "_"), record, curve, "")
    (tmp_path / "records" / "states.yaml").write_text("muon: {state: disputed, reason: too good}\n")
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    assert main(["leaderboard", "build", "--home", str(tmp_path), "--quiet", "--readme", str(readme)]) == 0
    folder = tmp_path / "boards" / "all"
    assert "| muon (disputed: too good) |" in readme.read_text()
    assert json.loads((folder / "board.json").read_text())["schema_version"] == 1
    assert {p.parent.name for p in folder.rglob("*.html")} == {"all", "workload", "entry"}
    assert (folder / "front.md").read_text().strip() in readme.read_text()


def test_every_kind_of_bad_record_is_named_with_its_reason_and_in_no_number(tmp_path):
    good = trials(workload(), "adamw", [20] * 5)
    bad = {"corrupt": None, "foreign": None, "nan": None, "backwards": None, "no_curve": None, "edited": None, "edited_record": None}
    home = tmp_path / "records"
    for record, curve in good:
        write_record(home / record.record_id, record, curve, "")
    for i, name in enumerate(bad):
        record, curve = trials(workload(), "lion", [25] * 9)[i]
        write_record(home / name, record, curve, "")
    (home / "corrupt" / "record.json").write_text('{"schema_')
    spoil(home / "foreign" / "record.json", '"schema_version": 1', '"schema_version": 7')
    spoil(home / "nan" / "record.json", '"seed": 2', '"seed": NaN')
    rows = (home / "backwards" / "curve.csv").read_text().splitlines()
    (home / "backwards" / "curve.csv").write_text("\n".join([rows[0], *rows[:0:-1]]) + "\n")
    digest = read_digest(home / "backwards")
    spoil(home / "backwards" / "record.json", *digest)
    (home / "no_curve" / "curve.csv").unlink()
    spoil(home / "edited" / "curve.csv", "0.1", "0.2")
    spoil(home / "edited_record" / "record.json", '"hit": true', '"hit": false')
    assert main(["leaderboard", "build", "--home", str(tmp_path), "--quiet"]) == 0
    page = (tmp_path / "boards" / "all" / "rejected.html").read_text()
    built = json.loads((tmp_path / "boards" / "all" / "board.json").read_text())
    reasons = {r["record_id"]: r["reason"] for r in built["rejected"]}
    assert set(reasons) == set(bad) and all(f"<code>{name}</code>" in page for name in bad)
    for name, word in (
        ("foreign", "schema_version"),
        ("nan", "NaN"),
        ("backwards", "backwards"),
        ("no_curve", "missing"),
        ("edited", "altered"),
    ):
        assert word in reasons[name], reasons[name]
    assert [row["entry"] for section in built["sections"] for row in section["rows"]] == ["adamw"]
    assert str(tmp_path) not in page


def spoil(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def read_digest(folder):
    """The digest that a record states, and the one its curve has now."""
    return json.loads((folder / "record.json").read_text())["curve_digest"], file_digest(folder / "curve.csv")
