"""Encoded pictures for tests."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from timetrial.data_pipelines.dataset import Field, FieldKind


def encoded(random: np.random.Generator, height: int, width: int, mode: str = "RGB", **options: Any) -> np.ndarray:
    """A JPEG of coarse noise, uint8 ``[bytes]``; ``options`` are Pillow's."""
    coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC).convert(mode).save(stream, "JPEG", **options)
    return np.frombuffer(stream.getvalue(), np.uint8)


def jpeg_field(pictures: list[np.ndarray]) -> Field:
    """Encoded pictures back to back, as a field."""
    return Field(FieldKind.JPEG, np.concatenate(pictures), np.cumsum([0, *map(len, pictures)]))
