"""Several processes of one trial: the same curve as one process, less on the wire, resumable, and no process left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timetrial.suite.algorithm import Batch
from timetrial.suite.algorithms import one_bit_adam
from timetrial.suite.algorithms.one_bit_adam import OneBitAdam, compress, pack, unpack
from timetrial.suite.config import resolve
from timetrial.suite.distributed import Processes
from timetrial.suite.errors import ConfigError, NeedsUnmet, TimetrialError
from timetrial.suite.inputs import open_inputs
from timetrial.suite.record import Status, read_record
from timetrial.suite.trial import run_trial

from .algorithm_problems import problem

pytestmark = pytest.mark.timeout(180)

STEPS, BATCH = 40, 64
BUDGET = [f"workload.budget.examples={STEPS * BATCH}", "workload.budget.charged_seconds=1000"]
SHORT = ["workload=digits_mlp", "loader=torch", "threads=1", *BUDGET]


@pytest.fixture(scope="module")
def inputs(prepared_home):
    return open_inputs(resolve(SHORT).workload, prepared_home)


@pytest.fixture
def run(prepared_home, inputs, tmp_path):
    """Run a plan in a home of its own that has the prepared data; the record and its curve."""
    (tmp_path / "data").symlink_to(prepared_home / "data")

    def run(*overrides, **options):
        _, folder = run_trial(resolve([*SHORT, *overrides]), tmp_path, inputs=inputs, **options)
        return read_record(folder)

    return run


def learned(curve):
    """What training did, without what it cost."""
    return [(p.examples, p.steps, p.train_loss, p.loss, p.quality) for p in curve]


def parameters(record):
    return record.cost.parameters


# ---------------------------------------------------------------- data parallelism


def test_two_processes_learn_what_one_learns_from_the_same_batches(run):
    """Up to rounding. Every gradient goes over the wire once a step and process."""
    one, alone = run("algorithm=adamw")
    two, shared = run("algorithm=adamw", "processes=2")
    assert [p.examples for p in alone] == [p.examples for p in shared]
    for a, b in zip(alone, shared, strict=True):
        assert (b.train_loss or 0.0, b.loss, b.flops) == pytest.approx((a.train_loss or 0.0, a.loss, a.flops), rel=1e-3)
    assert one.cost.sent_bytes is None
    assert two.cost.sent_bytes == STEPS * 4 * parameters(two)
    assert two.loader["processes"] == 2
    assert two.trial_digest != one.trial_digest


def test_shares_are_disjoint_and_make_up_the_batch():
    batch = Batch(torch.arange(12), {"x": torch.rand(12, 3)}, torch.rand(12))
    shares = [Processes(rank, 3).share(batch) for rank in range(3)]
    assert sorted(torch.cat([share.ids for share in shares]).tolist()) == list(range(12))
    for share in shares:
        assert torch.equal(share["x"], batch["x"][share.ids]) and torch.equal(share.weights, batch.weights[share.ids])
    with pytest.raises(ConfigError, match="a batch of 12 examples cannot be shared equally by 5 processes"):
        Processes(0, 5).share(batch)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["processes=3"], "processes: expected a divisor of the batch size 64, given 3"),
        (["processes=0"], "processes: expected at least 1, given 0"),
        (["processes=2", "curation=hardest_batches"], "runs on one process"),
    ],
)
def test_what_several_processes_cannot_run_is_refused_by_name(overrides, message):
    with pytest.raises(ConfigError, match=message):
        resolve([*SHORT, *overrides])


@pytest.mark.parametrize("name", ["powersgd", "one_bit_adam"])
def test_communication_hooks_are_refused_on_one_process(run, name):
    with pytest.raises(NeedsUnmet, match=f"algorithm '{name}' needs two_processes"):
        run(f"algorithm={name}")


RANK, WARMUP = 2, 0.25
COMPRESSED = {"powersgd": f"rank={RANK}", "one_bit_adam": f"algorithm.options.warmup={WARMUP}"}


def compressed(name):
    """A trial of two processes that compresses what it sends, evaluated often."""
    return (f"algorithm={name}", "processes=2", "workload.evaluation.every_examples=640", COMPRESSED[name])


@pytest.fixture(scope="module")
def straight(prepared_home, inputs, tmp_path_factory):
    """Record and curve of such a trial from beginning to end, once for all, by name."""

    @cache
    def run(name):
        home = tmp_path_factory.mktemp("straight")
        (home / "data").symlink_to(prepared_home / "data")
        return read_record(run_trial(resolve([*SHORT, *compressed(name)]), home, inputs=inputs)[1])

    return run


@pytest.mark.parametrize("name", ["powersgd", "one_bit_adam"])
def test_an_interrupted_trial_of_two_processes_resumes_to_the_same_curve(run, straight, name):
    """Every process' compression error is in the checkpoint, bit for bit."""

    def interrupt(plan, point):
        if point.steps == 20:
            os.kill(os.getpid(), signal.SIGINT)

    uninterrupted, curve = straight(name)
    stopped, _ = run(*compressed(name), on_point=interrupt)
    assert stopped.status is Status.INTERRUPTED
    resumed, again = run(*compressed(name))
    assert resumed.resumed_count == 1
    assert learned(again) == learned(curve)
    assert resumed.cost.sent_bytes == uninterrupted.cost.sent_bytes
    assert children() == []


