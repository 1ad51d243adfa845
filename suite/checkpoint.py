"""Where a trial is while it runs: one folder per trial digest, holding the last checkpoint and a lock."""

from __future__ import annotations

import fcntl
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from .errors import RecordError, UserError
from .files import atomic_path

__all__ = ["RunningTrial", "tensor_bytes"]


@final
class RunningTrial:
    """The folder ``<home>/running/<digest>``: locked while the trial runs, gone when its record is written.

    ``lock`` False is for the further processes of the trial that holds the lock.
    """

    def __init__(self, home: Path, trial_digest: str, *, lock: bool = True) -> None:
        self.folder = home / "running" / trial_digest[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        if not lock:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UserError("this very trial is running in another process; wait for it, or change the seed") from None

    def save(self, payload: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically; a kill at any moment leaves the old one or the new one."""
        with atomic_path(self.folder / "checkpoint.pt") as part:
            torch.save(_pack(dict(payload)), part)

    def load(self) -> dict[str, Any] | None:
        """The checkpoint, or None when there is none. Only tensors and plain values are unpickled."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            payload: dict[str, Any] = _unpack(torch.load(path, weights_only=True))
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as problem:
            raise RecordError(f"{path}: the checkpoint cannot be read; run with --fresh to start again") from problem
        return payload

    def discard(self) -> None:
        """Forget the checkpoint, keep the lock."""
        for name in ("checkpoint.pt", "selection.npz"):
            (self.folder / name).unlink(missing_ok=True)

    def close(self, *, remove: bool) -> None:
        """Release the lock; with ``remove`` the folder goes too."""
        if remove:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def tensor_bytes(state: Any) -> int:
    """Bytes of all tensors and arrays in nested mappings and sequences, each counted once; plain numbers count nothing."""
    found: dict[int, int] = {}

    def visit(value: Any) -> None:
        if isinstance(value, (torch.Tensor, np.ndarray)):
            found[id(value)] = value.nbytes
        elif isinstance(value, Mapping):
            for inner in value.values():
                visit(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                visit(inner)

    visit(state)
    return sum(found.values())


_ARRAY = "numpy array"


def _pack(value: Any) -> Any:
    """NumPy arrays as tagged tensors, since a safe load accepts tensors and plain values only."""
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {_pack(key): _pack(item) for key, item in value.items()}
    if isinstance(value, str):
        return str(value)  # a StrEnum member is a class that a safe load does not know
    return [_pack(item) for item in value] if isinstance(value, list) else value


def _unpack(value: Any) -> Any:
    if isinstance(value, dict):
        return value[_ARRAY].numpy() if set(value) == {_ARRAY} else {key: _unpack(item) for key, item in value.items()}
    return [_unpack(item) for item in value] if isinstance(value, list) else value
