"""The ledger of choosing, against a clock, a memory and a pool that the test moves."""

from __future__ import annotations

import json
from contextlib import nullcontext

import numpy as np
import pytest

import timetrial
from timetrial.data_pipelines.curation.ledger import Ledger
from timetrial.data_pipelines.curation.pool import Pool
from timetrial.data_pipelines.curation.selection import Cost, Selection


class Machine:
    """Seconds and bytes that stand still unless told otherwise."""

    wall = cpu = 0.0
    peak = 100


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def pool():
    return Pool(np.arange(10), {"x": np.ones((20, 4), np.float32), "y": np.zeros(20, np.int64)}, data_digest="d", label="y")


@pytest.fixture
def ledger(machine, pool):
    return Ledger(pool, lambda name: nullcontext(), now=lambda: machine.wall, cpu_now=lambda: machine.cpu, peak=lambda: machine.peak)


def test_every_span_has_its_seconds_bytes_and_peak(ledger, machine, pool):
    with ledger.span("embed"):
        machine.wall, machine.cpu, machine.peak = 2.0, 3.0, 500
        pool.without_labels().rows("x", np.arange(5))
    machine.wall = 10.0
    with ledger.span("score"):
        machine.cpu, machine.peak = 3.5, 400
        pool.field("x")
        pool.field("x")  # kept since the first time
    with ledger.span("embed"):
        machine.wall = 11.0
    assert ledger.read() == {
        "embed": {"wall_seconds": 3.0, "cpu_seconds": 3.0, "read_bytes": 5 * 16, "peak_memory_bytes": 500},
        "score": {"wall_seconds": 0.0, "cpu_seconds": 0.5, "read_bytes": 10 * 16, "peak_memory_bytes": 400},
    }


def test_a_span_that_raises_is_counted(ledger, machine):
    with pytest.raises(ValueError, match="x"), ledger.span("dedup"):
        machine.wall = 4.0
        raise ValueError("x")
    assert ledger.read()["dedup"]["wall_seconds"] == 4.0


def test_an_artefact_made_earlier_brings_its_lines(ledger):
    lines = {"embed": {"wall_seconds": 5.0, "cpu_seconds": 9.0, "read_bytes": 7, "peak_memory_bytes": 8}}
    ledger.charge(Cost(5.0, 9.0, {"embed": 5.0}, lines))
    ledger.charge(Cost(1.0, 2.0, {"embed": 1.0}))  # written before there were ledgers
    assert ledger.read()["embed"] == {"wall_seconds": 6.0, "cpu_seconds": 11.0, "read_bytes": 7, "peak_memory_bytes": 8}


def test_a_selection_file_keeps_the_ledger(tmp_path):
    cost = Cost(1.0, 2.0, {"score": 1.0}, {"score": {"wall_seconds": 1.0, "cpu_seconds": 2.0, "read_bytes": 3, "peak_memory_bytes": 4}})
    Selection(np.array([1]), 0.5, "p", cost=cost).write(tmp_path / "s.npz")
    assert Selection.read(tmp_path / "s.npz").cost == cost


def test_ones_own_data_get_one_too(tmp_path):
    rows = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    np.save(tmp_path / "v.npy", rows)
    timetrial.curate(tmp_path / "v.npy", home=tmp_path / "home", out=tmp_path / "out", out_beton=tmp_path / "kept.beton")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(summary["ledger"]) == set(summary["spans"]) >= {"dedup", "rewrite"}
    assert summary["ledger"]["rewrite"]["read_bytes"] >= summary["kept"] * 8 * 4
