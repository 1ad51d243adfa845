"""One seed in, independent seeds by purpose out."""

from __future__ import annotations

import hashlib

__all__ = ["PURPOSES", "derive_seeds"]

PURPOSES = ("model", "order", "augmentation", "curation", "algorithm", "framework")


def derive_seeds(seed: int) -> dict[str, int]:
    """Map each purpose to a 63-bit seed, so that changing what one purpose consumes never shifts another."""
    return {purpose: int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big") >> 1 for purpose in PURPOSES}
