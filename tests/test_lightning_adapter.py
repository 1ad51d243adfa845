"""A user's own LightningModule and data module under the harness' clock: the training is Trainer's, the rest is the harness'."""

from __future__ import annotations

import importlib.util
import logging
import os
import random
import signal
import sys
import warnings

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler
from torchmetrics.classification import MulticlassAccuracy

from timetrial.suite.errors import ConfigError, LoaderError, NeedsUnmet
from timetrial.suite.lightning_adapter import module_plan, open_module, run_module
from timetrial.suite.lightning_data import Reader, feed_of
from timetrial.suite.record import Status, read_record
from timetrial.suite.seeds import derive_seeds
from timetrial.suite.trial import run_trial
from timetrial.suite.workload import Budget, Direction, Metric, TargetLadder

N, BATCH, FEATURES = 320, 32, 12
ACCURACY = Metric("val_accuracy", Direction.MAXIMIZE, "fraction")
LADDER = TargetLadder(tuple(round(0.4 + 0.05 * i, 2) for i in range(12)), 0.8)


class Noisy(Dataset):
    """Three clusters, moved by fresh noise whenever they are read: from all three sources of randomness."""

    def __init__(self, count, seed, noise=1.0):
        self.noise = noise
        generator = np.random.default_rng(seed)
        self.labels = generator.integers(0, 3, count)
        self.inputs = (np.eye(FEATURES)[self.labels] * 2 + generator.standard_normal((count, FEATURES))).astype(np.float32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        noise = torch.randn(FEATURES) * 0.1 + np.random.standard_normal() * 0.01 + random.gauss(0, 0.01)
        return {"x": torch.from_numpy(self.inputs[i]) + self.noise * noise, "y": int(self.labels[i]), "id": i}


class Data(LightningDataModule):
    def __init__(self, workers=0):
        super().__init__()
        self.workers = workers

    def train_dataloader(self):
        return DataLoader(Noisy(N, 0), batch_size=BATCH, shuffle=True, num_workers=self.workers)

    def val_dataloader(self):
        return DataLoader(Noisy(100, 1, 0.0), batch_size=40)

    def test_dataloader(self):
        return DataLoader(Noisy(60, 2, 0.0), batch_size=40)


class Module(LightningModule):
    """Everything that a common module does: hyperparameters, logs, metrics, dropout, batch norm, groups, a schedule, hooks."""

    def __init__(self, lr=0.01, interval="step"):
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        self.accuracy = MulticlassAccuracy(3, average="micro")
        self.losses, self.ids, self.epochs, self.rates = [], [], [], []

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.body(batch["x"]), batch["y"])
        self.log("train_loss", loss)
        self.losses.append(loss.item())
        self.ids.append(batch["id"].tolist())
        return {"loss": loss}

    def on_train_epoch_end(self):
        self.epochs.append((self.current_epoch, self.global_step))

    def on_before_optimizer_step(self, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def validation_step(self, batch, batch_idx):
        scores = self.body(batch["x"])
        self.accuracy(scores, batch["y"])
        self.log("val_accuracy", self.accuracy, on_epoch=True)
        return nn.functional.cross_entropy(scores, batch["y"])

    def configure_optimizers(self):
        decayed, others = [p for p in self.parameters() if p.ndim > 1], [p for p in self.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.lr)
        if self.hparams.interval == "step":
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=self.trainer.estimated_stepping_batches)
        else:
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": self.hparams.interval, "frequency": 2}}


def opened(factory=Module, data=None, steps=100, every=10, **changes):
    goals = {
        "name": "clusters",
        "metric": ACCURACY,
        "ladder": LADDER,
        "budget": Budget(steps * BATCH, 60.0),
        "every_examples": every * BATCH,
    }
    return open_module(factory, data or Data(), **(goals | changes))


