"""The small and the full tier: they compose, state published targets, say what to download, and train on data of their exact shapes."""

from __future__ import annotations

import itertools
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

from .smoke_cross import smoke

pytestmark = [
    pytest.mark.timeout(280),
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
# A language model's logits of one sequence are 0.2 GB.
ONE = ["workload.data.options.synthetic_examples=2", "workload.batch_size=1", "workload.evaluation.batch_size=1"]
# 512 channels of the front and, in bfloat16 on a CPU, LSTMs over 500 steps take minutes.
SPEECH = [*ONE, "workload.model.channels=16", "workload.model.width=32"]
LIGHTER = {"criteo1tb_dlrm": ["workload.model.width=4"], "finewebedu_lm": ONE, "finewebedu_lm_small": ONE}
LIGHTER |= {"librispeech_conformer": SPEECH, "librispeech_deepspeech": SPEECH}


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


# --- the small tier ---------------------------------------------------------------------------------------------------------------------

SMALL = [name for name in names("workload") if definition("workload", name)["tier"] == "small"]
TWO_TARGETS = {"cifar10_cnn_small": 0.94, "cifar10_cnn_small-residual": 0.96}
SMALL_QUICK = {"ctr_dlrm_small", "molhiv_gnn_small"}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_workload_composes_for_a_gpu(name):
    plan = resolve([f"workload={name}", "algorithm=nesterov", "compile=true"])
    assert (plan.workload.tier, plan.workload.precision) == ("small", "bf16-mixed")
    assert plan.algorithm.options["compile"] is True
    assert plan.workload.ladder.status == "provisional"
    assert 10 <= plan.workload.budget.examples / plan.workload.evaluation.every_examples <= 100


@pytest.mark.parametrize("name", [name for name in SMALL if name.removesuffix("_small") in names("workload") and "finewebedu" not in name])
def test_a_small_workload_is_the_nano_one_with_a_larger_model(name):
    small, nano = (resolve_definition("workload", other) for other in (name, name.removesuffix("_small")))
    assert (small.task, small.family, small.data.source) == (nano.task, nano.family, nano.data.source)
    assert small.model != nano.model
    assert (small.tier, nano.tier) == ("small", "nano")


@pytest.mark.parametrize(("name", "target"), TWO_TARGETS.items())
def test_cifar10_has_airbench_s_two_targets(name, target):
    ladder = resolve_definition("workload", name).ladder
    assert ladder.main == target
    assert {0.94, 0.96} <= set(ladder.levels)


def test_cifar10_at_tier_small_is_airbench_s_network():
    """3x3 convolutions from 24 whitened channels through the published widths; of airbench96 three a block."""
    from timetrial.suite.task import load_task

    facts = {"classes": 10, "patch_covariance": np.eye(12).tolist()}
    sizes = {}
    for name in TWO_TARGETS:
        model = load_task("cifar10_cnn").build_model(resolve_definition("workload", name).model, facts)
        sizes[name] = sum(p.numel() for n, p in model.named_parameters() if p.ndim > 1)

    def expected(widths, inner):
        blocks = sum(9 * (a * b + inner * b * b) for a, b in itertools.pairwise((24, *widths)))
        return 24 * 3 * 4 + blocks + 10 * widths[-1]

    assert sizes == {
        "cifar10_cnn_small": expected((64, 256, 256), 1),
        "cifar10_cnn_small-residual": expected((128, 384, 512), 2),
    }


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cifar10_cnn@small", "cifar10_cnn_small"),
        ("cifar10_cnn@nano", "cifar10_cnn"),
        ("imagenet_resnet@full", "imagenet_resnet"),
        ("cifar10_cnn", "cifar10_cnn"),
    ],
)
def test_a_tier_can_be_named_behind_the_workload(given, name, tmp_path, capsys):
    assert main(["run", given, "--dry-run", "--home", str(tmp_path)]) == 0
    assert f"{name}@1 (" in capsys.readouterr().out
    assert main(["show", given]) == 0
    assert capsys.readouterr().out.startswith(f"{name}@1: ")


def test_a_tier_that_a_workload_lacks_names_the_nearest(capsys):
    assert main(["run", "cifar10_cnn@smal", "--dry-run"]) == 1
    assert "did you mean 'cifar10_cnn_small'" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in SMALL_QUICK else pytest.mark.slow) for name in SMALL])
def test_a_small_workload_trains_on_a_cpu(name, prepared_home, tmp_path):
    if "synthetic_examples" in resolve_definition("workload", name).data.options:
        record, _ = run_trial(shrunk(name), tmp_path, smoke=True)
        assert record.status == "smoke", record.status_reason
    else:
        assert smoke("nesterov", name, prepared_home, tmp_path) == "ran"


def test_the_list_shows_tier_family_metric_target_reference_time_and_variants(tmp_path, monkeypatch, capsys):
    assert main(["list", "workloads", "--json"]) == 0
    shown = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert {item["tier"] for item in shown.values()} == {"nano", "small", "full"}
    for name, item in shown.items():
        reference = resolve_definition("workload", name).reference
        expected = None if reference is None else pytest.approx(np.median(reference.seconds_to_target))
        assert item["reference_seconds"] == expected
        assert {"family", "metric", "ladder", "variants"} <= set(item)
    assert main(["list", "workloads"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "tier", "family", "metric", "target", "targets", "reference", "variants", "summary"]
    (row,) = [row for row in rows if row.startswith("cifar10_cnn_small ")]
    assert row.split()[1:6] == ["small", "image_classification", "accuracy", ">=", "0.94"]
