"""How long the full site takes from 2,000 records, and how much memory: the promise is 20 s and 1 GB on 2 cores.

Run: ``python -m tests.benchmarks.site [records]``. Records are synthetic: 10 workloads, five seeds, as many entries as it takes.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.synthetic_records import lognormal_times, trials, workload
from timetrial.leaderboards.boards import board, read_folders
from timetrial.leaderboards.pages import write_site
from timetrial.suite.record import write_record

WORKLOADS, SEEDS = 10, 5


def main(count: int) -> None:
    """Write the records, then time reading them, the board, and the site."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        entries = -(-count // (WORKLOADS * SEEDS))
        for w in range(WORKLOADS):
            of = workload(f"workload_{w}")
            for e in range(entries):
                name = "adamw" if e == 0 else f"entry{e}" if e % 3 else f"adamw + method{e} 0.5"
                for record, curve in trials(of, name, lognormal_times(rng, rng.uniform(10, 55), SEEDS)):
                    write_record(Path(scratch) / "records" / record.record_id, record, curve, "")
        start = time.perf_counter()
        found, rejected = read_folders((Path(scratch) / "records").iterdir())
        read = time.perf_counter()
        records, curves = [r for r, _ in found], {r.record_id: c for r, c in found}
        built = board(records, rejected)
        boarded = time.perf_counter()
        paths = write_site(built, records, curves, Path(scratch) / "site", "adamw")
        done = time.perf_counter()
        front = (Path(scratch) / "site" / "index.html").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(records)} records: read {read - start:.1f} s, board {boarded - read:.1f} s, site {done - boarded:.1f} s")
    print(f"total {done - start:.1f} s, peak {peak:.0f} MiB, {len(paths)} files, front page {front / 1000:.0f} kB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
