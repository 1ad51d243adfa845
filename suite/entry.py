"""The entry: a folder with ``entry.yaml`` and, where it brings some, code. Three levels, one format.

Without code: an optimizer class, a schedule and a table of hyperparameters; the class may also be the folder's own. With code: a
``TrainingAlgorithm`` in a file of the folder, about fifteen lines. In full: batches, forward passes, averaged weights and batch sizes of
its own. An entry may bring a curation method as well, or instead: a class, or a selection made before.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import yaml

from .config import AlgorithmDefinition, CurationDefinition, Plan, resolve_definition, under
from .entry_code import adopt_code, code_digest, code_files, copy_code
from .errors import EntryRefused
from .protocol import protocol
from .record import Ruleset
from .schema import STRICT, build
from .tuning import search_space, tuning_points

__all__ = ["ENTRY_SCHEMA", "AlgorithmPart", "CurationPart", "EntryFolder", "Manifest", "read_entry"]

ENTRY_SCHEMA = 1
MANIFEST_BYTES = 2**18
MANIFEST_VALUES = 10_000
_OPTIMIZER = "timetrial.suite.algorithms.optimizer.OptimizerAlgorithm"
_IDS = "timetrial.data_pipelines.curation.reuse.Ids"


@dataclass(frozen=True)
class AlgorithmPart:
    """Exactly one of ``optimizer`` (dotted path of a class of torch.optim or pytorch_optimizer, or ``FILE.CLASS`` in the entry's folder),
    ``target`` (``FILE.CLASS`` in the folder) and ``name`` (a shipped algorithm). ``options``: the constructor's; ``schedule`` is the one
    of an optimizer."""

    __pydantic_config__: ClassVar = STRICT
    optimizer: str | None = None
    target: str | None = None
    name: str | None = None
    schedule: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    batch_size: int | None = None


@dataclass(frozen=True)
class CurationPart:
    """Exactly one of ``target`` (``FILE.CLASS`` in the folder), ``ids`` (a selection in the folder, with ``digest``) and ``name``."""

    __pydantic_config__: ClassVar = STRICT
    target: str | None = None
    ids: str | None = None
    digest: str = ""
    name: str | None = None
    keep_fraction: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    needs_labels: bool = False
    kind: Literal["static", "dynamic"] = "static"


@dataclass(frozen=True)
class Manifest:
    """``entry.yaml``. ``schema`` is the version of this format, ``version`` the entry's own; ``licence`` an SPDX name.

    ``external_tuning``: a ``search_space`` or a list of ``tuning_points`` (each what differs from ``hyperparameters``), the same for all
    workloads; with neither, ``hyperparameters`` as they are. ``self_tuning``: none of the three.
    """

    __pydantic_config__: ClassVar = STRICT
    schema: int
    name: str
    version: int
    authors: tuple[str, ...]
    summary: str
    licence: str
    ruleset: Ruleset
    algorithm: AlgorithmPart | None = None
    curation: CurationPart | None = None
    paper: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    search_space: Mapping[str, Any] = field(default_factory=dict)
    tuning_points: tuple[Mapping[str, Any], ...] = ()


@final
@dataclass(frozen=True)
class EntryFolder:
    """An entry that was read: its folder, its manifest, and what they mean as definitions. ``digest`` is that of all files."""

    folder: Path
    manifest: Manifest
    digest: str
    algorithm: AlgorithmDefinition
    curation: CurationDefinition

    @property
    def has_code(self) -> bool:
        """Whether any file of the folder is run."""
        return bool(_targets(self.manifest, self.folder))

    @property
    def keep_fraction(self) -> float:
        """Share of the pool that its curation keeps; 1 without one."""
        return 1.0 if self.manifest.curation is None else self.manifest.curation.keep_fraction

    def points(self, count: int) -> tuple[Mapping[str, Any], ...]:
        """The settings that ``count`` tuning trials try, each a complete table of hyperparameters; none where nothing is tuned."""
        listed = self.manifest.tuning_points
        if listed:
            return tuple({**self.algorithm.hyperparameters, **point} for point in listed[:count])
        return tuning_points(self.algorithm, count) if self.manifest.search_space else ()

    def plan(self, workload: str, seed: int, study: str | None = None, point: Mapping[str, Any] | None = None) -> Plan:
        """The trial of this entry on a workload, at its default hyperparameters or at a ``point`` that differs from them.

        ``UnknownName`` / ``ConfigError`` when that is none.
        """
        settings = self.algorithm.hyperparameters if point is None else point
        plan = Plan(
            workload=resolve_definition("workload", workload),
            algorithm=replace(self.algorithm, hyperparameters=dict(settings)),
            curation=self.curation,
            keep_fraction=self.keep_fraction,
            seed=seed,
            study=study,
            defaults=dict(self.algorithm.hyperparameters),
        ).checked()
        return under(plan, self.manifest.ruleset)

    def snapshot(self, home: Path) -> EntryFolder:
        """A copy below ``<home>/entries`` that later edits of the folder do not touch: what runs is what was checked."""
        place = home / "entries" / self.digest[:16]
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
            try:
                copy_code(self.folder, part)
                part.rename(place)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        return read_entry(place)


def read_entry(folder: Path) -> EntryFolder:
    """Read and check ``entry.yaml``; no code of the entry is run.

    Raises ``EntryRefused`` naming the file and key that is wrong, ``UnknownName`` for shipped names that do not exist.
    """
    path = folder / "entry.yaml"
    if not folder.is_dir():
        raise EntryRefused(f"{folder}: no such folder; an entry is a folder with entry.yaml")
    if not path.is_file():
        raise EntryRefused(f"{folder.name}: no entry.yaml; an entry is a folder with one")
    value = _values(path)
    if value.get("schema", ENTRY_SCHEMA) != ENTRY_SCHEMA:
        raise EntryRefused(
            f"entry.yaml: schema: expected {ENTRY_SCHEMA}, the version of the format that this timetrial reads; given {value['schema']!r}"
        )
    manifest = build(Manifest, value, "entry.yaml", EntryRefused)
    _check(manifest, folder)
    package = adopt_code(folder) if _targets(manifest, folder) else ""
    algorithm = _algorithm(manifest, folder, package)
    _check_tuning(manifest, algorithm)
    return EntryFolder(folder.absolute(), manifest, code_digest(folder), algorithm, _curation(manifest, package))


def _values(path: Path) -> dict[str, Any]:
    """The mapping in ``entry.yaml``: small, and of what JSON can hold, so that nothing written here can exhaust or crash the harness."""
    try:
        if path.stat().st_size > MANIFEST_BYTES:
            raise EntryRefused(f"entry.yaml: {path.stat().st_size} bytes; expected at most {MANIFEST_BYTES}")
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, OSError) as problem:
        raise EntryRefused(f"entry.yaml: not valid YAML: {' '.join(str(problem).split())}") from None
    except RecursionError:
        raise EntryRefused("entry.yaml: not valid YAML: nested too deeply") from None
    if not isinstance(value, dict):
        raise EntryRefused(f"entry.yaml: expected a mapping, given {type(value).__name__}")
    if not _is_small(value):
        raise EntryRefused(f"entry.yaml: expected at most {MANIFEST_VALUES} values with all aliases written out")
    for key, inner in value.items():
        try:
            json.dumps(inner, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as problem:
            raise EntryRefused(f"entry.yaml: {key}: expected finite numbers, texts, lists and mappings: {problem}") from None
    return value


def _is_small(value: Any) -> bool:
    """Whether nested values are no more than allowed; a few lines of aliases can stand for gigabytes, and some for no end."""
    stack, seen = [value], 0
    while stack and seen <= MANIFEST_VALUES:
        inner, seen = stack.pop(), seen + 1
        stack += list(inner.values()) if isinstance(inner, dict) else inner if isinstance(inner, list) else []
    return not stack


def _targets(manifest: Manifest, folder: Path) -> list[str]:
    """``FILE.CLASS`` of everything in the folder that is run."""
    found = [part.target for part in (manifest.algorithm, manifest.curation) if part is not None and part.target is not None]
    optimizer = None if manifest.algorithm is None else manifest.algorithm.optimizer
    own = optimizer is not None and (folder / _file(optimizer)).is_file()
    return [*found, *([optimizer] if optimizer is not None and own else [])]


def _file(target: str) -> str:
    return f"{target.rpartition('.')[0].replace('.', '/')}.py"


def _check(manifest: Manifest, folder: Path) -> None:
    """What a schema of types cannot say."""
    if manifest.algorithm is None and manifest.curation is None:
        raise EntryRefused("entry.yaml: expected an algorithm, a curation, or both; given neither")
    if not manifest.name.replace("_", "").replace("-", "").isalnum() or not manifest.name.isascii():
        raise EntryRefused(f"entry.yaml: name: expected letters, digits, _ and -; given {manifest.name!r}")
    for key, part, choices in (
        ("algorithm", manifest.algorithm, ("optimizer", "target", "name")),
        ("curation", manifest.curation, ("target", "ids", "name")),
    ):
        given = [choice for choice in choices if part is not None and getattr(part, choice) is not None]
        if part is not None and len(given) != 1:
            raise EntryRefused(f"entry.yaml: {key}: expected exactly one of {', '.join(choices)}; given {', '.join(given) or 'none'}")
    known = {file.as_posix() for file in code_files(folder)}
    for target in _targets(manifest, folder):
        file = _file(target)
        if file not in known:
            raise EntryRefused(f"entry.yaml: target {target!r}: expected FILE.CLASS in this folder, found no {file}")
    ids = manifest.curation.ids if manifest.curation is not None else None
    if ids is not None and ids not in known:
        raise EntryRefused(f"entry.yaml: curation.ids: found no {ids} in this folder")


def _check_tuning(manifest: Manifest, algorithm: AlgorithmDefinition) -> None:
    """What is tuned, against the ruleset, the protocol and the table of hyperparameters."""
    most, given = protocol().tuning.trials, ("hyperparameters", "search_space", "tuning_points")
    present = [name for name in given if getattr(manifest, name)]
    if manifest.ruleset is Ruleset.SELF_TUNING and present:
        raise EntryRefused(f"entry.yaml: ruleset self_tuning: has no {present[0]}; all tuning is on the clock")
    if manifest.algorithm is None and present:
        raise EntryRefused(f"entry.yaml: {present[0]}: goes with an algorithm, and this entry has none")
    if (manifest.search_space and manifest.tuning_points) or len(manifest.tuning_points) > most:
        points = len(manifest.tuning_points)
        raise EntryRefused(f"entry.yaml: expected a search_space or at most {most} tuning_points, not both; given {points} points")
    for number, point in enumerate(manifest.tuning_points):
        unknown = sorted(set(point) - set(algorithm.hyperparameters))
        if unknown:
            known = ", ".join(sorted(algorithm.hyperparameters)) or "none"
            raise EntryRefused(f"entry.yaml: tuning_points.{number}.{unknown[0]}: no such hyperparameter; known: {known}")
    if manifest.search_space:
        search_space(algorithm)


def _algorithm(manifest: Manifest, folder: Path, package: str) -> AlgorithmDefinition:
    part = manifest.algorithm or AlgorithmPart(name="adamw")
    if part.name is not None:
        shipped: AlgorithmDefinition = resolve_definition("algorithm", part.name)
        settings = {**shipped.hyperparameters, **manifest.hyperparameters}
        changed = manifest.algorithm is not None
        name = manifest.name if changed else shipped.name
        size, space = part.batch_size or shipped.batch_size, dict(manifest.search_space)
        return replace(shipped, name=name, hyperparameters=settings, search_space=space, batch_size=size)
    options = dict(part.options)
    if part.optimizer is not None:
        optimizer = f"{package}.{part.optimizer}" if part.optimizer in _targets(manifest, folder) else part.optimizer
        options |= {"optimizer": optimizer, **({} if part.schedule is None else {"schedule": dict(part.schedule)})}
    elif part.schedule is not None:
        raise EntryRefused("entry.yaml: algorithm.schedule: goes with an optimizer; a class takes what it needs in options")
    return AlgorithmDefinition(
        name=manifest.name,
        summary=manifest.summary,
        target=_OPTIMIZER if part.target is None else f"{package}.{part.target}",
        paper=manifest.paper,
        needs=part.needs,
        batch_size=part.batch_size,
        options=options,
        hyperparameters=dict(manifest.hyperparameters),
        search_space=dict(manifest.search_space),
    )


def _curation(manifest: Manifest, package: str) -> CurationDefinition:
    part = manifest.curation
    if part is None or part.name is not None:
        shipped: CurationDefinition = resolve_definition("curation", "all" if part is None or part.name is None else part.name)
        return shipped if part is None else replace(shipped, options={**shipped.options, **part.options})
    options = dict(part.options) if part.ids is None else {**part.options, "file": part.ids, "digest": part.digest}
    return CurationDefinition(
        name=manifest.name,
        summary=manifest.summary,
        target=_IDS if part.target is None else f"{package}.{part.target}",
        paper=manifest.paper,
        needs=part.needs,
        needs_labels=part.needs_labels,
        kind=part.kind,
        options=options,
    )
