"""A selection that somebody made before, as a method: submitted by its ids alone.

Source  the filtering track of DataComp (Gadre et al. 2023, arXiv 2304.14108): training is fixed, an entry is a list of ids.
Expect  what the method that made it reached; a selection file brings its cost with it and is charged for it; a bare list of ids says
        nothing about its cost and its provenance says so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np

from ...suite.errors import ConfigError, DataError
from .interface import Context, CurationMethod, Pool, Selection

__all__ = ["Ids"]


@final
class Ids(CurationMethod):
    """Keeps what ``file`` says: a selection file (``.npz``), or ids in a ``.npy`` of integers or a ``.txt`` with one a line.

    ``digest``: how the digest of the selection begins (12 digits at least), so that another content is another trial. ``file`` is
    relative to the working directory, since records hold no absolute path. ``repeats``: ``refuse``, or ``count`` an id that a bare list
    repeats. A selection of another pool or version of the data set is refused.
    """

    own_size = True

    def __init__(self, file: str = "", digest: str = "", repeats: str = "refuse") -> None:
        if Path(file).is_absolute() or file.startswith("~"):
            raise ConfigError(f"file: expected a path relative to the working directory, given {file!r}")
        if not isinstance(digest, str):  # YAML reads a digest of digits alone as a number
            raise ConfigError(f"digest: expected text, in quotes where it looks like a number, given {digest!r}")
        if digest and len(digest) < 12:
            raise ConfigError(f"digest: expected at least 12 digits, given {digest!r}")
        self.file, self.digest, self.repeats = file, digest, repeats

    def select(self, pool: Pool, keep_fraction: float, context: Context) -> Selection:
        """Read and check the file; charge what it took to make."""
        if not self.file:
            raise ConfigError("curation 'ids' needs a selection: file=kept/selection.npz")
        path = Path(self.file)
        if not path.is_file():
            raise ConfigError(f"file: {self.file}: no such file")
        found = Selection.read(path).checked(pool) if path.suffix == ".npz" else Selection.of(pool, _listed(path), repeats=self.repeats)
        if not self.digest or not found.digest.startswith(self.digest):
            raise ConfigError(f"digest: expected that of {self.file}, digest={found.digest[:12]}, given {self.digest or 'none'!r}")
        if found.cost is not None:
            context.charge(found.cost)
        cost = "charged as recorded" if found.cost is not None else "not declared"
        return replace(found, provenance={"method": "ids", "made_by": dict(found.provenance), "cost": cost})


def _listed(path: Path) -> np.ndarray:
    """The ids of a bare list, int64 or whatever integers the file holds."""
    try:
        if path.suffix == ".npy":
            listed: np.ndarray = np.load(path, allow_pickle=False)
            return listed
        if path.suffix == ".txt":
            return np.array([int(line) for line in path.read_text(encoding="utf-8").split()], dtype=np.int64)
    except (ValueError, OSError, EOFError) as problem:
        raise DataError(f"{path}: not a readable list of ids: {problem}") from None
    raise ConfigError(f"file: expected .npz, .npy or .txt, given {path.name}")
