"""Published boards: committed packs give the committed site byte for byte, and publishing adds to what is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.coverage import Grid, coverage, read_grids, write_grids
from timetrial.leaderboards.exports import BEGIN, END
from timetrial.leaderboards.pins import read_pins
from timetrial.suite.cli import main
from timetrial.suite.cli.places import record_folders
from timetrial.suite.errors import RecordError
from timetrial.suite.record import write_record
from timetrial.suite.study import load_study

from .synthetic_records import LOSS, trials, workload

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = sorted(path.parent for path in (ROOT / "leaderboards" / "published").glob("*/studies.yaml"))
MOST_BYTES = 20_000_000
STUDY = "nano_algorithms"
WORKLOADS = (workload("ctr_dlrm", metric=LOSS), workload("cifar10_cnn"))


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- what is committed


@pytest.mark.parametrize("place", PUBLISHED or [None], ids=lambda place: "none yet" if place is None else place.name)
def test_the_committed_site_is_a_fresh_build_of_the_committed_records(place, tmp_path):
    if place is None:
        pytest.skip("no board of our own is published yet")
    assert main(["leaderboard", "build", "--records", str(place), "--out", str(tmp_path / "site"), "--home", str(tmp_path), "--quiet"]) == 0
    fresh, committed = files(tmp_path / "site"), files(place / "site")
    assert sorted(fresh) == sorted(committed)
    assert [name for name, content in fresh.items() if content != committed[name]] == []
    assert sum(path.stat().st_size for path in place.glob("*.zip")) < MOST_BYTES


@pytest.mark.parametrize("place", PUBLISHED or [None], ids=lambda place: "none yet" if place is None else place.name)
def test_the_committed_records_verify(place, tmp_path, capsys):
    if place is None:
        pytest.skip("no board of our own is published yet")
    assert main(["verify", str(place), "--home", str(tmp_path), "--quiet"]) == 0, capsys.readouterr().out


def test_the_region_of_the_readme_is_the_published_front_board():
    text, nano = (ROOT / "README.md").read_text(), ROOT / "leaderboards" / "published" / "nano"
    if not nano.is_dir():
        pytest.skip("no board of our own is published yet")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == (nano / "site" / "front.md").read_text().strip()


# ---------------------------------------------------------------- publishing


def write(home, pairs):
    for record, curve in pairs:
        write_record(home / "records" / record.record_id, record, curve, "")


def entered(entry, seconds, n=5):
    return [pair for of in WORKLOADS for pair in trials(of, entry, [seconds + i / 10 for i in range(n)], study=STUDY)]


def publish(home, out, *more):
    return main(["leaderboard", "publish", "--study", STUDY, "--out", str(out), "--home", str(home), "--quiet", *more])


@pytest.fixture
def home(tmp_path):
    """Records of the reference and of two entries on two of the study's six workloads, one of them on three seeds only."""
    write(tmp_path / "home", entered("reference", 20.0) + entered("adamw", 15.0) + entered("muon", 12.0, 3))
    others = trials(WORKLOADS[0], "sgd", [30.0] * 5, study="other")
    write(tmp_path / "home", [(replace(record, record_id=f"other-{record.record_id}"), curve) for record, curve in others])
    return tmp_path / "home"


def test_one_command_packs_pins_and_builds_and_the_packs_alone_give_the_same_bytes(home, tmp_path):
    out, readme = tmp_path / "nano", tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    assert publish(home, out, "--readme", str(readme)) == 0
    assert {path.name for path in out.iterdir()} == {f"{STUDY}.zip", "pins.yaml", "studies.yaml", "site"}
    elsewhere = ["--out", str(tmp_path / "again"), "--home", str(tmp_path / "none"), "--quiet"]
    assert main(["leaderboard", "build", "--records", str(out), *elsewhere]) == 0
    assert files(tmp_path / "again") == files(out / "site")
    assert {"index.html", "board.md", "board.json", "front.md", "front.json", "board.csv", "board.tex"} <= set(files(out / "site"))
    assert (out / "site" / "front.md").read_text().strip() in readme.read_text() and readme.read_text().endswith("\nafter\n")
    assert "sgd" not in (out / "site" / "board.md").read_text()
    before = files(out)
    assert publish(home, out) == 0
    assert files(out) == before


