"""The protocol's constants: one file, read strictly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from timetrial.suite.errors import ConfigError
from timetrial.suite.protocol import Protocol, protocol
from timetrial.suite.registry import names
from timetrial.suite.schema import build, plain


def test_every_algorithm_and_workload_that_the_protocol_names_exists():
    found = protocol()
    assert set(found.targets.baselines) <= set(names("algorithm"))
    assert {*found.qualification.workloads, *found.full.workloads} <= set(names("workload"))


def test_a_full_submission_has_enough_seeds_for_intervals_and_holds_the_qualification():
    found = protocol()
    assert found.full.seeds >= 5 and set(found.qualification.workloads) <= set(found.full.workloads)


def test_an_unknown_constant_is_refused_with_the_nearest_name():
    value = plain(protocol())
    value["tuning"]["trails"] = 3
    with pytest.raises(ConfigError, match=r"unknown key 'tuning\.trails'; did you mean 'trials'"):
        build(Protocol, value, "protocol.yaml")


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        ("targets", {"hit_share": 1.1}, r"targets\.hit_share: expected more than 0 and at most 1, given 1\.1"),
        ("targets", {"reference_seeds": 0}, r"targets\.reference_seeds: expected at least 1"),
        ("tuning", {"trials": 0}, r"tuning\.trials: expected at least 1"),
        ("self_tuning", {"budget_factor": 0.5}, r"self_tuning\.budget_factor: expected at least 1"),
        ("full", {"seeds": 0}, r"full\.seeds: expected at least 1"),
    ],
)
def test_a_constant_out_of_its_range_is_refused_by_name(section, changes, said):
    found = protocol()
    wrong = replace(found, **{section: replace(getattr(found, section), **changes)})
    with pytest.raises(ConfigError, match=said):
        wrong.checked()
