"""Writing the site of a board, and its front boards into the region of a README."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .places import Gathered

if TYPE_CHECKING:
    from ...leaderboards.boards import Board

__all__ = ["reference_of", "write_pages"]


def reference_of(found: Gathered, chosen: str | None) -> str:
    """What headline scores are relative to: the entry that was named, else what is pinned, else the frozen reference where it ran, else
    AdamW."""
    from ..config import REFERENCE

    if chosen is None and found.pins is not None:
        return found.pins.reference
    frozen = any(record.entry.name == REFERENCE for record in found.records)
    return chosen or (REFERENCE if frozen else "adamw")


def write_pages(found: Gathered, board: Board, folder: Path, reference: str | None, readme: Path | None) -> int:
    """Write the site into a folder, and its front boards into the region of a Markdown file; returns the number of files.

    ``UserError`` when the Markdown file has no such region.
    """
    from ...leaderboards.exports import with_region
    from ...leaderboards.front import FRONT_MARKDOWN
    from ...leaderboards.pages import write_site
    from ..files import write_text

    text = None if readme is None else _text(readme)
    entry = reference_of(found, reference)
    paths = write_site(board, found.records, found.curves, folder, entry, pins=found.pins, grids=found.grids)
    if readme is not None and text is not None:
        write_text(readme, with_region(text, _text(folder / FRONT_MARKDOWN)))
    return len(paths)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        raise UserError(f"--readme {path}: {problem.strerror}") from None
