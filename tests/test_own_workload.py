"""A stranger's folder is a workload: as the README tells it, in every form that a shipped family takes, and with clear refusals."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import timetrial
from timetrial.suite.cli import main
from timetrial.suite.config import resolve, resolve_definition
from timetrial.suite.inputs import open_inputs
from timetrial.suite.registry import adopt, names

ROOT = Path(__file__).resolve().parent.parent
SHORT = ["--no-mlflow", "--quiet", "loader=torch", "workload.budget.examples=640"]
DLRM = {"width": 4, "bottom": [8], "top": [8], "waves": 2, "wave_scale": 1.0, "activation": "relu", "dropout": 0.0}
TABLE = {
    "version": 1,
    "tier": "nano",
    "family": "tabular",
    "summary": "who buys",
    "task": "ctr_dlrm",
    "data": {"source": "own_files", "options": {"path": "rows"}, "validation_examples": 60},
    "model": DLRM,
    "metric": {"name": "log_loss", "direction": "minimize", "unit": "nats"},
    "ladder": {"levels": [0.9 - 0.05 * i for i in range(11)], "main": 0.9 - 0.05 * 8},
    "budget": {"examples": 4000, "charged_seconds": 60.0},
    "evaluation": {"every_examples": 320, "batch_size": 200},
    "batch_size": 32,
    "provides": ["labels"],
}


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.setenv("TIMETRIAL_PATH", "")  # what a run adds to it is taken back


def rows(count, seed=0):
    """People who buy when they are old or live in Ulm."""
    generator = np.random.default_rng(seed)
    towns, ages = generator.choice(["Bonn", "Ulm"], count), generator.integers(20, 60, count)
    return [
        {"town": town, "age": age, "label": "buys" if age > 45 or town == "Ulm" else "leaves"}
        for town, age in zip(towns, ages, strict=True)
    ]


def write_table(folder, **changes):
    (folder / "rows").mkdir(parents=True)
    with (folder / "rows" / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["town", "age", "label"])
        writer.writeheader()
        writer.writerows(rows(600))
    (folder / "workload.yaml").write_text(yaml.safe_dump({**TABLE, **changes}))
    return folder


def run(folder, home, *overrides):
    return main(["run", str(folder), *SHORT, "--home", str(home), *overrides])


def record_of(home):
    (folder,) = (home / "records").iterdir()
    return json.loads((folder / "record.json").read_text())


def test_the_readme_s_tutorial_works(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text().partition("## Your own workload")[2].partition("\n## ")[0]
    make, run_it = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    (definition,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-e"], input=make, text=True, check=True, timeout=60, env=environment)
    (tmp_path / "my_text" / "workload.yaml").write_text(definition)
    commands = [line.partition("#")[0].split() for line in run_it.splitlines()]
    assert [command[:2] for command in commands] == [["timetrial", verb] for verb in ("prepare", "run", "run", "leaderboard", "targets")]
    home = ["--home", str(tmp_path / "home"), "--quiet"]
    assert main([*commands[0][1:], *home]) == 0
    assert main([*commands[1][1:], *SHORT, *home]) == 3  # cut short, it misses its target
    assert main([*commands[2][1:], *SHORT, *home]) == 3
    record = record_of_algorithm(tmp_path / "home", "adamw")
    assert record["workload"]["name"] == "my_text"
    assert str(tmp_path) not in json.dumps(record)
    assert main([*commands[3][1:], *home]) == 0
    assert main([*commands[4][1:], *home]) == 0


def record_of_algorithm(home, algorithm):
    found = [json.loads(path.read_text()) for path in (home / "records").glob("*/record.json")]
    return next(record for record in found if record["entry"]["algorithm"] == algorithm)


@pytest.mark.slow
def test_the_readme_s_tutorial_reaches_its_target(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text().partition("## Your own workload")[2]
    (tmp_path / "my_text").mkdir()
    from pydoc_data.topics import topics

    (tmp_path / "my_text" / "text.txt").write_text("\n".join(topics.values()), encoding="utf-8")
    (tmp_path / "my_text" / "workload.yaml").write_text(re.findall(r"```yaml\n(version.*?)```", text, re.DOTALL)[0])
    assert main(["run", str(tmp_path / "my_text"), "--no-mlflow", "--quiet", "--home", str(tmp_path / "home")]) == 0


def test_rows_of_a_table_learn_and_the_record_holds_no_path(tmp_path):
    folder = write_table(tmp_path / "shop")
    assert main(["run", str(folder), "--no-mlflow", "--quiet", "loader=torch", "--home", str(tmp_path / "home")]) in (0, 3)
    record = record_of(tmp_path / "home")
    assert record["workload"]["name"] == "shop"
    assert record["result"]["final_quality"] < 0.5  # a coin gives 0.69
    (written,) = (tmp_path / "home" / "records").iterdir()
    assert not any(str(tmp_path) in path.read_text() for path in written.iterdir())


def test_a_folder_is_known_by_name_through_the_path_and_to_python(tmp_path, monkeypatch):
    write_table(tmp_path / "mine" / "shop")
    monkeypatch.setenv("TIMETRIAL_PATH", str(tmp_path / "mine"))
    assert "shop" in names("workload")
    assert resolve_definition("workload", "shop").task == "ctr_dlrm"
    record = timetrial.run("shop", home=tmp_path / "home", loader="torch", **{"workload.budget.examples": 320})
    assert record.workload.name == "shop"
    monkeypatch.setenv("TIMETRIAL_PATH", "")
    found = timetrial.run(str(tmp_path / "mine" / "shop"), home=tmp_path / "home", loader="torch", **{"workload.budget.examples": 320})
    assert (found.workload.name, found.data_digests["dataset"]) == ("shop", record.data_digests["dataset"])


def test_a_folder_s_own_variants_and_hidden_ones(tmp_path):
    folder = write_table(tmp_path / "shop")
    (folder / "variants.yaml").write_text(yaml.safe_dump({"variants": {"wide": {"summary": "wide", "model": {"width": 8}}}, "hidden": {}}))
    assert run(folder, tmp_path / "home", "seed=1") == 3
    assert main(["run", "shop-wide", *SHORT, "--home", str(tmp_path / "home")]) == 3


TASK_FILE = """
from torch import nn
from torch.nn.functional import cross_entropy

