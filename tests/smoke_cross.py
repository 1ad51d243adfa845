"""A few steps of an algorithm on a workload, on little data: what tests of all algorithms with all workloads share."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from timetrial.suite.config import resolve
from timetrial.suite.errors import NeedsUnmet
from timetrial.suite.inputs import Examples, open_inputs
from timetrial.suite.registry import definition, names
from timetrial.suite.trial import run_trial

COMMITTED = Path(__file__).parent / "benchmarks" / "CROSS.md"
BATCH, HELD_OUT = 16, 16
WORKLOADS = tuple(name for name in names("workload") if definition("workload", name)["tier"] == "nano")
ALGORITHMS = names("algorithm")
IN_ONE_PROCESS = tuple(name for name in ALGORITHMS if "two_processes" not in (definition("algorithm", name).get("needs") or ()))


def committed():
    """The cells of the committed table by algorithm and workload."""
    rows = [line.strip("|\n ").split(" | ") for line in COMMITTED.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    (_, *workloads), *rows = rows
    return {(algorithm, workload): cell for algorithm, *cells in rows for workload, cell in zip(workloads, cells, strict=True)}


@cache
def stated(group, name, key):
    """What the file of a definition lists under a key."""
    return frozenset(definition(group, name).get(key) or ())


def unmet(algorithm, workload):
    return sorted(stated("algorithm", algorithm, "needs") - stated("workload", workload, "provides") - {"two_processes"})


def covering(each=3):
    """Pairs in which every algorithm meets ``each`` workloads whose needs fit, going round, so that workloads meet as many as they can."""
    pairs, position = [], 0
    for algorithm in ALGORITHMS:
        turned = [WORKLOADS[(position + i) % len(WORKLOADS)] for i in range(len(WORKLOADS))]
        pairs += [(algorithm, workload) for workload in islice((w for w in turned if not unmet(algorithm, w)), each)]
        position += each
    return pairs


@cache
def little(workload, home):
    """A workload's inputs with few held-out examples, opened and verified once a process."""
    inputs = open_inputs(resolve([f"workload={workload}"]).workload, home)
    return replace(inputs, validation=few(inputs.validation, inputs.label), test=few(inputs.test, inputs.label))


def few(examples, label):
    """Some examples of every class, the first and the last among them."""
    ids = examples.ids if label is None else examples.ids[np.argsort(examples.split.fields[label].values[examples.ids], kind="stable")]
    return Examples(examples.split, np.sort(ids[np.linspace(0, len(ids) - 1, HELD_OUT).astype(int)]))


@cache
def small(workload):
    """A plan of a workload with small batches; composed once a process."""
    sizes = [f"workload.batch_size={BATCH}", f"workload.evaluation.batch_size={HELD_OUT}"]
    return resolve([f"workload={workload}", *sizes, "loader=torch", "threads=1"])


@cache
def chosen(algorithm):
    """A plan of an algorithm, on as many processes as it needs; composed once a process."""
    processes = 2 if "two_processes" in stated("algorithm", algorithm, "needs") else 1
    return resolve([f"algorithm={algorithm}", "workload=digits_mlp", f"processes={processes}"])


def smoke(algorithm, workload, data, home):
    """``ran``, ``diverged``, which needs are unmet, or the end of what failed. ``data``: the home that the data are prepared in."""
    given = chosen(algorithm)
    plan = replace(small(workload), algorithm=given.algorithm, defaults=given.defaults, processes=given.processes).checked()
    try:
        record, _ = run_trial(plan, home, inputs=replace(little(workload, data), workload=plan.workload), smoke=True)
    except NeedsUnmet:
        return f"refused: needs {', '.join(unmet(algorithm, workload))}"
    told = {"smoke": "ran", "diverged": "diverged"}
    return told.get(record.status) or f"{record.status}: {(record.status_reason or 'no reason').strip().splitlines()[-1]}"
