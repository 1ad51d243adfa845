"""Compiled kernels of the loaders: one pass from stored bytes to what a model eats, without the interpreter lock.

Every kernel reads a flat ``uint8`` buffer (a memory map of a ``.beton`` or of a ``.npy``) at one byte offset per example, so
that FFCV and the plain path run the same machine code. Random numbers are a pure function of (seed, epoch, example id):
Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.2 and table 2), with the counter
``(id low, id high, epoch, block)`` and the key ``(seed low, seed high)``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["augment_images", "decode_array", "decode_image", "decode_int", "gather_rows", "gather_windows", "philox"]

# Blocks of the counter, so that no two purposes share random numbers.
_BLOCK_GEOMETRY = 0
_BLOCK_CUTOUT = 1

_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)


@njit(cache=True, nogil=True)
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Ten rounds of Philox4x32: four 32-bit counter words and two key words in, four uniform 32-bit words out (all uint64)."""
    for _ in range(10):
        p0 = _MULTIPLIER_0 * c0
        p1 = _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _MASK, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _MASK
        k0 = (k0 + _WEYL_0) & _MASK
        k1 = (k1 + _WEYL_1) & _MASK
    return c0, c1, c2, c3


@njit(cache=True, nogil=True)
def _words(seed, epoch, example, block):  # type: ignore[no-untyped-def]
    """Four uniform 32-bit words for one example and one purpose."""
    number = np.uint64(example)
    key = np.uint64(seed)
    return philox(number & _MASK, number >> _SHIFT, np.uint64(epoch) & _MASK, np.uint64(block), key & _MASK, key >> _SHIFT)


@njit(cache=True, nogil=True)
def _below(word, bound):  # type: ignore[no-untyped-def]
    """A uniform integer in ``0 .. bound - 1`` from one 32-bit word; its bias is below ``bound / 2**32``."""
    return np.int64((word * np.uint64(bound)) >> _SHIFT)


@njit(cache=True, nogil=True)
def _mirror(position, length):  # type: ignore[no-untyped-def]
    """Reflect a position outside ``0 .. length - 1`` back inside, without repeating the edge (at most one reflection)."""
    if position < 0:
        return -position
    if position >= length:
        return 2 * length - 2 - position
    return position


@njit(cache=True, nogil=True)
def augment_images(source, starts, ids, epoch, seed, flip, translate, reflect, cutout, table, out):  # type: ignore[no-untyped-def]
    """Crop, flip, look up and cut out: raw ``uint8`` HWC images at ``starts`` of ``source`` into ``out`` ``[B, C, H, W]``.

    ``table`` ``[C, 256]`` maps a pixel value to its output (normalisation, or the identity). ``translate`` shifts by up to that
    many pixels each way; what comes from outside is mirrored (``reflect``) or 0 in output units. ``cutout`` zeroes a square of
    that side, placed uniformly inside the image.
    """
    channels, height, width = out.shape[1], out.shape[2], out.shape[3]
    row_bytes = width * channels
    for i in range(len(starts)):
        mirrored = False
        shift_y = 0
        shift_x = 0
        if flip or translate > 0:
            w0, w1, w2, _ = _words(seed, epoch, ids[i], _BLOCK_GEOMETRY)
            mirrored = flip and _below(w0, 2) == 1
            shift_y = _below(w1, 2 * translate + 1) - translate
            shift_x = _below(w2, 2 * translate + 1) - translate
        # Output column x shows source column x + shift_x, or its mirror image: columns first .. last - 1 lie inside the source.
        first = max(0, shift_x) if mirrored else max(0, -shift_x)
        last = min(width, width + shift_x) if mirrored else min(width, width - shift_x)
        step = -channels if mirrored else channels
        for y in range(height):
            source_y = y + shift_y
            outside = source_y < 0 or source_y >= height
            if outside and not reflect:
                out[i, :, y, :] = 0
                continue
            row = starts[i] + _mirror(source_y, height) * row_bytes
            for c in range(channels):
                position = row + c + (((width - 1 - first) if mirrored else first) + shift_x) * channels
                for x in range(first, last):
                    out[i, c, y, x] = table[c, source[position]]
                    position += step
                for x in range(first):
                    inner = _mirror(((width - 1 - x) if mirrored else x) + shift_x, width)
                    out[i, c, y, x] = table[c, source[row + c + inner * channels]] if reflect else 0
                for x in range(last, width):
                    inner = _mirror(((width - 1 - x) if mirrored else x) + shift_x, width)
                    out[i, c, y, x] = table[c, source[row + c + inner * channels]] if reflect else 0
        if cutout > 0:
            w0, w1, _, _ = _words(seed, epoch, ids[i], _BLOCK_CUTOUT)
            top = _below(w0, height - cutout + 1)
            left = _below(w1, width - cutout + 1)
            out[i, :, top : top + cutout, left : left + cutout] = 0


@njit(cache=True, nogil=True)
def gather_rows(source, starts, out):  # type: ignore[no-untyped-def]
    """Copy ``out.shape[1]`` bytes from each of ``starts``: ``out`` uint8 ``[B, bytes]``."""
    size = out.shape[1]
    for i in range(len(starts)):
        out[i, :] = source[starts[i] : starts[i] + size]


@njit(cache=True, nogil=True)
def gather_windows(rows, ids, epoch, seed, train, out):  # type: ignore[no-untyped-def]
    """Cut one window out of each token row, ``rows`` ``[B, L]`` into ``out`` int64 ``[B, window]``: anywhere, or the middle."""
    slack = rows.shape[1] - out.shape[1]
    for i in range(len(ids)):
        start = slack // 2
        if train:
            _, _, _, w3 = _words(seed, epoch, ids[i], _BLOCK_GEOMETRY)
            start = _below(w3, slack + 1)
        for j in range(out.shape[1]):
            out[i, j] = rows[i, start + j]


@njit(cache=True, nogil=True)
def decode_image(indices, memory, metadata, storage):  # type: ignore[no-untyped-def]
    """FFCV operation: raw pictures of a ``.beton`` straight through ``augment_images``.

    ``memory`` is ``(out, table, epoch, seed, flip, translate, reflect, cutout)``.
    """
    out, table, epoch, seed, flip, translate, reflect, cutout = memory
    starts = np.empty(len(indices), np.int64)
    for i in range(len(indices)):
        starts[i] = metadata[indices[i]]["data_ptr"]
    augment_images(storage[0], starts, indices, epoch, seed, flip, translate, reflect, cutout, table, out)
    return out


@njit(cache=True, nogil=True)
def decode_array(indices, memory, metadata, storage):  # type: ignore[no-untyped-def]
    """FFCV operation: arrays of a ``.beton`` as bytes; ``memory`` is uint8 ``[B, bytes of one array]``."""
    starts = np.empty(len(indices), np.int64)
    for i in range(len(indices)):
        starts[i] = metadata[indices[i]]
    gather_rows(storage[0], starts, memory)
    return memory


@njit(cache=True, nogil=True)
def decode_int(indices, memory, metadata, storage):  # type: ignore[no-untyped-def]
    """FFCV operation: the integers that a ``.beton`` keeps in its metadata; ``memory`` is int64 ``[B]``."""
    for i in range(len(indices)):
        memory[i] = metadata[indices[i]]
    return memory
