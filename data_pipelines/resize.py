"""Antialiased bilinear resizing of an RGB crop, fused with mirroring and the pixel table.

The triangle filter widens with the factor of reduction, as in Pillow's ``BILINEAR`` (Turkowski 1990, "Filters for common resampling
tasks"). Weights have 13 bits and sums are integers, so the result is the same on every machine.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["resize_square"]

_BITS = 13
_LANE = 21  # bits for one channel's sum: 255 * 2**13 plus the rounding half stays below 2**21, so three channels fit one uint64
_U = np.uint64


@njit(cache=True, nogil=True)
def _triangle(length, side, firsts, weights):  # type: ignore[no-untyped-def]
    """For each of ``side`` output positions the first of ``length`` input positions it draws on, and weights that sum to 2**13.

    Returns the largest number of input positions that one output draws on.
    """
    scale = length / side
    support = max(scale, 1.0)
    most = 0
    for position in range(side):
        centre = (position + 0.5) * scale
        first = max(0, int(centre - support + 0.5))
        count = min(length, int(centre + support + 0.5)) - first
        total = 0.0
        for k in range(count):
            total += max(0.0, 1.0 - abs((first + k + 0.5 - centre) / support))
        left, heaviest = 1 << _BITS, 0
        for k in range(count):
            weight = int(max(0.0, 1.0 - abs((first + k + 0.5 - centre) / support)) / total * (1 << _BITS) + 0.5)
            weights[position, k] = weight
            left -= weight
            if weight > weights[position, heaviest]:
                heaviest = k
        weights[position, heaviest] += left  # what rounding lost or added
        firsts[position] = first
        most = max(most, count)
    return most


@njit(cache=True, nogil=True)
def resize_square(pixels, start, row_pixels, rows, columns, mirrored, table, out):  # type: ignore[no-untyped-def]
    """Resize ``rows x columns`` RGB pixels to ``out`` ``[3, S, S]``, through ``table`` ``[3, 256]``.

    The crop's first byte is ``pixels[start]``; a row of the whole picture is ``row_pixels`` long. Down the columns first, where whole
    rows are summed at once; then along the rows, with the three channels of a pixel side by side in one integer.
    """
    side = out.shape[1]
    taps = 4 + 2 * (max(rows, columns) // side + 1)
    firsts = np.empty((2, side), np.int64)
    down, across = np.zeros((side, taps), np.int32), np.zeros((side, taps), np.uint64)
    depth = _triangle(rows, side, firsts[0], down)
    reach = _U(_triangle(columns, side, firsts[1], across))
    width = columns * 3
    sums, packed = np.empty(width, np.int32), np.zeros(columns + taps, np.uint64)
    flat, lookup, weights, plane = out.reshape(-1), table.reshape(-1), across.reshape(-1), _U(side * side)
    half = 1 << (_BITS - 1)
    halves, byte = _U(half) | _U(half) << _U(_LANE) | _U(half) << _U(2 * _LANE), _U(255)
    for y in range(side):
        sums[:] = half
        for k in range(depth):
            weight = down[y, k]
            if weight == 0:  # also where the filter ends early, at the edges
                continue
            at = _U(start + (firsts[0, y] + k) * row_pixels * 3)
            for j in range(_U(width)):
                sums[j] += weight * np.int32(pixels[at + j])
        for x in range(_U(columns)):
            red, green, blue = sums[_U(3) * x], sums[_U(3) * x + _U(1)], sums[_U(3) * x + _U(2)]
            packed[x] = _U(red >> _BITS) | _U(green >> _BITS) << _U(_LANE) | _U(blue >> _BITS) << _U(2 * _LANE)
        for x in range(side):
            to = _U(y * side + (side - 1 - x if mirrored else x))
            at, weight_at = _U(firsts[1, x]), _U(x * taps)
            total = halves
            for k in range(reach):
                total += weights[weight_at + k] * packed[at + k]
            flat[to] = lookup[(total >> _U(_BITS)) & byte]
            flat[to + plane] = lookup[_U(256) + ((total >> _U(_BITS + _LANE)) & byte)]
            flat[to + plane + plane] = lookup[_U(512) + ((total >> _U(_BITS + 2 * _LANE)) & byte)]