def test_a_process_that_is_killed_fails_the_trial_and_leaves_nothing_behind(run):
    def kill(plan, point):
        if point.steps:
            (other,) = children()
            os.kill(other, signal.SIGKILL)

    record, _ = run("processes=2", "workload.evaluation.every_examples=640", on_point=kill)
    assert record.status is Status.FAILED
    assert children() == []


def test_a_process_that_cannot_start_is_an_error_at_once(run, monkeypatch):
    monkeypatch.setattr("timetrial.suite.distributed.sys.executable", "/bin/false")
    with pytest.raises(TimetrialError, match="could not start \\(exit status 1\\)"):
        run("processes=2")


def children():
    """Ids of the further processes of a trial that this process started and that still run."""
    command = ["ps", "--ppid", str(os.getpid()), "-o", "pid=,stat=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [int(pid) for pid, state, command in rows if "distributed_child" in command and not state.startswith("Z")]


# ---------------------------------------------------------------- PowerSGD


def test_powersgd_sends_factors_and_learns_all_the_same(straight):
    """From the third step on r (n + m) numbers for a matrix [n, m] that becomes less than half as large by it, and others whole."""
    record, curve = straight("powersgd")
    shapes = [(width, before) for before, width in ((64, 128), (128, 128), (128, 10))]
    small = sum(RANK * (n + m) if 2 * RANK * (n + m) < n * m else n * m for n, m in shapes) + sum(n for n, _ in shapes)
    whole = sum(n * m + n for n, m in shapes)
    assert whole == parameters(record), "the model of digits_mlp has changed"
    assert record.cost.sent_bytes == 4 * (2 * whole + (STEPS - 2) * small)
    assert curve[-1].quality > 0.8


def test_a_rank_that_saves_nothing_is_plain_averaging(run):
    full, compressed = run("algorithm=nesterov", "processes=2"), run("algorithm=powersgd", "processes=2", "rank=1000")
    assert [p.loss for p in compressed[1]] == pytest.approx([p.loss for p in full[1]], rel=1e-5)
    assert compressed[0].cost.sent_bytes == full[0].cost.sent_bytes


# ---------------------------------------------------------------- 1-bit Adam


def test_one_bit_adam_sends_a_bit_a_weight_after_its_warm_up(straight):
    record, curve = straight("one_bit_adam")
    warm, tensors = round(WARMUP * STEPS), 6
    assert record.cost.sent_bytes == warm * 4 * parameters(record) + (STEPS - warm) * (-(-parameters(record) // 8) + 4 * tensors)
    assert curve[-1].quality > 0.8


tensors = st.lists(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20), min_size=1, max_size=4)


@given(tensors)
def test_what_is_packed_comes_out_again(values):
    compressed = [compress(torch.tensor(value)) for value in values]
    packed = pack(compressed)
    assert len(packed) == -(-sum(map(len, values)) // 8) + 4 * len(values)
    for before, after in zip(compressed, unpack(packed, compressed), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-6, atol=0)


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=50))
def test_compression_keeps_signs_and_the_norm(values):
    tensor = torch.tensor(values)
    torch.testing.assert_close(compress(tensor).norm(), tensor.norm(), rtol=1e-4, atol=1e-6)
    assert (compress(tensor) * tensor >= 0).all()


def reference(w, h, workers):
    """1-bit Adam, algorithm 1, for one tensor in double precision; it is sent one gradient a worker and yields the weights."""
    (b1, b2), m, v, t = h["betas"], np.zeros_like(w), np.zeros_like(w), 0
    errors, server = [np.zeros_like(w) for _ in range(workers)], np.zeros_like(w)

    def bit(x):
        return np.where(x < 0, -1.0, 1.0) * np.linalg.norm(x) / np.sqrt(x.size)

    while True:
        gradients = yield w
        t += 1
        if t <= h["warmup_steps"]:
            g = np.mean(gradients, axis=0)
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            frozen = v / (1 - b2**t)
            moving = np.ones_like(w)
        else:
            sent = []
            for i, g in enumerate(gradients):
                wanted = b1 * m + (1 - b1) * g + errors[i]
                errors[i] = wanted - bit(wanted)
                sent.append(bit(wanted))
            wanted = np.mean(sent, axis=0) + server
            m, server = bit(wanted), wanted - bit(wanted)
            moving = v > h["floor"] * v.mean()
        w = w - h["lr"] * (moving * m / (1 - b1**t) / (np.sqrt(frozen) + 1e-8) + h["weight_decay"] * w)


@pytest.mark.parametrize("workers", [1, 3])
def test_one_bit_adam_follows_its_paper_step_by_step(monkeypatch, workers):
    """Workers as threads in lockstep, whose gather is a table; each has gradients of its own."""
    steps, settings = 30, {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.01, "floor": 0.5}
    generator = np.random.default_rng(0)
    start, dictated = generator.normal(size=(6, 4)), generator.normal(size=(steps, workers, 6, 4))
    dictated[:, :, 0] *= 1e-3  # a row whose variance is below the floor
    meeting, table, here = threading.Barrier(workers, timeout=30), {}, threading.local()

    def gathered(tensor):
        table[here.rank] = tensor
        meeting.wait()
        found = [table[rank] for rank in range(workers)]
        meeting.wait()
        return found

    def averaged(bucket):
        bucket.gradients()[0].copy_(torch.stack([g.clone() for g in gathered(bucket.gradients()[0].clone())]).mean(dim=0))
        return done(bucket.buffer()), 0

    def done(value):
        future = torch.futures.Future()
        future.set_result(value)
        return future

    monkeypatch.setattr(one_bit_adam, "gathered", gathered)
    monkeypatch.setattr(one_bit_adam, "averaged", averaged)
    paths = [[] for _ in range(workers)]

    def work(rank):
        here.rank = rank
        model = torch.nn.Module()
        model.matrix = torch.nn.Parameter(torch.from_numpy(start).float().clone())
        hooks = []

        def backward(loss):
            gradient = torch.from_numpy(dictated[clock["step"], rank]).float().clone()
            bucket = SimpleNamespace(parameters=lambda: [model.matrix], gradients=lambda: [gradient], buffer=lambda: gradient)
            hooks[-1](bucket)
            model.matrix.grad = gradient

        given, clock = problem(model, lambda *_: torch.zeros(6, 4), settings, steps, backward=backward, communicate=hooks.append)
        algorithm = OneBitAdam(warmup=0.4)
        state = algorithm.setup(model, given)
        for clock["step"] in range(steps):
            algorithm.step(state, given.dummy_batch)
            paths[rank].append(model.matrix.detach().double().numpy().copy())

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    rule = reference(start, settings | {"warmup_steps": 12}, workers)
    next(rule)
    for step in range(steps):
        expected = rule.send(dictated[step])
        for path in paths:
            np.testing.assert_allclose(path[step], expected, rtol=1e-3, atol=1e-4, err_msg=f"at step {step}")


KILLED = """
import os, signal, sys
from pathlib import Path
from timetrial.suite.config import resolve
from timetrial.suite.trial import run_trial

def is_other(process):
    try:
        parent = process.joinpath("stat").read_text().rpartition(")")[2].split()[1]
        return parent == str(os.getpid()) and b"distributed_child" in process.joinpath("cmdline").read_bytes()
    except OSError:
        return False

def kill(plan, point):
    print(*(process.name for process in Path("/proc").glob("[0-9]*") if is_other(process)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

run_trial(resolve(sys.argv[2:]), Path(sys.argv[1]), on_point=kill)
"""


def test_the_other_process_ends_with_the_first_however_that_ends(prepared_home, tmp_path):
    """The first one is killed outright in the middle of a trial; the other notices that its pipe has ended."""
    open_inputs(resolve(SHORT).workload, prepared_home)
    (tmp_path / "data").symlink_to(prepared_home / "data")
    command = [sys.executable, "-c", KILLED, str(tmp_path), *SHORT, "processes=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    other = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{other}").exists() or "Z" in Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[0]:
            return
        threading.Event().wait(0.1)
    os.kill(other, signal.SIGKILL)
    pytest.fail("the other process went on without the first")
