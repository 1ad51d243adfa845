"""Speed of judging: scoring AlgoPerf's imported logs under both rules, and the contract suite on the README's own entry.

Run ``TIMETRIAL_ALGOPERF=FOLDER python tests/benchmarks/scoring.py``; the folder holds the logs of v0.5 (external tuning) and their targets.
Prints a Markdown section. Seconds are of a whole process, imports included.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOGS = "algoperf_v05_external_tuning.csv.xz"
DRAWS, REPEATS = 2000, 3


def readme_entry(folder):
    """The entry that the README tells people to write."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Submit your own")[2]
    for language, name in (("yaml", "entry.yaml"), ("python", "algorithm.py")):
        (folder / name).write_text(re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[0], encoding="utf-8")
    return folder


def timed(command):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "timetrial", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    print("## Scoring and checking\n\n| what | seconds (spread) | at most |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        entry = Path(scratch) / "my_entry"
        entry.mkdir()
        logs = Path(os.environ["TIMETRIAL_ALGOPERF"]) / LOGS
        home = ["--home", str(Path(scratch) / "home")]
        scored = f"AlgoPerf v0.5, 3,700 trials, both rules, {DRAWS} bootstrap draws, page"
        cases = (
            (scored, 60, ["import", "algoperf", str(logs), "--draws", str(DRAWS)]),
            ("contract suite on the README's entry", 90, ["check", str(readme_entry(entry))]),
        )
        for name, bound, command in cases:
            seconds = sorted(timed([*command, *home]) for _ in range(REPEATS))
            print(f"| {name} | {statistics.median(seconds):.1f} ({seconds[0]:.1f} to {seconds[-1]:.1f}) | {bound} |", flush=True)


if __name__ == "__main__":
    main()
