"""Every error that timetrial raises on purpose.

TimetrialError
├── UserError                what the caller gave is wrong; the CLI prints one line and exits 1
│   ├── UnknownName          a workload, algorithm, curation method, study … that does not exist
│   ├── ConfigError          a key, type or value that the schema refuses
│   ├── NeedsUnmet           an entry cannot run on this workload or machine
│   └── EntryRefused         a submission breaks a rule that is checked before training
├── DataError                data missing, of another version, truncated or altered
│   ├── ChecksumMismatch
│   └── DataMissing
├── LoaderError              a reader, worker or transform failed while serving examples
├── RecordError              a record that cannot be read, or does not agree with itself
└── TrackingError            the MLflow store cannot be reached or refuses
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ChecksumMismatch",
    "ConfigError",
    "DataError",
    "DataMissing",
    "EntryRefused",
    "LoaderError",
    "NeedsUnmet",
    "RecordError",
    "TimetrialError",
    "TrackingError",
    "UnknownName",
    "UserError",
    "unknown_name",
]


class TimetrialError(Exception):
    """Root of the tree: catching it catches every deliberate refusal and nothing else."""


class UserError(TimetrialError):
    """What the caller gave is wrong; fixing the call fixes it."""


class UnknownName(UserError):
    """A name that is in no registry; the message lists the nearest known ones."""


class ConfigError(UserError):
    """A configuration that its schema refuses: unknown key, wrong type, value out of range."""


class NeedsUnmet(UserError):
    """An algorithm or method declares a need that this workload or machine does not meet."""


class EntryRefused(UserError):
    """A submission that breaks a rule checked before any training; the message names the rule."""


class DataError(TimetrialError):
    """Data that must not be trained on: altered, truncated, or of another version."""


class ChecksumMismatch(DataError):
    """The bytes on disk are not the bytes that were promised."""


class DataMissing(DataError):
    """Data that is not there; the message says which command fetches it."""


class LoaderError(TimetrialError):
    """Serving examples failed; the original traceback is chained."""


class RecordError(TimetrialError):
    """A record that cannot be parsed, or whose parts contradict each other."""


class TrackingError(TimetrialError):
    """The MLflow store is unreachable or refuses; the record on disk is unaffected."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """Build the error for a name that is in no registry.

    The message gives the nearest known names, or all of them when none is near.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known: {', '.join(names) or '(none)'}"
    return UnknownName(f"unknown {kind} {name!r}; {hint}")
