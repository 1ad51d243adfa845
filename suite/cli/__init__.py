"""The command line."""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Placeholder until the frame lands."""
    return 0
