"""AlgoPerf's logs: their published table comes back to four decimals, and our scores of the same trials keep our promises.

Synthetic logs test the rules; the published ones (not part of this repository) are read from the folder TIMETRIAL_ALGOPERF.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from timetrial.leaderboards.algoperf import Comparison, algoperf_as_published, algoperf_exact, best_of_study, compare, time_saving
from timetrial.leaderboards.algoperf_logs import COLUMNS, ROUNDS, load_rounds, read_logs, to_records
from timetrial.leaderboards.algoperf_page import comparison_csv, comparison_json, comparison_page
from timetrial.leaderboards.boards import board
from timetrial.suite.cli import import_
from timetrial.suite.errors import ConfigError, DataError, DataMissing, UserError
from timetrial.suite.record import Origin, Status
from timetrial.suite.schema import build
from timetrial.suite.workload import Lens

PUBLISHED = Path(__file__).resolve().parent.parent / "leaderboards" / "published" / "algoperf_v05_external_tuning"
TABLE = {  # AlgoPerf's leaderboard of v0.5, external tuning
    "shampoo_submission": 0.7784,
    "schedule_free_adamw": 0.7077,
    "generalized_adam": 0.6383,
    "cyclic_lr": 0.6301,
    "nadamp": 0.5909,
    "baseline": 0.5707,
    "amos": 0.4918,
    "caspr_adaptive": 0.4722,
    "lawa_queue": 0.3699,
    "lawa_ema": 0.3384,
    "schedule_free_prodigy": 0.0,
}
ROUND = {
    "title": "A small round",
    "benchmark_version": "0.9",
    "ruleset": "external_tuning",
    "studies": 5,
    "trials": 2,
    "budget_factor": 1.0,
    "hardware": "one abacus",
    "reference": "base",
    "workloads": ["up", "down"],
    "held_out": {"up": "up_variant"},
    "budgets_seconds": {"down": 200.0},
}
TARGETS = {
    "up": {"target_metric_name": "accuracy", "validation_target_value": 0.8, "max_runtime_seconds": 100},
    "up_variant": {"target_metric_name": "accuracy", "validation_target_value": 0.7},
    "down": {"target_metric_name": "loss", "validation_target_value": 0.5, "max_runtime_seconds": 7},
}


def rows_of(submission, workload, study, trial, seconds, hit=True, points=4):
    """Evaluations in equal steps up to ``seconds``; the last one hits exactly, the ones before are far off."""
    up = workload != "down"
    goal, far = TARGETS[workload]["validation_target_value"], (0.1 if up else 3.0)
    last = goal if hit else far
    return [
        (submission, workload, "torch", study, trial, 100 * i, seconds * i / points, last if i == points else far)
        for i in range(1, points + 1)
    ]


def small_round():
    """base takes 40 s, quick 20 s, late misses ``down``; the second trial of every study is slower."""
    rows = []
    for submission, seconds in (("base", 40.0), ("quick", 20.0), ("late", 30.0)):
        for workload in TARGETS:
            for study in range(5):
                hit = not (submission == "late" and workload == "down")
                rows += rows_of(submission, workload, study, 1, seconds + study, hit)
                rows += rows_of(submission, workload, study, 2, seconds + 20, hit)
    return rows


def write_logs(folder, rows, name="algoperf_v09_external_tuning.csv", targets=None, changes=None):
    folder.mkdir(exist_ok=True)
    lines = "\n".join(",".join("" if v != v else str(v) for v in row) for row in [COLUMNS, *rows]) + "\n"
    opened = lzma.open if name.endswith(".xz") else open
    with opened(folder / name, "wt", encoding="utf-8") as stream:
        stream.write(lines)
    (folder / "targets_v09.json").write_text(json.dumps({"benchmark_version": "0.9", "workloads": targets or TARGETS}))
    metrics = yaml.safe_load(ROUNDS.read_text())["metrics"]
    (folder / "rounds.yaml").write_text(yaml.safe_dump({"metrics": metrics, "rounds": {"v09_external_tuning": ROUND | (changes or {})}}))
    return folder / name


def read(folder, rows, **options):
    file = write_logs(folder, rows, **options)
    return read_logs(file, rounds_path=folder / "rounds.yaml")


@pytest.mark.parametrize("ruleset", ["external_tuning", "self_tuning"])
def test_records_carry_the_ruleset_of_their_round(tmp_path, ruleset):
    found = to_records(read(tmp_path, small_round(), changes={"ruleset": ruleset}))
    assert {record.ruleset.value for record, _ in found} == {ruleset}


def test_order_of_rows_and_compression_change_nothing(tmp_path):
    rows = small_round()
    plain = read(tmp_path / "a", rows)
    packed = read(tmp_path / "b", rows[::-1], name="algoperf_v09_external_tuning.csv.xz")
    assert [t.steps for t in plain.trials] == [t.steps for t in packed.trials]
    assert algoperf_as_published(plain) == algoperf_as_published(packed)
    assert plain.targets["down"].budget_seconds == 200.0
    assert plain.targets["up_variant"].budget_seconds == 100.0


def test_their_score_by_hand(tmp_path):
    logs = read(tmp_path, small_round())
    assert algoperf_exact(logs) == pytest.approx({"base": (4 - 42 / 22) / 3, "quick": 1.0, "late": (4 - 32 / 22) / 6})


def test_of_a_study_they_take_the_trial_with_fewest_evaluations_and_the_exact_score_the_fastest(tmp_path):
    rows = [
        r for study in range(5) for r in rows_of("base", "up", study, 1, 30.0, points=8) + rows_of("base", "up", study, 2, 60.0, points=2)
    ]
    rows += [r for study in range(5) for r in rows_of("quick", "up", study, 1, 30.0)]
    rows += [r for s in ("base", "quick") for w in ("up_variant", "down") for study in range(5) for r in rows_of(s, w, study, 1, 10.0)]
    logs = read(tmp_path, rows)
    assert algoperf_exact(logs)["base"] == pytest.approx(1.0)
    assert algoperf_as_published(logs)["base"] == pytest.approx((2 / 3 + 1) / 2, abs=0.01)


def test_missing_studies_and_absent_workloads_are_misses(tmp_path):
    rows = [r for r in small_round() if not (r[0] == "quick" and r[1] == "up" and r[3] > 1)]
    rows = [r for r in rows if not (r[0] == "late" and r[1] == "down")]
    compared = compare(read(tmp_path, rows), draws=200)
    quick = next(f for f in compared.factors if (f.entry, f.workload) == ("quick", "up@9"))
    assert (quick.hits, quick.n) == (2, 5)
    assert algoperf_exact(read(tmp_path, rows))["quick"] == pytest.approx(0.5)
    late = next(f for f in compared.factors if (f.entry, f.workload) == ("late", "down@9"))
    assert (late.hits, late.n) == (0, 5)
    assert late.factor.value == pytest.approx(41 / 400, rel=0.05)


def test_trials_become_records_that_say_what_the_log_says_and_nothing_else(tmp_path):
    rows = [*small_round(), *rows_of("torn", "up", 0, 1, 10.0)[:-1], ("torn", "up", "torch", 0, 1, 400, 10.0, float("nan"))]
    found = to_records(read(tmp_path, rows))
    record, curve = next(p for p in found if p[0].record_id == "v09_external_tuning-quick-up-study3-trial1")
    assert (record.origin, record.status, record.hardware_class) == (Origin.ALGOPERF, Status.HIT, "one abacus")
    assert set(record.crossing().cost) == {Lens.CHARGED_SECONDS, Lens.STEPS}
    assert record.crossing().cost[Lens.CHARGED_SECONDS] == pytest.approx(23.0)
    assert curve[-1].cost(Lens.EXAMPLES) is None
    assert len(record.workload.ladder.levels) == 12
    torn = next(r for r, _ in found if r.entry.name == "torn")
    assert torn.status is Status.DIVERGED
    assert len({r.seed for r, _ in found if r.entry.name == "quick" and r.workload.name == "up"}) == 10


def test_imported_records_make_boards_of_their_own(tmp_path):
    records = [record for record, _ in to_records(read(tmp_path, small_round()))]
    built = board(best_of_study(records))
    assert {s.origin for s in built.sections} == {Origin.ALGOPERF}
    up = next(s for s in built.sections if s.workload.name == "up")
    assert [(row.entry, row.n, row.hits) for row in up.rows] == [("quick", 5, 5), ("late", 5, 5), ("base", 5, 5)]
    assert up.rows[0].to_target[Lens.CHARGED_SECONDS].value == pytest.approx(22.0)
    assert not next(s for s in built.sections if s.workload.name == "up_variant").ranked


def test_fewer_than_five_studies_have_no_interval(tmp_path):
    rows = [r for r in small_round() if r[3] < 3]
    compared = compare(read(tmp_path, rows, changes={"studies": 3}), draws=200)
    assert all(s.published.interval is None and s.ours.factor.interval is None for s in compared.standings)
    assert "no interval below n = 5" in comparison_page(compared)


def test_a_self_tuning_round_without_variants_works_too(tmp_path):
    rows = [r for r in small_round() if r[4] == 1 and r[1] != "up_variant"]
    logs = read(tmp_path, rows, changes={"ruleset": "self_tuning", "trials": 1, "budget_factor": 3.0, "held_out": {}})
    assert logs.targets["up"].budget_seconds == 300.0
    assert algoperf_exact(logs)["quick"] == 1.0
    late = 1 - float(np.sqrt(32 / 42 * (600 + 1) / 42))
    assert time_saving(logs)["late"] == pytest.approx(late)


@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        ({"name": "algoperf_v77_bare_hands.csv"}, UserError, "unknown round 'v77_bare_hands'.*--rounds FILE.*budget_factor"),
        ({"rows": [("a", "up")]}, DataError, "row 2: not enough values"),
        ({"rows": [("a", "up", "t", 0, 1, "x", 1.0, 0.5)]}, DataError, "row 2: invalid literal.*'x'"),
        ({"rows": rows_of("a", "up", 0, 1, 9.0) * 2}, DataError, "a, up, study 0, trial 1: steps repeat"),
        ({"rows": [("a", "up", "t", 0, 1, 1, 9.0, 0.1), ("a", "up", "t", 0, 1, 2, 8.0, 0.1)]}, DataError, "run backwards"),
        ({"rows": [r for s in range(6) for r in rows_of("a", "up", s, 1, 9.0)]}, DataError, "has 5 studies of 2 trials, given 6"),
        ({"rows": []}, DataError, "holds no evaluation"),
        ({"rows": [("a", "sideways", "t", 0, 1, 1, 9.0, 0.1)]}, DataError, "no target for sideways"),
        ({"targets": TARGETS | {"up": {"target_metric_name": "karma", "validation_target_value": 1}}}, DataError, "unknown metric 'karma'"),
        ({"targets": {"up": TARGETS["up"]}}, DataError, "down of round v09_external_tuning has no target or no budget"),
        ({"changes": {"benchmark_version": "0.8"}}, DataError, "expected '0.8'.*given '0.9'"),
        ({"changes": {"studeis": 3}}, ConfigError, "unknown key 'studeis'; did you mean 'studies'"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_place(tmp_path, broken, error, message):
    rows = broken.pop("rows", small_round())
    with pytest.raises(error, match=message):
        read(tmp_path, rows, **broken)


def test_files_that_are_missing_or_torn_are_named(tmp_path):
    with pytest.raises(DataMissing, match="no such file or folder"):
        read_logs(tmp_path / "none")
    with pytest.raises(UserError, match="found none"):
        read_logs(tmp_path)
    file = write_logs(tmp_path, small_round(), name="algoperf_v09_external_tuning.csv.xz")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="truncated or altered"):
        read_logs(file, rounds_path=tmp_path / "rounds.yaml")
    (tmp_path / "targets_v09.json").unlink()
    with pytest.raises(DataMissing, match=r"targets_v09\.json.*--targets"):
        read_logs(file, rounds_path=tmp_path / "rounds.yaml")
    (tmp_path / "algoperf_v09_external_tuning.csv").write_text("step,seconds\n")
    with pytest.raises(UserError, match="expected one file"):
        read_logs(tmp_path)


def test_every_known_round_states_what_the_schema_asks_for():
    rounds, metrics = load_rounds()
    assert {"v05_external_tuning", "v05_self_tuning", "v06_external_tuning", "v06_self_tuning"} <= set(rounds)
    assert all(set(r.held_out) <= set(r.workloads) for r in rounds.values())
    assert all(r.trials == 1 for r in rounds.values() if r.ruleset == "self_tuning")
    assert {"accuracy", "loss", "wer"} <= set(metrics)


def run_command(*words):
    parser = argparse.ArgumentParser()
    import_.add_arguments(parser)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--home", type=Path)
    return import_.execute(parser.parse_args(words))


def test_the_command_writes_the_comparison_and_the_boards(tmp_path, capsys):
    file = write_logs(tmp_path / "logs", small_round())
    rounds = str(tmp_path / "logs" / "rounds.yaml")
    assert run_command("algoperf", str(file), "--rounds", rounds, "--home", str(tmp_path), "--draws", "200", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert [s["submission"] for s in value["standings"]] == ["quick", "base", "late"]
    written = tmp_path / "boards" / "algoperf_v09_external_tuning"
    assert json.loads((written / "comparison.json").read_text()) == value
    assert (written / "index.html").stat().st_size > 10_000
    assert len(json.loads((written / "board" / "board.json").read_text())["sections"]) == 3
    with pytest.raises(UserError, match="at least 100"):
        run_command("algoperf", str(file), "--rounds", rounds, "--home", str(tmp_path), "--draws", "5")


def test_the_published_page_is_built_from_the_published_numbers():
    value = json.loads((PUBLISHED / "comparison.json").read_text())
    assert value.pop("schema_version") == 1
    value.pop("relaxations")
    found = build(Comparison, value, "comparison.json")
    assert comparison_page(found) == (PUBLISHED / "index.html").read_text()
    assert comparison_csv(found) == (PUBLISHED / "comparison.csv").read_text()


@pytest.fixture(scope="session")
def logs():
    mirrored = Path(os.environ.get("TIMETRIAL_MIRROR", "")) / "algoperf"
    folder = os.environ.get("TIMETRIAL_ALGOPERF") or (str(mirrored) if mirrored.is_dir() else None)
    if not folder:
        absent = "AlgoPerf's published logs: TIMETRIAL_ALGOPERF is not set"
        (pytest.fail if os.environ.get("TIMETRIAL_REQUIRE_DATA") == "1" else pytest.skip)(absent)
    return read_logs(Path(folder))


@pytest.fixture(scope="session")
def compared(logs):
    return compare(logs)


def test_the_published_table_comes_back_to_four_decimals(logs):
    assert len(logs.trials) == 3700
    assert {s: round(score, 4) for s, score in algoperf_as_published(logs).items()} == TABLE


def test_the_exact_score_differs_where_the_fastest_trial_is_another(logs):
    published, exact = algoperf_as_published(logs), algoperf_exact(logs)
    assert max(abs(exact[s] - published[s]) for s in TABLE if s != "lawa_ema") <= 0.0016  # the trapezoid's error
    assert round(exact["lawa_ema"] - published["lawa_ema"], 4) == 0.0047  # the fastest trial is another than the one they count


def test_dropping_one_entry_flips_their_winner_and_moves_none_of_ours(compared):
    caspr = next(d for d in compared.dropped if d.submission == "caspr_adaptive")
    assert compared.standings[0].submission == "shampoo_submission"
    assert caspr.published_first == "schedule_free_adamw"
    assert round(caspr.published_scores["schedule_free_adamw"], 4) == 0.8112
    assert round(caspr.published_scores["shampoo_submission"], 4) == 0.8018
    assert [(d.our_move, d.our_swaps) for d in compared.dropped] == [(0.0, 0)] * 11


def test_the_published_headline_is_a_time_saving_beside_our_factor(compared):
    shampoo = compared.standings[0]
    assert f"{shampoo.saving:.1%}" == "27.9%"
    assert f"{shampoo.published_factor:.2f}" == "1.39"
    assert shampoo.ours.at_budget.value == pytest.approx(shampoo.published_factor, rel=0.01)  # ours interpolates crossings
    page = comparison_page(compared)
    assert "27.9%, is a time saving; as a factor it is 1.39x" in page


def test_every_score_has_an_interval_around_it(compared):
    for s in compared.standings:
        for estimate in (s.published, s.ours.factor, s.ours.at_budget):
            assert estimate.interval.low <= estimate.value <= estimate.interval.high
    prodigy = next(s for s in compared.standings if s.submission == "schedule_free_prodigy")
    assert prodigy.ours.rank is None
    assert "fewer than half" in prodigy.ours.why


@pytest.mark.timeout(60)
def test_all_trials_are_scored_with_2000_draws_within_a_minute(logs):
    assert compare(logs, draws=2000).trials == 3700


def test_the_published_numbers_are_those_of_the_logs(compared):
    """Within 1e-9: the last bits of logarithms differ between processors."""
    fresh, published = (json.loads(text) for text in (comparison_json(compared), (PUBLISHED / "comparison.json").read_text()))
    assert_close(fresh, published)
    names = [line["submission"] for line in csv.DictReader((PUBLISHED / "comparison.csv").read_text().splitlines())]
    assert names == list(TABLE)


def assert_close(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_close(a, b)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12)
    else:
        assert one == other
