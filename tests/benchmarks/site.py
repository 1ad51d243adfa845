"""How long the full site takes from 2,000 records, how much memory, and how soon its front page can be used: 20 s, 1 GB, 500 kB, 2 s.

Run ``python tests/benchmarks/site.py [RECORDS]``. Records are synthetic: 10 workloads, five seeds, as many entries as it takes. Prints a
Markdown section; the browser is Chromium, where there is one, with a file and no network.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.synthetic_records import lognormal_times, trials, workload
from timetrial.leaderboards.boards import board, read_folders
from timetrial.leaderboards.pages import write_site
from timetrial.suite.record import write_record

RECORDS, WORKLOADS, SEEDS = 2000, 10, 5
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def write_records(count, folder):
    rng = np.random.default_rng(0)
    for w in range(WORKLOADS):
        of = workload(f"workload_{w}")
        for e in range(-(-count // (WORKLOADS * SEEDS))):
            name = "adamw" if e == 0 else f"entry{e}" if e % 3 else f"adamw + method{e} 0.5"
            for record, curve in trials(of, name, lognormal_times(rng, rng.uniform(10, 55), SEEDS)):
                write_record(folder / record.record_id, record, curve, "")


def seconds_until_usable(page):
    """From opening the file until a switch has answered, in a browser that runs already."""
    from playwright.sync_api import sync_playwright

    path = next(path for name in BROWSERS if (path := shutil.which(name)))
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=path, args=flags)
        tab = chromium.new_page()
        start = time.perf_counter()
        tab.goto(page.as_uri())
        tab.locator("section.front").first.get_by_role("button", name="examples").click()
        tab.locator("section.front").first.locator('div[data-state="examples"]').wait_for(state="visible")
        taken = time.perf_counter() - start
        chromium.close()
    return taken


def main(count):
    with tempfile.TemporaryDirectory() as scratch:
        folder, site = Path(scratch) / "records", Path(scratch) / "site"
        write_records(count, folder)
        start, cpu = time.perf_counter(), time.process_time()
        found, rejected = read_folders(folder.iterdir())
        read = time.perf_counter()
        records, curves = [r for r, _ in found], {r.record_id: c for r, c in found}
        paths = write_site(board(records, rejected), records, curves, site, "adamw")
        done, cpu = time.perf_counter(), time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        front = (site / "index.html").stat().st_size
        usable = f"{seconds_until_usable(site / 'index.html'):.2f} s" if any(map(shutil.which, BROWSERS)) else "not measured"
    print(f"## The full site, {len(records):,} records\n\n| what | measured | at most |\n|---|---|---|")
    print(f"| reading the records | {read - start:.1f} s | |\n| board and {len(paths)} files | {done - read:.1f} s | |")
    print(f"| together (of it CPU time: {cpu:.1f} s) | {done - start:.1f} s | 20 s |\n| peak memory | {peak:.0f} MiB | 1 GB |")
    print(f"| front page | {front / 1000:.0f} kB | 500 kB |\n| front page usable in Chromium | {usable} | 2 s |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS)
