"""Verification recomputes records, sees every altered number, and runs trials again; packs are read with distrust."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import pytest

from timetrial.data_pipelines.curation.selection import Selection
from timetrial.suite.cli import main
from timetrial.suite.config import resolve
from timetrial.suite.errors import RecordError, UserError
from timetrial.suite.inputs import open_inputs
from timetrial.suite.pack import pack, unpack
from timetrial.suite.record import Ruleset, read_record, write_record
from timetrial.suite.trial import run_trial
from timetrial.suite.verify import plan_of_record, rerun, same_curve, verify_folder, verify_set

SHORT = ["workload=digits_mlp", "loader=torch", "workload.budget.examples=4000", "workload.budget.charged_seconds=1000"]


@pytest.fixture(scope="module")
def ran(prepared_home, tmp_path_factory):
    """Record folders of six real short trials of one study."""
    home = tmp_path_factory.mktemp("ran")
    inputs = open_inputs(resolve(SHORT).workload, prepared_home)
    return [run_trial(resolve([*SHORT, f"seed={seed}", "study=six"]), home, inputs=inputs)[1] for seed in range(6)]


def copy(folder, target, **changes):
    target.mkdir(parents=True)
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    value = json.loads((target / "record.json").read_text())
    for key, change in changes.items():
        outer, _, inner = key.partition("__")
        if inner:
            value[outer][inner] = change
        else:
            value[outer] = change
    (target / "record.json").write_text(json.dumps(value))
    return target


def failed(folder):
    return {check.name for check in verify_folder(folder) if check.passed is False}


def test_a_real_record_passes_every_check(ran):
    checks = verify_folder(ran[0])
    names = {"evidence", "result", "time ledger", "seeds", "hardware class", "source", "configuration", "end"}
    assert {check.name for check in checks} == names
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"status": "hit", "crossings": []}, "evidence"),
        ({"result__final_quality": 0.999}, "result"),
        ({"time__charged_seconds": 0.5}, "time ledger"),
        ({"time__outer_seconds": 1e-3}, "time ledger"),
        ({"seed": 41}, "seeds"),
        ({"hardware_class": "cpu3"}, "hardware class"),
        ({"entry__hyperparameters": {"lr": 7.0}}, "configuration"),
        ({"entry__at_defaults": False}, "configuration"),
        ({"ruleset": "self_tuning"}, "configuration"),
        ({"trial_digest": "0" * 64}, "configuration"),
        ({"entry__source_digest": "0" * 64}, "source"),
        ({"schema_version": 99}, "evidence"),
    ],
)
def test_every_altered_number_is_seen(ran, tmp_path, changes, name):
    assert name in failed(copy(ran[0], tmp_path / "r", **changes))


def test_an_edited_curve_or_configuration_is_seen(ran, tmp_path):
    edited = copy(ran[0], tmp_path / "curve")
    (edited / "curve.csv").write_text((edited / "curve.csv").read_text().replace("0.", "0.9", 1))
    assert failed(edited) == {"evidence"}
    edited = copy(ran[0], tmp_path / "config")
    (edited / "config.yaml").write_text((edited / "config.yaml").read_text().replace("seed: 0", "seed: 1"))
    assert failed(edited) == {"configuration"}
    (edited / "config.yaml").write_text("]")
    assert failed(edited) == {"configuration"}


@pytest.fixture(scope="module")
def chosen(prepared_home, tmp_path_factory):
    """Record folders of two trials that chose their data, by different seeds."""
    home, overrides = tmp_path_factory.mktemp("chosen"), [*SHORT, "curation=random", "keep_fraction=0.5"]
    inputs = open_inputs(resolve(SHORT).workload, prepared_home)
    return [run_trial(resolve([*overrides, f"seed={seed}"]), home, inputs=inputs)[1] for seed in range(2)]


def test_the_selection_is_held_against_the_record(chosen):
    (check,) = [check for check in verify_folder(chosen[0]) if check.name == "selection"]
    assert check.passed and "ids have the record's digest" in check.detail
    assert failed(chosen[0]) == set()


def test_an_edited_exchanged_or_missing_selection_is_seen(chosen, tmp_path):
    own, path = Selection.read(chosen[0] / "selection.npz"), "selection.npz"
    other = copy(chosen[0], tmp_path / "other")
    (other / path).write_bytes((chosen[1] / path).read_bytes())
    assert failed(other) == {"selection"}
    fewer = copy(chosen[0], tmp_path / "fewer")
    replace(own, ids=own.ids[1:]).write(fewer / path)
    assert failed(fewer) == {"selection"}
    told = copy(chosen[0], tmp_path / "told")
    replace(own, provenance={"method": "better"}).write(told / path)
    assert failed(told) == {"selection"}
    damaged = copy(chosen[0], tmp_path / "damaged")
    content = bytearray((damaged / path).read_bytes())
    at = content.find(own.ids[:4].tobytes())
    content[at] ^= 1
    (damaged / path).write_bytes(content)
    assert failed(damaged) == {"selection"}
    gone = copy(chosen[0], tmp_path / "gone")
    (gone / path).unlink()
    assert failed(gone) == {"selection"}


def test_a_dropped_or_repeated_seed_of_a_set_is_named(ran):
    records = [read_record(folder)[0] for folder in ran]
    assert all(check.passed for check in verify_set(records))
    (gap,) = verify_set(records[:2] + records[3:])
    assert gap.passed is False and "seed 2 missing" in gap.detail
    (twice,) = verify_set([*records, replace(records[0], record_id="again")])
    assert twice.passed is False and "seed 0 twice" in twice.detail


def test_a_trial_run_again_on_one_numerics_key_is_bit_identical(ran, prepared_home):
    record, curve = read_record(ran[0])
    checks = rerun(record, curve, ran[0], prepared_home, run_code=False)
    assert [check.name for check in checks if check.passed] == ["data", "same curve"]
    changed = (*curve[:-1], replace(curve[-1], quality=curve[-1].quality + 1e-16 * 2**8))
    assert same_curve("r", changed, curve).passed is False


def test_elsewhere_a_run_again_must_look_like_the_other_seeds(ran, prepared_home):
    record, curve = read_record(ran[0])
    moved = replace(record, numerics_key="another machine")
    others = [read_record(folder)[0] for folder in ran]
    assert rerun(moved, curve, ran[0], prepared_home, run_code=False, others=others)[-1].passed is True
    assert rerun(moved, curve, ran[0], prepared_home, run_code=False, others=others[:3])[-1].passed is None
    low = [replace(r, result=replace(r.result, final_quality=0.1 + r.seed * 1e-4)) for r in others]
    assert rerun(moved, curve, ran[0], prepared_home, run_code=False, others=low)[-1].passed is False


def test_other_data_and_foreign_code_are_refused(ran, prepared_home, tmp_path):
    record, curve = read_record(ran[0])
    elsewhere = replace(record, data_digests={"dataset": "0" * 64})
    (check,) = rerun(elsewhere, curve, ran[0], prepared_home, run_code=False)
    assert (check.name, check.passed) == ("data", False)
    text = (ran[0] / "config.yaml").read_text().replace("timetrial.suite.algorithms.optimizer.OptimizerAlgorithm", "os.system")
    foreign = copy(ran[0], tmp_path / "foreign")
    (foreign / "config.yaml").write_text(text)
    with pytest.raises(RecordError, match="altered"):
        plan_of_record(record, foreign)


def test_a_pack_carries_a_study_there_and_back(ran, tmp_path, capsys):
    home = ran[0].parent.parent
    assert main(["pack", "six", "--home", str(home), "--out", str(tmp_path / "six.zip")]) == 0
    assert main(["pack", "six", "--home", str(home), "--out", str(tmp_path / "again.zip")]) == 0
    assert (tmp_path / "six.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    folders = unpack(tmp_path / "six.zip", tmp_path / "out")
    assert [read_record(folder)[0] for folder in folders] == [read_record(folder)[0] for folder in sorted(ran)]
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "six.zip"), "--home", str(home)]) == 0
    assert "6 records, 49 checks, 0 failed" in capsys.readouterr().out
    assert main(["pack", "seven", "--home", str(home)]) == 1


def test_a_pack_holds_the_trials_that_tuned_the_study(ran, tmp_path):
    copy(ran[0], tmp_path / "records" / read_record(ran[0])[0].record_id)
    tried = copy(ran[1], tmp_path / "records" / read_record(ran[1])[0].record_id, study="six/tuning")
    assert main(["pack", "six", "--home", str(tmp_path)]) == 0
    folders = unpack(tmp_path / "packs" / "six.zip", tmp_path / "out")
    assert len(folders) == 2 and tried.name in {folder.name for folder in folders}


def test_a_withdrawn_trial_may_stand_beside_its_repeat(ran, tmp_path):
    place = tmp_path / "records"
    for name in ("first", "again"):
        record, curve = read_record(ran[0])
        write_record(place / name, replace(record, record_id=name, machine={}), curve, (ran[0] / "config.yaml").read_text())
    command = ["verify", str(place), "--home", str(tmp_path), "--quiet"]
    assert main(command) == 1
    (place / "states.yaml").write_text("first: {state: withdrawn, reason: run again}\n")
    assert main(command) == 0


def test_a_seed_may_run_once_under_each_ruleset(ran):
    record = read_record(ran[0])[0]
    assert all(check.passed for check in verify_set([record, replace(record, ruleset=Ruleset.SELF_TUNING)]))
    assert not all(check.passed for check in verify_set([record, record]))


@pytest.mark.parametrize("name", ["/etc/passwd", "../up/record.json", "a/../../b", "c:\\x\\y", "alone.json"])
def test_a_pack_cannot_write_outside_its_folder(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("good/record.json", "{}")
        archive.writestr(name, "x")
    with pytest.raises(RecordError, match="RECORD/FILE"):
        unpack(tmp_path / "bad.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_oversize_and_broken_packs_are_refused(tmp_path, monkeypatch):
    link = zipfile.ZipInfo("r/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(RecordError, match="link"):
        unpack(tmp_path / "link.zip", tmp_path / "out")
    (tmp_path / "broken.zip").write_bytes(b"PK not really")
    with pytest.raises(RecordError, match="cannot be read"):
        unpack(tmp_path / "broken.zip", tmp_path / "out")
    monkeypatch.setattr("timetrial.suite.pack.MOST_BYTES", 10)
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as archive:
        archive.writestr("r/record.json", "x" * 11)
    with pytest.raises(RecordError, match="more than"):
        unpack(tmp_path / "large.zip", tmp_path / "out")


def test_a_pack_damaged_in_any_member_is_refused_as_one(ran, tmp_path):
    pack(ran[:2], tmp_path / "whole.zip")
    whole = (tmp_path / "whole.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "whole.zip") as archive:
        ends = [*(item.header_offset for item in archive.infolist()[1:]), archive.start_dir]
    for end in ends:
        at = end - 40  # within the content of the member that ends here
        damaged = whole[:at] + bytes(value ^ 255 for value in whole[at : at + 8]) + whole[at + 8 :]
        (tmp_path / "damaged.zip").write_bytes(damaged)
        with pytest.raises(RecordError, match=r"damaged\.zip: "):
            unpack(tmp_path / "damaged.zip", tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_places_and_links_of_this_machine_are_not_packed(ran, tmp_path):
    named = copy(ran[0], tmp_path / "named")
    (named / "note.txt").write_text("saved in /home/somebody/x")
    with pytest.raises(RecordError, match="names a place"):
        pack([named], tmp_path / "x.zip")
    linked = copy(ran[0], tmp_path / "linked")
    (linked / "link").symlink_to(named)
    with pytest.raises(RecordError, match="a link"):
        pack([linked], tmp_path / "x.zip")
    with pytest.raises(UserError, match="no record"):
        pack([], tmp_path / "x.zip")


def test_the_verb_fails_when_a_check_fails(ran, tmp_path, capsys):
    copy(ran[0], tmp_path / "records" / "r", result__final_quality=0.999)
    assert main(["verify", str(tmp_path / "records"), "--home", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["failed"] == 1
    assert main(["verify", str(tmp_path / "nothing"), "--home", str(tmp_path)]) == 1
