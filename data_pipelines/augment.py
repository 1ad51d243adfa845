"""Augmentation as data: what is done to an example, the same for every loader and every order of reading.

Random numbers are a pure function of (seed, epoch, example id), so a picture does not depend on its batch, on the number of
workers, on the loader, or on whether the trial was resumed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..suite.errors import ConfigError

__all__ = ["Augmentation", "augment", "read_only_bytes"]


@dataclass(frozen=True)
class Augmentation:
    """What happens to a field ``image`` (or, for ``window``, to a field ``tokens``) between the file and the model.

    ``flip``: mirrored left to right with probability 1/2. ``translate``: shifted by a uniform -t .. t pixels in each direction;
    what comes from outside is mirrored without repeating the edge (``padding="reflect"``) or 0 in output units (``"zero"``: the
    mean colour when normalised, black when not). ``cutout``: a square of that many pixels a side, uniform inside the image, set to
    0 in output units. ``window``: a run of that many tokens out of a longer row, served as int64. ``mean`` and ``std`` per channel,
    in units of 0 .. 1: the output is then float32 ``(pixel / 255 - mean) / std``, else uint8. ``resized_crop``: side of the square
    that a random-resized-crop (area 0.08 to 1, aspect 3/4 to 4/3) is resized to. ``train=False`` leaves out every random part:
    no flip, shift or cutout, the first window of a row, the centre crop (7/8 of the shorter side).

    Raises ``ConfigError`` when constructed with a value out of range.
    """

    flip: bool = False
    translate: int = 0
    padding: Literal["reflect", "zero"] = "reflect"
    cutout: int = 0
    window: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resized_crop: int | None = None
    train: bool = True

    def __post_init__(self) -> None:
        _require(self.translate >= 0, f"translate must be at least 0 pixels, given {self.translate}")
        _require(self.cutout >= 0, f"cutout must be at least 0 pixels, given {self.cutout}")
        _require(self.padding in ("reflect", "zero"), f"padding must be 'reflect' or 'zero', given {self.padding!r}")
        _require(self.window is None or self.window > 0, f"window must be at least 1 token, given {self.window}")
        _require(self.resized_crop is None or self.resized_crop > 0, f"resized_crop must be at least 1 pixel, given {self.resized_crop}")
        _require((self.mean is None) == (self.std is None), f"mean and std belong together, given mean={self.mean}, std={self.std}")
        if self.mean is not None and self.std is not None:
            _require(len(self.mean) == len(self.std), f"mean has {len(self.mean)} channels, std has {len(self.std)}")
            _require(all(s > 0 for s in self.std), f"std must be positive, given {self.std}")
        _require(self.resized_crop is None or self.translate == 0, "resized_crop already moves the picture: leave translate at 0")

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 when normalised, else uint8."""
        return np.dtype(np.uint8 if self.mean is None else np.float32)

    @property
    def concerns_images(self) -> bool:
        """Whether anything but ``window`` is asked for."""
        return replace(self, window=None, train=True) != Augmentation()

    def table(self, channels: int) -> np.ndarray:
        """``[channels, 256]``: what each pixel value becomes, computed in float64 and rounded once."""
        values = np.arange(256)
        if self.mean is None or self.std is None:
            return np.tile(values.astype(np.uint8), (channels, 1))
        if len(self.mean) != channels:
            raise ConfigError(f"mean and std are for {len(self.mean)} channels, the images have {channels}")
        mean, std = np.asarray(self.mean, np.float64)[:, None], np.asarray(self.std, np.float64)[:, None]
        return ((values / 255.0 - mean) / std).astype(np.float32)

    def check_image(self, height: int, width: int) -> None:
        """Raise ``ConfigError`` when an image of this size (in pixels) is too small for the shifts or the cutout asked for."""
        if self.padding == "reflect" and self.translate >= min(height, width):
            raise ConfigError(
                f"translate={self.translate} mirrors more than the {height}x{width} pixels of an image; at most {min(height, width) - 1}"
            )
        if self.translate > min(height, width):
            raise ConfigError(f"translate={self.translate} moves an image of {height}x{width} pixels out of sight")
        if self.cutout > min(height, width):
            raise ConfigError(f"cutout={self.cutout} is larger than an image of {height}x{width} pixels")

    @property
    def kernel_arguments(self) -> tuple[bool, int, bool, int]:
        """``(flip, translate, reflect, cutout)`` as the kernel takes them; all off when not training."""
        if not self.train:
            return False, 0, False, 0
        return self.flip, self.translate, self.padding == "reflect", self.cutout

    @property
    def crop_arguments(self) -> tuple[bool, int, bool]:
        """``(flip, cutout, train)`` as the kernels of the random-resized-crop take them."""
        return self.flip and self.train, self.cutout if self.train else 0, self.train


def augment(
    images: np.ndarray, ids: np.ndarray, epoch: int, seed: int, augmentation: Augmentation, out: np.ndarray | None = None
) -> np.ndarray:
    """Augment a batch of raw images in memory with the kernel that the loaders use.

    ``images`` uint8 ``[B, H, W, C]``, ``ids`` int64 ``[B]`` (with ``epoch`` and ``seed`` they choose the random numbers). Returns
    ``[B, C, H, W]``, float32 or uint8 as the augmentation says, written into ``out`` when given. Raises ``ConfigError``.
    """
    from . import kernels  # compiled code is loaded when first needed

    ids = np.ascontiguousarray(ids, np.int64)
    count, height, width, channels = images.shape
    side = augmentation.resized_crop
    shape = (height, width) if side is None else (side, side)
    augmentation.check_image(*shape)
    table = augmentation.table(channels)
    pixels, starts = read_only_bytes(images), np.arange(count, dtype=np.int64) * (height * width * channels)
    result = np.empty((count, channels, *shape), augmentation.dtype) if out is None else out
    if side is None:
        kernels.augment_images(pixels, starts, ids, epoch, seed, *augmentation.kernel_arguments, table, result)
    else:
        heights, widths = np.full(count, height), np.full(count, width)
        kernels.crop_pictures(pixels, starts, heights, widths, ids, epoch, seed, *augmentation.crop_arguments, table, result)
    return result


def read_only_bytes(values: np.ndarray) -> np.ndarray:
    """All bytes of an array, uint8 ``[total]``, without a copy where it is contiguous.

    Read-only whatever the array is, so that a kernel is compiled once for memory maps and for arrays in memory.
    """
    flat = np.asarray(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
    flat.setflags(write=False)
    return flat


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
