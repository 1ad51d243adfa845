"""Verification of records: what can be recomputed from the evidence in the folder, what a set must keep to, and running a trial again.

Each check says what was held against what. ``None`` means that it could not be decided here, and why; that is never a pass.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from ..data_pipelines.curation.selection import Selection
from . import machine
from .config import ENTRY_PACKAGE, Plan, plan_of
from .curve import Curve
from .early_stop import stop_rule, stopped
from .entry_code import adopt_code
from .errors import DataError, RecordError, UserError
from .files import file_digest, object_digest
from .record import Origin, Record, Status, read_record
from .registry import workload_folder
from .seeds import derive_seeds
from .workload import Lens

__all__ = ["Check", "folder_digest", "plan_of_record", "rerun", "same_curve", "verify_folder", "verify_set"]

_CHARGED = ("curate", "setup", "train")
_SLACK_SECONDS = 1e-3
FEWEST_SEEDS = 5
COVERAGE = 0.99
"""Of the prediction interval that a re-run on another numerics key must fall into."""


@dataclass(frozen=True)
class Check:
    """One check of one record or set: ``passed`` is None where it could not be decided."""

    subject: str
    name: str
    passed: bool | None
    detail: str


def verify_folder(folder: Path) -> list[Check]:
    """Everything that a record folder alone can show. Never raises for what is in the folder."""
    try:
        record, curve = read_record(folder)
    except RecordError as problem:
        return [Check(folder.name, "evidence", False, str(problem).replace(str(folder), folder.name))]
    whole = Check(record.record_id, "evidence", True, f"schema, curve digest and {len(record.crossings)} crossings follow from curve.csv")
    checks = [whole, _result(record, curve), _time(record, curve), _seeds(record), _hardware(record), _source(record, folder)]
    return [*checks, *_selection(record, folder), _config(record, folder), *_end(record, curve, folder)]


def verify_set(records: Sequence[Record]) -> list[Check]:
    """Seeds of each entry on each workload: every one once, and none left out between the first and the last."""
    arms: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        if record.origin is Origin.NATIVE and record.status not in (Status.SMOKE, Status.INTERRUPTED):
            settings = object_digest([dict(record.entry.hyperparameters), dict(record.entry.algorithm_options), record.ruleset.value])
            arms[record.study or "", record.workload.identity, record.hardware_class or "", record.entry.name, settings].append(record)
    checks = []
    for (study, workload, _, entry, _), members in sorted(arms.items()):
        calm = [record.seed for record in members if not record.disturbed]
        seeds = sorted([*calm, *{record.seed for record in members} - set(calm)])  # a disturbed seed may have been repeated
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        gaps = sorted(set(range(seeds[0], seeds[-1])) - set(seeds))
        said = [f"seed {', '.join(map(str, twice))} twice"] if twice else []
        said += [f"seed {', '.join(map(str, gaps))} missing between {seeds[0]} and {seeds[-1]}"] if gaps else []
        subject = f"{entry} on {workload}{f' in {study}' if study else ''}"
        checks.append(Check(subject, "seeds of the set", not said, "; ".join(said) or f"{len(seeds)} distinct, none left out"))
    return checks


def plan_of_record(record: Record, folder: Path) -> Plan:
    """The plan that a record says it ran, checked against its digest. ``RecordError`` when the two differ."""
    path = folder / "config.yaml"
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise RecordError(f"{folder.name}/config.yaml: cannot be read: {' '.join(str(problem).split())}") from None
    if not isinstance(value, dict):
        raise RecordError(f"{folder.name}/config.yaml: expected a mapping, given {type(value).__name__}")
    try:
        plan = plan_of(value)
    except UserError as problem:
        raise RecordError(f"{folder.name}/config.yaml: {problem}") from None
    if plan.digest != record.trial_digest:
        raise RecordError(f"{folder.name}/config.yaml: its digest is not the trial digest of record.json; one of the two was altered")
    return plan


def rerun(record: Record, curve: Curve, folder: Path, home: Path, *, run_code: bool, others: Sequence[Record] = ()) -> list[Check]:
    """Run a record's trial again, in a folder that is thrown away, and hold the curves against each other.

    Data are opened from ``home``. On the same numerics key the learned part of the curve must be equal bit for bit; elsewhere final
    quality and examples to target must lie in the 99 % prediction interval of ``others``, trials of the same entry with other seeds.
    Code that is not of this package runs only with ``run_code`` (``UserError`` otherwise).
    """
    from .inputs import open_inputs
    from .trial import run_trial

    plan = plan_of_record(record, folder)
    own = workload_folder(plan.workload.name)
    foreign = [path for path in plan.code if path.startswith(ENTRY_PACKAGE)]
    if (foreign or own is not None) and not run_code:
        raise UserError(
            f"{record.record_id}: runs code that is not timetrial's ({', '.join(foreign) or plan.workload.name}); give --run-code"
        )
    if foreign and (folder / "source").is_dir():
        adopt_code(folder / "source")
    inputs = open_inputs(plan.workload, home)
    if inputs.dataset.digest != record.data_digests.get("dataset"):
        detail = f"the dataset here is {inputs.dataset.digest[:16]}, the record's {record.data_digests.get('dataset', 'not stated')[:16]}"
        return [Check(record.record_id, "data", False, detail)]
    checks = [Check(record.record_id, "data", True, f"dataset digest {inputs.dataset.digest[:16]} is the record's")]
    with tempfile.TemporaryDirectory() as scratch:
        again, place = run_trial(replace(plan, study=None), Path(scratch), inputs=inputs, fresh=True)
        _, new_curve = read_record(place)
    if record.numerics_key is not None and record.numerics_key == machine.numerics_key():
        return [*checks, same_curve(record.record_id, curve, new_curve)]
    return [*checks, _statistical(again, record, others)]


def same_curve(subject: str, curve: Curve, again: Curve) -> Check:
    """Whether two curves learned the same, bit for bit: everything but seconds."""
    if len(curve) != len(again):
        return Check(subject, "same curve", False, f"{len(again)} evaluations where the record has {len(curve)}")
    names = ("examples", "steps", "flops", "train_loss", "loss", "quality")
    for number, (one, other) in enumerate(zip(curve, again, strict=True)):
        for name in names:
            if getattr(one, name) != getattr(other, name):
                given = f"{getattr(other, name)!r} where the record has {getattr(one, name)!r}"
                return Check(subject, "same curve", False, f"evaluation {number}: {name} is {given}")
    return Check(subject, "same curve", True, f"bit-identical in {', '.join(names)} over {len(curve)} evaluations")


def folder_digest(folder: Path) -> str:
    """Digest of a folder of source files: of the digests of all files by relative path."""
    return object_digest({p.relative_to(folder).as_posix(): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file()})


def _result(record: Record, curve: Curve) -> Check:
    crossing = record.crossing()
    hit = crossing is not None and crossing.hit
    wrong = []
    if (record.status is Status.HIT and not hit) or (record.status is Status.MISSED and hit):
        wrong.append(f"status {record.status} against a main target that was {'hit' if hit else 'not hit'}")
    last = curve[-1] if curve else None
    if last is not None and record.result.final_quality not in (None, last.quality):
        wrong.append(f"final quality {record.result.final_quality} against {last.quality} at the end of the curve")
    return Check(
        record.record_id, "result", not wrong, "; ".join(wrong) or f"status {record.status} and final quality follow from the curve"
    )


def _time(record: Record, curve: Curve) -> Check:
    time, wrong = record.time, []
    charged = sum(time.wall_seconds.get(bucket, 0.0) for bucket in _CHARGED)
    if abs(charged - time.charged_seconds) > _SLACK_SECONDS:
        wrong.append(f"curate, setup and train add up to {charged:.3f} s, {time.charged_seconds:.3f} s are charged")
    if curve and curve[-1].charged_seconds > time.charged_seconds + _SLACK_SECONDS:
        wrong.append(f"the curve ends at {curve[-1].charged_seconds:.3f} charged s, after the ledger's {time.charged_seconds:.3f} s")
    spent = sum(time.wall_seconds.values())
    if time.outer_seconds is not None and spent > time.outer_seconds + _SLACK_SECONDS + 0.01 * spent:
        wrong.append(f"buckets add up to {spent:.3f} s within an outer {time.outer_seconds:.3f} s")
    return Check(record.record_id, "time ledger", not wrong, "; ".join(wrong) or f"{time.charged_seconds:.3f} charged s add up")


def _seeds(record: Record) -> Check:
    if record.origin is not Origin.NATIVE or not record.seeds:
        return Check(record.record_id, "seeds", None, "the record states no derived seeds")
    same = dict(record.seeds) == derive_seeds(record.seed)
    return Check(record.record_id, "seeds", same, f"{'are' if same else 'are not'} those that seed {record.seed} gives")


def _hardware(record: Record) -> Check:
    """Whether the hardware class is that of the CPUs which the record describes; nothing is said of GPUs."""
    name, stated, cpu = "hardware class", record.hardware_class or "", record.machine.get("cpu")
    if not stated.startswith("cpu") or not isinstance(cpu, Mapping):
        return Check(record.record_id, name, None, "the record describes no CPUs that its class would follow from")
    try:
        found = machine.cpu_class(cpu)
    except (KeyError, TypeError, AttributeError):
        return Check(record.record_id, name, False, "its description of the CPUs is not one of a trial")
    return Check(record.record_id, name, found == stated, f"{stated}, and the described CPUs are {found}")


def _source(record: Record, folder: Path) -> Check:
    digest = record.entry.source_digest
    if digest is None:
        return Check(record.record_id, "source", True, "only the installed package ran; its version is in the record")
    if not (folder / "source").is_dir():
        return Check(record.record_id, "source", False, "a source digest is stated, but there is no folder source/")
    same = folder_digest(folder / "source") == digest
    return Check(record.record_id, "source", same, f"source/ {'has' if same else 'has not'} the digest of the record")


def _selection(record: Record, folder: Path) -> list[Check]:
    """``selection.npz`` against the record's digest, counts and keep fraction; nothing where all data were kept."""
    path, selected, name = folder / "selection.npz", record.selected, "selection"
    if record.origin is not Origin.NATIVE or record.entry.curation == "all":
        return []
    if selected is None:
        return [Check(record.record_id, name, False, "selection.npz is there, but the record has none")] if path.exists() else []
    if not path.exists():
        return [Check(record.record_id, name, False, "the record states a selection, but there is no selection.npz")]
    try:
        found = Selection.read(path)
    except DataError as problem:
        return [Check(record.record_id, name, False, str(problem).replace(str(path), path.name))]
    wrong = [
        what
        for what, same in (
            ("digest", found.digest == selected.digest),
            ("number of kept examples", len(found) == selected.kept_examples),
            ("provenance", object_digest(dict(found.provenance)) == object_digest(dict(selected.provenance))),
            ("pool", found.pool_digest == record.data_digests.get("pool", found.pool_digest)),
        )
        if not same
    ]
    detail = f"selection.npz and record.json differ in {', '.join(wrong)}" if wrong else f"{len(found):,} ids have the record's digest"
    return [Check(record.record_id, name, not wrong, detail)]


