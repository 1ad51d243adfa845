"""The opened data of a workload: who is in the pool, who validates, who tests, and loaders over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..data_pipelines.augment import Augmentation
from ..data_pipelines.beton import ffcv_available
from ..data_pipelines.curation.pool import Pool
from ..data_pipelines.dataset import Dataset, FieldKind, Split, open_dataset, prepare
from ..data_pipelines.known_copies import known_copies
from ..data_pipelines.loaders import Loader, make_loader
from ..data_pipelines.outside import OUTSIDE_EXAMPLES, OUTSIDE_FIELDS
from ..data_pipelines.sources import get_source
from ..data_pipelines.splits import validation_ids
from .errors import ConfigError, DataMissing
from .registry import workload_folder
from .schema import build
from .task import Task, load_task
from .workload import Workload

__all__ = ["Examples", "Inputs", "open_inputs", "prepare_inputs"]


@dataclass(frozen=True)
class Examples:
    """Some examples of a split by id: sorted int64 ``[n]``."""

    split: Split
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def pool_of(self, names: Sequence[str], label: str | None) -> Pool:
        """These examples as a :class:`Pool` of some fields; encoded pictures of different sizes are left out, they are no array."""
        found = {name: field.values for name, field in self.split.fields.items() if name in names and field.offsets is None}
        return Pool(self.ids, found, data_digest=self.split.digest, label=label)


@dataclass(frozen=True)
class Inputs:
    """A workload's data, opened and verified. Curation and training see ``pool`` only."""

    workload: Workload
    task: Task
    dataset: Dataset
    pool: Examples
    validation: Examples
    test: Examples
    augmentation: Augmentation

    @property
    def fields(self) -> tuple[str, ...]:
        """What a batch carries: the task's fields, and of its optional ones those that the dataset has."""
        known = self.dataset.splits["train"].fields
        return (*self.task.fields, *(name for name in self.task.optional_fields if name in known))

    @property
    def label(self) -> str | None:
        """The field that holds the class; None where the task has none or the data lack it."""
        return self.task.label if self.task.label in self.pool.split.fields else None

    @property
    def known_copies(self) -> np.ndarray:
        """Test ids that people found in the training split, too; empty where nobody has looked (:mod:`~..data_pipelines.known_copies`)."""
        return known_copies(self.dataset.name)

    def training_loader(self, kind: Literal["auto", "ffcv", "torch"], seed: int, workers: int, batch_size: int) -> Loader:
        """A loader over the pool's split with the workload's augmentation, keyed by ``seed``; its chunks are whole batches."""
        return make_loader(kind, self.pool.split, self.fields, self.augmentation, seed=seed, workers=workers, batch_size=batch_size)

    def evaluation_loader(self, examples: Examples) -> Loader:
        """A loader that serves evaluation batches without random transforms."""
        batch = min(self.workload.evaluation.batch_size, len(examples))
        plain = replace(self.augmentation, train=False)
        return make_loader("torch", examples.split, self.fields, plain, seed=0, chunk_size=batch, workers=1)


def prepare_inputs(workload: Workload, home: Path, on_progress: Callable[[str, int, int | None], None] | None = None) -> Dataset:
    """Fetch, verify and convert a workload's data (:func:`~timetrial.data_pipelines.dataset.prepare`)."""
    options = _from_folder(workload.data.options, workload_folder(workload.name))
    return prepare(get_source(workload.data.source), options, home, on_progress=on_progress)


def open_inputs(workload: Workload, home: Path, on_progress: Callable[[str, int, int | None], None] | None = None) -> Inputs:
    """Open a workload's data, preparing it first where that has not been done.

    Raises ``DataMissing``, ``ChecksumMismatch`` or ``DataError`` from opening, ``ConfigError`` when the splits cannot be cut.
    """
    source, folder = get_source(workload.data.source), workload_folder(workload.name)
    options = _from_folder(workload.data.options, folder)
    try:
        dataset = open_dataset(source, options, home)
        ready = not ffcv_available() or all(split.beton is not None for split in dataset.splits.values())
    except DataMissing:
        ready = False
    if not ready:  # never prepared, or prepared before FFCV was installed; what is damaged is refused above, not repaired here
        dataset = prepare(source, options, home, on_progress=on_progress)
    task = load_task(workload.task, folder)
    train = dataset.splits["train"]
    absent = [name for name in task.fields if name not in train.fields]
    if absent:
        known = ", ".join(sorted(train.fields))
        raise ConfigError(f"workload {workload.name}: task {workload.task!r} needs fields {absent}; {source.name} has {known}")
    unknown = [name for name in task.fields if name not in dataset.facts.get(OUTSIDE_FIELDS, task.fields)]
    if unknown:
        raise ConfigError(f"workload {workload.name}: the examples from elsewhere lack {', '.join(unknown)}, which the task reads")
    everyone = np.arange(len(train), dtype=np.int64)
    if workload.data.validation_examples:
        label = train.fields.get(task.label or "")  # cut in proportion where there are classes
        official = len(train) - dataset.facts.get(OUTSIDE_EXAMPLES, 0)
        balanced = official if label is None or label.kind is not FieldKind.INT else np.asarray(label.values[:official])
        held_out = validation_ids(balanced, workload.data.validation_examples, workload.data.split_seed)
        pool, validation = Examples(train, np.setdiff1d(everyone, held_out)), Examples(train, held_out)
    elif "validation" in dataset.splits:
        split = dataset.splits["validation"]
        pool, validation = Examples(train, everyone), Examples(split, np.arange(len(split), dtype=np.int64))
    else:
        raise ConfigError(f"workload {workload.name}: data.validation_examples is 0 and {source.name} has no validation split of its own")
    if workload.batch_size > len(pool):
        raise ConfigError(f"workload {workload.name}: batch_size: expected at most the pool's {len(pool)}, given {workload.batch_size}")
    test = dataset.splits["test"]
    augmentation = _augmentation(workload, task, dataset, own=source.name.startswith("own_"))
    return Inputs(workload, task, dataset, pool, validation, Examples(test, np.arange(len(test), dtype=np.int64)), augmentation)


def _augmentation(workload: Workload, task: Task, dataset: Dataset, own: bool) -> Augmentation:
    """As the workload states it. A user's own pictures are normalised by their measured colours where it says nothing about these."""
    stated = workload.data.augmentation
    found = build(Augmentation, stated, f"workload {workload.name}: data.augmentation")
    field = dataset.splits["train"].fields.get("image")
    pictures = "image" in task.fields and field is not None and field.kind in (FieldKind.IMAGE, FieldKind.JPEG)
    if not own or not pictures or {"mean", "std"} & set(stated) or "mean" not in dataset.facts:
        return found
    return replace(found, mean=tuple(dataset.facts["mean"]), std=tuple(dataset.facts["std"]))


def _from_folder(options: Mapping[str, Any], folder: Path | None) -> Mapping[str, Any]:
    """Options in which a relative ``path`` begins at the workload's own folder; records keep the relative one."""
    return options if folder is None or not options.get("path") else {**options, "path": str(folder / str(options["path"]))}
