"""How long trials take is told by the median of those that came to their end on the same workload and class of machine, by no others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from timetrial.suite.config import hardware_of, resolve
from timetrial.suite.forecast import Forecast
from timetrial.suite.record import Status, readable_records, write_record

from .synthetic_records import trial, workload

PLAN = resolve(["workload=digits_mlp", "algorithm=adamw"])


def taken(seconds, status=Status.HIT, digest=PLAN.workload.digest, hardware=None):
    record, _ = trial(workload("digits_mlp"), status=status, hardware_class=hardware or hardware_of(PLAN))
    return replace(record, workload=replace(record.workload, digest=digest), time=replace(record.time, outer_seconds=seconds))


def test_it_is_the_median_over_hits_misses_and_divergences():
    forecast = Forecast([taken(9.0, Status.MISSED), taken(2.0), taken(4.0, Status.DIVERGED)])
    assert forecast.taken(PLAN) == [9.0, 2.0, 4.0] and forecast.seconds(PLAN) == 4.0


@pytest.mark.parametrize(
    "other",
    [
        {"status": Status.SMOKE},
        {"status": Status.FAILED},
        {"status": Status.INTERRUPTED},
        {"digest": "another workload"},
        {"hardware": "gpu1-h200"},
        {"seconds": None},
    ],
    ids=lambda other: "".join(other),
)
def test_what_says_nothing_of_the_next_trial_is_left_out(other):
    left_out = taken(**{"seconds": 1.0, **other})
    assert Forecast([left_out]).seconds(PLAN) is None
    assert Forecast([left_out, taken(5.0)]).seconds(PLAN) == 5.0


def test_records_that_cannot_be_trusted_are_passed_over(tmp_path):
    for name in ("sound", "torn", "other"):
        record, curve = trial(workload("digits_mlp"), record_id=name)
        write_record(tmp_path / "records" / name, record, curve, "")
    (tmp_path / "records" / "torn" / "record.json").write_text("{")
    assert [record.record_id for record, _ in readable_records(tmp_path)] == ["other", "sound"]
    assert [record.record_id for record, _ in readable_records(tmp_path, "s*")] == ["sound"]
