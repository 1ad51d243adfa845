"""The page in a real browser: it loads clean from a file, sorts, filters and switches to the values that the functions give."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from timetrial.leaderboards.boards import Rejected, board
from timetrial.leaderboards.page import page
from timetrial.suite.workload import Lens

from .synthetic_records import LOSS, lognormal_times, trials, workload

pytestmark = pytest.mark.browser
NASTY = "<script>alert(1)</script>"


def example():
    rng = np.random.default_rng(0)
    medians = {"adamw": 20, "lion": 30, "muon": 12, "adamw + random 0.5": 25, NASTY: 33, "adagrad": 90}
    found = []
    for of in (workload(), workload("shakespeare_gpt", metric=LOSS), workload("digits_mlp", frozen=False)):
        for entry, seconds in medians.items():
            found += trials(of, entry, lognormal_times(rng, seconds, 3 if of.name == "digits_mlp" else 5))
    return found


@pytest.fixture(scope="module")
def built():
    found = example()
    return board([r for r, _ in found], [Rejected("broken", NASTY)]), {r.record_id: c for r, c in found}


@pytest.fixture(scope="module")
def file(built, tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "index.html"
    path.write_text(page(*built, "board of a test"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    chromium = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield found
        found.close()


@pytest.fixture
def opened(browser, file):
    """The page, opened from a file; console errors, dialogs and requests for anything else are collected in ``trouble``."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    trouble = []
    tab.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda e: trouble.append(str(e)))
    tab.on("dialog", lambda d: (trouble.append(d.message), d.dismiss()))
    tab.on("request", lambda r: trouble.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    tab.goto(file.as_uri())
    yield tab
    tab.close()
    assert trouble == []


def names(tab):
    return [
        re.sub(r"\s+", " ", text).strip()
        for text in tab.locator("section.workload").first.locator("tbody tr:visible .name").all_inner_texts()
    ]


def test_the_table_holds_the_rows_of_the_board(opened, built):
    section = built[0].sections[0]
    assert names(opened) == [row.entry for row in section.rows]
    cells = opened.locator("section.workload").first.locator("tbody td.time")
    values = [cells.nth(i).get_attribute("data-value") for i in range(cells.count())]
    expected = [row.to_target[Lens.CHARGED_SECONDS].value for row in section.rows]
    assert values == ["" if value is None else repr(value) for value in expected]


def test_a_click_on_a_head_sorts_and_missing_values_stay_below(opened, built):
    rows = built[0].sections[0].rows
    assert rows[-1].to_target[Lens.CHARGED_SECONDS].value is None
    head = opened.locator("section.workload").first.locator("th", has_text="time to target").get_by_role("button")
    head.click()
    assert names(opened) == [*reversed([row.entry for row in rows[:-1]]), rows[-1].entry]
    opened.locator("section.workload").first.locator("th", has_text="final accuracy").get_by_role("button").click()
    assert names(opened) == [row.entry for row in sorted(rows, key=lambda r: -r.final_quality.value)]


def test_the_filter_hides_rows_and_their_curves(opened):
    opened.fill("#filter", "adamw")
    assert set(names(opened)) == {"adamw", "adamw + random 0.5"}
    assert opened.locator("section.workload").first.locator(".plot").first.locator(".series:visible").count() == 2
    opened.fill("#filter", "")
    assert len(names(opened)) == 6


def test_the_lens_switch_changes_the_plot(opened):
    figure = opened.locator("figure.curves").first
    assert figure.locator(".plot:visible").get_attribute("data-lens") == "charged_seconds"
    figure.get_by_role("button", name="examples seen").click()
    assert figure.locator(".plot:visible").get_attribute("data-lens") == "examples"
    assert figure.locator(".plot:visible .axis").inner_text() == "examples seen"


def test_a_pointer_reads_the_median_quality_of_every_entry(opened, built):
    area = opened.locator(".area").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    opened.mouse.move(box["x"] + box["width"] - 1, box["y"] + 50)
    lines = dict(line.rsplit(maxsplit=1) for line in opened.locator(".tip:visible").inner_text().replace("\n0.", " 0.").splitlines()[1:])
    final = {row.entry: row.final_quality.value for row in built[0].sections[0].rows}
    assert {name: float(value) for name, value in lines.items()} == pytest.approx(final, abs=1e-4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_its_paper(browser, file, scheme):
    """WCAG contrast of at least 4.5 for body and soft text, 3 for the colours of curves (WCAG 2.2, 1.4.3 and 1.4.11)."""
    tab = browser.new_page(color_scheme=scheme)
    tab.goto(file.as_uri())
    read = "() => { const s = getComputedStyle(document.documentElement); return n => s.getPropertyValue(n) }"
    colours = tab.evaluate(
        f"names => Object.fromEntries(names.map(n => [n, ({read})()(n).trim()]))", [*TEXT, *GRAPHICS, "--card", "--paper"]
    )
    tab.close()
    assert min(contrast(colours[name], colours[paper]) for name in TEXT for paper in ("--card", "--paper")) >= 4.5
    assert min(contrast(colours[name], colours["--card"]) for name in GRAPHICS) >= 3


def test_a_phone_needs_no_sideways_scrolling(browser, file):
    tab = browser.new_page(viewport={"width": 360, "height": 740})
    tab.goto(file.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    assert tab.locator("tbody tr").first.locator("td.time").is_visible()
    tab.close()


def test_the_page_is_light_and_speaks_without_its_script(browser, file):
    assert file.stat().st_size < 500_000
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert tab.locator("tbody tr").count() > 6
    assert tab.locator(".plot:visible .line").count() > 6
    context.close()


TEXT = ("--ink", "--soft", "--accent", "--goal", "--warn")
GRAPHICS = tuple(f"--c{i}" for i in range(10))


def contrast(one, other):
    return (max(luminance(one), luminance(other)) + 0.05) / (min(luminance(one), luminance(other)) + 0.05)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
