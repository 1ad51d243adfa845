"""A board is a pure function of records: what counts, what is left out by name, and that the same records give the same bytes."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from timetrial.leaderboards.boards import board, read_folders
from timetrial.leaderboards.render import csv_text, json_text, markdown, terminal, write_board
from timetrial.suite.cli import main
from timetrial.suite.record import Origin, Status, read_record, write_record
from timetrial.suite.tracking import default_uri, mirror
from timetrial.suite.workload import Lens

from .synthetic_records import LOSS, trial, trials, workload


def of(found):
    return board([record for record, _ in found])


def rows(found):
    (section,) = of(found).sections
    return {row.label: row for row in section.rows}


def reasons(found):
    return {r.record_id: r.reason for r in of(found).rejected}


def test_a_row_tells_n_hits_and_the_median_cost_to_the_main_target_in_every_lens():
    row = rows(trials(workload(), "adamw", [10.0, 12.0, 30.0, 14.0, 11.0]))["adamw"]
    assert (row.n, row.hits) == (5, 5)
    seconds = row.to_target[Lens.CHARGED_SECONDS]
    assert seconds.value == pytest.approx(12.0, abs=0.1)
    assert seconds.interval.low == pytest.approx(10.0, abs=0.1)
    assert seconds.interval.high == pytest.approx(30.0, abs=0.1)
    assert seconds.interval.confidence == pytest.approx(1 - 2 / 2**5)
    assert row.to_target[Lens.EXAMPLES].value == pytest.approx(seconds.value / 60 * 40_000)
    assert row.to_target[Lens.FLOPS].value == pytest.approx(row.to_target[Lens.EXAMPLES].value * 4e7)


def test_a_loss_is_a_target_from_above():
    row = rows(trials(workload(metric=LOSS), "adamw", [10.0, 12.0, 14.0]))["adamw"]
    assert row.hits == 3
    assert row.to_target[Lens.CHARGED_SECONDS].value == pytest.approx(12.0, abs=0.1)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_no_interval_below_five_trials(n):
    row = rows(trials(workload(), "adamw", [10.0 + i for i in range(n)]))["adamw"]
    estimates = [row.hit_rate, row.final_quality, row.test_quality, *row.to_target.values()]
    assert [e.interval for e in estimates] == [None] * len(estimates)
    assert all(e.value is not None for e in estimates)


def test_a_missed_trial_is_slower_than_every_hit_and_never_an_infinity():
    row = rows(trials(workload(), "adamw", [10.0, 11.0, 12.0, 500.0, 600.0]))["adamw"]
    seconds = row.to_target[Lens.CHARGED_SECONDS]
    assert (row.hits, row.n) == (3, 5)
    assert seconds.value == pytest.approx(12.0, abs=0.1)
    assert seconds.interval.high is None
    missed = rows(trials(workload(), "adamw", [10.0, 11.0, 500.0, 600.0, 700.0]))["adamw"]
    assert missed.to_target[Lens.CHARGED_SECONDS].value is None
    assert "Infinity" not in json_text(of(trials(workload(), "adamw", [500.0] * 5)))


def test_a_diverged_trial_is_a_miss():
    found = [*trials(workload(), "adamw", [10.0, 11.0]), trial(workload(), seed=2, seconds_to_main=9.0, status=Status.DIVERGED)]
    row = rows(found)["adamw"]
    assert (row.hits, row.n) == (2, 3)


@pytest.mark.parametrize(("status", "word"), [(Status.SMOKE, "smoke run"), (Status.INTERRUPTED, "interrupted"), (Status.FAILED, "failed")])
def test_trials_that_prove_nothing_are_left_out_by_name(status, word):
    found = [trial(workload(), seed=0), trial(workload(), seed=1, status=status)]
    assert rows(found)["adamw"].n == 1
    assert word in reasons(found)["cifar10_cnn-adamw-s1"]


def test_a_repeated_seed_counts_once_the_first_started():
    late = trial(workload(), seed=0, seconds_to_main=5.0, record_id="again", started_at="2026-01-02T00:00:00.000+00:00")
    found = [late, trial(workload(), seed=0, seconds_to_main=20.0)]
    assert rows(found)["adamw"].record_ids == ("cifar10_cnn-adamw-s0",)
    assert "seed 0" in reasons(found)["again"]


def test_a_record_given_twice_counts_once_and_two_records_of_one_id_not_at_all():
    one = trial(workload(), seed=0)
    assert rows([one, one])["adamw"].n == 1
    assert "given again" in reasons([one, one])["cifar10_cnn-adamw-s0"]
    other = trial(workload(), seed=1, record_id="cifar10_cnn-adamw-s0")
    assert of([one, other]).sections == ()
    assert [r.reason for r in of([one, other]).rejected] == ["2 different records share this id; none of them counts"] * 2


@pytest.mark.parametrize(
    "other",
    [
        {"hardware_class": "cpu8"},
        {"origin": Origin.ALGOPERF},
        {"of": dataclasses.replace(workload(), version=2)},
        {"of": dataclasses.replace(workload(), digest="another")},
        {"of": workload(main=0.9)},
        {"of": workload(frozen=False)},
    ],
    ids=["hardware class", "origin", "version", "constants", "main target", "target status"],
)
def test_what_cannot_be_compared_shares_no_section(other):
    changed = trial(**{"of": workload(), "seed": 1, "record_id": "other"} | other)
    built = of([trial(workload(), seed=0), changed])
    assert [section.n for section in built.sections] == [1, 1]
    assert len({section.key for section in built.sections}) == 2


def test_a_native_record_without_hardware_class_is_left_out():
    assert "no hardware class" in reasons([trial(workload(), hardware_class=None)])["cifar10_cnn-adamw-s0"]


def test_records_that_contradict_themselves_are_left_out():
    lying_hit = trial(workload(), seconds_to_main=500.0, status=Status.HIT)
    lying_miss = trial(workload(), "lion", status=Status.MISSED)
    record, points = trial(workload(), "sgd")
    short = (dataclasses.replace(record, crossings=record.crossings[:-1]), points)
    found = reasons([lying_hit, lying_miss, short])
    assert "no crossing" in found["cifar10_cnn-adamw-s0"]
    assert "has a crossing" in found["cifar10_cnn-lion-s0"]
    assert "ladder" in found["cifar10_cnn-sgd-s0"]


def test_entries_that_differ_only_in_hyperparameters_are_told_apart():
    found = [trial(workload(), seed=0), trial(workload(), seed=0, record_id="b", hyperparameters={"lr": 0.1})]
    assert len(rows(found)) == 2
    assert all(name.startswith("adamw (") for name in rows(found))


def test_only_frozen_targets_of_ranking_workloads_are_a_claim():
    assert of([trial(workload())]).sections[0].ranked
    assert not of([trial(workload(frozen=False))]).sections[0].ranked
    assert not of([trial(workload(ranked=False))]).sections[0].ranked


EXAMPLE = [
    pair
    for name, metric in (("cifar10_cnn", None), ("shakespeare_gpt", LOSS))
    for entry, times in {"adamw": [20, 22, 25, 21, 24], "lion": [30, 31, 90, 95, 29], "adamw + random 0.5": [15, 16, 14]}.items()
    for pair in trials(workload(name, **({"metric": metric} if metric else {})), entry, times)
] + [trial(workload(), seed=9, status=Status.SMOKE)]


@given(st.randoms(use_true_random=False))
def test_the_order_of_records_changes_nothing(shuffler: random.Random):
    found = list(EXAMPLE)
    shuffler.shuffle(found)
    assert json_text(of(found)) == json_text(of(EXAMPLE))


def test_the_same_records_give_the_same_bytes_in_every_form(tmp_path):
    curves = {record.record_id: points for record, points in EXAMPLE}
    first = write_board(of(EXAMPLE), curves, tmp_path / "a")
    second = write_board(of(EXAMPLE[::-1]), dict(reversed(curves.items())), tmp_path / "b")
    assert {p.name for p in first} == {"index.html", "board.md", "board.csv", "board.json"}
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_csv_holds_plain_numbers_with_units_in_the_header():
    lines = list(csv.DictReader(io.StringIO(csv_text(of(EXAMPLE)))))
    assert len(lines) == 6
    adamw = next(line for line in lines if line["workload"] == "cifar10_cnn@1" and line["entry"] == "adamw")
    assert float(adamw["charged_time_to_target [s]"]) == rows(EXAMPLE[:5])["adamw"].to_target[Lens.CHARGED_SECONDS].value
    assert all(name.rpartition("[")[2] != "" for name in lines[0])
    lion = next(line for line in lines if line["entry"] == "lion")
    assert (lion["hits"], lion["charged_time_to_target high [s]"]) == ("3", "")


def test_json_is_versioned_and_names_what_was_left_out():
    value = json.loads(json_text(of(EXAMPLE)))
    assert value["schema_version"] == 1
    assert [r["record_id"] for r in value["rejected"]] == ["cifar10_cnn-adamw-s9"]
    assert value["sections"][0]["rows"][0]["to_target"]["examples"]["n"] == 3


def test_markdown_shows_text_of_records_and_does_nothing_else():
    text = markdown(of([trial(workload(), "<img src=x>|*a*_b_")]))
    assert "<img" not in text
    assert r"\|" in text
    assert r"\*a\*\_b\_" in text


def test_the_terminal_table_fits_eighty_columns_and_says_why_there_is_no_interval():
    console = Console(width=80, record=True, file=io.StringIO(), color_system=None)
    console.print(terminal(of(EXAMPLE)))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "no interval below n = 5" in text
    assert "left out, 1 of 27" in text
    assert "…" not in text


def write(found, home):
    for record, points in found:
        write_record(home / "records" / record.record_id, record, points, "seed: 0\n")


def test_the_command_builds_shows_and_names_what_cannot_be_read(tmp_path, capsys):
    write(EXAMPLE, tmp_path)
    broken = tmp_path / "records" / "broken"
    broken.mkdir()
    (broken / "record.json").write_text("{")
    assert main(["leaderboard", "show", "--json", "--home", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    value = json.loads(shown)
    assert [r["record_id"] for r in value["rejected"]] == ["broken", "cifar10_cnn-adamw-s9"]
    assert str(tmp_path) not in shown
    assert main(["leaderboard", "build", "--home", str(tmp_path), "--quiet"]) == 0
    assert (tmp_path / "boards" / "all" / "board.json").read_text() == shown


def test_the_command_reads_folders_by_name_and_refuses_those_that_are_not_there(tmp_path, capsys):
    write(EXAMPLE[:3], tmp_path / "a")
    write(EXAMPLE[3:5], tmp_path / "b")
    places = [str(tmp_path / "a" / "records"), str(tmp_path / "b" / "records")]
    assert main(["leaderboard", "--json", "--home", str(tmp_path), "--records", places[0], "--records", places[1]]) == 0
    assert json.loads(capsys.readouterr().out)["sections"][0]["rows"][0]["n"] == 5
    assert main(["leaderboard", "--home", str(tmp_path), "--records", str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_a_board_without_records_says_so(tmp_path, capsys):
    assert main(["leaderboard", "--home", str(tmp_path)]) == 0
    assert "no record counts" in capsys.readouterr().out


def test_an_edited_record_is_left_out_and_the_others_count(tmp_path):
    write(EXAMPLE[:5], tmp_path)
    path = tmp_path / "records" / EXAMPLE[0][0].record_id / "curve.csv"
    path.write_text(path.read_text().replace("0.1", "0.2", 1))
    found, rejected = read_folders((tmp_path / "records").iterdir())
    assert len(found) == 4
    assert "altered" in rejected[0].reason
    assert np.all([r.entry.name == "adamw" for r, _ in found])


def test_mlflow_gives_the_same_board_as_the_records_in_every_form(tmp_path):
    write(EXAMPLE, tmp_path)
    written = [tmp_path / "records" / record.record_id for record, _ in EXAMPLE]
    mirror([(*read_record(folder), folder) for folder in written], default_uri(tmp_path))
    for source, out in (("records", "a"), ("mlflow", "b")):
        assert main(["leaderboard", "build", "--from", source, "--home", str(tmp_path), "--out", str(tmp_path / out), "--quiet"]) == 0
    a, b = ({p.relative_to(tmp_path / out): p.read_bytes() for p in (tmp_path / out).rglob("*.*") if p.is_file()} for out in ("a", "b"))
    assert len(a) > 8 and a == b


def test_folders_and_a_store_are_not_read_at_once(tmp_path, capsys):
    assert main(["leaderboard", "--from", "mlflow", "--records", str(tmp_path), "--home", str(tmp_path)]) == 1
    assert "give one of the two" in capsys.readouterr().err
