"""Training data from elsewhere: behind the official examples, on the same validation and test, and never a copy of what is held out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from timetrial.data_pipelines.sources import get_source
from timetrial.suite.cli import main
from timetrial.suite.config import resolve
from timetrial.suite.errors import ConfigError, UserError
from timetrial.suite.inputs import open_inputs
from timetrial.suite.registry import adopt

FILE = {"base": "digits_mlp", "data": {"source": "digits+outside", "options": {"path": "extra.npz"}}}


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setenv("TIMETRIAL_PATH", "")


@pytest.fixture
def official(prepared_home):
    return open_inputs(resolve(["workload=digits_mlp"]).workload, prepared_home)


def outside(official, count=200):
    """Official pictures of every class, dimmed: new inputs with labels that are right."""
    fields = official.pool.split.fields
    return {"pixels": np.asarray(fields["pixels"].values[:count]) * np.float32(0.9), "label": np.array(fields["label"].values[:count])}


def write(folder, arrays, content=FILE):
    folder.mkdir(exist_ok=True)
    np.savez(folder / "extra.npz", **arrays)
    (folder / "workload.yaml").write_text(yaml.safe_dump(content))
    return folder


def opened(folder, home):
    return open_inputs(resolve([f"workload={adopt(str(folder))}"]).workload, home)


def test_the_pool_grows_and_what_is_measured_on_stays_the_same(official, prepared_home, tmp_path):
    found = opened(write(tmp_path / "more", outside(official)), prepared_home)
    assert len(found.pool) == len(official.pool) + 200
    assert np.array_equal(found.validation.ids, official.validation.ids)
    assert found.pool.ids[-200:].tolist() == list(range(len(official.pool.split), len(official.pool.split) + 200))
    for name in ("pixels", "label"):
        whole, own = found.pool.split.fields[name].values, official.pool.split.fields[name].values
        assert np.array_equal(whole[: len(own)], own) and np.array_equal(whole[len(own) :], outside(official)[name])
        assert np.array_equal(found.test.split.fields[name].values, official.test.split.fields[name].values)


def test_it_is_a_workload_of_its_own_with_the_targets_of_its_base(official, prepared_home, tmp_path):
    folder = write(tmp_path / "more", outside(official))
    base, own = resolve(["workload=digits_mlp"]).workload, resolve([f"workload={adopt(str(folder))}"]).workload
    assert (own.name, own.base, own.ladder, own.budget) == ("more", "digits_mlp", base.ladder, base.budget)
    assert own.digest != base.digest


def test_it_trains_and_selections_reach_the_new_examples(official, tmp_path, capsys):
    folder = write(tmp_path / "more", outside(official))
    home = tmp_path / "home"
    command = ["run", str(folder), "workload.budget.examples=2000", "loader=torch", "--no-mlflow", "--quiet", "--home", str(home)]
    assert main([*command, "curation=random", "keep_fraction=0.5"]) == 3  # cut short, it misses its target
    (record,) = (home / "records").iterdir()
    value = json.loads((record / "record.json").read_text())
    assert (value["workload"]["name"], value["selected"]["pool_examples"]) == ("more", len(official.pool) + 200)
    assert str(tmp_path) not in json.dumps(value)
    assert np.load(record / "selection.npz")["ids"].max() >= len(official.pool.split)


def spoiled(official, kind):
    arrays = outside(official)
    if kind == "copies":
        arrays["pixels"][7] = official.test.split.fields["pixels"].values[3]
    elif kind == "type":
        arrays["pixels"] = arrays["pixels"].astype(np.float64)
    elif kind == "nan":
        arrays["pixels"][3, 4] = np.nan
    elif kind == "class":
        arrays["label"][0] = 10
    elif kind == "field":
        del arrays["pixels"]
    elif kind == "rows":
        arrays["label"] = arrays["label"][:-1]
    return arrays


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("copies", "1 are copies of official ones, the first is row 7, which is in 'test'"),
        ("type", "'pixels' expected float32 \\[64\\] a row, given float64"),
        ("nan", "'pixels' holds NaN"),
        ("class", "'label' holds 10, which no official training example has"),
        ("field", "expected the fields label, pixels, given label"),
        ("rows", "expected as many rows in every array"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_training(official, prepared_home, tmp_path, kind, message):
    with pytest.raises(UserError, match=message):
        opened(write(tmp_path / "more", spoiled(official, kind)), prepared_home)


def test_a_number_that_the_task_reads_must_be_there(official, prepared_home, tmp_path):
    arrays = outside(official)
    del arrays["label"]
    with pytest.raises(ConfigError, match="the examples from elsewhere lack label, which the task reads"):
        opened(write(tmp_path / "more", arrays), prepared_home)


@pytest.mark.data
def test_pictures_from_elsewhere_need_no_search_term(mirror, tmp_path):
    content = {"base": "cifar10_cnn", "data": {"source": "cifar10+outside", "options": {"path": "extra.npz"}}}
    noise = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3)).astype(np.uint8)
    found = opened(write(tmp_path / "more", {"image": noise, "label": np.arange(50) % 10}, content), tmp_path / "home")
    assert len(found.pool) == 45_050 and len(found.validation) == 5000
    assert (found.pool.split.fields["term"].values[-50:] == -1).all()


def test_a_file_that_is_none_is_named(official, prepared_home, tmp_path):
    folder = write(tmp_path / "more", outside(official))
    (folder / "extra.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"extra\.npz: expected an \.npz of plain arrays"):
        opened(folder, prepared_home)
    (folder / "extra.npz").unlink()
    with pytest.raises(ConfigError, match="there is none at"):
        opened(folder, prepared_home)


@pytest.mark.parametrize(
    "content",
    [
        {**FILE, "model": {"width": 512}},
        {**FILE, "data": {"source": "cifar10+outside", "options": {"path": "extra.npz"}}},
        {**FILE, "data": {"source": "digits+outside", "options": {"path": "extra.npz"}, "validation_examples": 10}},
        {"base": "digits_mlp"},
    ],
)
def test_nothing_but_the_training_data_may_differ_from_the_base(official, tmp_path, content):
    folder = write(tmp_path / "more", outside(official), content)
    with pytest.raises(ConfigError, match=r"digits\+outside"):
        resolve([f"workload={adopt(str(folder))}"])


def test_sources_of_ones_own_files_need_no_second_place_for_them():
    with pytest.raises(ConfigError, match="reads your own files already"):
        get_source("own_files+outside")