def _config(record: Record, folder: Path) -> Check:
    if record.origin is not Origin.NATIVE:
        return Check(record.record_id, "configuration", None, f"records from {record.origin} have none")
    try:
        plan = plan_of_record(record, folder)
    except (RecordError, DataError) as problem:
        return Check(record.record_id, "configuration", False, str(problem))
    wrong = [
        name
        for name, same in (
            ("workload", plan.workload.digest == record.workload.digest and plan.workload.ladder == record.workload.ladder),
            ("seed", plan.seed == record.seed),
            ("entry", plan.entry_name == record.entry.name),
            ("hyperparameters", dict(plan.algorithm.hyperparameters) == dict(record.entry.hyperparameters)),
            ("whether these are the defaults", plan.at_defaults == record.entry.at_defaults),
            ("ruleset", plan.ruleset is record.ruleset),
        )
        if not same
    ]
    detail = f"config.yaml and record.json differ in {', '.join(wrong)}" if wrong else "config.yaml has the record's trial digest"
    return Check(record.record_id, "configuration", not wrong, detail)


def _end(record: Record, curve: Curve, folder: Path) -> list[Check]:
    """Whether a missed trial spent its budget, or else was stopped early by its rule."""
    try:
        plan = plan_of_record(record, folder) if record.origin is Origin.NATIVE else None
    except (RecordError, DataError):
        return []  # the check of the configuration says so
    if plan is None:
        return []
    checks = _early_stop(record, curve, plan) if plan.early_stop is not None or record.stopped is not None else []
    if record.status is Status.MISSED and record.stopped is None:
        budget = plan.workload.budget
        own = {Lens.CHARGED_SECONDS: budget.charged_seconds, budget.lens: plan.horizon * (budget.amount(budget.lens) or 0.0)}
        amounts = {**budget.limits, **own}
        spent = bool(curve) and any((cost := curve[-1].cost(lens)) is not None and cost >= most for lens, most in amounts.items())
        checks.append(Check(record.record_id, "end", spent, f"its budget {'is' if spent else 'is not'} spent at the end of the curve"))
    return checks


