"""Names to definitions: the config folders are the registry. No torch, no Hydra, so that ``list`` answers at once.

Shipped definitions are ``configs/GROUP/NAME.yaml``. Folders named in ``$TIMETRIAL_PATH`` (separated as in ``$PATH``) may hold
the same groups and are looked through after the shipped ones; a name that exists twice is refused. Such a folder may also be a workload of
its own, or hold some: a folder ``NAME`` with ``workload.yaml``, beside it its data and, where no shipped family fits, its task file.
One that names a ``base`` is that workload with training examples from elsewhere.
Variants of workloads (:mod:`.variants`) have names like ``cifar10_cnn-silu`` and are known wherever a workload is named.

Frozen targets lie in files of their own, ``configs/target/NAME.yaml`` or ``targets.yaml`` in a workload's own folder, and stand over the
provisional ones of the workload's file (Hydra gets there by the ``defaults`` of that file).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError, unknown_name
from .files import file_digest
from .variants import hidden_changes, hidden_seed, merged, varied

__all__ = [
    "GROUPS",
    "OUTSIDE",
    "adopt",
    "config_folders",
    "definition",
    "definition_path",
    "names",
    "targets_path",
    "variant_names",
    "workload_folder",
]

GROUPS = ("workload", "algorithm", "curation", "study")
_SHIPPED = Path(__file__).resolve().parent.parent / "configs"
_OWN = "workload.yaml"
OUTSIDE = "+outside"
"""What follows the name of a source to which examples from elsewhere are added."""

# Hexadecimal digits of a task file's sha256 that a workload's definition states.
_TASK_DIGEST = 16


def config_folders() -> tuple[Path, ...]:
    """The folders that hold config groups: the shipped one, then those of ``$TIMETRIAL_PATH``."""
    extra = [Path(p).expanduser().absolute() for p in os.environ.get("TIMETRIAL_PATH", "").split(os.pathsep) if p]
    for folder in extra:
        if not folder.is_dir():
            raise ConfigError(f"TIMETRIAL_PATH: {folder} is not a folder")
    return (_SHIPPED, *extra)


def adopt(given: str) -> str:
    """The name of a workload that is given by name, as ``NAME@TIER`` or as the path of its folder.

    ``cifar10_cnn@nano`` is ``cifar10_cnn``, for that is its tier; ``cifar10_cnn@small`` is ``cifar10_cnn_small``.

    A folder is added to ``$TIMETRIAL_PATH``, so that processes started from here know it too. ``ConfigError`` for one without
    ``workload.yaml``.
    """
    if "/" not in given and os.sep not in given and given not in (".", ".."):
        name, _, tier = given.partition("@")
        alone = not tier or (name in _paths("workload") and _provisional("workload", name).get("tier") == tier)
        return name if alone else f"{name}_{tier}"
    folder = Path(given).expanduser().resolve()
    if not (folder / _OWN).is_file():
        raise ConfigError(f"workload {given!r}: expected the name of a workload or a folder with {_OWN}, found no {folder / _OWN}")
    if folder not in config_folders():
        os.environ["TIMETRIAL_PATH"] = os.pathsep.join(filter(None, [os.environ.get("TIMETRIAL_PATH"), str(folder)]))
    return folder.name


def names(group: str) -> tuple[str, ...]:
    """Sorted names of a group, variants left out. Raises ``ConfigError`` when two folders define the same name."""
    return tuple(sorted(_paths(group)))


def variant_names(workload: str) -> tuple[str, ...]:
    """Sorted names of a workload's declared variants; those drawn by a seed have no end."""
    return tuple(sorted(f"{workload}-{name}" for name in _variants(workload).get("variants") or {}))


def definition_path(group: str, name: str) -> Path:
    """The YAML file that a name is read from; ``UnknownName`` with the nearest known names otherwise."""
    paths = _paths(group)
    if name in paths:
        return paths[name]
    if group == "workload":
        base, _, variant = name.rpartition("-")
        if base in paths and (name in variant_names(base) or hidden_seed(variant) is not None):
            return _variant_path(base)
        variants = [variant for known in paths for variant in variant_names(known)] if "-" in name else []
        raise unknown_name(group, name, [*paths, *variants])
    raise unknown_name({"curation": "curation method"}.get(group, group), name, paths)


