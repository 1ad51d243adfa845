"""Compiled kernels of the loaders: one pass from stored bytes to what a model eats, without the interpreter lock.

Every kernel reads a flat ``uint8`` buffer (a memory map of a ``.beton`` or of a ``.npy``) at one byte offset per example, so
that FFCV and the plain path run the same machine code. Random numbers are a pure function of (seed, epoch, example id):
Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.2 and table 2), with the counter
``(id low, id high, epoch, block)`` and the key ``(seed low, seed high)``. Pixels go through a ``table`` ``[channels, 256]`` of what
each value becomes. Indices are unsigned, because numba guards every signed one against being negative, at twice the time.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .decoder import decode_jpeg
from .resize import resize_square

__all__ = [
    "augment_images",
    "crop_jpegs",
    "crop_picture",
    "crop_pictures",
    "decode_array",
    "decode_crop",
    "decode_image",
    "decode_int",
    "gather_rows",
    "gather_windows",
    "philox",
]

# Constants that are arguments are numpy numbers: numba 0.68 cannot find a cached function again that was called with a literal.
# Blocks of the counter, so that no two purposes share random numbers; attempts at a crop count on from the last.
_BLOCK_GEOMETRY = np.int64(0)
_BLOCK_CUTOUT = np.int64(1)
_BLOCK_CROP = np.int64(2)
_START = np.int64(0)

_U = np.uint64
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = np.uint64(0x9E3779B9)
_WEYL_1 = np.uint64(0xBB67AE85)

# Random-resized-crop as in Szegedy et al. 2015 ("Going deeper with convolutions", section 6): share of the area, aspect ratio.
_CROP_AREA = (0.08, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
_CROP_ATTEMPTS = 10
_CENTRE_CROP = 0.875  # side of the deterministic crop over the shorter side: 224 of 256, the custom since Krizhevsky et al. 2012


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
    number = _U(example)
    key = _U(seed)
    return philox(number & _MASK, number >> _SHIFT, _U(epoch) & _MASK, _U(block), key & _MASK, key >> _SHIFT)


@njit(cache=True, nogil=True)
def _below(word, bound):  # type: ignore[no-untyped-def]
    """A uniform integer in ``0 .. bound - 1`` from one 32-bit word; its bias is below ``bound / 2**32``."""
    return np.int64((word * _U(bound)) >> _SHIFT)


@njit(cache=True, nogil=True)
def _is_heads(word):  # type: ignore[no-untyped-def]
    """A fair coin: the highest bit of one 32-bit word."""
    return word >> _U(31) == _U(1)


@njit(cache=True, nogil=True)
def _between(word, low, high):  # type: ignore[no-untyped-def]
    """A uniform float64 in ``low .. high`` from one 32-bit word."""
    return low + (high - low) * (np.float64(word) / 4294967296.0)


@njit(cache=True, nogil=True)
def _mirror(position, length):  # type: ignore[no-untyped-def]
    """Reflect a position outside ``0 .. length - 1`` back inside, without repeating the edge (at most one reflection)."""
    if position < 0:
        return -position
    if position >= length:
        return 2 * length - 2 - position
    return position


@njit(cache=True, nogil=True)
def _cut_out(side, seed, epoch, example, picture):  # type: ignore[no-untyped-def]
    """Zero a square of ``side`` pixels, placed uniformly inside ``picture`` ``[C, H, W]``."""
    w0, w1, _, _ = _words(seed, epoch, example, _BLOCK_CUTOUT)
    top = _below(w0, picture.shape[1] - side + 1)
    left = _below(w1, picture.shape[2] - side + 1)
    picture[:, top : top + side, left : left + side] = 0


@njit(cache=True, nogil=True)
def augment_images(source, starts, ids, epoch, seed, flip, translate, reflect, cutout, table, out):  # type: ignore[no-untyped-def]
    """Crop, flip, look up and cut out: raw ``uint8`` HWC images at ``starts`` of ``source`` into ``out`` ``[B, C, H, W]``.

    ``translate`` shifts by up to that many pixels each way; what comes from outside is mirrored (``reflect``) or 0 in output units.
    ``cutout`` zeroes a square of that side.
    """
    channels, height, width = out.shape[1], out.shape[2], out.shape[3]
    flat, lookup, step = out.reshape(-1), table.reshape(-1), _U(channels)
    for i in range(len(starts)):
        mirrored, shift_y, shift_x = False, 0, 0
        if flip or translate > 0:
            w0, w1, w2, _ = _words(seed, epoch, ids[i], _BLOCK_GEOMETRY)
            mirrored = flip and _is_heads(w0)
            shift_y = _below(w1, 2 * translate + 1) - translate
            shift_x = _below(w2, 2 * translate + 1) - translate
        first = max(0, -shift_x)  # columns first .. first + inside - 1 of the shifted picture lie inside the stored one
        inside = width - abs(shift_x)
        for y in range(height):
            row = y + shift_y
            if not reflect and (row < 0 or row >= height):
                out[i, :, y, :] = 0
                continue
            row = starts[i] + _mirror(row, height) * width * channels
            for c in range(channels):
                line = ((i * channels + c) * height + y) * width
                values = _U(c * 256)
                at = _U(row + (first + shift_x) * channels + c)
                if mirrored:
                    to = _U(line + width - 1 - first)
                    for x in range(_U(inside)):
                        flat[to - x] = lookup[values + _U(source[at + x * step])]
                else:
                    to = _U(line + first)
                    for x in range(_U(inside)):
                        flat[to + x] = lookup[values + _U(source[at + x * step])]
                for k in range(width - inside):
                    x = k if k < first else k + inside
                    to = _U(line + (width - 1 - x if mirrored else x))
                    at = _U(row + _mirror(x + shift_x, width) * channels + c)
                    flat[to] = lookup[values + _U(source[at])] if reflect else 0
        if cutout > 0:
            _cut_out(cutout, seed, epoch, ids[i], out[i])


@njit(cache=True, nogil=True)
def _crop_box(height, width, seed, epoch, example, train):  # type: ignore[no-untyped-def]
    """``(top, left, rows, columns)`` of a random-resized-crop, or of the centre crop."""
    if not train:
        side = max(1, round(_CENTRE_CROP * min(height, width)))
        return (height - side) // 2, (width - side) // 2, side, side
    for attempt in range(_CROP_ATTEMPTS):
        w0, w1, w2, w3 = _words(seed, epoch, example, _BLOCK_CROP + attempt)
        area = height * width * _between(w0, _CROP_AREA[0], _CROP_AREA[1])
        aspect = np.exp(_between(w1, np.log(_CROP_ASPECT[0]), np.log(_CROP_ASPECT[1])))
        columns = round(np.sqrt(area * aspect))
        rows = round(np.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            return _below(w2, height - rows + 1), _below(w3, width - columns + 1), rows, columns
    columns = min(width, max(1, round(height * _CROP_ASPECT[1])))
    rows = min(height, max(1, round(width / _CROP_ASPECT[0])))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


@njit(cache=True, nogil=True)
def crop_picture(pixels, start, height, width, example, epoch, seed, flip, cutout, train, table, out):  # type: ignore[no-untyped-def]
    """Crop (at random or in the centre), resize, flip, look up, cut out: a picture at ``start`` of ``pixels`` into ``out`` [3, S, S]."""
    top, left, rows, columns = _crop_box(height, width, seed, epoch, example, train)
    mirrored = False
    if flip:
        w0, _, _, _ = _words(seed, epoch, example, _BLOCK_GEOMETRY)
        mirrored = _is_heads(w0)
    resize_square(pixels, start + (top * width + left) * 3, width, rows, columns, mirrored, table, out)
    if cutout > 0:
        _cut_out(cutout, seed, epoch, example, out)


@njit(cache=True, nogil=True)
def crop_pictures(pixels, starts, heights, widths, ids, epoch, seed, flip, cutout, train, table, out):  # type: ignore[no-untyped-def]
    """``crop_picture`` for raw pictures of any sizes at ``starts`` of ``pixels``, into ``out`` ``[B, C, S, S]``."""
    for i in range(len(starts)):
        crop_picture(pixels, starts[i], heights[i], widths[i], ids[i], epoch, seed, flip, cutout, train, table, out[i])


@njit(cache=True, nogil=True)
def crop_jpegs(source, starts, sizes, heights, widths, ids, decoder, epoch, seed, flip, cutout, train, table, out, failed):  # type: ignore[no-untyped-def]
    """``crop_picture`` for encoded pictures: ``failed[i]`` is set where the C function at address ``decoder`` refuses one."""
    largest = 0
    for i in range(len(starts)):
        largest = max(largest, heights[i] * widths[i] * 3)
    pixels = np.empty(largest, np.uint8)
    for i in range(len(starts)):
        encoded = source[starts[i] : starts[i] + sizes[i]]
        failed[i] = decode_jpeg(decoder, encoded.ctypes.data, sizes[i], heights[i], widths[i], pixels.ctypes.data) != 0
        if not failed[i]:
            crop_picture(pixels, _START, heights[i], widths[i], ids[i], epoch, seed, flip, cutout, train, table, out[i])


@njit(cache=True, nogil=True)
def gather_rows(source, starts, out):  # type: ignore[no-untyped-def]
    """Copy ``out.shape[1]`` bytes from each of ``starts``: ``out`` uint8 ``[B, bytes]``."""
    size, flat = _U(out.shape[1]), out.reshape(-1)
    for i in range(len(starts)):
        at, to = _U(starts[i]), _U(i) * size
        for j in range(size):
            flat[to + j] = source[at + j]


@njit(cache=True, nogil=True)
def gather_windows(rows, ids, epoch, seed, train, out):  # type: ignore[no-untyped-def]
    """Cut one window out of each token row, ``rows`` ``[B, L]`` into ``out`` int64 ``[B, window]``: anywhere, or the first."""
    slack = rows.shape[1] - out.shape[1]
    for i in range(len(ids)):
        start = 0
        if train:
            _, _, _, w3 = _words(seed, epoch, ids[i], _BLOCK_GEOMETRY)
            start = _below(w3, slack + 1)
        for j in range(out.shape[1]):
            out[i, j] = rows[i, start + j]


# The operations that FFCV runs: ``(indices, memory, metadata of the field, storage)``, where ``storage[0]`` is the mapped file.


@njit(cache=True, nogil=True)
def decode_image(indices, memory, metadata, storage):  # type: ignore[no-untyped-def]
    """Raw pictures of one size; ``memory`` is ``(out, table, epoch, seed, flip, translate, reflect, cutout)``."""
    out, table, epoch, seed, flip, translate, reflect, cutout = memory
    starts = np.empty(len(indices), np.int64)
    for i in range(len(indices)):
        starts[i] = metadata[indices[i]]["data_ptr"]
    augment_images(storage[0], starts, indices, epoch, seed, flip, translate, reflect, cutout, table, out)
    return out


@njit(cache=True, nogil=True)
def decode_crop(indices, memory, metadata, storage):  # type: ignore[no-untyped-def]
    """Encoded or raw pictures of any size, cropped and resized.

    ``memory`` is ``(out, failed, sizes, decoder, table, epoch, seed, flip, cutout, train)``; ``sizes`` int64 per example of the file,
    ``decoder`` 0 for raw pictures.
    """
    out, failed, sizes, decoder, table, epoch, seed, flip, cutout, train = memory
    places = np.empty((4, len(indices)), np.int64)
    for i in range(len(indices)):
        record = metadata[indices[i]]
        places[0, i], places[1, i] = record["data_ptr"], sizes[indices[i]]
        places[2, i], places[3, i] = record["height"], record["width"]
    if decoder == 0:
        crop_pictures(storage[0], places[0], places[2], places[3], indices, epoch, seed, flip, cutout, train, table, out)
    else:
        crop_jpegs(
            storage[0], places[0], places[1], places[2], places[3], indices, decoder, epoch, seed, flip, cutout, train, table, out, failed
        )
    return out


@njit(cache=True, nogil=True)
def decode_array(indices, memory, metadata, storage):  # type: ignore[no-untyped-def]
    """Arrays as bytes; ``memory`` is uint8 ``[B, bytes of one array]``."""
    starts = np.empty(len(indices), np.int64)
    for i in range(len(indices)):
        starts[i] = metadata[indices[i]]
    gather_rows(storage[0], starts, memory)
    return memory


@njit(cache=True, nogil=True)
def decode_int(indices, memory, metadata, storage):  # type: ignore[no-untyped-def]
    """The integers that a ``.beton`` keeps in its metadata; ``memory`` is int64 ``[B]``."""
    for i in range(len(indices)):
        memory[i] = metadata[indices[i]]
    return memory