def trained(factory=Module, home=None, seed=0, clip_norm=None, **changes):
    """A trial run to the end of its budget; the module that was trained, its record, its curve."""
    made = []

    def remember():
        made.append(factory())
        return made[-1]

    inputs = opened(remember, **({"ladder": TargetLadder((*LADDER.levels[:-1], 1.5), 0.8)} | changes))
    record, folder = run_trial(module_plan(inputs, clip_norm=clip_norm, seed=seed), home, inputs=inputs)
    assert record.status is not Status.FAILED, record.status_reason
    return made[-1], record, read_record(folder)[1]


class Replay(Data):
    """The same examples in the order in which the harness served them, with the same draws."""

    def __init__(self, ids, seed):
        super().__init__()
        self.epochs = [ids[first : first + N // BATCH] for first in range(0, len(ids), N // BATCH)]
        self.seed = seed

    def train_dataloader(self):
        epoch = self.trainer.current_epoch
        reader = Reader(feed_of(super().train_dataloader(), "train"), derive_seeds(self.seed)["augmentation"], BATCH)
        chunks = list(reader.serve(np.concatenate([np.array(ids) for ids in self.epochs[epoch]]), epoch))
        return DataLoader([chunk.fields for chunk in chunks], batch_size=None, generator=torch.Generator())


def quiet_trainer(**options):
    """Lightning's Trainer without its files and its advice."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        return Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **options
        )


def trainer_run(module, ids, seed, clip_norm, steps=100):
    """The same training in Lightning's own Trainer."""
    torch.manual_seed(derive_seeds(seed)["framework"])
    trainer = quiet_trainer(max_steps=steps, limit_val_batches=0, reload_dataloaders_every_n_epochs=1, gradient_clip_val=clip_norm)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        trainer.fit(module, datamodule=Replay(ids, seed))
    return module


@pytest.mark.parametrize(("interval", "clip_norm"), [("step", None), ("epoch", 0.5)])
def test_the_losses_are_those_of_trainer(tmp_path, interval, clip_norm):
    def factory():
        torch.manual_seed(5)
        return Module(interval=interval)

    ours, _, _ = trained(factory, tmp_path, clip_norm=clip_norm)
    theirs = trainer_run(factory(), ours.ids, 0, clip_norm)
    assert len(ours.losses) == len(theirs.losses) == 100
    assert ours.ids == theirs.ids
    assert np.abs(np.array(ours.losses) - np.array(theirs.losses)).max() < 1e-6
    assert ours.rates == theirs.rates
    assert ours.epochs == theirs.epochs
    for ours_value, theirs_value in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(ours_value, theirs_value, rtol=0, atol=1e-6)


class Mean(Module):
    """Logs its quality as a number a batch, and its loss by name instead of returning it."""

    def validation_step(self, batch):
        scores = self.body(batch["x"])
        self.log_dict(
            {"val_accuracy": (scores.argmax(1) == batch["y"]).float().mean(), "val_loss": nn.functional.cross_entropy(scores, batch["y"])}
        )


class AtTheEnd(Module):
    """Collects while validating and logs once, at the end of the epoch."""

    def on_validation_epoch_start(self):
        self.right = []

    def validation_step(self, batch, batch_idx):
        scores = self.body(batch["x"])
        self.right += (scores.argmax(1) == batch["y"]).tolist()
        return nn.functional.cross_entropy(scores, batch["y"])

    def on_validation_epoch_end(self):
        self.log("val_accuracy", float(np.mean(self.right)))


@pytest.mark.parametrize("cls", [Module, Mean, AtTheEnd])
def test_the_quality_is_what_trainer_validates(tmp_path, cls):
    module, _, curve = trained(cls, tmp_path, steps=10, every=5)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        fresh = cls()
        fresh.load_state_dict(module.state_dict())
        (told,) = quiet_trainer().validate(fresh, DataLoader(Noisy(100, 1, 0.0), batch_size=40), verbose=False)
    assert curve[-1].quality == pytest.approx(told["val_accuracy"], abs=1e-6)
    assert [point.examples for point in curve] == [0, 160, 320]


# the harness' own promises


def numbers(curve):
    """What must be bit-identical: all but the seconds."""
    return [(p.examples, p.steps, p.flops, p.train_loss, p.loss, p.quality) for p in curve]


def test_a_resumed_trial_gives_the_same_curve(tmp_path):
    _, _, straight = trained(home=tmp_path / "straight", steps=40, every=7)
    inputs = opened(steps=40, every=7, ladder=TargetLadder((*LADDER.levels[:-1], 1.5), 0.8))
    plan, seen = module_plan(inputs), []

    def stop(_, point):
        seen.append(point)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    record, _ = run_trial(plan, tmp_path / "resumed", inputs=inputs, on_point=stop)
    assert record.status is Status.INTERRUPTED
    record, folder = run_trial(plan, tmp_path / "resumed", inputs=inputs)
    assert record.resumed_count == 1
    assert numbers(read_record(folder)[1]) == numbers(straight)


def test_the_seed_decides_and_worker_processes_do_not(tmp_path):
    curves = [
        numbers(trained(home=tmp_path / name, seed=seed, data=Data(workers), steps=12, every=4)[2])
        for name, seed, workers in (("a", 0, 0), ("b", 0, 2), ("c", 1, 0))
    ]
    assert curves[0] == curves[1] != curves[2]


def test_reading_is_keyed_by_example_and_moves_no_generator():
    feed = feed_of(DataLoader(Noisy(50, 0), batch_size=8), "train")
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    def read(order, seed=0, epoch=0, size=8):
        chunks = list(Reader(feed, seed, size).serve(np.array(order), epoch))
        return dict(zip(np.concatenate([c.ids for c in chunks]).tolist(), torch.cat([c.fields["x"] for c in chunks]), strict=True))

    once, again = read(range(50)), read([7, 3], size=1)
    assert all(torch.equal(once[i], again[i]) for i in (3, 7))
    assert not torch.equal(read([3], seed=1)[3], once[3]) and not torch.equal(read([3], epoch=1)[3], once[3])
    assert torch.equal(states[0], torch.get_rng_state()) and states[2] == random.getstate()
    assert (states[1] == np.random.get_state()[1]).all()


@pytest.mark.parametrize("algorithm", ["adamw", "lion"])
def test_any_algorithm_can_train_the_module(tmp_path, algorithm):
    record = run_module(opened(steps=60), algorithm=algorithm, home=tmp_path)
    _, curve = read_record(tmp_path / "records" / record.record_id)
    assert (record.entry.name, curve[-1].loss < curve[0].loss - 0.1) == (algorithm, True)


def test_clipping_is_the_modules_own(tmp_path):
    with pytest.raises(ConfigError, match="clip_norm"):
        run_module(opened(), algorithm="adamw", clip_norm=1.0, home=tmp_path)


def test_the_record_tells_what_was_timed_and_never_ranks(tmp_path):
    record = run_module(opened(lambda: Module(lr=0.02), steps=10), home=tmp_path)
    assert record.entry.hyperparameters == {"lr": 0.02, "interval": "step"}
    assert not record.workload.ranked
    assert record.cost.model_flops_per_example > 0
    assert record.result.test_quality_at_end is not None
    assert record.time.wall_seconds["train"] > 0


def test_other_code_or_other_data_is_another_workload(tmp_path):
    made = []
    for number in (1, 2):
        path = tmp_path / f"user{number}.py"
        path.write_text(f"class Same(Module):\n    depth = {number}\n")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        user = importlib.util.module_from_spec(spec)
        user.Module = Module
        sys.modules[path.stem] = user  # where inspect looks for the source
        spec.loader.exec_module(user)
        made.append(user.Same)

    class OtherData(Data):
        def val_dataloader(self):
            return DataLoader(Noisy(100, 5, 0.0), batch_size=40)

    OtherData.__qualname__ = Data.__qualname__
    others = [opened(made[0]), opened(made[1]), opened(lambda: made[0](lr=0.5)), opened(made[0], OtherData())]
    assert len({inputs.workload.digest for inputs in others}) == 4
    assert opened(made[0]).workload.digest == others[0].workload.digest


# what is refused, by name


class Manual(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False


class TwoOptimizers(Module):
    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters(), 0.1), torch.optim.SGD(self.parameters(), 0.1)]


class NoOptimizer(Module):
    def configure_optimizers(self):
        return None


class Plateau(Module):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer), "monitor": "val_loss"}


