"""What a trial keeps between two evaluations, so that it goes on as if nothing had stopped it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from .checkpoint import tensor_bytes
from .clock import Bucket
from .curve import CurvePoint
from .schema import plain

if TYPE_CHECKING:
    from .trial import Trial

__all__ = ["checkpoint_trial", "restore_trial"]


def checkpoint_trial(trial: Trial) -> None:
    """Keep all that changes while a trial runs; the algorithm's own state is made on the clock, the rest off it."""
    if trial.smoke:
        return
    with trial.clock.bucket(Bucket.TRAIN):
        algorithm = trial.algorithm.state_dict(trial.state)
    with trial.clock.bucket(Bucket.LOG):
        progress = trial.progress
        progress.sent_bytes = trial.processes.sent_bytes
        progress.optimizer_state_bytes = tensor_bytes(algorithm)
        payload: dict[str, Any] = {
            "model": trial.model.state_dict(),
            "algorithm": algorithm,
            "batcher": trial.batcher.state_dict(),
            "curated": trial.curated.state_dict(),
            "random": trial.processes.random_state(),
            "generator": trial.problem.generator.get_state(),
            "progress": {k: v for k, v in vars(progress).items() if k != "curve"},
            "curve": [plain(point) for point in progress.curve],
            "resumed_count": trial.resumed_count,
            "outer_seconds": time.perf_counter() - trial.started + trial.earlier_seconds,
            "clock": trial.clock.state_dict(),
        }
        if trial.assembly.device.type == "cuda":
            payload["cuda_random"] = torch.cuda.get_rng_state(trial.assembly.device)
        if trial.processes.first:
            trial.running.save(payload)


def restore_trial(trial: Trial, payload: dict[str, Any]) -> None:
    """Put a trial that is built and set up back to where :func:`checkpoint_trial` left it."""
    trial.model.load_state_dict(payload["model"])
    trial.algorithm.load_state_dict(trial.state, payload["algorithm"])
    trial.batcher.load_state_dict(payload["batcher"])
    trial.curated.load_state_dict(payload["curated"])
    trial.processes.set_random_state(payload["random"])
    trial.problem.generator.set_state(payload["generator"])
    if trial.assembly.device.type == "cuda":
        torch.cuda.set_rng_state(payload["cuda_random"], trial.assembly.device)
    for name, value in payload["progress"].items():
        setattr(trial.progress, name, value)
    trial.progress.curve = [CurvePoint(**point) for point in payload["curve"]]
    trial.processes.sent_bytes = trial.progress.sent_bytes
    trial.resumed_count = payload["resumed_count"] + 1
    trial.earlier_seconds = payload["outer_seconds"]
    trial.clock.load_state_dict(payload["clock"])
