"""A record is written once, whole, and is refused when it does not agree with itself."""

from __future__ import annotations

import dataclasses
import json

import pytest

from timetrial.suite.curve import CurvePoint, crossings
from timetrial.suite.errors import RecordError
from timetrial.suite.record import Entry, Origin, Record, Result, Status, TimeLedger, WorkloadIdentity, read_record, write_record
from timetrial.suite.workload import Budget, Direction, Metric, ResultRule, TargetLadder, Tier

METRIC = Metric("accuracy", Direction.MAXIMIZE, "fraction")
LADDER = TargetLadder(tuple(i / 20 for i in range(10)), 0.4)
CURVE = tuple(CurvePoint(i * 10, i, i * 0.1, i * 0.2, i * 1e6, i, None, None if i == 0 else 0.3, 1 - i / 10, i / 8) for i in range(9))


def record() -> Record:
    return Record(
        schema_version=1,
        record_id="digits-adamw-1",
        origin=Origin.NATIVE,
        workload=WorkloadIdentity("digits", 1, Tier.NANO, "image", METRIC, LADDER, Budget(100, 1.0), ResultRule.FIRST_CROSSING, "d" * 64),
        entry=Entry("adamw", "adamw", "all", hyperparameters={"lr": 0.1, "betas": [0.9, 0.99]}),
        seed=0,
        status=Status.HIT,
        crossings=crossings(CURVE, METRIC, LADDER),
        result=Result(0.9),
        time=TimeLedger({"train": 1.0}, {"train": 2.0}, {}, 1.0, 1.1),
    )


@pytest.fixture
def folder(tmp_path):
    write_record(tmp_path / "r", record(), CURVE, "seed: 0\n")
    return tmp_path / "r"


def edit(folder, change):
    path = folder / "record.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_what_is_written_is_what_is_read(folder):
    found, curve = read_record(folder)
    assert curve == CURVE
    assert dataclasses.replace(found, curve_digest=None) == record()
    assert not list(folder.glob("*.part"))


def test_a_record_is_never_overwritten(folder):
    with pytest.raises(RecordError, match="already holds a record"):
        write_record(folder, record(), CURVE, "seed: 1\n")


def test_a_better_crossing_than_the_curve_gives_is_refused(folder):
    edit(folder, lambda value: value["crossings"][8]["cost"].update(charged_seconds=0.01))
    with pytest.raises(RecordError, match=r"crossings.*altered"):
        read_record(folder)


def test_an_edited_curve_is_refused(folder):
    path = folder / "curve.csv"
    path.write_text(path.read_text().replace("0.875", "0.975"))
    with pytest.raises(RecordError, match="the curve was altered"):
        read_record(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(schema_version=2), "schema_version: expected 1, given 2"),
        (lambda v: v.update(sead=1), r"unknown key 'sead'; did you mean 'seed'"),
        (lambda v: v["workload"]["ladder"].update(mian=1), r"unknown key 'workload.ladder.mian'; did you mean 'main'"),
        (lambda v: v.pop("status"), "key 'status' is missing"),
        (lambda v: v.update(status="won"), "status.*given 'won'"),
        (lambda v: v["result"].update(final_quality=float("inf")), "Infinity is not a number"),
    ],
)
def test_a_foreign_or_broken_record_is_refused_with_the_reason(folder, change, message):
    edit(folder, change)
    with pytest.raises(RecordError, match=message):
        read_record(folder)


def test_missing_parts_are_named(folder, tmp_path):
    with pytest.raises(RecordError, match="no record.json"):
        read_record(tmp_path)
    (folder / "curve.csv").unlink()
    with pytest.raises(RecordError, match="curve.csv is missing"):
        read_record(folder)
    (folder / "record.json").write_text("{")
    with pytest.raises(RecordError, match="cannot be read as a record"):
        read_record(folder)
