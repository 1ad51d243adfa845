"""A trial: same seed, same curve; resumable at any moment; a failing entry is a status, never a crash or a hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from timetrial.suite import assembly as assembly_module
from timetrial.suite import trial as trial_module
from timetrial.suite.algorithm import StepReport, TrainingAlgorithm, mean_loss
from timetrial.suite.assembly import Assembly
from timetrial.suite.config import resolve
from timetrial.suite.errors import NeedsUnmet, UserError
from timetrial.suite.flops import StepFlops
from timetrial.suite.inputs import open_inputs
from timetrial.suite.record import Status, read_record
from timetrial.suite.seeds import PURPOSES, derive_seeds
from timetrial.suite.trial import run_trial

SHORT = ["workload=digits_mlp", "loader=torch", "workload.budget.examples=4000", "workload.budget.charged_seconds=1000"]


def learned(folder):
    """The part of a curve that does not depend on the machine's speed."""
    return [(p.examples, p.steps, p.flops, p.train_loss, p.loss, p.quality) for p in read_record(folder)[1]]


@pytest.fixture(scope="module")
def inputs(prepared_home):
    return open_inputs(resolve(SHORT).workload, prepared_home)


@pytest.fixture
def run(inputs, tmp_path):
    """Run a short trial with some overrides; gives (record, folder)."""
    return lambda *overrides, **options: run_trial(resolve([*SHORT, *overrides]), tmp_path, inputs=inputs, **options)


class Sgd(TrainingAlgorithm):
    """Plain gradient descent, to be bent by the tests."""

    def setup(self, model, problem):
        return {"model": model, "problem": problem}

    def step(self, state, batch):
        losses = state["problem"].losses(batch)
        loss = mean_loss(losses, batch)
        state["problem"].backward(loss)
        with torch.no_grad():
            for parameter in state["model"].parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        return StepReport(loss.detach(), losses.detach())

    def state_dict(self, state):
        return {}

    def load_state_dict(self, state, payload):
        pass


@pytest.fixture
def with_algorithm(monkeypatch):
    """Let the trial's algorithm be an object of the test's."""

    def use(algorithm):
        monkeypatch.setattr(Assembly, "algorithm", lambda assembly: algorithm)

    return use


def test_a_trial_learns_and_leaves_a_whole_record(run):
    record, folder = run()
    found, curve = read_record(folder)
    assert replace(found, curve_digest=None) == record
    assert curve[0].examples == 0
    assert curve[-1].quality > curve[0].quality + 0.5
    assert record.result.test_quality_at_end > 0.8
    assert record.time.charged_seconds == pytest.approx(sum(record.time.wall_seconds[b] for b in ("curate", "setup", "train")))
    assert record.selected.kept_examples == record.selected.pool_examples == 1137
    assert (folder / "config.yaml").read_text().startswith("workload:")


def test_the_same_seed_gives_the_same_curve_bit_for_bit(run):
    curves = [learned(run(f"seed={seed}")[1]) for seed in (5, 5, 6)]
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


@pytest.mark.ffcv
@pytest.mark.timeout(120)
def test_ffcv_and_torch_loaders_give_the_same_curve(run):
    record, through_ffcv = run("loader=ffcv")
    assert record.loader["kind"] == "FfcvLoader"
    assert learned(through_ffcv) == learned(run("loader=torch")[1])


def test_evaluations_come_at_the_workloads_examples(run):
    _, folder = run("algorithm.batch_size=100")
    assert [p[0] for p in learned(folder)] == [0, 1000, 2000, 3000, 4000]


def test_buckets_add_up_to_the_outer_stopwatch(run):
    record, _ = run()
    assert sum(record.time.wall_seconds.values()) == pytest.approx(record.time.outer_seconds, rel=0.02, abs=0.05)


def test_a_selection_is_charged_and_its_examples_alone_are_trained_on(run):
    record, _ = run("curation=random", "keep_fraction=0.25")
    assert record.selected.kept_examples == 284
    assert record.time.wall_seconds["curate"] > 0
    assert record.entry.name == "adamw + random 0.25"