class OwnTransfer(Module):
    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch


class NoLoss(Module):
    def training_step(self, batch, batch_idx):
        return None


class OtherName(Module):
    def validation_step(self, batch, batch_idx):
        self.log("val_f1", 0.5)
        return torch.tensor(1.0)


@pytest.mark.parametrize(
    ("cls", "error", "reason"),
    [
        (Manual, NeedsUnmet, "Manual: manual optimisation"),
        (TwoOptimizers, NeedsUnmet, "TwoOptimizers.configure_optimizers: .* exactly one optimizer, given 2"),
        (NoOptimizer, NeedsUnmet, "exactly one optimizer, given 0"),
        (Plateau, NeedsUnmet, "Plateau.configure_optimizers: .* watches a metric"),
        (OwnTransfer, NeedsUnmet, "OwnTransfer.transfer_batch_to_device"),
        (NoLoss, NeedsUnmet, "NoLoss.training_step: expected the loss as a scalar tensor, given NoneType"),
        (OtherName, ConfigError, "OtherName logs val_f1 in validation, not 'val_accuracy'"),
        (lambda: nn.Linear(1, 1), ConfigError, "made a Linear"),
    ],
)
def test_a_module_that_cannot_be_timed_is_refused(tmp_path, cls, error, reason):
    with pytest.raises(error, match=reason):
        run_module(opened(cls, steps=10), home=tmp_path)
    assert not list((tmp_path / "records").glob("*"))