def _early_stop(record: Record, curve: Curve, plan: Plan) -> list[Check]:
    """Whether the trial ended where its rule says, and whether that is the rule of its targets."""
    name = "early stop"
    rule, metric = plan.early_stop, plan.workload.metric
    if record.stopped is not None and (not curve or record.stopped != stopped(curve, metric, rule)):
        return [Check(record.record_id, name, False, "that it was stopped does not follow from curve.csv and the rule in config.yaml")]
    if any(stopped(curve[: i + 1], metric, rule) for i in range(len(curve) - 1)):
        return [Check(record.record_id, name, False, "it went on after an evaluation at which its rule ends it")]
    try:
        here = stop_rule(plan)
    except UserError as problem:
        return [Check(record.record_id, name, None, f"the rule cannot be derived here: {problem}")]
    if here != rule:
        return [Check(record.record_id, name, False, f"its rule is {rule}, the logs of the frozen targets give {here}")]
    said = "stopped where its rule says" if record.stopped else "never hopeless by its rule"
    return [Check(record.record_id, name, True, f"{said}, which follows from the logs of the frozen targets")]


def _statistical(again: Record, record: Record, others: Iterable[Record]) -> Check:
    name = "same distribution"
    alike = [
        r for r in others if r.entry == record.entry and r.workload.digest == record.workload.digest and r.record_id != record.record_id
    ]
    if len(alike) < FEWEST_SEEDS:
        detail = f"another numerics key; needs {FEWEST_SEEDS} other seeds of this entry for a test, given {len(alike)}"
        return Check(record.record_id, name, None, detail)
    said, passed = [], True
    for what, values, value in (
        ("final quality", [r.result.final_quality for r in alike], again.result.final_quality),
        ("examples to target", [_examples(r) for r in alike], _examples(again)),
    ):
        known = [v for v in values if v is not None]
        if value is None or len(known) < FEWEST_SEEDS:
            passed = passed and (value is None) == (len(known) < len(values) - len(known))
            said.append(f"{what}: {'missed' if value is None else f'{value:.5g}'}, hit by {len(known)} of {len(values)} others")
            continue
        low, high = _prediction(known)
        passed = passed and low <= value <= high
        said.append(f"{what} {value:.5g}, expected {low:.5g} to {high:.5g}")
    return Check(
        record.record_id, name, passed, f"another numerics key: {'; '.join(said)} (99 % prediction interval over {len(alike)} seeds)"
    )


def _examples(record: Record) -> float | None:
    crossing = record.crossing()
    return crossing.cost.get(Lens.EXAMPLES) if crossing is not None and crossing.hit else None


def _prediction(values: Sequence[float]) -> tuple[float, float]:
    """Where one more value of the same normal distribution falls with 99 % (mean +- t * s * sqrt(1 + 1/n))."""
    from scipy import stats

    found, n = np.asarray(values), len(values)
    reach = float(stats.t.ppf((1 + COVERAGE) / 2, n - 1)) * float(found.std(ddof=1)) * math.sqrt(1 + 1 / n)
    return float(found.mean()) - reach, float(found.mean()) + reach