def definition(group: str, name: str) -> Mapping[str, Any]:
    """The plain content of a definition: of its YAML file or of a variant put together; a workload's with its frozen targets, if any."""
    value = _provisional(group, name)
    if group == "workload" and (frozen := targets_path(name)).is_file():
        return merged(value, _read(frozen))
    return value


def targets_path(workload: str) -> Path:
    """Where the frozen targets of a workload or variant are, or would be."""
    path = definition_path("workload", workload)
    own = workload_folder(workload)
    if own is None:
        return path.parent.parent / "target" / f"{workload}.yaml"
    return own / f"targets{workload.removeprefix(own.name)}.yaml"


def _provisional(group: str, name: str) -> dict[str, Any]:
    path = definition_path(group, name)
    if group == "workload" and name not in _paths(group):
        base, _, variant = name.rpartition("-")
        seed, known = hidden_seed(variant), _variants(base)
        changes = known["variants"][variant] if seed is None else hidden_changes(known.get("hidden") or {}, base, seed)
        return varied(_provisional(group, base), variant, changes)
    value = _read(path)
    if group == "workload":
        value.pop("defaults", None)
    if path.name == _OWN:
        found = value.setdefault("name", name)
        if found != name:
            raise ConfigError(f"{path}: name: expected {name!r}, as the folder is called, given {found!r}")
        if "base" in value:
            return _on_base(path, value)
        value["task"] = _with_digest(path.parent, value.get("task"))
    return value


def _on_base(path: Path, value: Mapping[str, Any]) -> dict[str, Any]:
    """A shipped workload, targets and all, with training examples from elsewhere: what is measured stays the same."""
    base = definition("workload", str(value["base"]))
    source, data = base["data"]["source"], value.get("data")
    if set(value) - {"name", "summary", "base", "data"} or not isinstance(data, Mapping) or set(data) != {"source", "options"}:
        expected = f"base, data: {{source: {source}{OUTSIDE}, options: {{path: FILE.npz}}}} and, if wanted, summary"
        raise ConfigError(f"{path}: a workload on a base holds {expected}; given {', '.join(value)}")
    if data["source"] != source + OUTSIDE:
        raise ConfigError(f"{path}: data.source: expected {source}{OUTSIDE}, given {data['source']!r}")
    return merged({**base, "summary": f"{base['summary']}, with training examples from elsewhere"}, value)


def _with_digest(folder: Path, task: Any) -> Any:
    """``task.py`` as ``task.py@<digest of the file>``: another model is another workload, whatever else the definition says."""
    if not isinstance(task, str) or not task.endswith(".py") or not (folder / task).is_file():
        return task
    return f"{task}@{file_digest(folder / task)[:_TASK_DIGEST]}"


def workload_folder(name: str) -> Path | None:
    """The folder that holds a workload of its own with its data and task file; None for one that is only a file in a group."""
    paths = _paths("workload")
    path = paths.get(name) or paths.get(name.rpartition("-")[0])
    return path.parent if path is not None and path.name == _OWN else None


def _variants(workload: str) -> dict[str, Any]:
    path = _variant_path(workload)
    return _read(path) if path.is_file() else {}


def _variant_path(workload: str) -> Path:
    own = workload_folder(workload)
    return own / "variants.yaml" if own else _SHIPPED / "variant" / f"{workload}.yaml"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path}: not valid YAML: {problem}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping, given {type(value).__name__}")
    return value


def _paths(group: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in config_folders():
        files = {path: path.stem for path in sorted((folder / group).glob("*.yaml"))}
        if group == "workload" and folder != _SHIPPED:
            files |= {path: path.parent.name for path in [folder / _OWN, *sorted(folder.glob(f"*/{_OWN}"))] if path.is_file()}
        for path, name in files.items():
            if name.startswith("_"):
                continue
            if path.name == _OWN and not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
                raise ConfigError(f"{path}: a workload's folder is named with letters, digits, _ and -; given {name!r}")
            if name in found:
                raise ConfigError(f"{group} {name!r} is defined twice: {found[name]} and {path}")
            found[name] = path
    return found
