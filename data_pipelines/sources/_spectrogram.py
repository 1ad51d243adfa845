"""Log-mel spectrograms with NumPy alone."""

from __future__ import annotations

import numpy as np

__all__ = ["log_mel", "mel_filters"]

_FLOOR = 1e-10


def mel_filters(rate_hz: int, fft_size: int, bands: int) -> np.ndarray:
    """Triangular filters ``[bands, fft_size // 2 + 1]``, evenly spaced on the mel scale 2595 log10(1 + f / 700) from 0 to half the rate."""
    top = 2595 * np.log10(1 + rate_hz / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.arange(fft_size // 2 + 1) * rate_hz / fft_size
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


def log_mel(waveform: np.ndarray, rate_hz: int, hop: int, bands: int) -> np.ndarray:
    """Power in decibels, ``[max(1, samples // hop), bands]`` float64, of a mono waveform ``[samples]`` with values -1 to 1.

    Frames are two hops long under a Hann window, centred at (i + 1/2) hops; silence counts as -100 dB.
    """
    size = 2 * hop
    count = max(1, len(waveform) // hop)
    samples = np.zeros((count + 1) * hop)
    used = waveform[: count * hop + hop // 2]
    samples[hop // 2 : hop // 2 + len(used)] = used
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]  # [count, size]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    power = np.abs(np.fft.rfft(frames * window)) ** 2  # [count, hop + 1]
    return 10 * np.log10(np.maximum(power @ mel_filters(rate_hz, size, bands).T, _FLOOR))