def test_the_horizon_is_what_the_schedule_stretches_over(run):
    _, folder = run("horizon=0.5")
    assert learned(folder)[-1][0] == 2048  # 2,000 examples, the last batch of 64 whole


def test_an_unmet_need_is_refused_by_name_before_training(inputs, tmp_path):
    plan = resolve(SHORT)
    plan = replace(plan, algorithm=replace(plan.algorithm, needs=("image_input",)))
    with pytest.raises(NeedsUnmet, match=r"'adamw' needs image_input; workload 'digits_mlp' provides labels"):
        run_trial(plan, tmp_path, inputs=inputs)
    assert not (tmp_path / "records").exists()


def test_a_smoke_run_takes_a_few_steps_and_says_so(run):
    record, folder = run(smoke=True)
    assert record.status is Status.SMOKE
    assert learned(folder)[-1][1] == trial_module.SMOKE_STEPS


# ------------------------------------------------------------------------------------------------ entries that misbehave


def test_an_algorithm_that_raises_leaves_a_failed_record_with_its_traceback(run, with_algorithm):
    class Raises(Sgd):
        def step(self, state, batch):
            raise ZeroDivisionError("my own mistake")

    with_algorithm(Raises())
    record, folder = run()
    assert record.status is Status.FAILED
    assert 'File "/' not in record.status_reason
    assert 'File "suite/trial.py"' in record.status_reason
    assert "my own mistake" in record.status_reason and "test_trial.py" in record.status_reason
    assert read_record(folder)[0].status is Status.FAILED


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_trial_as_diverged(run, with_algorithm, bad):
    class Diverges(Sgd):
        def step(self, state, batch):
            report = super().step(state, batch)
            with torch.no_grad():
                next(state["model"].parameters()).fill_(bad)
            return report

    with_algorithm(Diverges())
    record, folder = run()
    assert record.status is Status.DIVERGED
    assert "after step" in record.status_reason
    assert len(read_record(folder)[1]) == 1  # only the untrained model was measured


def test_an_algorithm_that_never_steps_misses(run, with_algorithm):
    class Idle(Sgd):
        def step(self, state, batch):
            return StepReport(torch.zeros(()))

    with_algorithm(Idle())
    record, folder = run()
    assert record.status is Status.MISSED
    assert len({p[5] for p in learned(folder)}) == 1


def test_changing_the_batch_in_place_spoils_no_later_epoch(run, with_algorithm):
    class Vandal(Sgd):
        def step(self, state, batch):
            report = super().step(state, batch)
            batch["pixels"].zero_()
            batch["label"].zero_()
            return report

    with_algorithm(Sgd())
    clean = learned(run()[1])
    with_algorithm(Vandal())
    assert learned(run()[1]) == clean


def test_a_batch_size_changed_by_the_report_holds_from_the_next_batch(run, with_algorithm):
    sizes = []

    class Grows(Sgd):
        def step(self, state, batch):
            sizes.append(len(batch))
            return replace(super().step(state, batch), next_batch_size=2 * len(batch) if len(batch) < 256 else None)

    with_algorithm(Grows())
    record, _ = run()
    real = sizes[2:]  # two steps were counted in the dry run
    assert [size for size in real if size in (64, 128)][:2] == [64, 128]
    assert record.status in (Status.HIT, Status.MISSED)


def test_evaluation_weights_are_measured_and_do_not_disturb_training(run, with_algorithm):
    class Averaged(Sgd):
        def weights_for_evaluation(self, state):
            return {name: torch.zeros_like(p) for name, p in state["model"].named_parameters()}

    with_algorithm(Sgd())
    plain = learned(run()[1])
    with_algorithm(Averaged())
    zeroed = learned(run()[1])
    assert [p[3] for p in zeroed] == [p[3] for p in plain]  # the same training losses
    assert all(p[4] == pytest.approx(2.302585, abs=1e-4) for p in zeroed[1:])  # ln 10: all-zero weights were evaluated


def test_the_dry_run_that_counts_flops_changes_nothing(run, with_algorithm, monkeypatch):
    with_algorithm(Sgd())
    counted = run()
    monkeypatch.setattr(assembly_module, "count_step_flops", lambda *a: StepFlops(0.0, 1.0, 0.0))
    uncounted = run()
    assert [p[3:] for p in learned(counted[1])] == [p[3:] for p in learned(uncounted[1])]