class Stream(IterableDataset):
    def __iter__(self):
        yield {"x": torch.zeros(1)}


def weighted():
    return DataLoader(Noisy(8, 0), batch_size=4, sampler=WeightedRandomSampler([1.0] * 8, 8))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: [DataLoader(Noisy(8, 0))], "expected one torch DataLoader, given list"),
        (lambda: DataLoader(Stream()), "an iterable dataset has no examples by number"),
        (weighted, "the harness decides .* a sampler of its own .WeightedRandomSampler. would be ignored"),
        (lambda: DataLoader(TensorDataset(torch.zeros(0, 1))), "an empty dataset"),
        (lambda: DataLoader([{"x": torch.zeros(2), "name": "a"}] * 4), "batches are tensors .* 'name.0' of 4 examples is a str"),
    ],
)
def test_data_that_cannot_be_read_by_number_is_refused(make, reason):
    with pytest.raises(NeedsUnmet, match=f"Data, train: {reason}"):
        feed_of(make(), "Data, train")


def test_a_data_module_without_a_test_split_is_refused():
    class NoTest(LightningDataModule):
        train_dataloader, val_dataloader = Data.train_dataloader, Data.val_dataloader

    with pytest.raises(NeedsUnmet, match="NoTest: no test_dataloader"):
        opened(data=NoTest())


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_dataset_raises_arrives_with_its_cause(workers):
    class Broken(Noisy):
        def __getitem__(self, i):
            return super().__getitem__(i) if i < 40 else 1 / 0

    feed = feed_of(DataLoader(Noisy(50, 0), batch_size=8, num_workers=workers), "train")
    feed.loader.dataset.__class__ = Broken
    with pytest.raises(LoaderError, match="(?s)reading examples 40 … failed in epoch 3.*division by zero"):
        list(Reader(feed, 0, 8).serve(np.arange(50), 3))
