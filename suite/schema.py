"""From mappings to frozen dataclasses and back, strictly: unknown keys, wrong types and missing fields are named errors.

A dataclass that crosses a border sets ``__pydantic_config__ = STRICT``. pydantic does the checking; this module turns its
findings into the project's messages (what was wrong, where, what was given, what is known).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from .errors import ConfigError, TimetrialError

__all__ = ["STRICT", "build", "fields_at", "plain"]

T = TypeVar("T")
STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def build(cls: type[T], value: Mapping[str, Any], where: str, error: type[TimetrialError] = ConfigError) -> T:
    """Make a ``cls`` from plain values, nested dataclasses included.

    ``where`` begins the message (a file, a group). Raises ``error`` naming the first offending key, the value given and, for
    an unknown key, the nearest known ones.
    """
    try:
        found: T = _adapter(cls).validate_python(value)
        return found
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            known = sorted(fields_at(cls, first["loc"][:-1]))
            near = get_close_matches(str(first["loc"][-1]), known, n=2, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
            raise error(f"{where}: unknown key {path!r}; {hint}") from None
        if first["type"] in ("missing", "missing_argument"):
            raise error(f"{where}: key {path!r} is missing") from None
        message = first["msg"][0].lower() + first["msg"][1:]
        raise error(f"{where}: {path or 'value'}: {message}; given {first['input']!r}") from None


def plain(value: Any) -> Any:
    """The JSON form of a dataclass: nested dicts, lists, strings and numbers; ``build(type(value), plain(value))`` is equal to it."""
    return _adapter(type(value)).dump_python(value, mode="json")


def fields_at(cls: type, location: tuple[int | str, ...]) -> set[str]:
    """Names that a dataclass has at a path of field names, following nested dataclasses; none below a free mapping."""
    for part in location:
        inner = get_type_hints(cls).get(str(part))
        nested = [c for c in (inner, *get_args(inner)) if isinstance(c, type) and dataclasses.is_dataclass(c)]
        if not nested:
            return set()
        cls = nested[0]
    return {f.name for f in dataclasses.fields(cls)}
