"""A budget in any lens: entries that are compared at equal compute spend the same amount of it; time and energy only cut off."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from timetrial.suite.allowance import Allowance
from timetrial.suite.assembly import Assembly
from timetrial.suite.clock import Reading
from timetrial.suite.config import resolve, resolve_definition, under
from timetrial.suite.errors import ConfigError
from timetrial.suite.inputs import open_inputs
from timetrial.suite.record import Status, read_record
from timetrial.suite.trial import run_trial
from timetrial.suite.workload import Budget, Lens

SHORT = ["workload=digits_mlp", "loader=torch", "workload.budget.examples=4000", "workload.budget.charged_seconds=1000"]
COUNTED = ("steps", "flops", "gradient_depth")


@pytest.fixture(scope="module")
def inputs(prepared_home):
    return open_inputs(resolve(SHORT).workload, prepared_home)


@pytest.fixture
def curve(inputs, tmp_path):
    """The curve of a short trial with some overrides, and its status."""

    def run(*overrides):
        record, folder = run_trial(resolve([*SHORT, *overrides]), tmp_path, inputs=inputs)
        return read_record(folder)[1], record.status

    return run


def limited(lens, amount):
    return [f"workload.budget.lens={lens}", f"workload.budget.limits={{{lens}: {amount}}}"]


@pytest.mark.parametrize("lens", COUNTED)
def test_the_budget_ends_where_its_lens_is_spent_and_examples_end_nothing(curve, lens):
    whole, _ = curve()
    amount = 2.5 * getattr(whole[-1], lens)
    found, status = curve(*limited(lens, amount))
    step = getattr(whole[-1], lens) / whole[-1].steps
    assert amount <= getattr(found[-1], lens) < amount + step
    assert found[-1].examples > 2 * whole[-1].examples and status in (Status.HIT, Status.MISSED)


def test_at_equal_flops_a_dearer_update_sees_fewer_examples(curve):
    def spent(algorithm):
        found, _ = curve(f"algorithm={algorithm}", "algorithm.batch_size=64", *limited("flops", 3e8))
        return found[-1]

    adamw, muon = spent("adamw"), spent("muon")
    assert muon.examples < adamw.examples
    for point in (adamw, muon):
        assert 3e8 <= point.flops < 3e8 + point.flops / point.steps


@pytest.mark.parametrize("lens", ["examples", *COUNTED])
def test_the_fraction_that_an_algorithm_sees_is_of_the_lens_and_rises_from_0_to_1(curve, monkeypatch, lens):
    whole, _ = curve()
    fractions, problem = [], Assembly.problem

    def watched(assembly, model, *, progress, **parts):
        if progress() == 0.5:  # the dry run that counts FLOPs
            return problem(assembly, model, progress=progress, **parts)
        return problem(assembly, model, progress=lambda: fractions.append(progress()) or fractions[-1], **parts)

    monkeypatch.setattr(Assembly, "problem", watched)
    curve(*([] if lens == "examples" else limited(lens, 1.5 * getattr(whole[-1], lens))))
    assert fractions[0] == 0.0 and fractions == sorted(fractions)
    assert 0.9 < fractions[-1] < 1.0


def test_a_horizon_stretches_the_lens_that_the_algorithm_sees(curve):
    assert curve("horizon=0.5", *limited("steps", 20))[0][-1].steps == 10


@pytest.mark.parametrize("lens", ["steps", "flops", "gradient_depth"])
def test_a_further_limit_cuts_off_and_leaves_the_fraction_alone(curve, lens):
    whole, _ = curve()
    cut, status = curve(f"workload.budget.limits={{{lens}: {getattr(whole[-1], lens) / 2}}}")
    assert cut[-1].examples < 0.6 * whole[-1].examples and status in (Status.HIT, Status.MISSED)
    same = [p.quality for p in cut[:-1]]
    assert same == [p.quality for p in whole[: len(same)]] and len(same) >= 2


def test_cpu_seconds_cut_off(curve):
    found, _ = curve("workload.budget.limits={cpu_seconds: 0.0001}")
    assert len(found) == 2 and found[-1].cpu_seconds > 0.0001 and found[-1].examples < 4000


def test_time_limits_count_down_from_what_the_clock_has_charged(monkeypatch):
    now = SimpleNamespace(wall=100.0, cpu=50.0)
    monkeypatch.setattr("timetrial.suite.allowance.time", SimpleNamespace(perf_counter=lambda: now.wall, process_time=lambda: now.cpu))
    allowance = Allowance(Budget(1000, 10.0, limits={Lens.CPU_SECONDS: 6.0}), 1.0, 10, 1.0)
    spending = SimpleNamespace(examples=0, steps=0, flops=0.0, gradient_depth=0)
    allowance.watch(Reading({"train": 4.0, "evaluate": 90.0}, {"train": 1.0}, {}))
    now.wall, now.cpu = 105.9, 54.9
    assert not allowance.spent(spending)
    now.cpu = 55.1
    assert allowance.spent(spending)
    now.wall, now.cpu = 106.1, 54.0
    assert allowance.spent(spending)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(10, 1.0, Lens.FLOPS), "limits: expected an amount of flops, the budget's lens"),
        (Budget(10, 1.0, Lens.JOULES, {Lens.JOULES: 5.0}), "deterministic lens only.*given joules"),
        (Budget(10, 1.0, limits={Lens.EXAMPLES: 5.0}), "limits.examples: its amount is budget.examples"),
        (Budget(10, 1.0, limits={Lens.CHARGED_SECONDS: 5.0}), "its amount is budget.charged_seconds"),
        (Budget(10, 1.0, limits={Lens.STEPS: 0.0}), "limits.steps: expected more than 0, given 0"),
    ],
)
def test_a_budget_that_contradicts_itself_is_refused(budget, message):
    with pytest.raises(ConfigError, match=message):
        replace(resolve_definition("workload", "digits_mlp"), budget=budget).checked("here")


def test_an_unknown_lens_is_refused_by_name():
    with pytest.raises(ConfigError, match="limits.*flop"):
        resolve([*SHORT, "workload.budget.limits={flop: 1}"])


def test_a_budget_without_limits_is_the_same_workload_as_before_there_were_any():
    from timetrial.suite.schema import plain

    assert set(plain(Budget(10, 1.0))) == {"examples", "charged_seconds", "lens"}
    assert plain(Budget(10, 1.0, limits={Lens.FLOPS: 2.0}))["limits"] == {"flops": 2.0}


def test_a_larger_budget_is_larger_in_every_lens():
    plan = resolve([*SHORT, *limited("flops", 1e9)])
    larger, budget = under(plan, "self_tuning").workload.budget, plan.workload.budget
    factor = larger.examples / budget.examples
    assert factor > 1 and larger.limits == {Lens.FLOPS: factor * 1e9} and larger.lens is Lens.FLOPS
