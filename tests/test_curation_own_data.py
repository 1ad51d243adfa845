"""``timetrial curate``: one's own pictures, texts and vectors; results as files and a page; named errors; work survives interruptions."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

import timetrial
from timetrial.data_pipelines.curation.selection import Selection
from timetrial.data_pipelines.own_curation import curate_own_data, usable_methods, write_curated
from timetrial.data_pipelines.own_data import read_own_data
from timetrial.suite import cli
from timetrial.suite.cli.curate import parse_options, size_in_bytes
from timetrial.suite.cli.curate_page import curate_page
from timetrial.suite.errors import ConfigError, DataError, NeedsUnmet, UnknownName, UserError


def vectors(n=400, d=16, copies=40, seed=0):
    """Distinct rows, the last ``copies`` of which repeat the first ones almost exactly."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)).astype(np.float32)
    rows[n - copies :] = rows[:copies] + 0.001 * rng.normal(size=(copies, d))
    return rows


def paint(folder, count=30, copies=6):
    """Pictures of different patterns, and ``copies`` of the first ones in another format."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.kron(rng.integers(0, 256, size=(5, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        picture = Image.fromarray(pixels)
        (folder / "sub").mkdir(exist_ok=True)
        picture.save(folder / ("sub" if i % 2 else ".") / f"a{i:03d}.png")
        if i < copies:
            picture.save(folder / f"z{i:03d}.jpg", quality=95)
    return folder


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        return cli.main(["curate", *map(str, words), "--home", str(tmp_path / "home")])

    return run


def test_vectors_from_one_file_and_from_shards_are_the_same_pool(tmp_path):
    rows = vectors()
    np.save(tmp_path / "whole.npy", rows)
    (tmp_path / "parts").mkdir()
    for i, part in enumerate(np.split(rows, [100, 250])):
        np.save(tmp_path / "parts" / f"{i}.npy", part)
    whole = read_own_data(tmp_path / "whole.npy", tmp_path / "s1")
    parts = read_own_data(tmp_path / "parts", tmp_path / "s2")
    assert whole.pool.field("x").tolist() == parts.pool.field("x").tolist() == rows.tolist()
    assert whole.names[7] == "row 7"
    kept = [curate_own_data(data, "near_dedup").selection.ids.tolist() for data in (whole, parts)]
    assert kept[0] == kept[1] == list(range(360))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_are_widened(tmp_path, dtype):
    np.save(tmp_path / "v.npy", vectors().astype(dtype))
    data = read_own_data(tmp_path / "v.npy", tmp_path)
    assert data.pool.field("x").dtype == np.float32
    assert len(curate_own_data(data, "near_dedup").selection) == 360


def test_pictures_are_read_with_their_names_and_broken_ones_are_listed(tmp_path):
    folder = paint(tmp_path / "photos")
    (folder / "a000b.png").write_bytes(b"not a picture")
    data = read_own_data(folder, tmp_path / "scratch")
    assert data.kind == "pictures"
    assert len(data.pool) == 36
    assert data.unreadable[0][0] == "a000b.png"
    assert 1 not in data.pool.ids  # the broken one's place in the sorted list
    assert data.pool.rows("image", np.array([0])).shape == (1, 32, 32, 3)
    result = curate_own_data(data, "near_dedup", options={"threshold": 0.95})
    dropped = [data.names[i] for i in np.setdiff1d(data.pool.ids, result.selection.ids)]
    assert dropped == [f"z{i:03d}.jpg" for i in range(6)]
    assert all("duplicate of" in reason for reason in result.reasons[~result.kept])


def test_decoded_pictures_are_not_decoded_twice_after_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr("timetrial.data_pipelines.own_data.BLOCK", 10)
    folder, decoded = paint(tmp_path / "photos"), []

    def stop(stage, share):
        decoded.append(share)
        if len(decoded) == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_own_data(folder, tmp_path / "scratch", on_progress=stop)
    again = []
    data = read_own_data(folder, tmp_path / "scratch", on_progress=lambda stage, share: again.append(share))
    assert len(again) == 16  # two blocks of ten were finished
    assert data.pool.field("image").tolist() == read_own_data(folder, tmp_path / "fresh").pool.field("image").tolist()


def test_a_broken_picture_is_still_told_when_its_block_comes_from_the_scratch(tmp_path):
    folder = paint(tmp_path / "photos")
    (folder / "broken.png").write_bytes(b"")
    for _ in range(2):
        assert [name for name, _ in read_own_data(folder, tmp_path / "scratch").unreadable] == ["broken.png"]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "txt"])
def test_texts_come_from_a_column_or_from_lines(tmp_path, suffix):
    import pandas as pd

    texts = [f"example number {i} says {'this' if i % 2 else 'that'} word{i} word{i * 7}" for i in range(30)]
    table, path = pd.DataFrame({"n": range(30), "body": texts}), tmp_path / f"posts.{suffix}"
    write = {"csv": table.to_csv, "parquet": table.to_parquet, "jsonl": lambda p: table.to_json(p, orient="records", lines=True)}
    write.get(suffix, lambda p: p.write_text("\n".join(texts)))(path)
    data = read_own_data(path, tmp_path)
    assert data.kind == "texts"
    assert data.names[3] == texts[3]
    assert len(curate_own_data(data, "prototypes", 0.5, options={"dimensions": 5}).selection) == 15


def test_empty_texts_are_left_out_and_listed(tmp_path):
    (tmp_path / "t.txt").write_text("one\n\n  \nfour\n")
    data = read_own_data(tmp_path / "t.txt", tmp_path)
    assert data.pool.ids.tolist() == [0, 3]
    assert data.unreadable == (("row 1", "empty"), ("row 2", "empty"))


def test_several_text_columns_must_be_told_apart(tmp_path):
    import pandas as pd

    pd.DataFrame({"a": ["x"], "b": ["y"]}).to_csv(tmp_path / "t.csv", index=False)
    for column in (None, "c"):
        with pytest.raises(UserError, match="--column is one of a, b"):
            read_own_data(tmp_path / "t.csv", tmp_path, column=column)
    assert read_own_data(tmp_path / "t.csv", tmp_path, column="b").names == ["y"]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("x.bin", b"", UserError),
        ("x.npy", b"", DataError),
        ("x.npy", b"garbage", DataError),
        ("x.parquet", b"garbage", DataError),
        ("x.csv", b"", DataError),
        ("x.txt", b"", DataError),
        ("missing.npy", None, UserError),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, error):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=name.replace(".", r"\.")):
        read_own_data(tmp_path / name, tmp_path)


@pytest.mark.parametrize("array", [np.zeros(5, np.float32), np.zeros((5, 2), np.int64), np.zeros((0, 3), np.float32)])
def test_arrays_that_are_no_vectors_are_refused(tmp_path, array):
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(DataError):
        read_own_data(tmp_path / "v.npy", tmp_path)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("method", ["near_dedup", "prototypes"])
def test_a_vector_without_direction_is_named(tmp_path, bad, method):
    rows = vectors()
    rows[123] = bad
    np.save(tmp_path / "v.npy", rows)
    with pytest.raises(DataError, match="zero or not finite|example 123 is not finite"):
        curate_own_data(read_own_data(tmp_path / "v.npy", tmp_path), method)


def test_a_folder_without_data_says_what_it_looked_for(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"neither pictures .* nor \.npy"):
        read_own_data(tmp_path / "empty", tmp_path)


def test_methods_that_need_labels_or_a_model_say_what_would_do(tmp_path):
    np.save(tmp_path / "v.npy", vectors())
    data = read_own_data(tmp_path / "v.npy", tmp_path)
    for method, need in (("el2n", "labels"), ("entropy", "a model"), ("loss", "a model"), ("rs2", "a model"), ("herding", "labels")):
        with pytest.raises(NeedsUnmet, match=f"{method} needs {need}; on data alone: .*near_dedup"):
            curate_own_data(data, method)
    with pytest.raises(UnknownName, match="near_dedup"):
        curate_own_data(data, "near_dup")
    with pytest.raises(ConfigError, match="keep_fraction"):
        curate_own_data(data, "prototypes", 0.0)
    assert {"near_dedup", "prototypes", "dbp", "semdedup", "d4", "random"} <= set(usable_methods())


def test_what_would_not_fit_in_memory_is_refused_before_it_starts(tmp_path):
    np.save(tmp_path / "v.npy", vectors())
    data = read_own_data(tmp_path / "v.npy", tmp_path)
    with pytest.raises(ConfigError, match=r"prototypes holds about .* exact_dedup or near_dedup"):
        curate_own_data(data, "prototypes", memory_bytes=10_000)
    assert len(curate_own_data(data, "near_dedup", memory_bytes=10_000).selection) == 360


@pytest.mark.parametrize("method", [m for m in usable_methods() if m not in ("perceptual_dedup", "minhash_dedup")])
def test_every_usable_method_runs_on_vectors(tmp_path, method):
    np.save(tmp_path / "v.npy", vectors())
    data = read_own_data(tmp_path / "v.npy", tmp_path)
    result = curate_own_data(data, method, 0.5)
    assert len(result.selection) == 200
    assert (result.reasons[result.kept] == "").all()
    assert (result.reasons[~result.kept] != "").all()
    curate_page(result)


def test_the_files_say_the_same_thing(tmp_path):
    np.save(tmp_path / "v.npy", vectors())
    result = curate_own_data(read_own_data(tmp_path / "v.npy", tmp_path), "near_dedup")
    write_curated(result, tmp_path / "out")
    chosen = Selection.read(tmp_path / "out" / "selection.npz").checked(result.data.pool)
    assert np.load(tmp_path / "out" / "ids.npy").tolist() == chosen.ids.tolist() == list(range(360))
    table = pq.read_table(tmp_path / "out" / "examples.parquet").to_pydict()
    assert [i for i, kept in zip(table["id"], table["kept"], strict=True) if kept] == list(range(360))
    assert table["duplicate_of"][360:] == list(range(40))
    assert min(table["similarity"][360:]) > 0.99
    assert table["reason"][399].startswith("duplicate of row 39 (closest: ")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["examples"], summary["kept"], summary["digest"]) == (400, 360, chosen.digest)
    assert summary["seconds"] >= sum(summary["spans"].values()) > 0
    assert (tmp_path / "out" / "kept.txt").read_text().splitlines()[-1] == "row 359"


def test_a_cached_embedding_is_counted_again(tmp_path):
    data = read_own_data(paint(tmp_path / "photos"), tmp_path / "scratch")
    first, second = (curate_own_data(data, "prototypes", 0.5, scratch=tmp_path / "cache") for _ in range(2))
    assert second.selection.cost.span_seconds["embed"] == pytest.approx(first.selection.cost.span_seconds["embed"], rel=0.2)
    assert second.selection.cost.wall_seconds >= second.selection.cost.span_seconds["embed"]


def test_the_command_writes_results_and_a_page(command, tmp_path, capsys):
    paint(tmp_path / "photos")
    assert command("photos", "--method", "near_dedup", "threshold=0.95", "--out", "kept") == 0
    out = capsys.readouterr().out
    assert "near_dedup: kept 30 of 36, dropped 6" in out
    page = (tmp_path / "kept" / "report.html").read_text()
    assert page.count("data:image/png;base64") >= 12
    assert "recall, brute-forced sample" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page  # one self-contained file


def test_the_command_prints_json(command, tmp_path, capsys):
    np.save(tmp_path / "v.npy", vectors())
    assert command("v.npy", "--method", "prototypes", "--keep-fraction", "0.25", "clusters=4", "--json", "--quiet") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kept"], told["options"]["clusters"]) == (100, 4)
    assert (tmp_path / "v-curated" / "ids.npy").exists()


def test_the_function_does_what_the_command_does(command, tmp_path):
    np.save(tmp_path / "v.npy", vectors())
    assert command("v.npy", "threshold=0.97", "--quiet") == 0
    result = timetrial.curate("v.npy", "near_dedup", threshold=0.97, home=tmp_path / "home", out=tmp_path / "own")
    assert result.selection.ids.tolist() == np.load(tmp_path / "v-curated" / "ids.npy").tolist() == list(range(360))
    assert (tmp_path / "own" / "ids.npy").read_bytes() == (tmp_path / "v-curated" / "ids.npy").read_bytes()


def test_the_function_refuses_what_the_command_refuses(tmp_path):
    np.save(tmp_path / "v.npy", vectors())
    with pytest.raises(UnknownName, match="did you mean 'prototypes'"):
        timetrial.curate(tmp_path / "v.npy", "prototype", home=tmp_path / "home")
    with pytest.raises(UserError, match="no such file"):
        timetrial.curate(tmp_path / "missing.npy", home=tmp_path / "home")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.npy"], "missing.npy: no such file"),
        (["v.npy", "--method", "prototype"], "did you mean 'prototypes'"),
        (["v.npy", "--keep-fraction", "1.5"], "keep_fraction: expected more than 0 and at most 1"),
        (["v.npy", "threshold=2"], "threshold"),
        (["v.npy", "rule=first"], "any_earlier, leader, component"),
        (["v.npy", "thresh=0.9"], "thresh"),
        (["v.npy", "threshold"], "expected KEY=VALUE"),
        (["v.npy", "--memory", "much"], "expected a size like 4GB"),
        (["v.npy", "--side", "0"], "at least 1 pixel"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing_behind(command, tmp_path, capsys, words, message):
    np.save(tmp_path / "v.npy", vectors())
    assert command(*words) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("timetrial: ")
    assert message in told
    assert not (tmp_path / "v-curated").exists()


@pytest.mark.parametrize(("text", "size"), [("4GB", 4 * 2**30), ("512MiB", 2**29), ("1.5 gb", 3 * 2**29), ("1e9", 10**9), ("100", 100)])
def test_sizes(text, size):
    assert size_in_bytes(text) == size


def test_options_are_yaml_values():
    assert parse_options(["a=1", "b=0.5", "c=[3, 2]", "d=true", "e=pca"]) == {"a": 1, "b": 0.5, "c": [3, 2], "d": True, "e": "pca"}


def test_names_from_files_are_text_on_the_page_and_nothing_else(tmp_path):
    (tmp_path / "t.txt").write_text("<script>alert(1)</script> one two\n<script>alert(1)</script> one two\nthree four five\n")
    data = read_own_data(tmp_path / "t.txt", tmp_path)
    page = curate_page(curate_own_data(data, "exact_dedup"))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.browser
def test_the_page_reads_well_in_a_browser_wide_and_narrow(tmp_path):
    data = read_own_data(paint(tmp_path / "photos"), tmp_path / "scratch")
    (tmp_path / "report.html").write_text(curate_page(curate_own_data(data, "semdedup", 0.8)))
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        problems = []
        for width in (1200, 390):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
            page.goto(f"file://{tmp_path / 'report.html'}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("#clusters tbody tr").count() > 0
            assert page.locator("img").first.evaluate("image => image.naturalWidth") == 32
            assert problems == []
        browser.close()