def test_model_flops_are_those_of_the_matrix_products(run):
    record, _ = run()
    forward = 2 * (64 * 128 + 128 * 128 + 128 * 10)
    backward = 2 * forward - 2 * 64 * 128  # the first layer needs no gradient of its input
    assert record.cost.model_flops_per_example == forward + backward
    assert record.cost.parameters == 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10


# ------------------------------------------------------------------------------------------------ interruption and resume


class Stops(Sgd):
    """Momentum descent that sends its own process Ctrl-C at a step, once."""

    def __init__(self, at):
        self.at = at

    def setup(self, model, problem):
        return super().setup(model, problem) | {"seen": torch.zeros(())}

    def step(self, state, batch):
        state["seen"] += 1
        if int(state["seen"]) == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().step(state, batch)

    def state_dict(self, state):
        return {"seen": state["seen"]}

    def load_state_dict(self, state, payload):
        state["seen"].copy_(payload["seen"])


@pytest.mark.parametrize("at", [3, 16, 33])  # the dry run takes two steps
def test_ctrl_c_leaves_a_resumable_record_and_the_resumed_curve_is_the_same(run, with_algorithm, at):
    with_algorithm(Sgd())
    straight = learned(run()[1])
    with_algorithm(Stops(at))
    record, _ = run("seed=0", "study=interrupted")
    assert record.status is Status.INTERRUPTED
    resumed, folder = run("seed=0", "study=interrupted")
    assert resumed.resumed_count == 1
    assert learned(folder) == straight
    assert resumed.time.charged_seconds > record.time.charged_seconds


KILLED = """
import sys
from pathlib import Path
from timetrial.suite.assembly import Assembly
from timetrial.suite.config import resolve
from timetrial.suite.trial import run_trial
run_trial(resolve(sys.argv[2:]), Path(sys.argv[1]), on_point=lambda plan, point: print(point.examples, flush=True))
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("overrides", [(), ("curation=random", "keep_fraction=0.5")])
def test_a_trial_killed_at_any_moment_resumes_to_the_same_curve(prepared_home, inputs, tmp_path, overrides):
    chosen = [*SHORT, "workload.budget.examples=12000", *overrides]
    straight = learned(run_trial(resolve(chosen), tmp_path / "straight", inputs=inputs)[1])
    home = tmp_path / "killed"
    home.mkdir()
    (home / "data").symlink_to(prepared_home / "data")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(home), *chosen], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if int(line) >= 3000:
                time.sleep(int(time.time_ns() // 1000 % 40) / 1000)  # a moment that nobody chose
                child.kill()
                break
    record, folder = run_trial(resolve(chosen), home, inputs=inputs)
    assert record.resumed_count == 1
    assert learned(folder) == straight
    assert not list((home / "running").iterdir())


def test_a_second_process_does_not_run_the_same_trial_at_once(run, inputs, tmp_path):
    def again(plan, point):
        with pytest.raises(UserError, match="running in another process"):
            run_trial(plan, tmp_path, inputs=inputs)

    run("workload.budget.examples=1000", on_point=again)


def test_a_damaged_checkpoint_is_refused_and_fresh_starts_again(run, with_algorithm, tmp_path):
    from timetrial.suite.errors import RecordError

    with_algorithm(Stops(20))
    assert run()[0].status is Status.INTERRUPTED
    checkpoint = next((tmp_path / "running").glob("*/checkpoint.pt"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with_algorithm(Sgd())
    with pytest.raises(RecordError, match="run with --fresh to start again"):
        run()
    assert run(fresh=True)[0].resumed_count == 0


# ------------------------------------------------------------------------------------------------ seeds


def test_seeds_are_distinct_by_purpose_and_by_seed():
    drawn = [value for seed in range(50) for value in derive_seeds(seed).values()]
    assert len(set(drawn)) == 50 * len(PURPOSES)
    assert all(0 <= value < 2**63 for value in drawn)
    assert derive_seeds(3) == derive_seeds(3)
