"""From the command to the first training step of ``digits_mlp``, warm, against the bare imports of what it stands on.

Run ``python tests/benchmarks/startup.py [--quick]``. Every process is new; harness and imports alternate. Prints a Markdown section
with medians and spread, where the time goes, and the peak memory of the run beyond its data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = """
import sys, time
from timetrial.suite.cli import main
started = float(sys.argv[1])
marks = {}

def mark(name):
    marks.setdefault(name, time.time() - started)

mark("interpreter")
import timetrial.suite.config
mark("configuration")
from timetrial.suite import trial
mark("imports of the harness")
first = trial.Trial._steps_until

def steps(self, examples):
    mark("first step")
    return first(self, examples)

opened = trial.open_inputs
built = trial.Trial._build
trial.Trial._steps_until = steps
trial.Trial._build = lambda self: (mark("data opened, device found"), built(self), mark("model built, dry run"))[0]
main(["run", "digits_mlp", "--smoke", "--quiet", "--no-mlflow", "--home", sys.argv[2], "loader=" + sys.argv[3]])
import json, resource
marks["peak_kib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(marks))
"""
IMPORTS = "import sys, time\nstarted = float(sys.argv[1])\nimport torch, lightning_fabric{more}\nprint(time.time() - started)"


def child(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, str(time.time()), *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two repeats")
    repeats = 2 if parser.parse_args().quick else 7
    print("## Time to the first step, `digits_mlp`, warm\n")
    print("| loader | first step s | bare imports s | above them s (spread) |")
    print("|---|---|---|---|")
    stages = []
    with tempfile.TemporaryDirectory() as home:
        for loader, more in (("torch", ""), ("ffcv", ", ffcv.loader")):
            child(COMMAND, home, loader)  # prepares the data and fills the caches
            first, bare = [], []
            for _ in range(repeats):
                stages.append(child(COMMAND, home, loader))
                first.append(stages[-1]["first step"])
                bare.append(child(IMPORTS.format(more=more)))
            above = [a - b for a, b in zip(first, bare, strict=True)]
            print(f"| {loader} | {spread(first)} | {spread(bare)} | {spread(above)} |", flush=True)
        data = sum(path.stat().st_size for path in Path(home).glob("data/*/train/*.npy"))
    print("\nWhere it goes (median seconds since the command, FFCV): ", end="")
    last = stages[-repeats:]
    print(", ".join(f"{name} {statistics.median(s[name] for s in last):.2f}" for name in last[0] if name != "peak_kib") + ".")
    peak = statistics.median(s["peak_kib"] for s in last) / 1024
    print(f"\nPeak memory of the run: {peak:.0f} MiB, of which data {data / 2**20:.1f} MiB.")


if __name__ == "__main__":
    main()