def test_cells_that_nobody_ran_are_not_measured_and_the_command_that_runs_them_is_named(home, tmp_path):
    out = tmp_path / "nano"
    assert publish(home, out) == 0
    text, page = (out / "site" / "front.md").read_text(), (out / "site" / "index.html").read_text()
    study = load_study(STUDY)
    cells = len(study.arms) * len(study.workloads)
    assert f"4 of {cells} cells are measured with 5 seeds." in text
    assert f"`timetrial study {STUDY}`" in text and f"<code>timetrial study {STUDY}</code>" in page
    assert "- begun on cifar10\\_cnn, 3 of 5 seeds: muon" in text
    assert "- not measured on emoji\\_clip, shakespeare\\_gpt, molhiv\\_gnn, nuclei\\_unet: every entry" in text
    assert page.count("<small>not measured</small>") == cells - 6 and "2 to run" in page
    front = json.loads((out / "site" / "front.json").read_text())
    assert front["schema_version"] == 1 and len(front["coverage"][0]["cells"]["muon"]) == len(study.workloads)
    assert {h["entry"] for h in front["fronts"][0]["headlines"]["charged_seconds"]} == {"reference", "adamw", "muon"}


def test_the_front_board_says_what_its_intervals_allow_to_conclude(tmp_path):
    write(tmp_path / "home", entered("reference", 20.0) + entered("adamw", 15.0) + entered("lion", 30.0) + entered("soap", 20.05))
    assert publish(tmp_path / "home", tmp_path / "nano") == 0
    for name in ("front.md", "index.html"):
        text = (tmp_path / "nano" / "site" / name).read_text()
        assert "Shown to be faster than reference: adamw. Shown to be slower than reference: lion." in text
        assert "Not told apart from reference: soap." in text and "says nothing of other workloads" in text


def test_tuning_trials_are_counted_apart_from_what_was_left_out(home, tmp_path):
    tuning = trials(WORKLOADS[0], "adamw", [25.0], study=f"{STUDY}/tuning")
    write(home, [(replace(record, record_id="tuning-trial"), curve) for record, curve in tuning])
    assert publish(home, tmp_path / "nano") == 0
    text, page = ((tmp_path / "nano" / "site" / name).read_text() for name in ("board.md", "rejected.html"))
    assert "### Left out" not in text and "*1 tuning trials chose hyperparameters" in text
    assert "these 0 records, nor on the 1 tuning trials below" in page and "<code>tuning-trial</code>" in page


def test_a_later_sitting_adds_to_what_is_published_and_moves_no_factor(home, tmp_path):
    out, later = tmp_path / "nano", tmp_path / "later"
    assert publish(home, out) == 0
    pins, before = read_pins(out / "pins.yaml"), headline(out, "adamw")
    ran = entered("reference", 25.0) + entered("lion", 18.0)
    write(later, [(replace(record, record_id=f"late-{record.record_id}", seed=record.seed + 10), curve) for record, curve in ran])
    assert publish(later, out) == 0
    board = json.loads((out / "site" / "board.json").read_text())
    rows = {(s["workload"]["name"], row["entry"]): row["n"] for s in board["sections"] for row in s["rows"]}
    assert rows["cifar10_cnn", "reference"] == 10 and rows["cifar10_cnn", "lion"] == rows["cifar10_cnn", "adamw"] == 5
    extended = read_pins(out / "pins.yaml")
    assert extended.version == pins.version + 1 and headline(out, "adamw") == before
    assert all(set(ids) < set(extended.record_ids["cpu2"][workload]) for workload, ids in pins.record_ids["cpu2"].items())


def headline(out, entry):
    """The first headline of an entry on the front board of training algorithms."""
    front = next(f for f in json.loads((out / "site" / "front.json").read_text())["fronts"] if f["track"] == "training algorithms")
    found = next(h for h in front["headlines"]["charged_seconds"] if h["entry"] == entry)
    return found["factor"], found["at_budget"]