from timetrial.suite.task import Task


def metric(facts):
    from torchmetrics.classification import MulticlassAccuracy

    return MulticlassAccuracy(num_classes=facts["classes"], average="micro")


TASK = Task(
    ("x", "label"),
    lambda options, facts: nn.Linear(options["inputs"], facts["classes"]),
    lambda model, batch: model(batch["x"]),
    lambda logits, batch, options: cross_entropy(logits, batch["label"], reduction="none"),
    metric,
    lambda metric, logits, batch: metric.update(logits, batch["label"]),
    label="label",
)
"""
VECTORS = {
    "task": "task.py",
    "family": "vectors",
    "data": {"source": "own_files", "options": {"path": "data.npz"}, "validation_examples": 60},
    "model": {"inputs": 4},
    "metric": {"name": "accuracy", "direction": "maximize", "unit": "fraction"},
    "ladder": {"levels": [0.5 + 0.04 * i for i in range(11)], "main": 0.5 + 0.04 * 8},
}


@pytest.fixture
def vectors(tmp_path):
    folder = tmp_path / "vectors"
    folder.mkdir()
    x = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, label=(x[:, 0] > x[:, 1]).astype(np.int64))
    (folder / "workload.yaml").write_text(yaml.safe_dump({**TABLE, **VECTORS}))
    (folder / "task.py").write_text(TASK_FILE)
    return folder


def test_a_task_file_of_one_s_own(vectors, tmp_path):
    assert main(["run", str(vectors), "--no-mlflow", "--quiet", "loader=torch", "lr=0.05", "--home", str(tmp_path / "home")]) == 0


def test_another_task_file_is_another_workload_and_never_shares_a_board(vectors, tmp_path):
    short = {"home": tmp_path / "home", "loader": "torch", "workload.budget.examples": 320}
    first = timetrial.run(str(vectors), **short)
    assert first.workload.digest == timetrial.run(str(vectors), seed=1, **short).workload.digest
    (vectors / "task.py").write_text(TASK_FILE.replace("cross_entropy(logits", "cross_entropy(2 * logits"))
    other = timetrial.run(str(vectors), **short)
    assert other.workload.digest != first.workload.digest
    assert other.trial_digest != first.trial_digest
    written = (tmp_path / "home" / "records" / other.record_id / "config.yaml").read_text()
    assert re.search(r"task: task\.py@[0-9a-f]{16}", written)


def test_a_task_file_that_is_not_the_one_that_was_named_is_refused(vectors, tmp_path, capsys):
    (vectors / "workload.yaml").write_text(yaml.safe_dump({**TABLE, **VECTORS, "task": "task.py@0123456789abcdef"}))
    assert "expected the file of sha256 0123456789abcdef" in refusal(vectors, tmp_path / "home", capsys)


def pictures(folder, task, model, **changes):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    folder.mkdir()
    np.savez(folder / "data.npz", image=image, **changes)
    data = {"source": "own_files", "options": {"path": "data.npz"}, "validation_examples": 40}
    data["augmentation"] = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (folder / "workload.yaml").write_text(yaml.safe_dump({**TABLE, **VECTORS, "task": task, "data": data, "model": model}))
    return folder


def test_pictures_by_class_and_pictures_with_masks_run_in_shipped_families(tmp_path):
    vit = {"width": 16, "depth": 1, "heads": 2, "expansion": 1, "activation": "gelu", "post_norm": False}
    labels = np.arange(200) % 3
    folder = pictures(tmp_path / "photos", "cifar10_vit", vit, label=labels)
    assert run(folder, tmp_path / "a", "++workload.loss.label_smoothing=0.1", "workload.budget.examples=64") == 3
    unet = {"width": 4, "depth": 1, "fold": 2, "norm": "group", "activation": "relu"}
    folder = pictures(tmp_path / "masks", "nuclei_unet", unet, mask=np.zeros((200, 32, 32), np.int16))
    assert run(folder, tmp_path / "b", "++workload.loss.dice=1.0", "workload.budget.examples=64", "workload.metric.name=iou") in (0, 3)


def opened(folder, home, augmentation):
    """The data of a folder of pictures whose workload states an augmentation."""
    content = yaml.safe_load((folder / "workload.yaml").read_text())
    content["data"]["augmentation"] = augmentation
    (folder / "workload.yaml").write_text(yaml.safe_dump(content))
    return open_inputs(resolve([f"workload={adopt(str(folder))}"]).workload, home)


def test_own_pictures_are_normalised_by_their_own_colours_unless_the_workload_says_how(tmp_path):
    vit = {"width": 16, "depth": 1, "heads": 2, "expansion": 1, "activation": "gelu", "post_norm": False}
    folder = pictures(tmp_path / "photos", "cifar10_vit", vit, label=np.arange(200) % 3)
    found = opened(folder, tmp_path / "home", {"flip": True})
    train = np.asarray(found.dataset.splits["train"].fields["image"].values) / 255
    np.testing.assert_allclose(found.augmentation.mean, train.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(found.augmentation.std, train.std(axis=(0, 1, 2)))
    assert found.augmentation.flip
    stated = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    assert opened(folder, tmp_path / "home", stated).augmentation.mean == (0.5, 0.5, 0.5)
    assert opened(folder, tmp_path / "home", {"mean": None, "std": None}).augmentation.dtype == np.uint8
    opened(folder, tmp_path / "home", {})
    assert run(folder, tmp_path / "home", "++workload.loss.label_smoothing=0.1", "workload.budget.examples=64") == 3


# --- what is refused --------------------------------------------------------------------------------------------------------------------


def refusal(folder, home, capsys, *overrides):
    assert run(folder, home, *overrides) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and not (home / "records").exists()
    return error


def test_a_folder_without_a_workload_is_refused(tmp_path, capsys):
    assert "workload.yaml" in refusal(tmp_path, tmp_path / "home", capsys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "ctr_dlmr"}, "did you mean 'ctr_dlrm'"),
        ({"task": "task.py"}, "there is no such file"),
        ({"task": "cifar10_vit"}, "needs fields ['image']"),
        ({"batch_size": 4000}, "batch_size: expected at most the pool's"),
        ({"data": {**TABLE["data"], "validation_examples": 600}}, "validation cut"),
        ({"data": {**TABLE["data"], "validation_examples": 0}}, "has no validation split of its own"),
        ({"data": {**TABLE["data"], "options": {"path": "rowz"}}}, "there is no file or folder"),
        ({"name": "store"}, "expected 'shop'"),
        ({"bugdet": 1}, "did you mean 'budget'"),
    ],
)
def test_a_mistake_in_the_definition_is_one_line_before_any_training(tmp_path, capsys, changes, message):
    assert message in refusal(write_table(tmp_path / "shop", **changes), tmp_path / "home", capsys)


def test_a_task_file_that_cannot_be_run_is_told_in_one_line(vectors, tmp_path, capsys):
    (vectors / "task.py").write_text("TASK = 1 / 0")
    assert "ZeroDivisionError" in refusal(vectors, tmp_path / "home", capsys)
    (vectors / "task.py").write_text("TASK = 3")
    assert "expected a Task named TASK, found int" in refusal(vectors, tmp_path / "home", capsys)


def test_bytes_that_are_no_text_and_labels_outside_the_classes_are_refused(tmp_path, capsys):
    folder = write_table(tmp_path / "shop")
    shutil.copy(folder / "rows" / "train.csv", folder / "rows" / "test.csv")
    with (folder / "rows" / "test.csv").open("a") as file:
        file.write("Ulm,30,steals\n")
    assert "'steals', which is none of the 2 classes" in refusal(folder, tmp_path / "home", capsys)
    (folder / "rows" / "test.csv").write_bytes(b"town,age,label\n\xff\xfe,3,buys\n")
    assert "test.csv" in refusal(folder, tmp_path / "home", capsys)
    (folder / "rows" / "test.csv").write_text("town,age,label\n")
    assert "test" in refusal(folder, tmp_path / "home", capsys)


def language_model(folder, text, **options):
    folder.mkdir()
    (folder / "text.txt").write_bytes(text)
    definition = resolve_definition("workload", "news_gpt")
    content = {**yaml.safe_load((ROOT / "configs" / "workload" / f"{definition.name}.yaml").read_text()), "precision": "32-true"}
    content["data"] = {
        "source": "own_text",
        "options": {"path": "text.txt", **options},
        "validation_examples": 0,
        "augmentation": {"window": 33},
    }
    content["model"] = {**content["model"], "block": 16, "width": 16, "depth": 1}
    del content["name"]
    (folder / "workload.yaml").write_text(yaml.safe_dump(content))
    return folder


def test_text_that_is_longer_than_the_model_or_no_text_is_refused(tmp_path, capsys):
    words = "".join(f"{i * 7919 % 1000} sheep and {i * 104729 % 500} goats\n" for i in range(4000)).encode()
    folder = language_model(tmp_path / "farm", words, vocabulary=300, block=32)
    assert "a sequence of 32 tokens is longer than the model's block of 16" in refusal(folder, tmp_path / "home", capsys)
    folder = language_model(tmp_path / "bytes", b"\xff" + words, vocabulary=300, block=32)
    assert "not UTF-8 at byte 0" in refusal(folder, tmp_path / "home", capsys)
    folder = language_model(tmp_path / "short", words[:4000], vocabulary=300, block=64)
    assert "tokens; a block of 64 needs 128" in refusal(folder, tmp_path / "home", capsys)


def test_pictures_of_another_size_are_refused(tmp_path, capsys):
    model = {"width": 4, "depth": 5, "fold": 2, "norm": "group", "activation": "relu"}
    folder = pictures(tmp_path / "masks", "nuclei_unet", model, mask=np.zeros((200, 32, 32), np.int16))
    assert "expected sides that are multiples of 64" in refusal(folder, tmp_path / "home", capsys, "++workload.loss.dice=1.0")
