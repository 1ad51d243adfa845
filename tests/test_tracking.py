"""The mirror in MLflow: a run gives its record back field by field, whoever sends it, however often, whatever goes wrong."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.render import json_text
from timetrial.suite import tracking_store
from timetrial.suite.cli import main
from timetrial.suite.curve import CurvePoint, crossings
from timetrial.suite.errors import RecordError, TrackingError
from timetrial.suite.record import Cost, Record, Selected, Status, TimeLedger, read_record, write_record
from timetrial.suite.tracking import default_uri, initialise, mirror, read_records
from timetrial.suite.tracking_run import CURVE, RunContent, history_key, rebuild, run_content

from .synthetic_records import LOSS, trial, workload

LONG = "x" * 20_000  # longer than any parameter or tag of MLflow


def full_record(**changes):
    """A record with every field set, in shapes and lengths that MLflow itself has no place for."""
    record, points = trial(workload(), "adamw + random 0.5", seed=3, study="demo", record_id="full")
    points = tuple(dataclasses.replace(point, joules=1.5 * i) for i, point in enumerate(points))
    entry = dataclasses.replace(
        record.entry,
        algorithm_options={"optimizer": "torch.optim.AdamW", "schedule": {"name": "one_cycle", "warmup": 0.1}, "batch_size": None},
        curation_options={"k": 7, "größe": True},
        hyperparameters={"lr": 0.1 + 0.2, "betas": [0.9, 0.99], "note": LONG, "empty": {}},
        source_digest="s" * 64,
    )
    return dataclasses.replace(
        record,
        crossings=crossings(points, record.workload.metric, record.workload.ladder),
        entry=entry,
        time=TimeLedger({"train": 0.1}, {"train": 0.2}, {"curate/embed": 1 / 3, "curate/ä: ~%/.": 2.0, "curate/": 0.0}, 0.1, 0.3, 0.0),
        status_reason=f"“quoted”\n{LONG}",
        trial_digest="t" * 64,
        seeds={"model": 2**62 + 1, "order": 0},
        selected=Selected(45_000, 22_500, 0.5, "e" * 64),
        cost=Cost(26_122, 138_752.0, 0.1, 751_001_600, 379_368, None),
        resumed_count=2,
        numerics_key="0f0f",
        machine={"cpu": {"model": "EPYC", "isa": ["avx2"]}, "load_at_start": {"one_minute": 0.25}},
        software={"timetrial": "0.1.0", "torch": "2.13.0", "git": {"commit": "c" * 40, "dirty": True}},
        loader={"kind": "FfcvLoader", "workers": 1},
        data_digests={"dataset": "d" * 64, "pool": "p" * 64},
        curve_digest="f" * 64,
        ended_at="2026-01-01T00:01:00.500+00:00",
        overrides=("lr=0.3",),
    ), points


def failed_record():
    """A trial that failed before its first evaluation: no curve, no crossing, no result."""
    record, _ = trial(workload(), "lion", seed=9, status=Status.FAILED, record_id="failed")
    bare = Record(
        **{name: getattr(record, name) for name in ("schema_version", "record_id", "origin", "workload", "entry", "seed", "status")},
        crossings=crossings((), record.workload.metric, record.workload.ladder),
        result=type(record.result)(),
        time=TimeLedger({}, {}, {}, 0.0),
        status_reason="ValueError: step 1",
    )
    return bare, ()


def written(home, found):
    """Record folders below a home, as a trial leaves them; what ``mirror`` takes."""
    triples = []
    for record, points in found:
        folder = home / "records" / record.record_id
        write_record(folder, record, tuple(points), "seed: 0\n")
        triples.append((*read_record(folder), folder))
    return triples


def pairs(triples):
    """What ``read_records`` should give for what ``mirror`` took."""
    return sorted(((record, curve) for record, curve, _ in triples), key=lambda pair: (pair[0].started_at or "", pair[0].record_id))


def runs(uri):
    """All runs of a store, through MLflow's own client."""
    with tracking_store.open_store(uri) as client:
        return client.search_runs([found.experiment_id for found in client.search_experiments()])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with records of two workloads, mirrored once; tests read it only."""
    folder = tmp_path_factory.mktemp("tracked")
    found = [trial(workload(), entry, seed, 20 + seed) for entry in ("adamw", "lion") for seed in range(3)]
    found += [trial(workload("shakespeare_gpt", metric=LOSS), "adamw", 0, study="demo"), full_record(), failed_record()]
    mirror(written(folder, found), default_uri(folder))
    return folder


@pytest.fixture(scope="module")
def uri(home):
    return default_uri(home)


@pytest.fixture(scope="module")
def triples(home):
    return [(*read_record(path.parent), path.parent) for path in sorted((home / "records").glob("*/record.json"))]


@pytest.fixture
def one(tmp_path):
    """One record in a home of its own, not mirrored yet."""
    return written(tmp_path, [trial(workload(), "adamw", 0)])


# what a run gives back


def test_a_run_gives_its_record_and_curve_back_field_by_field(uri, triples):
    assert read_records(uri) == pairs(triples)


def test_records_come_back_without_any_artefact(tmp_path, one):
    uri = default_uri(tmp_path)
    mirror(one, uri)
    shutil.rmtree(tmp_path / "mlartifacts")
    shutil.rmtree(tmp_path / "records")
    assert read_records(uri) == pairs(one)


def test_the_board_from_mlflow_is_the_board_from_folders(uri, triples):
    assert json_text(board([r for r, _ in read_records(uri)])) == json_text(board([r for r, _, _ in triples]))


def test_a_study_can_be_read_alone(uri):
    assert {record.record_id for record, _ in read_records(uri, study="demo")} == {"full", "shakespeare_gpt-adamw-s0"}
    assert read_records(uri, study="none such") == []


def test_an_empty_store_has_no_records(tmp_path):
    assert read_records(default_uri(tmp_path)) == []


def again(content: RunContent):
    histories = {history_key(column) for column in CURVE}
    latest = {sample.key: sample.value for sample in content.metrics}
    return rebuild(content.tags, latest, [s for s in content.metrics if s.key in histories], "run")


finite = st.floats(allow_nan=False, allow_infinity=False)
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.text(min_size=1, max_size=12)


@st.composite
def curves(draw):
    """Curves whose costs never run backwards; evaluations may even share their number of examples or their second."""
    count = draw(st.integers(0, 6))
    rising = [sorted(draw(st.lists(st.floats(0, 1e15), min_size=count, max_size=count))) for _ in range(3)]
    counts = [sorted(draw(st.lists(st.integers(0, 2**53), min_size=count, max_size=count))) for _ in range(3)]
    free = [[draw(finite) for _ in range(count)] for _ in range(2)]
    losses = [draw(st.none() | finite) for _ in range(count)]
    return tuple(
        CurvePoint(
            counts[0][i],
            counts[1][i],
            rising[0][i] / 1e9,
            rising[1][i],
            rising[2][i],
            counts[2][i],
            None,
            losses[i],
            free[0][i],
            free[1][i],
        )
        for i in range(count)
    )


@given(curves(), st.dictionaries(names, plain_json, max_size=4), st.dictionaries(names, st.floats(0, 1e9), max_size=4), st.text())
def test_no_record_is_changed_by_its_words_in_mlflow(points, options, seconds, reason):
    record, _ = trial(workload())
    record = dataclasses.replace(
        record,
        crossings=crossings(points, record.workload.metric, record.workload.ladder),
        entry=dataclasses.replace(record.entry, hyperparameters=options, curation_options=options),
        time=TimeLedger(seconds, {}, {f"curate/{name}": value for name, value in seconds.items()}, 1.0),
        machine=options,
        status_reason=reason,
    )
    assert again(run_content(record, points)) == (record, points)


def test_what_cannot_be_given_back_is_refused_by_name(one):
    record, curve, _ = one[0]
    with pytest.raises(RecordError, match=f"{record.record_id}.*crossings"):
        run_content(record, curve[:-30])


# what a run looks like


def test_runs_stand_by_tier_and_workload_and_are_named_for_people(uri):
    with tracking_store.open_store(uri) as client:
        named = {found.name: found.experiment_id for found in client.search_experiments()}
        assert {"nano/cifar10_cnn@1", "nano/shakespeare_gpt@1"} < named.keys()
        found = {run.info.run_name: run.info for run in client.search_runs([named["nano/cifar10_cnn@1"]])}
    assert {"adamw · all · seed 0", "lion · all · seed 2", "adamw · random 0.5 · seed 3"} < found.keys()
    assert (found["lion · all · seed 9"].status, found["lion · all · seed 2"].status) == ("FAILED", "FINISHED")


def test_identity_pins_costs_and_curve_can_be_queried(uri, triples):
    (run,) = [run for run in runs(uri) if run.data.tags["record_id"] == "full"]
    record, curve = next((record, curve) for record, curve, _ in triples if record.record_id == "full")
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
    expected = {"suite.version": "0.1.0", "workload": "cifar10_cnn", "workload.version": "1", "tier": "nano", "entry": "adamw + random 0.5"}
    expected |= {"algorithm": "adamw", "curation": "random", "keep_fraction": "0.5", "study": "demo", "seed": "3", "status": "hit"}
    expected |= {"hardware_class": "cpu2", "numerics_key": "0f0f", "target.digest": record.workload.ladder.digest, "schema_version": "1"}
    assert expected.items() <= tags.items()
    assert params["lr"] == repr(0.1 + 0.2)
    assert params["algorithm.schedule.name"] == "one_cycle"
    assert "note" not in params
    main = record.crossing()
    level = record.workload.ladder.levels.index(main.level)
    assert metrics[f"hit.{level:02d}.examples"] == metrics["to_target/examples"] == main.cost["examples"]
    assert (metrics["time.wall_seconds.train"], metrics["time.charged_seconds"], metrics["cost.parameters"]) == (0.1, 0.1, 26_122)
    assert metrics["result.test_quality_at_end"] == record.result.test_quality_at_end
    with tracking_store.open_store(uri) as client:
        history = client.get_metric_history(run.info.run_id, "curve/quality")
        assert {path.path for path in client.list_artifacts(run.info.run_id)} == {"record.json", "curve.csv", "config.yaml"}
    assert [(sample.step, sample.value) for sample in history] == [(point.examples, point.quality) for point in curve]
    data = {found.dataset.name: (found.dataset.digest, {tag.key: tag.value for tag in found.tags}) for found in run.inputs.dataset_inputs}
    assert data["cifar10_cnn.pool"][0] == "p" * 36
    assert {"digest": "p" * 64, "mlflow.data.context": "training", "selection_digest": "e" * 64}.items() <= data["cifar10_cnn.pool"][
        1
    ].items()


def test_a_missed_level_has_no_metric_and_nothing_is_infinite(tmp_path):
    found = written(tmp_path, [trial(workload(), "adagrad", 0, 90)])
    mirror(found, default_uri(tmp_path))
    (run,) = runs(default_uri(tmp_path))
    assert run.data.tags["status"] == "missed"
    assert not any(key.startswith("to_target/") for key in run.data.metrics)
    assert max(run.data.metrics.values()) < 1e300


def test_no_user_host_or_source_path_is_told(uri, home):
    for run in runs(uri):
        told = json.dumps([run.data.tags, run.data.params])
        assert run.info.user_id in ("unknown", "", None)
        assert str(home) not in told and socket.gethostname() not in told


# sending


def test_sending_twice_changes_nothing(uri, triples):
    before = len(runs(uri))
    assert mirror(triples, uri) == 0
    assert len(runs(uri)) == before == len(triples)


def test_a_run_that_a_crash_left_half_written_is_completed(tmp_path, one, monkeypatch):
    uri = default_uri(tmp_path)

    def crash(*arguments):
        raise OSError("gone")

    with tracking_store.open_store(uri) as client:
        monkeypatch.setattr(type(client), "log_inputs", crash)
    with pytest.raises(TrackingError, match="gone"):
        mirror(one, uri)
    assert read_records(uri) == []
    monkeypatch.undo()
    assert mirror(one, uri) == 1
    assert len(runs(uri)) == 1
    assert read_records(uri) == pairs(one)


def test_a_refused_record_does_not_hold_up_the_others(tmp_path):
    bad, good = trial(workload(), "adamw", 0, hyperparameters={"k" * 300: 1}), trial(workload(), "adamw", 1)
    found, uri = written(tmp_path, [bad, good]), default_uri(tmp_path)
    with pytest.raises(TrackingError, match=f"1 of 2 records refused: {bad[0].record_id}"):
        mirror(found, uri)
    assert [record.record_id for record, _ in read_records(uri)] == [good[0].record_id]


SENDER = """
import sys, warnings
warnings.simplefilter("error")
from pathlib import Path
from timetrial.suite.record import read_record
from timetrial.suite.tracking import default_uri, mirror
home = Path(sys.argv[1])
folders = [home / "records" / name for name in sys.argv[2:]]
print(mirror([(*read_record(folder), folder) for folder in folders], default_uri(home)))
"""


def test_four_processes_send_at_once_to_a_store_that_none_has_seen(tmp_path):
    found = [trial(workload(name), "adamw", seed) for seed in range(4) for name in ("cifar10_cnn", "digits_mlp")]
    ids = [record.record_id for record, _, _ in written(tmp_path, found)]
    shares = [[*ids[2 * i : 2 * i + 2], ids[0], ids[-1]] for i in range(4)]
    processes = [
        subprocess.Popen([sys.executable, "-c", SENDER, str(tmp_path), *share], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for share in shares
    ]
    told = [process.communicate(timeout=240) for process in processes]
    assert [error for _, error in told] == [""] * 4
    assert sum(int(text) for text, _ in told) == len(ids)
    assert sorted(run.data.tags["record_id"] for run in runs(default_uri(tmp_path))) == sorted(ids)
    assert len(read_records(default_uri(tmp_path))) == len(ids)


def test_nothing_of_mlflow_stays_behind(one, tmp_path):
    threads, level, filters = set(threading.enumerate()), logging.getLogger("mlflow").level, list(warnings.filters)
    mirror(one, default_uri(tmp_path))
    read_records(default_uri(tmp_path))
    assert set(threading.enumerate()) == threads
    assert logging.getLogger("mlflow").level == level
    assert list(warnings.filters) == filters


def test_a_trial_does_not_pay_for_importing_mlflow():
    code = "import sys; from timetrial.suite import tracking; from timetrial.suite.cli import mirror; print('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# stores


def test_the_store_is_sqlite_below_home_or_the_one_named(tmp_path, monkeypatch):
    assert default_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert default_uri(tmp_path) == "http://localhost:5000"


def test_a_fresh_database_is_what_mlflow_itself_would_make(tmp_path):
    initialise(default_uri(tmp_path))
    from mlflow.store.db.utils import _get_latest_schema_revision

    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(_get_latest_schema_revision(),)]
        assert database.execute("SELECT name, artifact_location FROM experiments").fetchall() == [("Default", f"{tmp_path}/mlartifacts/0")]
    before = (tmp_path / "mlflow.db").read_bytes()
    initialise(default_uri(tmp_path))
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:9", "refused"),
        ("https://nowhere.invalid", ""),
        ("postgresql://somebody:hunter2@127.0.0.1:9/mlflow", "refused"),
        ("file:///tmp/mlruns", "maintenance"),
        ("nonsense://x", ""),
        ("sqlite:////dev/null/mlflow.db", "mlartifacts"),
    ],
)
def test_a_store_that_is_not_there_is_said_in_one_line_and_in_seconds(uri, reason, one):
    started = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        mirror(one, uri)
    assert time.monotonic() - started < 60
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)
    assert one[0][2].joinpath("record.json").exists()


def test_a_database_that_is_none_is_said_and_left_alone(tmp_path, one):
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(TrackingError, match="not a database"):
        mirror(one, default_uri(tmp_path))
    assert (tmp_path / "mlflow.db").read_bytes() == b"no database" * 100


def test_an_altered_run_is_named_and_left_out(tmp_path):
    found, uri = written(tmp_path, [trial(workload(), "adamw", seed) for seed in range(3)]), default_uri(tmp_path)
    mirror(found, uri)
    ids = [record.record_id for record, _, _ in found]
    with tracking_store.open_store(uri) as client:
        by_id = {run.data.tags["record_id"]: run.info.run_id for run in runs(uri)}
        client.log_metric(by_id[ids[0]], "hit.03.charged_seconds", 0.001)
        client.set_tag(by_id[ids[1]], "record.workload", "{")
    with pytest.raises(RecordError):
        read_records(uri)
    rejected = {}
    left = read_records(uri, on_rejected=rejected.__setitem__)
    assert [record.record_id for record, _ in left] == [ids[2]]
    assert "crossings" in rejected[ids[0]] and "record.workload" in rejected[ids[1]]


# the command


def test_mirror_sends_what_is_missing_and_names_what_cannot_be_read(tmp_path, capsys):
    found = written(tmp_path, [trial(workload(), "adamw", seed) for seed in range(2)])
    path = found[0][2] / "curve.csv"
    path.write_text(path.read_text().replace("0.5", "0.6"))
    assert main(["mirror", "--home", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == "1 of 1 records sent, 0 were there already\n"
    assert "left out" in err and found[0][0].record_id in err
    assert main(["mirror", "--json", "--home", str(tmp_path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["records"], answer["sent"], list(answer["rejected"])) == (1, 0, [found[0][0].record_id])


def test_mirror_takes_another_store(tmp_path, one, capsys):
    assert main(["mirror", "--home", str(tmp_path), "--uri", f"sqlite:///{tmp_path}/elsewhere/other.db"]) == 0
    assert len(read_records(f"sqlite:///{tmp_path}/elsewhere/other.db")) == 1
    assert not (tmp_path / "mlflow.db").exists()


def test_mirror_fails_in_one_line_without_a_store(tmp_path, one, capsys):
    assert main(["mirror", "--home", str(tmp_path), "--uri", "http://127.0.0.1:9"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("timetrial: http://127.0.0.1:9: ")


def test_mirror_without_records_starts_nothing(tmp_path, capsys):
    assert main(["mirror", "--home", str(tmp_path)]) == 0
    assert "no records" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
