"""Decoding JPEG: FFCV's C function (libturbojpeg, fast DCT) called from compiled code, and Pillow for what it refuses."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from PIL import Image

from ..suite.errors import LoaderError

__all__ = ["decode_jpeg", "decode_slowly", "decoder_address"]


@functools.cache
def decoder_address() -> int:
    """Address of FFCV's ``imdecode``, or 0 where FFCV is not installed. FFCV itself is not imported: that takes seconds."""
    package = importlib.util.find_spec("ffcv")
    for folder in (package.submodule_search_locations or []) if package else []:
        for library in sorted(Path(folder).glob("_libffcv*.so")):
            return ctypes.cast(ctypes.CDLL(str(library)).imdecode, ctypes.c_void_p).value or 0
    return 0


def decode_slowly(encoded: np.ndarray) -> np.ndarray:
    """RGB pixels uint8 ``[height, width, 3]`` of any JPEG that Pillow can read; ``LoaderError`` when it cannot."""
    try:
        with Image.open(io.BytesIO(encoded.tobytes()), formats=["JPEG"]) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise LoaderError(f"a JPEG of {len(encoded)} bytes cannot be decoded: {error}") from error


def _decode_jpeg(context: Any, decoder: Any, encoded: Any, size: Any, height: Any, width: Any, pixels: Any) -> Any:
    """Call ``imdecode`` at address ``decoder``: ``size`` bytes at address ``encoded`` to RGB at address ``pixels``; 0 when all went well.

    Called by address, not through ctypes, so that what calls it can be cached on disk.
    """
    signature = types.int32(types.int64, types.uintp, types.int64, types.int64, types.int64, types.uintp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, source, length, rows, columns, target = arguments
        byte_pointer, word, long = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)
        # imdecode(input, size, height, width, output, crop height, crop width, x, y, scale, of, crop?, flip?)
        kinds = [byte_pointer, long, word, word, byte_pointer, *[word] * 8]
        function = builder.inttoptr(address, ir.FunctionType(word, kinds).as_pointer())
        high, wide = builder.trunc(rows, word), builder.trunc(columns, word)
        zero, one = ir.Constant(word, 0), ir.Constant(word, 1)
        pointers = builder.inttoptr(source, byte_pointer), builder.inttoptr(target, byte_pointer)
        return builder.call(function, [pointers[0], length, high, wide, pointers[1], high, wide, zero, zero, one, one, zero, zero])

    return signature, generate


decode_jpeg: Any = intrinsic(_decode_jpeg)
