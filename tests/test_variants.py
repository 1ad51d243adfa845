"""Variants: one thing differs, targets are not inherited as frozen, and hidden ones are a function of their seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timetrial.data_pipelines.dataset import prepare
from timetrial.data_pipelines.sources import get_source
from timetrial.suite.cli import main
from timetrial.suite.config import resolve, resolve_definition
from timetrial.suite.errors import ConfigError, UnknownName
from timetrial.suite.registry import definition, names, variant_names
from timetrial.suite.schema import plain
from timetrial.suite.task import load_task
from timetrial.suite.variants import hidden_changes, of_hidden_variants, varied

BASE = {
    "name": "b",
    "summary": "base",
    "model": {"activation": "relu", "width": 8},
    "ladder": {"levels": [1, 2], "status": "frozen", "evidence_digest": "d"},
}
SPACE = {"model.activation": ["gelu", "silu"], "model.width": [16, 24, 32], "model.depth": [1]}
DEVELOPMENT = ("digits_copies", "perceptron")  # tests of curation: what would be varied is their point
NANO = [name for name in names("workload") if definition("workload", name)["tier"] == "nano" and name not in DEVELOPMENT]
EVERY = [(base, variant) for base in names("workload") for variant in variant_names(base)]


def differing(one, other, prefix=""):
    """Dotted keys at which two nested mappings differ."""
    found = set()
    for key in one.keys() | other.keys():
        a, b = one.get(key), other.get(key)
        found |= differing(a, b, f"{prefix}{key}.") if isinstance(a, dict) and isinstance(b, dict) else {prefix + key} if a != b else set()
    return found


@pytest.mark.parametrize(("base", "variant"), EVERY)
def test_every_declared_variant_is_valid_and_differs_from_its_base(base, variant):
    found, from_base = resolve_definition("workload", variant), resolve_definition("workload", base)
    assert (found.name, found.base, found.ladder.status) == (variant, base, "provisional")
    changed = differing(plain(from_base), plain(found)) - {"name", "base", "summary", "ladder.status", "ladder.evidence_digest"}
    changed -= {"reference", "budget.charged_seconds"} if from_base.reference else set()  # of the base's frozen targets
    assert changed and changed <= {
        key for key in changed if key.split(".")[0] in ("model", "data", "loss") or key in ("ladder.levels", "ladder.main")
    }


@pytest.mark.parametrize("base", NANO)
def test_every_nano_workload_has_three_variants_and_room_for_hidden_ones(base):
    assert len(variant_names(base)) >= 3
    drawn = {str(definition("workload", f"{base}-hidden{seed}")) for seed in range(12)}
    assert len(drawn) > 3
    for seed in range(12):
        resolve_definition("workload", f"{base}-hidden{seed}")


def test_hidden_values_are_not_those_of_the_base():
    from timetrial.suite.registry import _variants

    for base in names("workload"):
        for key, values in _variants(base).get("hidden", {}).items():
            group, _, name = key.partition(".")
            assert definition("workload", base)[group][name] not in values, (base, key)


def test_the_base_s_frozen_targets_are_not_the_variant_s():
    found = varied(BASE, "v", {"model": {"width": 4}})
    assert found["ladder"] == {"levels": [1, 2]}
    assert found["model"] == {"activation": "relu", "width": 4}
    assert (found["name"], found["base"]) == ("b-v", "b")
    own = varied(BASE, "v", {"ladder": {"status": "frozen", "evidence_digest": "own"}})
    assert own["ladder"]["evidence_digest"] == "own"
    assert BASE["ladder"]["status"] == "frozen"


@given(st.integers(0, 10**9))
def test_a_hidden_variant_is_two_changes_out_of_the_space_and_a_function_of_base_and_seed(seed):
    changes = hidden_changes(SPACE, "b", seed)
    assert changes == hidden_changes(dict(reversed(SPACE.items())), "b", seed)
    model = changes["model"]
    assert len(model) == 2 and all(value in SPACE[f"model.{key}"] for key, value in model.items())


def test_other_seeds_and_other_bases_draw_other_variants():
    assert len({str(sorted(hidden_changes(SPACE, "b", seed)["model"].items())) for seed in range(200)}) == 2 * 3 + 2 + 3
    assert any(hidden_changes(SPACE, "b", seed)["model"] != hidden_changes(SPACE, "c", seed)["model"] for seed in range(10))


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(ConfigError, match="nothing that a hidden variant could change"):
        hidden_changes({}, "b", 0)


def test_a_study_moves_to_the_hidden_variants_that_a_seed_draws():
    name, workloads, overrides = of_hidden_variants("demo", ["cifar10_cnn", "digits_mlp"], ["lr=0.1", "variants.seed=7"])
    assert (name, workloads, overrides) == ("demo-hidden7", ("cifar10_cnn-hidden7", "digits_mlp-hidden7"), ["lr=0.1"])
    for workload in workloads:
        assert resolve_definition("workload", workload).name == workload
    assert of_hidden_variants("demo", ["digits_mlp"], ["lr=0.1"]) == ("demo", ("digits_mlp",), ["lr=0.1"])


@pytest.mark.parametrize("override", ["variants.seed=-1", "variants.seed=x", "variants.seed=07", "variants.sed=7", "variants.seed"])
def test_what_is_no_seed_of_variants_is_refused(override):
    with pytest.raises(ConfigError, match=r"expected variants\.seed=N"):
        of_hidden_variants("demo", ["digits_mlp"], [override])


def test_a_variant_composes_like_any_workload_and_takes_overrides():
    plan = resolve(["workload=digits_mlp-tanh", "workload.model.width=16", "lr=0.1"])
    assert plan.workload.model == {"width": 16, "depth": 2, "activation": "tanh"}
    assert plan.algorithm.hyperparameters["lr"] == 0.1
    assert resolve(["workload=digits_mlp"]).workload.model["activation"] == "relu"


@pytest.mark.parametrize("name", ["digits_mlp-tan", "digits_mlp-hidden01", "digits_mlp-hidden", "digit_mlp-tanh"])
def test_an_unknown_variant_names_the_nearest(name):
    with pytest.raises(UnknownName, match="digits_mlp"):
        resolve([f"workload={name}"])


def test_a_variant_and_a_hidden_one_run_and_say_what_they_are(tmp_path, capsys):
    short = ["workload.budget.examples=640", "--no-mlflow", "--quiet", "loader=torch", "--home", str(tmp_path)]
    assert main(["run", "digits_mlp-tanh,digits_mlp-hidden3", "-m", *short]) == 0
    written = sorted(path.name.split("-adamw")[0] for path in (tmp_path / "records").iterdir())
    assert written == ["digits_mlp-hidden3", "digits_mlp-tanh"]
    assert main(["show", "digits_mlp-tanh", "--home", str(tmp_path)]) == 0
    assert "tanh in place of ReLU" in capsys.readouterr().out


@pytest.mark.data
def test_models_of_all_variants_can_be_built(prepared_home):
    import torch

    for base in ("cifar10_vit", "nuclei_unet", "bsd_denoise", "mri_unet", "speech_lstm"):
        workload = resolve_definition("workload", base)
        facts = prepare(get_source(workload.data.source), workload.data.options, prepared_home).facts
        for name in (*variant_names(base), *(f"{base}-hidden{seed}" for seed in range(8))):
            model = load_task(workload.task).build_model(resolve_definition("workload", name).model, facts)
            assert isinstance(model, torch.nn.Module)


# --- CIFAR-10 with faults ---------------------------------------------------------------------------------------------------------------


def train_of(home, **options):
    dataset = prepare(get_source("cifar10_corrupted"), options, home)
    return dataset, {name: np.asarray(field.values) for name, field in dataset.splits["train"].fields.items()}


@pytest.mark.data
def test_faults_are_as_large_as_asked_and_the_held_out_pictures_have_none(prepared_home):
    dataset, train = train_of(prepared_home, label_noise=0.2, duplicates=0.5, imbalance=10.0)
    assert np.mean(train["label"] != train["true_label"]) == pytest.approx(0.2, abs=1e-4)
    assert dataset.facts["wrong_labels"] == pytest.approx(0.2, abs=1e-4)
    _, copies = np.unique(train["original"], return_counts=True)
    assert np.mean(copies == 2) == pytest.approx(0.5, abs=1e-3) and copies.max() == 2
    counts = np.bincount(train["true_label"][np.unique(train["original"], return_index=True)[1]])
    assert counts[0] == 4500 and counts[9] == 450 and np.all(np.diff(counts) < 0)
    same = np.flatnonzero(train["original"] == train["original"][-1])
    assert np.array_equal(train["image"][same[0]], train["image"][-1])
    validation = dataset.splits["validation"].fields
    assert np.array_equal(validation["label"].values, validation["true_label"].values)
    assert np.intersect1d(validation["original"].values, train["original"]).size == 0
    official = prepare(get_source("cifar10"), {}, prepared_home).splits["train"].fields
    assert np.array_equal(official["label"].values[train["original"]], train["true_label"])


@pytest.mark.data
def test_faults_out_of_range_are_refused(prepared_home):
    with pytest.raises(ConfigError, match="imbalance expected at least 1"):
        train_of(prepared_home, imbalance=0.5)
