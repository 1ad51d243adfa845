"""Undersampling in k-space: which lines are measured, and the picture that they alone give."""

from __future__ import annotations

import numpy as np

__all__ = ["line_masks", "zero_filled"]


def line_masks(count: int, lines: int, acceleration: int, centre: float, seed: int) -> np.ndarray:
    """Which of ``lines`` phase-encoding lines are measured, bool ``[count, lines]``, lowest frequency in the middle.

    Exactly ``lines // acceleration`` are: a block of ``round(lines * centre)`` around frequency 0, and uniformly random others, a
    function of ``seed`` and the row alone.
    """
    block = round(lines * centre)
    first = lines // 2 - block // 2
    keys = np.random.Philox(key=seed).random_raw(count * lines).reshape(count, lines)
    keys[:, first : first + block] = 0  # smallest of all: always chosen
    masks = np.zeros((count, lines), bool)
    np.put_along_axis(masks, np.argsort(keys, axis=1, kind="stable")[:, : lines // acceleration], True, axis=1)
    return masks


def zero_filled(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Magnitudes ``[n, H, W]`` float64 of the inverse transform of the measured columns of k-space, the others set to zero."""
    space = np.fft.fftshift(np.fft.fft2(images), axes=2)  # frequency 0 in the middle column
    magnitudes: np.ndarray = np.abs(np.fft.ifft2(np.fft.ifftshift(space * masks[:, None, :], axes=2)))
    return magnitudes
