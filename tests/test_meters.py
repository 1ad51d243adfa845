"""Joules come from a meter or not at all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from timetrial.suite import trial
from timetrial.suite.clock import Bucket, Clock
from timetrial.suite.config import resolve
from timetrial.suite.errors import ConfigError
from timetrial.suite.inputs import open_inputs
from timetrial.suite.meters import Rapl, cards_meter, energy_meter
from timetrial.suite.record import read_record
from timetrial.suite.workload import Lens

SHORT = ["workload=digits_mlp", "workload.budget.examples=3000", "loader=torch"]


def powercap(folder, *microjoules, largest=1000):
    """Packages with counters, a part of the first package, and something that is no processor."""
    for i, value in enumerate(microjoules):
        for name, kind in ((f"intel-rapl:{i}", f"package-{i}"), (f"intel-rapl:{i}:0", "core")):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "name").write_text(f"{kind}\n")
            (folder / name / "energy_uj").write_text(f"{value}\n")
            (folder / name / "max_energy_range_uj").write_text(f"{largest}\n")
    (folder / "intel-rapl:9").mkdir(exist_ok=True)
    (folder / "intel-rapl:9" / "name").write_text("psys\n")
    return folder


def test_packages_are_added_and_a_counter_that_starts_over_is_followed(tmp_path):
    meter = Rapl.found(powercap(tmp_path, 900, 100))
    assert meter() == 0.0
    powercap(tmp_path, 950, 100)
    assert meter() == pytest.approx(50e-6)
    powercap(tmp_path, 10, 130)  # 60 more until it started over at 1000
    assert meter() == pytest.approx((50 + 60 + 30) * 1e-6)


def test_no_counter_or_none_that_may_be_read_is_no_meter(tmp_path):
    assert Rapl.found(tmp_path) is None and Rapl.found(tmp_path / "absent") is None
    (powercap(tmp_path, 5) / "intel-rapl:0" / "energy_uj").write_text("secret")
    assert Rapl.found(tmp_path) is None


class Card:
    """NVML of two cards, the second of which does not count."""

    def __init__(self):
        self.millijoules = 5000

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if handle:
            raise RuntimeError("not supported")
        return self.millijoules


def test_a_card_and_the_processors_are_one_meter_and_half_of_it_is_none(tmp_path):
    card = Card()
    assert cards_meter([], card) is None and cards_meter([1], card) is None
    assert energy_meter([0], tmp_path, card) is None  # the processors are not counted here
    meter = energy_meter([0], powercap(tmp_path, 100, largest=10**9), card)
    before = meter()
    card.millijoules += 2500
    powercap(tmp_path, 1_000_100, largest=10**9)
    assert meter() - before == pytest.approx(2.5 + 1.0)
    assert energy_meter((), tmp_path)() == 0.0


def test_the_clock_charges_joules_by_bucket_and_forgets_them_when_a_cost_without_joules_is_added():
    spent, clock = SimpleNamespace(joules=7.0), Clock(now=lambda: 0.0, cpu_now=lambda: 0.0)
    assert clock.read().charged_joules is None
    clock.meter_with(lambda: spent.joules)
    for bucket, joules in ((Bucket.TRAIN, 3.0), (Bucket.EVALUATE, 5.0), (Bucket.TRAIN, 1.0)):
        with clock.bucket(bucket):
            spent.joules += joules
    assert clock.read().charged_joules == 4.0 and clock.read().joules == {"train": 4.0, "evaluate": 5.0}
    resumed = Clock(now=lambda: 0.0, cpu_now=lambda: 0.0)
    resumed.meter_with(lambda: spent.joules)
    resumed.load_state_dict(clock.state_dict())
    with resumed.bucket(Bucket.TRAIN):
        spent.joules += 2.0
    assert resumed.read().charged_joules == 6.0
    resumed.charge(Bucket.CURATE, 1.0, 1.0)
    assert resumed.read().charged_joules is None


@pytest.fixture
def home(prepared_home, tmp_path):
    """A home with prepared digits and no records."""
    open_inputs(resolve(SHORT).workload, prepared_home)
    (tmp_path / "data").symlink_to(prepared_home / "data")
    return tmp_path


def test_a_trial_s_curve_and_crossings_carry_joules_where_they_are_metered(home, monkeypatch):
    spent = iter(range(10**6))
    monkeypatch.setattr(trial, "energy_meter", lambda cards: lambda: float(next(spent)))
    _, folder = trial.run_trial(resolve(SHORT), home)
    record, curve = read_record(folder)
    joules = [point.joules for point in curve]
    assert None not in joules and joules == sorted(joules) and joules[-1] > 0
    assert all(Lens.JOULES in c.cost for c in record.crossings if c.hit)


def test_a_budget_in_joules_needs_a_meter(home, monkeypatch):
    plan = resolve([*SHORT, "workload.budget.limits={joules: 3}", "seed=1"])
    monkeypatch.setattr(trial, "energy_meter", lambda cards: None)
    with pytest.raises(ConfigError, match="no energy meter that may be read"):
        trial.run_trial(plan, home)
    spent = iter(range(10**6))
    monkeypatch.setattr(trial, "energy_meter", lambda cards: lambda: float(next(spent)))
    _, folder = trial.run_trial(plan, home)
    assert read_record(folder)[1][-1].examples < 3000
