"""Size of a JPEG from its own header, without decoding it."""

from __future__ import annotations

import numpy as np

__all__ = ["jpeg_size"]

# Frame headers (start-of-frame markers of ITU-T T.81, table B.1) carry the size; DHT, JPG and DAC share their range.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def jpeg_size(encoded: np.ndarray) -> tuple[int, int]:
    """``(height, width)`` in pixels of an encoded JPEG, uint8 ``[bytes]``; ``ValueError`` when it is none."""
    data = np.ascontiguousarray(encoded).data
    if bytes(data[:2]) != b"\xff\xd8":
        raise ValueError(f"not a JPEG: begins with {bytes(data[:2]).hex() or 'nothing'}, expected ffd8")
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + size if marker != 0xFF else 1  # fill bytes may precede a marker
    raise ValueError("not a JPEG: no frame header")
