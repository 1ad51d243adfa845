"""Pins: for one version of the boards, nobody who comes later moves a number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.pins import FILE_NAME, Pins, extended_pins, next_pins, read_pins, write_pins
from timetrial.leaderboards.tracks import State, front_boards
from timetrial.suite.cli import main
from timetrial.suite.errors import RecordError
from timetrial.suite.record import write_record
from timetrial.suite.workload import Lens

from .synthetic_records import LOSS, lognormal_times, trials, workload

WORKLOADS = (workload(), workload("shakespeare_gpt", metric=LOSS))


def entered(entry, seconds, seed, n=5, first=0):
    rng = np.random.default_rng(seed)
    found = [pair for of in WORKLOADS for pair in trials(of, entry, lognormal_times(rng, seconds, n, 0.05))]
    return [(replace(r, seed=r.seed + first, record_id=f"{r.record_id}-{first}"), curve) for r, curve in found]


BASE = entered("reference", 20, 0) + entered("lion", 30, 1)


def factors(pairs, pins):
    records = [record for record, _ in pairs]
    (front,) = {f.track: f for f in front_boards(board(records), records, "reference", pins) if f.track == "training algorithms"}.values()
    return {h.entry: h.factor for h in front.headlines[State(Lens.CHARGED_SECONDS)]}, front.pin


def pinned(pairs, before=None):
    return next_pins(board([record for record, _ in pairs]), "reference", before)


def test_new_reference_trials_and_new_entries_move_no_score_of_a_pinned_version():
    apart = BASE + entered("prodigy", 24, 4, first=20)  # no seed of the reference's
    pins = pinned(apart)
    before, version = factors(apart, pins)
    more = apart + entered("reference", 26, 2, first=5) + entered("muon", 12, 3)
    after, _ = factors(more, pins)
    assert version == "version 1" and {name: after[name] for name in before} == before and "muon" in after
    assert factors(more, None)[0]["prodigy"] != before["prodigy"]
    following = pinned(more, pins)
    assert following.version == 2 and factors(more, following)[0] == factors(more, None)[0]


def test_an_entry_is_held_against_the_reference_trials_with_its_seeds():
    slow_day = entered("reference", 40, 2, first=5) + entered("lion", 60, 3, first=5)
    both = [(replace(r, entry=replace(r.entry, name="later") if r.entry.name == "lion" else r.entry), c) for r, c in slow_day]
    found, _ = factors(BASE + both, None)
    alone, _ = factors(BASE, None)
    assert found["lion"] == alone["lion"] and found["reference"].value == 1.0
    assert found["later"].value == pytest.approx(40 / 60, rel=0.1)  # twice as slow a day moves no factor
    few, _ = factors(BASE + [pair for pair in both if pair[0].entry.name != "later" or pair[0].seed < 7], None)
    assert few["later"].value == pytest.approx(30 / 60, rel=0.2) and few["later"].interval is None  # all reference trials, for want of five


def test_further_trials_of_the_reference_extend_the_pins_and_move_no_factor_of_entries_beside_the_old_ones():
    first = [pair for pair in BASE if pair[0].workload == WORKLOADS[0]]
    pins = pinned(first)
    assert extended_pins(board([record for record, _ in first]), pins) == pins
    following = extended_pins(board([record for record, _ in BASE]), pins)
    assert following.version == 2 and set(following.record_ids["cpu2"]) == {of.identity for of in WORKLOADS}
    identity = WORKLOADS[0].identity
    assert following.record_ids["cpu2"][identity] == pins.record_ids["cpu2"][identity]
    more = BASE + entered("reference", 26, 2, first=5)
    last = extended_pins(board([record for record, _ in more]), following)
    assert last.version == 3 and all(len(ids) == 10 for ids in last.record_ids["cpu2"].values())
    assert factors(more, last)[0]["lion"] == factors(BASE, following)[0]["lion"]


def test_trials_of_another_setting_of_the_reference_extend_no_pin():
    pins = pinned(BASE)
    other = [(replace(r, entry=replace(r.entry, hyperparameters={"lr": 1.0})), c) for r, c in entered("reference", 26, 2, n=7, first=5)]
    assert extended_pins(board([record for record, _ in BASE + other]), pins) == pins


def test_pins_survive_their_file(tmp_path):
    pins = pinned(BASE)
    path = tmp_path / FILE_NAME
    assert read_pins(path) is None
    path.write_text(write_pins(pins))
    assert read_pins(path) == pins
    for broken in ("[", "- a\n", "version: x\nreference: r\nrecord_ids: {}\n"):
        path.write_text(broken)
        with pytest.raises(RecordError, match=FILE_NAME):
            read_pins(path)


def test_a_pinned_trial_that_is_not_there_is_named():
    pins = pinned(BASE)
    (gone, _), *rest = BASE
    with pytest.raises(RecordError, match=f"version 1: reference trial '{gone.record_id}' of cifar10_cnn@1 is not among the records"):
        factors(rest, pins)


def test_nothing_is_pinned_without_frozen_reference_trials():
    with pytest.raises(RecordError, match="nothing to pin"):
        next_pins(board([record for record, _ in BASE]), "nobody", None)
    assert Pins(1, "reference", {}).of("cpu2") is None


def test_the_command_pins_and_builds_by_the_pins(tmp_path, capsys):
    records = tmp_path / "records"
    for record, curve in BASE:
        write_record(records / record.record_id, record, curve, "")
    for version in (1, 2):
        assert main(["leaderboard", "pin", "--records", str(records), "--home", str(tmp_path)]) == 0
        assert read_pins(records / FILE_NAME).version == version
    assert main(["leaderboard", "build", "--records", str(records), "--out", str(tmp_path / "site"), "--home", str(tmp_path)]) == 0
    assert "reference trials: version 2" in (tmp_path / "site" / "index.html").read_text()
