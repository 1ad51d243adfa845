"""A selection used again: same ids, its cost charged once more, and refused where it does not belong."""

from __future__ import annotations

import numpy as np
import pytest

from timetrial.data_pipelines.curation.context import make_context
from timetrial.data_pipelines.curation.interface import Pool, curate
from timetrial.data_pipelines.curation.reuse import Ids
from timetrial.data_pipelines.curation.selection import Cost, Selection
from timetrial.suite.config import resolve
from timetrial.suite.errors import ConfigError, DataError, UserError


def make_pool(version="a"):
    return Pool(np.arange(20), {"x": np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)}, data_digest=version)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def again(pool, keep_fraction=1.0, charge=lambda cost: None, **options):
    return curate(Ids(**options), pool, keep_fraction, make_context(pool, np.random.default_rng(0), charge=charge))


def test_a_selection_file_gives_the_same_selection_and_charges_its_cost(here):
    pool, charged = make_pool(), []
    cost = Cost(2.5, 3.0, {"score": 2.5})
    first = Selection(np.array([2, 5, 9]), 0.15, pool.digest, {"method": "el2n"}, weights=np.array([1, 2, 1], np.float32), cost=cost)
    first.write(here / "s.npz")
    found = again(pool, file="s.npz", digest=first.digest[:12], charge=charged.append)
    assert found.digest == first.digest
    assert charged == [cost]
    assert found.provenance == {"method": "ids", "made_by": {"method": "el2n"}, "cost": "charged as recorded"}


@pytest.mark.parametrize("suffix", ["npy", "txt"])
def test_a_bare_list_in_any_order_is_a_selection_whose_cost_is_not_declared(here, suffix):
    pool = make_pool()
    ids = np.array([9, 2, 5])
    np.save(here / "l.npy", ids)
    (here / "l.txt").write_text("9\n2\n5\n")
    found = again(pool, file=f"l.{suffix}", digest=Selection.of(pool, ids).digest)
    assert found.ids.tolist() == [2, 5, 9]
    assert found.provenance["cost"] == "not declared"


def test_repeats_are_refused_unless_counted(here):
    pool = make_pool()
    np.save(here / "l.npy", np.array([3, 3, 4]))
    with pytest.raises(UserError, match="1 ids are repeated, the first is 3"):
        again(pool, file="l.npy")
    found = again(pool, file="l.npy", repeats="count", digest=Selection.of(pool, np.array([3, 3, 4]), repeats="count").digest)
    assert found.counts.tolist() == [2, 1]


def test_another_version_of_the_data_set_is_refused(here):
    Selection(np.array([2, 5]), 0.1, make_pool("a").digest).write(here / "s.npz")
    with pytest.raises(DataError, match="another data set, version or split"):
        again(make_pool("b"), file="s.npz")


def test_the_error_says_which_digest_the_file_has(here):
    pool = make_pool()
    Selection(np.array([2, 5]), 0.1, pool.digest).write(here / "s.npz")
    own = Selection.read(here / "s.npz").digest[:12]
    for given in ("", "0" * 12):
        with pytest.raises(ConfigError, match=f"digest={own}"):
            again(pool, file="s.npz", digest=given)


@pytest.mark.parametrize("digest", ["123456789012", "12e345678901", "0e0000000000", "012345678901", "1E5678901234", "abcdef123456"])
@pytest.mark.parametrize("key", ["digest", "curation.options.digest"])
def test_a_digest_that_looks_like_a_number_stays_text(key, digest):
    plan = resolve(["workload=digits_mlp", "curation=ids", "file=s.npz", f"{key}={digest}"])
    assert plan.curation.options["digest"] == digest


def test_a_digest_that_yaml_read_as_a_number_is_refused_with_advice():
    with pytest.raises(ConfigError, match="in quotes"):
        Ids(file="s.npz", digest=123456789012)


def test_a_declared_keep_fraction_must_fit(here):
    pool = make_pool()
    Selection(np.array([2, 5]), 0.1, pool.digest).write(here / "s.npz")
    digest = Selection.read(here / "s.npz").digest
    assert len(again(pool, 0.1, file="s.npz", digest=digest)) == 2
    with pytest.raises(DataError, match="kept 2 of 20 examples; keep_fraction 0.5 is 10"):
        again(pool, 0.5, file="s.npz", digest=digest)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("l.txt", "1\ntwo\n", DataError, "not a readable list of ids"),
        ("l.npy", "no array", DataError, "not a readable list of ids"),
        ("l.csv", "1", ConfigError, "expected .npz, .npy or .txt"),
        ("l.txt", "1\n99\n", UserError, "99"),
        ("l.npz", "no zip", DataError, "not a readable selection file"),
    ],
)
def test_bad_files_are_named(here, name, content, error, message):
    (here / name).write_text(content)
    with pytest.raises(error, match=message):
        again(make_pool(), file=name)


@pytest.mark.parametrize(("file", "message"), [("/etc/ids.npy", "relative to the working directory"), ("~/ids.npy", "relative")])
def test_absolute_paths_are_refused(file, message):
    with pytest.raises(ConfigError, match=message):
        Ids(file=file)


def test_a_missing_file_is_named(here):
    with pytest.raises(ConfigError, match=r"gone\.npz: no such file"):
        again(make_pool(), file="gone.npz")
    with pytest.raises(ConfigError, match="needs a selection"):
        again(make_pool())
