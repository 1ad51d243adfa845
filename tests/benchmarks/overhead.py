"""Harness overhead: the trial's own loop against a bare PyTorch loop with the same model, batches and update.

Run ``python tests/benchmarks/overhead.py [--quick]``. Prints a Markdown section: median ratio and extra microseconds a step, with
the spread over interleaved repeats. Both loops are set up outside the interval and use the same number of threads.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from pydoc import locate

import torch

from timetrial.data_pipelines.threads import prepare_environment
from timetrial.suite.files import home_folder


def assemble(overrides, home):
    """A trial that is built and ready to step, with a budget it cannot exhaust."""
    from timetrial.suite.checkpoint import RunningTrial
    from timetrial.suite.clock import Clock
    from timetrial.suite.config import resolve
    from timetrial.suite.inputs import open_inputs
    from timetrial.suite.trial import Trial

    plan = resolve([*overrides, "workload.budget.examples=1000000000", "workload.budget.charged_seconds=1000000"])
    running = RunningTrial(home, plan.digest)
    trial = Trial(plan, home, running, open_inputs(plan.workload, home_folder()), Clock(), None, False, time.perf_counter())
    trial.begin()
    return trial


def bare_step(model, optimizer, losses, autocast, batch):
    with autocast():
        outputs = model(batch)
    loss = losses(outputs, batch).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def bare_loop(trial, batches):
    """What a careful person writes by hand: the model, torch's own optimizer over the same two groups, no harness."""
    import contextlib
    import copy

    model, task, options = copy.deepcopy(trial.model), trial.inputs.task, trial.plan.workload.loss
    groups = [{"params": [p for p in model.parameters() if p.requires_grad and p.ndim > 1]}]
    groups.append({"params": [p for p in model.parameters() if p.requires_grad and p.ndim < 2], "weight_decay": 0.0})
    hyperparameters = {k: tuple(v) if isinstance(v, list) else v for k, v in trial.plan.algorithm.hyperparameters.items()}
    optimizer = locate(trial.plan.algorithm.options["optimizer"])([g for g in groups if g["params"]], **hyperparameters)
    full = trial.plan.workload.precision == "32-true"
    autocast = contextlib.nullcontext if full else lambda: torch.autocast("cpu", torch.bfloat16)

    def run(steps):
        start = time.perf_counter()
        for _ in range(steps):
            bare_step(lambda batch: task.forward(model, batch), optimizer, lambda o, b: task.losses(o, b, options), autocast, batches())
        return time.perf_counter() - start

    return run


def harness_loop(trial):
    def run(steps):
        start = time.perf_counter()
        trial._steps_until(trial.progress.examples + steps * trial.progress.batch_size)
        return time.perf_counter() - start

    return run


def measure(overrides, steps, repeats):
    with tempfile.TemporaryDirectory() as folder:
        trial = assemble(overrides, Path(folder))
        other = assemble([*overrides, "seed=1"], Path(folder))
        size = trial.progress.batch_size
        in_memory = [other.batcher.next(size) for _ in range(8)]
        position = iter(range(10**9))
        loops = {
            "harness": harness_loop(trial),
            "bare, same loader": bare_loop(other, lambda: other.batcher.next(size)),
            "bare, batches in memory": bare_loop(other, lambda: in_memory[next(position) % 8]),
        }
        for loop in loops.values():
            loop(max(steps // 10, 3))
        times = {name: [] for name in loops}
        for repeat in range(repeats):
            order = list(loops) if repeat % 2 == 0 else list(reversed(loops))
            for name in order:
                times[name].append(loops[name](steps) / steps)
        for part in (trial, other):
            part._close()
            part.running.close(remove=True)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    arguments = parser.parse_args()
    prepare_environment(home_folder())
    print("## Harness overhead a step\n")
    columns = ["workload", "harness µs", "bare, same loader µs", "ratio (spread)", "bare, batches in memory µs", "extra over it (spread)"]
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|")
    cases = [("digits_mlp", "adamw", 2000, 9), ("cifar10_cnn", "adamw", 20, 9), ("cifar10_cnn", "nesterov", 20, 9)]
    for workload, algorithm, steps, repeats in cases:
        if arguments.quick:
            steps, repeats = max(steps // 10, 5), 3
        times = measure([f"workload={workload}", f"algorithm={algorithm}"], steps, repeats)
        a, b, c = (times[name] for name in ("harness", "bare, same loader", "bare, batches in memory"))
        ratios = sorted(x / y for x, y in zip(a, b, strict=True))
        extra = sorted((x - y) * 1e6 for x, y in zip(a, c, strict=True))
        median = statistics.median
        name = f"{workload}, {algorithm}"
        print(
            f"| {name} | {median(a) * 1e6:.0f} | {median(b) * 1e6:.0f} | {median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) "
            f"| {median(c) * 1e6:.0f} | {median(extra):.0f} ({extra[0]:.0f} to {extra[-1]:.0f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
