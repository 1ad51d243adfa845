"""The small and the full tier: they compose, state published targets, say what to download, and train on data of their exact shapes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from timetrial.data_pipelines.dataset import open_dataset, prepare
from timetrial.data_pipelines.fields import FieldKind
from timetrial.data_pipelines.sources import get_source
from timetrial.suite.cli import main
from timetrial.suite.config import resolve, resolve_definition
from timetrial.suite.errors import DataError, DataMissing
from timetrial.suite.registry import definition, names
from timetrial.suite.trial import run_trial

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),  # torch_geometric's import
]

FULL = [name for name in names("workload") if definition("workload", name)["tier"] == "full"]
GATED = ("criteo1tb", "fastmri", "fineweb_edu", "imagenet", "librispeech", "molpcba", "wmt17")

# AlgoPerf v0.5: validation target (errors as accuracies), seconds, steps times NadamW's batch size; the language model: 2026, 4 A100.
PUBLISHED = {
    "criteo1tb_dlrm": (0.123735, 7_703, 10_666 * 262_144),
    "fastmri_unet": (0.723653, 8_859, 36_189 * 32),
    "imagenet_resnet": (1 - 0.22569, 63_008, 186_666 * 1024),
    "imagenet_vit": (1 - 0.22691, 77_520, 186_666 * 1024),
    "librispeech_conformer": (0.085884, 61_068, 80_000 * 256),
    "librispeech_deepspeech": (0.119936, 55_506, 48_000 * 256),
    "molpcba_gnn": (0.28098, 18_477, 80_000 * 512),
    "wmt_transformer": (None, 48_151, 133_333 * 128),  # published in BLEU, the ladder is in token loss
    "finewebedu_lm": (22.2995, 31_967, 72_000 * 64),
}
QUICK = {"molpcba_gnn", "criteo1tb_dlrm"}
# The embedding table of 4.2 million rows and 128 columns is 2 GB, and an optimizer's state as much again.
LIGHTER = {"criteo1tb_dlrm": ["workload.model.width=4"]}


def test_the_full_tier_is_algoperf_s_nine_workloads():
    assert set(FULL) == set(PUBLISHED)


@pytest.mark.parametrize("name", FULL)
def test_a_full_workload_states_the_published_target_and_budget(name):
    target, seconds, examples = PUBLISHED[name]
    found = resolve_definition("workload", name)
    assert target is None or found.ladder.main == pytest.approx(target, abs=1e-9)
    assert (found.budget.charged_seconds, found.budget.examples) == (seconds, examples)
    assert found.ladder.status == "provisional"
    assert len(found.ladder.levels) >= 10
    assert found.budget.examples / found.evaluation.every_examples < 200


@pytest.mark.parametrize("name", FULL)
def test_a_full_workload_prints_its_plan_without_data(name, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TIMETRIAL_MIRROR", raising=False)
    assert main(["run", name, "--dry-run", "--home", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert f"{name}@1 (full)" in told and f"at most {PUBLISHED[name][1]} charged s" in told
    assert not (tmp_path / "data").exists()


def shrunk(name, *more):
    """A plan with two examples a step on synthetic data."""
    sizes = ["workload.data.options.synthetic_examples=4", "workload.batch_size=2", "workload.evaluation.batch_size=2"]
    return resolve([f"workload={name}", *sizes, *LIGHTER.get(name, []), *more])


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FULL])
def test_a_full_workload_trains_on_synthetic_data_of_its_shapes(name, tmp_path):
    record, _ = run_trial(shrunk(name, "algorithm=nesterov", "lr=0.001"), tmp_path, smoke=True)
    assert record.status == "smoke", record.status_reason
    assert np.isfinite(record.result.final_quality)


@pytest.mark.slow
def test_pictures_grow_while_imagenet_is_learned(tmp_path):
    record, _ = run_trial(shrunk("imagenet_resnet", "algorithm=progressive_resizing"), tmp_path, smoke=True)
    assert record.status == "smoke", record.status_reason


# --- data that cannot be fetched --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("mirror", [False, True], ids=["no mirror", "not in the mirror"])
def test_absent_data_are_told_with_address_licence_and_expected_files(name, mirror, tmp_path, monkeypatch):
    monkeypatch.delenv("TIMETRIAL_MIRROR", raising=False)
    if mirror:
        monkeypatch.setenv("TIMETRIAL_MIRROR", str(tmp_path))
    source = get_source(name)
    with pytest.raises(DataMissing) as refused:
        prepare(source, {}, tmp_path / "home")
    for part in (name, "https://", source.licence, "download ", "train/, validation/", "synthetic_examples"):
        assert part in str(refused.value), part
    assert "\n" not in str(refused.value)


def test_data_to_be_signed_for_say_so(tmp_path, monkeypatch):
    monkeypatch.delenv("TIMETRIAL_MIRROR", raising=False)
    for name in ("criteo1tb", "fastmri", "imagenet"):
        with pytest.raises(DataMissing, match="accept|sign"):
            prepare(get_source(name), {}, tmp_path)


def test_the_command_line_refuses_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TIMETRIAL_MIRROR", raising=False)
    assert main(["run", "fastmri_unet", "--home", str(tmp_path), "--no-mlflow", "--quiet"]) == 1
    told = capsys.readouterr().err
    assert "sign the fastMRI data sharing agreement" in told and told.count("\n") == 1
    assert not (tmp_path / "records").exists()


@pytest.fixture
def tokens(tmp_path, monkeypatch):
    """A mirror with a little of FineWeb-Edu in the stated layout."""
    mirror = tmp_path / "mirror"
    for i, split in enumerate(("train", "validation", "test")):
        (mirror / "fineweb_edu" / split).mkdir(parents=True)
        np.save(mirror / "fineweb_edu" / split / "tokens.npy", np.full((3 + i, 1025), i, np.int32))
    (mirror / "fineweb_edu" / "facts.json").write_text(json.dumps({"vocabulary_size": 7}))
    monkeypatch.setenv("TIMETRIAL_MIRROR", str(mirror))
    return mirror / "fineweb_edu"


def test_data_in_the_stated_layout_are_read(tokens, tmp_path):
    found = prepare(get_source("fineweb_edu"), {}, tmp_path / "home")
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 3, "validation": 4, "test": 5}
    assert found.facts == {"vocabulary_size": 7}
    assert (found.splits["validation"].fields["tokens"].values == 1).all()


def test_other_files_in_the_mirror_are_another_dataset(tokens, tmp_path):
    first = prepare(get_source("fineweb_edu"), {}, tmp_path / "home").digest
    np.save(tokens / "train" / "tokens.npy", np.full((9, 1025), 5, np.int32))
    with pytest.raises(DataMissing):
        open_dataset(get_source("fineweb_edu"), {}, tmp_path / "home")
    assert prepare(get_source("fineweb_edu"), {}, tmp_path / "home").digest != first


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: np.save(folder / "test" / "tokens.npy", np.zeros((3, 99), np.int32)), r"\['n', 1025\], found int32 \[3, 99\]"),
        (lambda folder: (folder / "facts.json").write_text("{}"), "missing: vocabulary_size"),
        (lambda folder: (folder / "facts.json").write_text("no"), "cannot be read"),
        (lambda folder: (folder / "train" / "tokens.npy").unlink(), "tokens.npy is not there"),
    ],
    ids=["another length", "a fact is missing", "no JSON", "a file is missing"],
)
def test_data_in_another_layout_are_refused(tokens, tmp_path, harm, message):
    harm(tokens)
    with pytest.raises(DataError, match=message):
        prepare(get_source("fineweb_edu"), {}, tmp_path / "home")


def test_imagenet_is_read_from_folders_of_its_own_files(tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    for split, kinds in (("train", "ab"), ("validation", "ab"), ("test", "b")):
        for kind in kinds:
            folder = mirror / "imagenet" / split / f"n{kind}"
            folder.mkdir(parents=True)
            Image.new("RGB", (40, 30), (200, 10, 10) if kind == "a" else (10, 10, 200)).save(folder / "x.JPEG")
    monkeypatch.setenv("TIMETRIAL_MIRROR", str(mirror))
    found = prepare(get_source("imagenet"), {}, tmp_path / "home")
    assert found.facts == {"classes": 2}
    assert found.splits["train"].fields["image"].kind is FieldKind.JPEG
    assert {name: split.fields["label"].values.tolist() for name, split in found.splits.items()} == {
        "train": [0, 1],
        "validation": [0, 1],
        "test": [1],
    }
    begin, end = found.splits["test"].fields["image"].offsets
    assert bytes(found.splits["test"].fields["image"].values[begin:end]) == (mirror / "imagenet" / "test" / "nb" / "x.JPEG").read_bytes()


@pytest.mark.parametrize("content", [b"", b"PNG, renamed"])
def test_a_picture_that_is_no_jpeg_is_named(content, tmp_path, monkeypatch):
    for split in ("train", "validation", "test"):
        folder = tmp_path / "imagenet" / split / "n0"
        folder.mkdir(parents=True)
        (folder / "bad.JPEG").write_bytes(content or b"\0")
    monkeypatch.setenv("TIMETRIAL_MIRROR", str(tmp_path))
    with pytest.raises(DataError, match=r"bad\.JPEG: not a JPEG"):
        prepare(get_source("imagenet"), {}, tmp_path / "home")