def test_verification_recomputes_every_number_of_a_published_board(home, tmp_path, capsys):
    out = tmp_path / "nano"
    assert publish(home, out) == 0
    checks = json.loads(verified(out, capsys)[1])["checks"]
    (site,) = [check for check in checks if check["name"] == "site"]
    assert site["passed"] and site["subject"] == "nano"
    front = out / "site" / "front.json"
    front.write_text(front.read_text().replace('"value": 1.3', '"value": 1.4', 1))
    checks = json.loads(verified(out, capsys)[1])["checks"]
    (site,) = [check for check in checks if check["name"] == "site"]
    assert not site["passed"] and "front.json" in site["detail"]


def verified(place, capsys):
    capsys.readouterr()
    return main(["verify", str(place), "--json"]), capsys.readouterr().out


def test_a_published_record_cannot_be_exchanged(home, tmp_path, capsys):
    out = tmp_path / "nano"
    assert publish(home, out) == 0
    path = next((home / "records").glob("cifar10_cnn-adamw-s0/record.json"))
    path.write_text(path.read_text().replace('"charged_seconds": 60.0', '"charged_seconds": 50.0'))
    before = files(out)
    assert publish(home, out) == 1
    assert "records are written once" in capsys.readouterr().err and files(out) == before


def test_publishing_asks_for_studies_and_a_place(home, tmp_path, capsys):
    assert main(["leaderboard", "publish", "--home", str(home)]) == 1
    assert "--study NAME (may be repeated) --out FOLDER" in capsys.readouterr().err
    assert main(["leaderboard", "publish", "--study", "nobodys", "--out", str(tmp_path / "x"), "--home", str(home)]) == 1
    assert "no record of study 'nobodys'" in capsys.readouterr().err


def test_records_are_found_in_folders_in_packs_and_in_folders_of_packs(home, tmp_path):
    assert main(["pack", STUDY, "--home", str(home), "--out", str(tmp_path / "packs" / "one.zip")]) == 0
    names = []
    for place in (home / "records", tmp_path / "packs", tmp_path / "packs" / "one.zip"):
        with record_folders([place], must_exist=True) as folders:
            names.append({folder.name for folder in folders if (folder / "record.json").exists()})
    assert names[1] == names[2] == {name for name in names[0] if not name.startswith("other-")}
    assert main(["compare", "adamw", "reference", "--records", str(tmp_path / "packs" / "one.zip"), "--home", str(tmp_path)]) == 0


# ---------------------------------------------------------------- grids


def test_a_trial_that_two_studies_ran_counts_for_both_and_on_the_board_once():
    first = [(replace(record, trial_digest=f"trial {record.seed}"), curve) for record, curve in trials(WORKLOADS[1], "adamw", [20.0, 21.0])]
    again = [(replace(r, record_id=f"again-{r.record_id}", study="other", started_at="2027-01-01T00:00:00.000+00:00"), c) for r, c in first]
    found = board([record for record, _ in first + again])
    grids = [Grid(study, ("cifar10_cnn",), ("adamw",), 2) for study in (first[0][0].study, "other", "a third")]
    covered = coverage(found, {record.record_id: record for record, _ in first + again}, grids)
    assert found.n == 2 and [one.cells["adamw"][0].n for one in covered] == [2, 2, 0]


def test_a_withdrawn_trial_measures_nothing():
    from timetrial.leaderboards.states import Standing, Verdict

    records = [record for record, _ in entered("adamw", 15.0)]
    said = {record.record_id: Verdict(Standing.WITHDRAWN, "wrong data") for record in records if record.workload.name == "ctr_dlrm"}
    grid = Grid(STUDY, ("ctr_dlrm", "cifar10_cnn"), ("adamw",), 5)
    (found,) = coverage(board(records, states=said), {record.record_id: record for record in records}, [grid])
    assert [cell.n for cell in found.cells["adamw"]] == [0, 5] and found.missing == 1 and found.place == "cpu2"


def test_grids_survive_their_file(tmp_path):
    grids = (Grid("one", ("a", "b"), ("x", "y + random 0.5"), 5),)
    path = tmp_path / "studies.yaml"
    assert read_grids(path) == ()
    path.write_text(write_grids(grids))
    assert read_grids(path) == grids
    for broken in ("[", "a: 1\n", "- {study: one}\n"):
        path.write_text(broken)
        with pytest.raises(RecordError, match="studies.yaml"):
            read_grids(path)
