"""Names to definitions: the config folders are the registry. No torch, no Hydra, so that ``list`` answers at once.

Shipped definitions are ``configs/GROUP/NAME.yaml``. Folders named in ``$TIMETRIAL_PATH`` (separated as in ``$PATH``) may hold
the same groups and are looked through after the shipped ones; a name that exists twice is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError, unknown_name

__all__ = ["GROUPS", "config_folders", "definition", "definition_path", "names"]

GROUPS = ("workload", "algorithm", "curation", "study")
_SHIPPED = Path(__file__).resolve().parent.parent / "configs"


def config_folders() -> tuple[Path, ...]:
    """The folders that hold config groups: the shipped one, then those of ``$TIMETRIAL_PATH``."""
    extra = [Path(p).expanduser().absolute() for p in os.environ.get("TIMETRIAL_PATH", "").split(os.pathsep) if p]
    for folder in extra:
        if not folder.is_dir():
            raise ConfigError(f"TIMETRIAL_PATH: {folder} is not a folder")
    return (_SHIPPED, *extra)


def names(group: str) -> tuple[str, ...]:
    """Sorted names of a group. Raises ``ConfigError`` when two folders define the same name."""
    return tuple(sorted(_paths(group)))


def definition_path(group: str, name: str) -> Path:
    """The YAML file of a name; ``UnknownName`` with the nearest known names otherwise."""
    paths = _paths(group)
    if name not in paths:
        raise unknown_name({"curation": "curation method"}.get(group, group), name, paths)
    return paths[name]


def definition(group: str, name: str) -> Mapping[str, Any]:
    """The plain content of a definition's YAML file, Hydra's ``defaults`` unresolved."""
    path = definition_path(group, name)
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as problem:
        raise ConfigError(f"{path}: not valid YAML: {problem}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping, given {type(value).__name__}")
    return value


def _paths(group: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in config_folders():
        for path in sorted((folder / group).glob("*.yaml")):
            if path.stem.startswith("_"):
                continue
            if path.stem in found:
                raise ConfigError(f"{group} {path.stem!r} is defined twice: {found[path.stem]} and {path}")
            found[path.stem] = path
    return found
