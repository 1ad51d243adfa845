"""States and pins reach boards that are built from a tracking store: as tags of runs, sent by ``mirror`` or set by hand."""

from __future__ import annotations

import pytest

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.notes import notes_of, read_notes
from timetrial.leaderboards.pins import next_pins, write_pins
from timetrial.leaderboards.states import Standing, Verdict
from timetrial.suite.cli import main
from timetrial.suite.errors import RecordError
from timetrial.suite.record import write_record
from timetrial.suite.tracking import read_notes as tags_of
from timetrial.suite.tracking import write_notes

from .synthetic_records import LOSS, trials, workload

WORKLOADS = (workload(), workload("shakespeare_gpt", metric=LOSS))
STATES = """
muon: {state: disputed, reason: too good, by: "#3"}
cifar10_cnn-lion-s0: {state: withdrawn, reason: wrong data}
cifar10_cnn-lion-s1: {state: superseded, reason: re-timed, by: r9}
"""


def example():
    return [p for of in WORKLOADS for entry, s in (("reference", 20.0), ("lion", 30.0), ("muon", 12.0)) for p in trials(of, entry, [s] * 5)]


def test_what_was_said_comes_back_from_tags_by_record():
    records = [record for record, _ in example()]
    states = {"muon": Verdict(Standing.DISPUTED, "too good", "#3"), records[0].record_id: Verdict(Standing.WITHDRAWN, "wrong data")}
    pins = next_pins(board(records), "reference", None)
    tags = notes_of(records, states, pins)
    assert set(tags) == {r.record_id for r in records} and tags["cifar10_cnn-lion-s0"] == {}
    found, again = read_notes(tags, records[::-1])
    assert again == pins
    assert found == {r.record_id: v for r in records if (v := states.get(r.record_id) or states.get(r.entry.name))}


def test_the_latest_version_of_pins_stands():
    records = [record for record, _ in example() if record.entry.name == "reference"]
    tags = {record.record_id: {"board.pin": "1" if record.seed < 4 else "2"} for record in records}
    _, pins = read_notes(tags, records)
    assert pins.version == 2 and pins.reference == "reference"
    assert pins.record_ids["cpu2"] == {of.identity: (f"{of.name}-reference-s4",) for of in WORKLOADS}


@pytest.mark.parametrize("tags", [{"board.state": "doubtful"}, {"board.pin": "latest"}])
def test_a_tag_that_says_nothing_known_is_refused_by_name(tags):
    (record, _), *_ = example()
    with pytest.raises(RecordError, match=f"{record.record_id}.*{next(iter(tags))}"):
        read_notes({record.record_id: tags}, [record])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_site_from_mlflow_is_the_site_from_folders_states_and_pins_included(tmp_path, capsys):
    place = tmp_path / "records"
    pairs = example()
    for record, curve in pairs:
        write_record(place / record.record_id, record, curve, "")
    (place / "states.yaml").write_text(STATES)
    (place / "pins.yaml").write_text(write_pins(next_pins(board([record for record, _ in pairs]), "reference", None)))
    home = ["--home", str(tmp_path)]
    assert main(["mirror", *home]) == 0
    assert main(["leaderboard", "build", "--out", str(tmp_path / "folders"), *home]) == 0
    assert main(["leaderboard", "build", "--from", "mlflow", "--out", str(tmp_path / "mlflow-site"), *home]) == 0
    sites = (tmp_path / "folders", tmp_path / "mlflow-site")
    one, other = ({p.relative_to(site): p.read_bytes() for p in site.rglob("*") if p.is_file()} for site in sites)
    assert sorted(one) == sorted(other) and [name for name in one if one[name] != other[name]] == []
    front = (tmp_path / "mlflow-site" / "index.html").read_text()
    assert "disputed: too good (by #3)" in front and "reference trials: version 1" in front
    assert "withdrawn: wrong data" in (tmp_path / "mlflow-site" / "rejected.html").read_text()

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert write_notes(notes_of([record for record, _ in pairs], {}, None), uri) > 0  # all is taken back
    assert {key for tags in tags_of(uri).values() for key in tags} == set()
    (place / "states.yaml").unlink()
    (place / "pins.yaml").unlink()
    assert write_notes({pairs[0][0].record_id: {"board.state": "disputed", "board.state.reason": "by hand"}}, uri) == 1
    assert main(["mirror", *home]) == 0  # says nothing of states, and so changes none
    assert tags_of(uri)[pairs[0][0].record_id] == {"board.state": "disputed", "board.state.reason": "by hand"}
