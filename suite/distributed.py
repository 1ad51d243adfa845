"""The processes of one trial: each has its share of every batch and the same weights, and the first one decides, measures and records.

Data parallelism by torch's ``DistributedDataParallel`` over gloo on the CPUs of one machine: every process reads the whole batch in the
same order and trains on every n-th example of it; gradients are averaged over the processes while the backward pass still runs. Equal to
one process with the same batch up to rounding, except that batch norm sees the statistics of a share and random layers draw for each
share anew. The clock, CPU seconds included, is the first process'.
Of one process all of this is nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .algorithm import Batch, CommunicationHook, Problem, mean_loss
from .config import Plan
from .errors import ConfigError, TimetrialError
from .schema import plain

if TYPE_CHECKING:
    from torch.distributed import GradBucket  # type: ignore[attr-defined]

__all__ = ["Processes", "averaged", "gathered", "launch", "own_part"]

PATIENCE = timedelta(minutes=30)  # how long a process waits for another one, which may be selecting data or measuring
LEAVE_SECONDS = 20.0
T = TypeVar("T")


@final
class Processes:
    """This process among the ``count`` of a trial; ``rank`` 0 is the first."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self.sent_bytes = 0
        self._others: list[subprocess.Popen[bytes]] = []
        self._place: Path | None = None

    @classmethod
    def join(cls, place: Path, rank: int, count: int) -> Processes:
        """Meet the other processes at a file in ``place``; over the loopback interface where there is one of that name."""
        before = os.environ.get("GLOO_SOCKET_IFNAME")
        if before is None and Path("/sys/class/net/lo").exists():
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        try:
            store = dist.FileStore(str(place / "meeting"), count)  # type: ignore[attr-defined]
            dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=PATIENCE)
        finally:
            if before is None:
                os.environ.pop("GLOO_SOCKET_IFNAME", None)
        return cls(rank, count)

    @property
    def first(self) -> bool:
        """Whether this is the process that decides, measures and records."""
        return self.rank == 0

    # ---------------------------------------------------------------- agreement

    def agreed(self, *flags: bool) -> tuple[bool, ...]:
        """The first process' flags, in all of them."""
        if self.count == 1:
            return flags
        told = torch.tensor(flags, dtype=torch.uint8)
        dist.broadcast(told, 0)
        return tuple(map(bool, told.tolist()))

    def told(self, compute: Callable[[], T]) -> T:
        """What ``compute`` returns in the first process, in all of them; the others wait for it."""
        if self.count == 1:
            return compute()
        box = [compute() if self.first else None]
        dist.broadcast_object_list(box, 0)
        return box[0]  # type: ignore[return-value]

    def in_turn(self, act: Callable[[], None]) -> None:
        """Act in the first process, and in the others when that is done, so that they find the files that it wrote."""
        if self.first:
            act()
        if self.count > 1:
            dist.barrier()
        if not self.first:
            act()

    def mean(self, value: float | None) -> float | None:
        """The mean of a number over all processes."""
        if self.count == 1 or value is None:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total) / self.count

    # ---------------------------------------------------------------- data parallelism

    def share(self, batch: Batch) -> Batch:
        """Every ``count``-th example of a batch, from this process' rank on. ``ConfigError`` when the shares would be unequal."""
        if self.count == 1:
            return batch
        if len(batch) % self.count:
            raise ConfigError(f"a batch of {len(batch)} examples cannot be shared equally by {self.count} processes")
        rows = slice(self.rank, None, self.count)
        weights = None if batch.weights is None else batch.weights[rows]
        return Batch(batch.ids[rows], {name: value[rows] for name, value in batch.fields.items()}, weights)

    def parallel(self, model: nn.Module, problem: Problem) -> Problem:
        """The problem with gradients that are averaged over the processes, by a hook that an algorithm may replace.

        torch orders its buckets by the first backward pass; that one is over the dummy batch, so that hooks only ever know one order.
        """
        if self.count == 1:
            return problem
        wrapped = nn.parallel.DistributedDataParallel(_Losses(model, problem.losses), forward_sync_buffers=False)
        dummy = self.share(problem.dummy_batch)
        buffers = [buffer.clone() for buffer in model.buffers()]
        with torch.random.fork_rng():
            mean_loss(wrapped(dummy), dummy).backward()
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        hooks: list[CommunicationHook] = [averaged]
        wrapped.register_comm_hook(None, lambda _, bucket: self._counted(hooks[-1], bucket))
        torch.manual_seed(torch.initial_seed() + self.rank)  # random layers draw for every share anew
        return replace(problem, losses=wrapped, dummy_batch=dummy, communicate=hooks.append)

    def _counted(self, hook: CommunicationHook, bucket: GradBucket) -> torch.futures.Future[Tensor]:
        future, sent = hook(bucket)
        self.sent_bytes += sent
        return future

    # ---------------------------------------------------------------- random state and end

    def random_state(self) -> Any:
        """torch's random state, of every process where there are several."""
        state = torch.get_rng_state()
        return state if self.count == 1 else gathered(state)

    def set_random_state(self, state: Any) -> None:
        """Put back what :meth:`random_state` gave."""
        torch.set_rng_state(state if self.count == 1 else state[self.rank])

    def close(self) -> None:
        """Leave, and see the others off; who does not go by itself is ended."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()
        for process in self._others:
            try:
                process.wait(LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdin is not None
            process.stdin.close()
        self._others.clear()
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)


@final
class _Losses(nn.Module):
    """The per-example losses as a module, since torch watches the forward pass of modules only."""

    def __init__(self, model: nn.Module, losses: Callable[[Batch], Tensor]) -> None:
        super().__init__()
        self.model, self._losses = model, losses

    def forward(self, batch: Batch) -> Tensor:
        return self._losses(batch)


def launch(plan: Plan, home: Path, *, smoke: bool = False) -> Processes:
    """Start the other processes of a plan and meet them; of one process, do nothing.

    They run the same trial (:mod:`.distributed_child`) and end with this one. What they say on stderr comes out on ours.
    """
    if plan.processes == 1:
        return Processes()
    place = Path(tempfile.mkdtemp(prefix="timetrial-"))
    others = []
    for rank in range(1, plan.processes):
        order = {"plan": plain(plan), "home": str(home), "rank": rank, "count": plan.processes, "smoke": smoke}
        (place / f"order{rank}.json").write_text(json.dumps(order), encoding="utf-8")
        command = [sys.executable, "-P", "-m", f"{__package__}.distributed_child", str(place / f"order{rank}.json")]
        others.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True))
    try:
        _await_start(place, others)
        found = Processes.join(place, 0, plan.processes)
    except BaseException:
        for process in others:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
        shutil.rmtree(place, ignore_errors=True)
        raise
    found._others, found._place = others, place
    return found


def _await_start(place: Path, others: list[subprocess.Popen[bytes]]) -> None:
    """Until all processes are about to join; who waits in ``join`` itself never learns that another one could not start."""
    while sum(1 for _ in place.glob("ready*")) < len(others):
        ended = [process.returncode for process in others if process.poll() is not None]
        if ended:
            raise TimetrialError(f"a further process of the trial could not start (exit status {ended[0]}); stderr says why")
        time.sleep(0.01)


def gathered(tensor: Tensor) -> list[Tensor]:
    """A tensor of equal shape from every process, in the order of their ranks; only one's own where there are no others."""
    if not dist.is_initialized():
        return [tensor]
    found = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(found, tensor.contiguous())
    return found


def own_part(parts: list[Tensor]) -> Tensor:
    """What this process gave to :func:`gathered`."""
    return parts[dist.get_rank() if dist.is_initialized() else 0]


def averaged(bucket: GradBucket) -> tuple[torch.futures.Future[Tensor], int]:
    """The hook that is there unless an algorithm replaces it: gradients are averaged as they are."""
    buffer = bucket.buffer()
    work = dist.all_reduce(buffer.div_(dist.get_world_size()), async_op=True)
    return work.get_future().then(lambda done: done.value()[0]), buffer.nbytes
