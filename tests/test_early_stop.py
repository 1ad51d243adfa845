"""Early stop: hopeless trials end by a rule of the frozen targets, count as misses, and no trial that could hit is among them."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from hashlib import sha256

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from timetrial.leaderboards.algoperf import best_of_study
from timetrial.leaderboards.algoperf_logs import to_records
from timetrial.leaderboards.boards import board
from timetrial.leaderboards.horizons import horizon_points
from timetrial.leaderboards.pages import write_site
from timetrial.leaderboards.render import csv_text, markdown
from timetrial.leaderboards.sensitivity import sensitivity
from timetrial.suite.cli.progress import summary
from timetrial.suite.config import resolve, resolve_definition
from timetrial.suite.curve import CurvePoint, write_curve
from timetrial.suite.early_stop import derive_rule, stop_rule, stopped
from timetrial.suite.errors import ConfigError
from timetrial.suite.inputs import open_inputs
from timetrial.suite.protocol import EarlyStop, protocol
from timetrial.suite.record import Result, Status, Stopped, StopRule, read_record
from timetrial.suite.registry import config_folders
from timetrial.suite.study import Arm, Study, finished, load_study, missing, run_study, study_plans, tuning_plans
from timetrial.suite.target_logs import logs_path
from timetrial.suite.target_setting import freeze
from timetrial.suite.tracking_run import rebuild, run_content
from timetrial.suite.tuning import best_trial
from timetrial.suite.verify import rerun, verify_folder

from .synthetic_records import ACCURACY, LOSS, trial, trials, workload
from .test_algoperf import logs  # noqa: F401  the fixture
from .test_target_setting import YAML

SHARES = EarlyStop(after=0.5, reference=0.1)


def points(qualities, every=100):
    return [CurvePoint(every * i, i, i / 10, i / 10, 1e6 * i, i, None, 0.5, 0.5, q) for i, q in enumerate(qualities)]


def rising(*starts, end=0.9):
    """Curves of 21 evaluations: ``start`` from a tenth of the run on, ``end`` from its half on."""
    return [points([0.1, start / 2, *[start] * 8, *[end] * 11]) for start in starts]


@pytest.mark.parametrize(("metric", "sign"), [(ACCURACY, 1), (LOSS, -1)])
def test_the_rule_is_what_every_seed_of_the_reference_had_by_a_tenth_of_its_run(metric, sign):
    curves = [[replace(p, quality=sign * p.quality) for p in curve] for curve in rising(0.5, 0.4, 0.6)]
    assert derive_rule(curves, metric, sign * 0.9, 2000, SHARES) == StopRule(1000, sign * 0.4)


def test_what_a_seed_lost_again_or_reached_later_does_not_count():
    lost = points([0.1, 0.7, *[0.3] * 19])
    assert derive_rule([lost, *rising(0.8)], ACCURACY, 0.9, 2000, SHARES).level == 0.7
    late = points([0.1, 0.1, 0.1, *[0.9] * 18])
    assert derive_rule([late], ACCURACY, 0.9, 2000, SHARES).level == 0.1


def test_no_trial_is_ended_for_want_of_more_than_the_main_target():
    assert derive_rule(rising(0.95, 0.97, end=0.98), ACCURACY, 0.9, 2000, SHARES).level == 0.9


def test_a_trial_with_a_short_horizon_is_judged_no_sooner_than_the_reference():
    assert derive_rule(rising(0.5), ACCURACY, 0.9, 500, SHARES).from_examples == 1000
    assert derive_rule(rising(0.5), ACCURACY, 0.9, 6000, SHARES).from_examples == 3000


def test_a_trial_is_judged_by_the_best_it_ever_had_and_not_before_its_time():
    rule = StopRule(300, 0.4)
    assert stopped(points([0.1, 0.2, 0.1]), ACCURACY, rule) is None
    assert stopped(points([0.1, 0.2, 0.1, 0.1]), ACCURACY, rule) == Stopped(rule, 300, 0.2)
    assert stopped(points([0.1, 0.4, 0.1, 0.1, 0.1]), ACCURACY, rule) is None
    assert stopped(points([0.1, 0.2, 0.1, 0.1]), ACCURACY, None) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 4000), st.floats(0, 1))
def test_a_trial_that_goes_on_once_is_never_stopped_later(qualities, start, level):
    curve, rule = points(qualities), StopRule(start, level)
    judged = [stopped(curve[: i + 1], ACCURACY, rule) is not None for i in range(len(curve)) if curve[i].examples >= start]
    assert not any(later and not judged[0] for later in judged)


# ---------------------------------------------------------------- evidence that the rule is safe


def test_none_of_algoperfs_trials_that_the_rule_stops_hit_its_target(logs, capsys):  # noqa: F811
    """3,700 trials of eleven submissions. Their logs tell seconds, so a share of the horizon is one of the budget in seconds."""
    pairs = to_records(logs)
    by_workload = defaultdict(list)
    for record, curve in pairs:
        if record.workload.budget.charged_seconds > 0 and curve:  # two held-out variants have no published budget
            by_workload[record.workload.name].append((record, [replace(p, examples=round(1000 * p.charged_seconds)) for p in curve]))
    ended, hits, spared, spent = 0, 0, 0.0, 0.0
    for members in by_workload.values():
        of = members[0][0].workload
        curves = {record.record_id: curve for record, curve in members}
        best = best_of_study([record for record, _ in members if record.entry.name == logs.round.reference])
        reference = [curves[record.record_id] for record in best]
        rule = derive_rule(reference, of.metric, of.ladder.main, 1000 * of.budget.charged_seconds, protocol().early_stop)
        for record, curve in members:
            spent += record.time.charged_seconds
            end = next((i for i in range(len(curve) - 1) if stopped(curve[: i + 1], of.metric, rule)), None)
            if end is not None:
                ended, hits = ended + 1, hits + (record.status is Status.HIT)
                spared += record.time.charged_seconds - curve[end].charged_seconds
    with capsys.disabled():
        print(f"\nearly stop, AlgoPerf v0.5: {ended} trials stopped, {hits} of them hits, {spared / spent:.1%} of all seconds spared")
    assert hits == 0 and ended > 200 and spared / spent > 0.03


# ---------------------------------------------------------------- studies


@pytest.fixture(scope="module")
def frozen(prepared_home, tmp_path_factory):
    """A workload of one's own with targets frozen from made-up curves of nesterov, and a home with its data."""
    folder, home = tmp_path_factory.mktemp("frozen") / "mine", tmp_path_factory.mktemp("home")
    folder.mkdir()
    shipped = yaml.safe_load((config_folders()[0] / "workload" / "digits_mlp.yaml").read_text())
    (folder / "workload.yaml").write_text(YAML + yaml.safe_dump({"model": shipped["model"]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIMETRIAL_PATH", str(folder))
        open_inputs(resolve(["workload=digits_mlp"]).workload, prepared_home)
        (home / "data").symlink_to(prepared_home / "data")
        freeze("mine", logs_of_nesterov())
        yield folder, home


def logs_of_nesterov():
    rules = {"hit_share": 0.9, "budget_factor": 1.5}
    plan = resolve(["workload=mine", "algorithm=nesterov"])
    head = {"workload": "mine", "version": 1, "metric": {"name": "accuracy", "direction": "maximize", "unit": "fraction"}, "rules": rules}
    lines = [head]
    for seed in range(6):
        curve = [
            replace(p, charged_seconds=4.0 * i)
            for i, p in enumerate(points([0.1] + [0.9 - 0.5 * 0.8**i + seed / 1000 for i in range(24)], 500))
        ]
        lines.append(
            {
                "purpose": "tuning" if seed == 0 else "reference",
                "algorithm": "nesterov",
                "hyperparameters": dict(plan.algorithm.hyperparameters),
                "seed": seed,
                "status": "hit",
                "record_id": f"r{seed}",
                "hardware_class": "cpu2",
                "numerics_key": None,
                "started_at": None,
                "evaluation_share": 0.1,
                "curve": write_curve(tuple(curve)),
            }
        )
    return "".join(json.dumps(line) + "\n" for line in lines)


HOPELESS = Arm("nesterov", overrides={"lr": 1e-9})
STUDY = Study("stop", "a test", ("mine",), (Arm("reference"), HOPELESS), 1, early_stop=True)
LOADER = ["loader=torch"]


@pytest.fixture(scope="module")
def ran(frozen):
    """Folder of the record of a hopeless trial, its plan, and that of the reference beside it."""
    _, home = frozen
    reference, hopeless = study_plans(STUDY, LOADER)
    (record,) = run_study([hopeless], home)
    return home / "records" / record.record_id, hopeless, reference


def test_a_hopeless_trial_ends_at_half_of_its_horizon_as_a_miss_without_an_end(ran):
    record, curve = read_record(ran[0])
    assert record.status is Status.MISSED and record.stopped is not None
    assert curve[-1].examples == record.stopped.examples == record.stopped.rule.from_examples == 6000
    assert record.stopped.quality == max(p.quality for p in curve) < record.stopped.rule.level
    assert record.result == Result() and "stopped at 6000 examples as hopeless" in str(record.status_reason)
    assert str(record.status_reason) in summary(record)


def test_the_reference_other_workloads_and_other_studies_are_followed_to_the_end(ran, frozen):
    _, hopeless, reference = ran
    assert reference.early_stop is None and hopeless.early_stop == stop_rule(hopeless)
    assert study_plans(replace(STUDY, early_stop=False), LOADER)[1].early_stop is None
    provisional = resolve(["workload=digits_mlp"])
    assert stop_rule(provisional) is None
    assert resolve(["workload=mine"]).early_stop is None
    curated = replace(reference, curation=replace(reference.curation, name="random"), keep_fraction=0.5)
    assert stop_rule(curated) == hopeless.early_stop


def test_a_stopped_trial_is_the_same_training_but_not_a_finished_one_for_a_study_that_wants_whole_curves(ran, frozen):
    _, hopeless, _ = ran
    whole = replace(hopeless, early_stop=None)
    assert whole.digest == hopeless.digest
    assert missing([hopeless], frozen[1]) == [] and missing([whole], frozen[1]) == [whole]
    assert finished([hopeless], frozen[1])[0][0].stopped is not None


def test_verification_follows_the_rule_back_to_the_logs(ran, frozen, tmp_path):
    (check,) = [c for c in verify_folder(ran[0]) if c.name == "early stop"]
    assert check.passed and "logs of the frozen targets" in check.detail
    assert [c for c in verify_folder(ran[0]) if c.passed is False] == []
    record, curve = read_record(ran[0])
    checks = rerun(record, curve, ran[0], frozen[1], run_code=True)
    assert [c.passed for c in checks] == [True, True] and "bit-identical" in checks[-1].detail


@pytest.mark.parametrize("change", ["rule", "quality", "denied"])
def test_verification_sees_a_made_up_stop(ran, tmp_path, change):
    folder = tmp_path / "r"
    folder.mkdir()
    for path in ran[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    value = json.loads((folder / "record.json").read_text())
    if change == "denied":
        value["stopped"] = None
    elif change == "quality":
        value["stopped"]["quality"] = 0.3
    else:
        value["stopped"]["rule"]["level"] = 0.99
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["early_stop"]["level"] = 0.99
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "record.json").write_text(json.dumps(value))
    wrong = {c.name for c in verify_folder(folder) if c.passed is False}
    assert ("end" if change == "denied" else "early stop") in wrong


def test_logs_that_are_not_those_of_the_targets_are_refused(frozen, tmp_path, monkeypatch):
    plan = resolve(["workload=mine"])
    other = replace(plan.workload.ladder, evidence_digest=sha256(b"other").hexdigest())
    with pytest.raises(ConfigError, match="not those that its targets derive from"):
        stop_rule(replace(plan, workload=replace(plan.workload, ladder=other)))
    assert logs_path(frozen[0] / "targets.yaml").is_file()


def test_mlflow_gives_a_stopped_record_back(ran):
    record, curve = read_record(ran[0])
    content = run_content(record, curve)
    history = [s for s in content.metrics if s.key.startswith("curve/")]
    single = {s.key: s.value for s in content.metrics if not s.key.startswith("curve/")}
    assert rebuild(content.tags, single, history, "here")[0] == record


def test_tuning_prefers_trials_with_an_end_and_of_stopped_ones_the_best():
    of = workload()
    ended = trial(of, "adamw", 0, 500.0, record_id="ended")[0]
    early = [stop(trial(of, "adamw", 0, 500.0, record_id=f"s{q}")[0], q) for q in (0.2, 0.4, 0.3)]
    assert ended.status is Status.MISSED and best_trial([*early, ended]) is ended
    assert best_trial(early) is early[1]


def test_tuning_trials_stop_early_too(frozen):
    plans = tuning_plans(replace(STUDY, arms=(HOPELESS,), tuning_trials=2), LOADER)
    assert {plan.early_stop for plan in plans} == {stop_rule(plans[0])} != {None}


def test_the_study_of_algorithms_stops_early_and_the_others_do_not():
    assert load_study("nano_algorithms").early_stop
    assert not load_study("nano_curation").early_stop and not load_study("nano_matrix").early_stop
    assert resolve_definition("workload", "digits_mlp").ladder.status == "provisional"


# ---------------------------------------------------------------- boards


def stop(record, quality=0.3):
    rule = StopRule(20_000, 0.45)
    return replace(record, status=Status.MISSED, result=Result(), stopped=Stopped(rule, 20_000, quality))


@pytest.fixture
def mixed():
    """Five whole trials of adamw; lion with two trials stopped early, one missed and two hits."""
    of = workload()
    found = trials(of, "adamw", [20.0] * 5)
    slow = trials(of, "lion", [18.0, 19.0, 400.0, 500.0, 500.0])
    return found + [(stop(record) if record.seed > 2 else record, curve) for record, curve in slow]


def test_a_stopped_trial_is_a_miss_and_takes_no_part_in_final_quality(mixed):
    table = board([record for record, _ in mixed])
    row = next(row for row in table.sections[0].rows if row.entry == "lion")
    assert (row.n, row.hits, row.stopped) == (5, 2, 2)
    assert row.final_quality.n == 3 and row.hit_rate.value == 0.4
    missed = [replace(r, stopped=None, result=replace(r.result, final_quality=0.3)) if r.stopped else r for r, _ in mixed]
    same = next(row for row in board(missed).sections[0].rows if row.entry == "lion")
    assert (same.to_target, same.hits, same.hit_rate) == (row.to_target, row.hits, row.hit_rate)


def test_every_form_of_the_board_says_who_was_stopped(mixed, tmp_path):
    records, curves = [r for r, _ in mixed], {r.record_id: c for r, c in mixed}
    table = board(records)
    assert "lion (2 of 5)" in markdown(table)
    assert "stopped" in csv_text(table).splitlines()[0].split(",")
    write_site(table, records, curves, tmp_path, "adamw")
    (page,) = (tmp_path / "entry").glob("lion-*.html")
    assert page.read_text().count("stopped at 20.0 k examples with 0.3000") == 2
    (of,) = (tmp_path / "workload").glob("*.html")
    assert "lion (2 of 5)" in of.read_text()


def test_a_stopped_trial_is_on_no_frontier_and_no_sensitivity_plot(mixed):
    records, curves = [r for r, _ in mixed], {r.record_id: c for r, c in mixed}
    assert {p.entry: p.quality.n for p in horizon_points(records, curves)} == {"adamw": 5, "lion": 3}
    of = workload()
    tuned = [
        trial(of, "lion", 0, 20.0 + i, record_id=f"t{i}", study="s/tuning", hyperparameters={"lr": 0.001 * (i + 1)})[0] for i in range(4)
    ]
    (plot,) = sensitivity(board(records).sections[0], "lion", [*tuned[:3], stop(tuned[3])])
    assert len(plot.dots) == 3 and plot.stopped == 1


def test_a_record_that_was_stopped_and_came_to_its_end_counts_nowhere():
    record = trial(workload(), "lion", 0, 500.0)[0]
    (left_out,) = board([replace(record, stopped=stop(record).stopped)]).rejected
    assert "stopped early, but it says" in left_out.reason
