"""Small pictures first: progressive resizing and the Fourier crop of EfficientTrain, over any training algorithm.

resize    bilinear with antialiasing (progressive resizing: Howard, DAWNBench 2018; Tan and Le, EfficientNetV2, arXiv 2104.00298)
fourier   the central b x b of the centred spectrum, inverted: an ideal low-pass filter that also shrinks the picture (Wang et al.,
          EfficientTrain, arXiv 2211.09703, section 4.1)

``stages`` maps the progress at which a stage begins to the side of its pictures as a fraction of the full side. EfficientTrain's are
160/224 until 60 % of the training, 192/224 until 80 %, then 1.
Expect  cheaper steps while pictures are small, the same accuracy at the end. A model that refuses a side gets the next one that it
        accepts; one that accepts none below the full side gets the small picture enlarged again: the curriculum stays, the saving goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..algorithm import Batch, Need, Problem, StepReport, TrainingAlgorithm
from ..errors import ConfigError, TimetrialError
from .inner import make_inner

__all__ = ["InputCurriculum", "fourier_crop", "resize"]

FIELD = "image"  # float [B, C, S, S], by the convention of workloads that provide image_input


@dataclass
class State:
    inner: Any
    problem: Problem
    sides: list[tuple[float, int, bool]]  # progress at which a stage begins, its side, whether to enlarge it again


@final
class InputCurriculum(TrainingAlgorithm):
    """``stages``: (progress, fraction of the side) pairs in order, the first at 0. ``shrink``: ``resize`` or ``fourier``."""

    needs = frozenset({Need.IMAGE_INPUT})

    def __init__(self, *, inner: Mapping[str, Any], shrink: Literal["resize", "fourier"], stages: list[list[float]]) -> None:
        begins = [begin for begin, _ in stages]
        if shrink not in _SHRINK or begins != sorted(set(begins)) or begins[:1] != [0] or not all(0 < side <= 1 for _, side in stages):
            raise ConfigError(f"expected shrink resize or fourier and stages in order from 0, sides up to 1; given {shrink!r}, {stages}")
        self.inner, self.shrink, self.stages = make_inner(inner), _SHRINK[shrink], stages

    def setup(self, model: nn.Module, problem: Problem) -> State:
        """The inner algorithm's state, and the sides that the model accepts."""
        full = problem.dummy_batch[FIELD].shape[-1]
        accepted = _accepted_sides(model, problem, min(_even(side * full) for _, side in self.stages))
        sides = []
        for begin, side in self.stages:
            wanted = min(full, _even(side * full))
            fitting = [s for s in accepted if wanted <= s < full]
            sides.append((begin, fitting[0] if fitting else wanted, wanted < full and not fitting))
        return State(self.inner.setup(model, problem), problem, sides)

    def step(self, state: State, batch: Batch) -> StepReport:
        """A step of the inner algorithm on the stage's pictures."""
        progress = state.problem.progress()
        _, side, enlarge = [stage for stage in state.sides if stage[0] <= progress][-1]
        image = batch[FIELD]
        full = image.shape[-1]
        if side < full:
            image = self.shrink(image, side)
            image = resize(image, full) if enlarge else image
            batch = replace(batch, fields={**batch.fields, FIELD: image})
        return self.inner.step(state.inner, batch)

    def weights_for_evaluation(self, state: State) -> Mapping[str, Tensor] | None:
        """The inner algorithm's choice."""
        return self.inner.weights_for_evaluation(state.inner)

    def state_dict(self, state: State) -> dict[str, Any]:
        """The inner algorithm's; the stage is a function of progress."""
        return self.inner.state_dict(state.inner)

    def load_state_dict(self, state: State, payload: Mapping[str, Any]) -> None:
        """Restore the inner algorithm."""
        self.inner.load_state_dict(state.inner, payload)


def resize(image: Tensor, side: int) -> Tensor:
    """[B, C, S, S] -> [B, C, side, side], bilinear, antialiased when it shrinks."""
    return interpolate(image, size=(side, side), mode="bilinear", antialias=side < image.shape[-1])


def fourier_crop(image: Tensor, side: int) -> Tensor:
    """[B, C, S, S] -> [B, C, side, side]: the low frequencies only, at unchanged brightness; memory format is kept."""
    full = image.shape[-1]
    start = full // 2 - side // 2
    centred = torch.fft.fftshift(torch.fft.fft2(image.float()), dim=(-2, -1))
    low = torch.fft.ifftshift(centred[..., start : start + side, start : start + side], dim=(-2, -1))
    small = torch.fft.ifft2(low).real * (side / full) ** 2
    layout = torch.channels_last if image.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return small.to(image.dtype).contiguous(memory_format=layout)


_SHRINK: Mapping[str, Callable[[Tensor, int], Tensor]] = {"resize": resize, "fourier": fourier_crop}


def _even(side: float) -> int:
    return 2 * round(side / 2)


def _accepted_sides(model: nn.Module, problem: Problem, smallest: int) -> list[int]:
    """Even sides below the full one that a forward pass of a copy of the batch survives, ascending; the model is left as it was."""
    batch = problem.dummy_batch
    buffers = [buffer.clone() for buffer in model.buffers()]
    accepted = []
    with torch.random.fork_rng(), torch.no_grad():
        for side in range(max(2, smallest), batch[FIELD].shape[-1], 2):
            try:
                problem.losses(replace(batch, fields={**batch.fields, FIELD: resize(batch[FIELD], side)}))
            except (RuntimeError, ValueError, IndexError, TimetrialError):
                continue
            accepted.append(side)
        for buffer, value in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(value)
    return accepted
