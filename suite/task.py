"""What a file in ``tasks/`` gives: the model, the loss and the metric of a workload family, as plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from .algorithm import Batch
from .errors import ConfigError, unknown_name
from .files import file_digest

__all__ = ["Task", "load_task"]

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """One workload family.

    ``fields``: the dataset fields that a batch carries. ``label``: the field that holds the class, if there is one.
    ``build_model(options, facts)`` draws initial weights from torch's global generator, which the harness seeds.
    ``forward(model, batch)`` gives what ``losses`` and ``metric`` need. ``losses(outputs, batch, options)`` is float ``[B]``,
    differentiable. ``metric()`` gives a fresh torchmetrics metric; ``update(metric, outputs, batch)`` feeds it; its value,
    mapped by ``quality`` to the workload's unit, is the quality that targets are set on. Of a ``MetricCollection`` that is the
    one named like the workload's metric; the others are reported beside it.

    ``optional_fields``: served too where the dataset has them. ``slow_measures(model, batches, facts)``: further measures by name that
    are too slow for every evaluation (translations); taken on the test split only, which is measured at the hit and at the end.
    """

    fields: tuple[str, ...]
    build_model: Callable[[Options, Options], nn.Module]
    forward: Callable[[nn.Module, Batch], Any]
    losses: Callable[[Any, Batch, Options], Tensor]
    metric: Callable[[Options], Any]
    update: Callable[[Any, Any, Batch], None]
    label: str | None = None
    quality: Callable[[float], float] = float
    optional_fields: tuple[str, ...] = ()
    slow_measures: Callable[[nn.Module, Iterable[Batch], Options], Mapping[str, float]] | None = None


def load_task(name: str, own: Path | None = None) -> Task:
    """The ``TASK`` of ``tasks/NAME.py``, or of a file in a workload's ``own`` folder: ``NAME.py@<beginning of its sha256>``.

    Raises ``UnknownName`` with the nearest known files, ``ConfigError`` without a ``TASK``, when an own file cannot be run or is
    not the one that the digest names.
    """
    file, _, digest = name.partition("@")
    if own is not None and file.endswith(".py"):
        return _checked(_own_module(own / file, digest), own / file)
    folder = Path(__file__).resolve().parent.parent / "tasks"
    known = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")]
    if name not in known:
        raise unknown_name("task", name, known)
    package = __package__.rpartition(".")[0]
    return _checked(import_module(f"{package}.tasks.{name}"), f"tasks/{name}.py")


def _own_module(path: Path, digest: str) -> ModuleType:
    spec = spec_from_file_location(f"timetrial_own_{path.parent.name}_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"task {path}: there is no such file")
    if not (found := file_digest(path)).startswith(digest):
        raise ConfigError(f"task {path}: expected the file of sha256 {digest}…, found {found[: len(digest)]}…: it was changed meanwhile")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise ConfigError(f"task {path}: {type(problem).__name__}: {problem}") from problem
    return module


def _checked(module: ModuleType, where: Path | str) -> Task:
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise ConfigError(f"{where}: expected a Task named TASK, found {type(task).__name__}")
    return task
