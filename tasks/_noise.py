"""Random numbers that belong to examples: the same in every evaluation, whatever the batch."""

from __future__ import annotations

import torch


def uniform_by_id(ids, shape, device):
    """Uniform numbers in [0, 1), float32 [B, *shape]: row i is a function of ``ids[i]`` alone."""
    return _by_id(torch.rand, ids, shape, device)


def normal_by_id(ids, shape, device):
    """Standard normal numbers, float32 [B, *shape]: row i is a function of ``ids[i]`` alone."""
    return _by_id(torch.randn, ids, shape, device)


def _by_id(draw, ids, shape, device):
    rows = [draw(shape, generator=torch.Generator().manual_seed(int(i))) for i in ids]
    return torch.stack(rows).to(device)
