"""The live display of running trials: redrawn only at evaluations, in the clock's ``log`` bucket, never by a thread beside training."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, final

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..config import Plan
from ..curve import CurvePoint
from ..record import Record, Status
from ..workload import Direction, Lens
from .output import console

__all__ = ["TrialDisplay", "summary"]

BARS = "▁▂▃▄▅▆▇█"
MARKS = {
    Status.HIT: ("●", "green"),
    Status.MISSED: ("○", "yellow"),
    Status.DIVERGED: ("✕", "red"),
    Status.FAILED: ("!", "red"),
    Status.INTERRUPTED: ("‖", "yellow"),
    Status.SMOKE: ("~", "dim"),
}


@final
class TrialDisplay:
    """Shows one row an entry: a mark a seed, the running curve, quality and charged seconds. Plain lines when not a terminal."""

    def __init__(self, plans: Sequence[Plan], *, quiet: bool = False) -> None:
        self._plans, self._quiet = list(plans), quiet
        self._console = console(stderr=True)
        self._rows: dict[tuple[str, str], list[Record]] = {(p.workload.name, p.entry_name): [] for p in plans}
        self._curves: dict[tuple[str, str], list[CurvePoint]] = {}  # of each entry's running or latest trial
        self._running: tuple[str, str] | None = None
        self._ended: set[tuple[str, int]] = set()  # a disturbed trial and its repeats are one
        self._since = time.perf_counter()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            self._live = Live(self._render(), console=self._console, auto_refresh=False)
            self._live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.update(self._render(), refresh=True)
            self._live.stop()
            self._console.print()

    def on_point(self, plan: Plan, point: CurvePoint) -> None:
        """A trial was evaluated."""
        key = (plan.workload.name, plan.entry_name)
        if self._running != key:
            self._running, self._curves[key] = key, []
        self._curves[key].append(point)
        if self._live is not None:
            self._live.update(self._render(), refresh=True)

    def on_record(self, plan: Plan, record: Record) -> None:
        """A trial ended."""
        key = (plan.workload.name, plan.entry_name)
        self._running = None
        self._rows[key].append(record)
        self._ended.add((plan.digest, plan.seed))
        if self._live is not None:
            self._live.update(self._render(), refresh=True)
        elif not self._quiet and len(self._plans) > 1:
            print(f"[{len(self._ended)}/{len(self._plans)}] {summary(record)}", file=sys.stderr, flush=True)

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for header in ("workload", "entry", "seeds", "curve"):
            table.add_column(header)
        for header in ("quality", "time"):
            table.add_column(header, justify="right")
        for (workload, entry), records in self._rows.items():
            points, running = self._curves.get((workload, entry), []), self._running == (workload, entry)
            marks = Text()
            for record in records:
                mark, style = MARKS[record.status]
                marks.append(mark + " ", style=style)
            if running:
                marks.append("▶", style="cyan")
            table.add_row(
                workload,
                Text(entry, style="bold" if running else ""),
                marks,
                Text(_sparkline(points, self._plan_of(workload, entry)), style="cyan" if running else "dim cyan"),
                f"{points[-1].quality:.4f}" if points else "",
                _time_cell(points if running else [], records),
            )
        return Group(table, Text(self._footer(), style="dim"))

    def _plan_of(self, workload: str, entry: str) -> Plan:
        return next(p for p in self._plans if (p.workload.name, p.entry_name) == (workload, entry))

    def _footer(self) -> str:
        if len(self._plans) == 1:
            w = self._plans[0].workload
            sign = "≥" if w.metric.direction is Direction.MAXIMIZE else "≤"
            return f"target: {w.metric.name} {sign} {w.ladder.main:g}; Ctrl-C stops between two steps and can be resumed"
        passed = time.perf_counter() - self._since
        done = len(self._ended)
        to_do = len(self._plans) - done
        left = f", about {_duration(passed / done * to_do)} left" if done and to_do else ""
        return f"{done} of {len(self._plans)} trials, {_duration(passed)} so far{left}    ● hit  ○ missed  ✕ diverged  ! failed"


def summary(record: Record) -> str:
    """One line about a finished trial."""
    if record.disturbed:
        return f"{_outcome(record)}; disturbed: the hypervisor kept {record.machine['stolen_fraction']:.0%} of the CPUs meanwhile"
    return _outcome(record)


def _outcome(record: Record) -> str:
    w, crossing = record.workload, record.crossing()
    head = f"{w.name} · {record.entry.name} · seed {record.seed}: {record.status}"
    unit = "" if w.metric.unit == "fraction" else f" {w.metric.unit}"
    if record.status is Status.HIT and crossing is not None:
        return f"{head} {w.metric.name} {w.ladder.main:g}{unit} after {crossing.cost[Lens.CHARGED_SECONDS]:.2f} charged seconds"
    if record.stopped is not None:
        return f"{head}, {record.status_reason}"
    if record.result.final_quality is not None:
        reached = f"{w.metric.name} {record.result.final_quality:.4f}{unit} (target {w.ladder.main:g})"
        return f"{head}, {reached} after {record.time.charged_seconds:.2f} charged seconds"
    return head


def _time_cell(points: Sequence[CurvePoint], records: Sequence[Record]) -> str:
    if points:
        return f"{points[-1].charged_seconds:.2f} s"
    hits = [c.cost[Lens.CHARGED_SECONDS] for r in records if r.status is Status.HIT and (c := r.crossing()) is not None]
    return f"{statistics.median(hits):.2f} s" if hits else ""


def _sparkline(points: Sequence[CurvePoint], plan: Plan) -> str:
    if not points:
        return ""
    worst, best = points[0].quality, plan.workload.ladder.levels[-1]
    span = (best - worst) or math.inf
    shown = points if len(points) <= 32 else [points[round(i * (len(points) - 1) / 31)] for i in range(32)]
    return "".join(BARS[min(7, max(0, int(7 * (p.quality - worst) / span)))] for p in shown)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
