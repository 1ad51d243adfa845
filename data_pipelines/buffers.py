"""Memory that is used again only when nothing looks at it any more."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

__all__ = ["BufferPool"]


@final
class BufferPool:
    """Tensors over recycled memory: fresh pages cost more than filling them.

    A buffer comes back when the last tensor, view or autograd graph over it is gone, so a caller may keep a batch for ever and
    never sees it overwritten. At most ``keep`` free buffers of one shape and dtype stay allocated. Any thread may take.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._free: dict[tuple[tuple[int, ...], str], deque[np.ndarray]] = {}

    def take(self, rows: int, capacity: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[np.ndarray, Tensor]:
        """An array ``[rows, *shape]`` of any content, to be filled, and the tensor over it, to be handed out.

        ``capacity`` rows are reserved, so that a short last chunk recycles the memory of a full one. The array must not outlive
        the tensor.
        """
        free = self._free.setdefault(((capacity, *shape), dtype.str), deque())
        try:
            buffer = free.pop()
        except IndexError:
            buffer = np.empty((capacity, *shape), dtype)
        array = buffer[:rows]  # the tensor keeps this very object alive, whatever views are made of the tensor
        weakref.finalize(array, self._give_back, free, buffer).atexit = False
        return array, torch.from_numpy(array)

    def _give_back(self, free: deque[np.ndarray], buffer: np.ndarray) -> None:
        if len(free) < self._keep:
            free.append(buffer)
