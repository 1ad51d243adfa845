"""The published recipes of the field against our references, at equal seconds on this machine, interleaved.

``python tests/benchmarks/peers.py [both | characters | pictures] [--repeats R] [--minutes 1 2 5] [--algorithm NAME]``
    The comparisons, as a section in Markdown. With three repeats on two cores about ten minutes for characters and fifty for pictures
    (two loops x 3 repeats x 8 minutes). Data: as ``timetrial prepare shakespeare_gpt cifar10_cnn`` leaves them below ``$TIMETRIAL_HOME``.
``python tests/benchmarks/peers.py --steps 100 --minutes 0.1 --repeats 1``
    The same cut short, to try it out: a minute or two; its numbers mean nothing.
``python tests/benchmarks/peers.py minute``
    The README's table, accuracy at 60 charged seconds: about twelve minutes.

Shakespeare   nanoGPT's CPU setting (:mod:`_bare`) and ``shakespeare_gpt``: seconds of training to 1.88 nats (2.712 bits) a character on the
              same windows of the validation text, read off the curves by straight lines between evaluations.
Pictures      airbench's recipe (:mod:`_bare`) and ``cifar10_cnn``, both given the same seconds, their schedules stretched over them;
              accuracy on the same 5,000 validation pictures, no test-time augmentation. Ours is stretched over 97 % of what a
              short trial's pace allows; the seconds cut both off.

Ours is the frozen reference of each workload, AdamW at its defaults where targets are not frozen yet.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from timetrial.data_pipelines.threads import prepare_environment
from timetrial.suite.files import home_folder

prepare_environment(home_folder())  # before torch, which reads it when it is imported

import torch  # noqa: E402
from _bare import airbench, shakespeare  # noqa: E402

from timetrial.suite.config import REFERENCE, resolve  # noqa: E402
from timetrial.suite.inputs import open_inputs  # noqa: E402
from timetrial.suite.record import read_record  # noqa: E402
from timetrial.suite.registry import definition  # noqa: E402
from timetrial.suite.trial import run_trial  # noqa: E402
from timetrial.suite.workload import TargetStatus  # noqa: E402

NATS = 1.88  # documented after 2,000 iterations
STEPS, EVERY = 2000, 100
EVALUATIONS = STEPS // EVERY
TABLE = ("cifar10_cnn", "cifar10_vit", "cifar10_clip")
TABLE_SECONDS = 60.0
STRETCH = 0.97


def plan_of(workload, algorithm, seed, evaluations, **budget):
    """A trial of a budget, evaluated so many times, that goes on to its end whatever levels it reaches."""
    chosen = algorithm or (REFERENCE if definition("workload", workload).get("reference") else "adamw")
    plan = resolve([f"workload={workload}", f"algorithm={chosen}", f"seed={seed}", "study=benchmark"])
    given = plan.workload
    own = replace(given.budget, **budget)
    evaluation = replace(given.evaluation, every_examples=max(1, own.examples // evaluations))
    ladder = replace(given.ladder, status=TargetStatus.PROVISIONAL)
    return replace(plan, workload=replace(given, budget=own, evaluation=evaluation, ladder=ladder))


def reached(curve, level):
    """Seconds at which a falling curve of (seconds, loss) first meets a level, by a straight line; None if it never does."""
    for (start, before), (end, after) in pairwise(curve):
        if after <= level < before:
            return start + (end - start) * (before - level) / (before - after)
    return None


def told(values, form):
    """Median with the smallest and largest in brackets."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"not reached in {len(values) - len(known)} of {len(values)}"
    return f"{statistics.median(known):{form}} ({min(known):{form}} to {max(known):{form}})"


def characters(arguments, home):
    plan = plan_of("shakespeare_gpt", arguments.algorithm, 0, EVALUATIONS)
    inputs = open_inputs(plan.workload, home_folder())
    rows = torch.tensor(inputs.pool.split.fields["tokens"].values[:], dtype=torch.int64)
    text = torch.cat((rows[:, :64].flatten(), rows[-1, 64:]))
    windows = torch.tensor(inputs.validation.split.fields["tokens"].values[:, :65], dtype=torch.int64)
    vocabulary = len(inputs.dataset.facts["vocabulary"])
    examples = plan.workload.budget.examples if arguments.steps is None else arguments.steps * plan.workload.batch_size
    theirs, ours = [], []
    for seed in range(arguments.repeats):
        curve = shakespeare(text, windows, vocabulary, seed, arguments.steps or STEPS, EVERY)
        theirs.append((reached(curve, NATS), curve[-1]))
        plan = plan_of("shakespeare_gpt", arguments.algorithm, seed, EVALUATIONS, examples=examples, charged_seconds=3600.0)
        _, folder = run_trial(plan, home, inputs=inputs, fresh=True)
        curve = [(point.charged_seconds, point.quality * math.log(2)) for point in read_record(folder)[1]]
        ours.append((reached(curve, NATS), curve[-1]))
    print("### Characters of Shakespeare\n")
    print(f"| loop | seconds to {NATS} nats | seconds in all | validation loss at the end, nats |\n|---|---|---|---|")
    for name, found in (("nanoGPT's CPU setting, bare", theirs), (f"`shakespeare_gpt`, {plan.algorithm.name}", ours)):
        ends = [end for _, end in found]
        crossed = told([at for at, _ in found], ".1f")
        print(f"| {name} | {crossed} | {told([s for s, _ in ends], '.1f')} | {told([n for _, n in ends], '.3f')} |", flush=True)
    print()


def pictures(arguments, home):
    from timetrial.tasks.cifar10_cnn import whitening_filters

    inputs, rate = prepared("cifar10_cnn", arguments, home)
    train, validation = (
        (
            torch.from_numpy(part.split.fields["image"].values[part.ids]).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(part.split.fields["label"].values[part.ids]),
        )
        for part in (inputs.pool, inputs.validation)
    )
    facts = inputs.dataset.facts
    filters = whitening_filters(facts["patch_covariance"])
    print("### CIFAR-10 at equal seconds\n\n| seconds | airbench's recipe, bare | `cifar10_cnn` | ours - theirs |\n|---|---|---|---|")
    for minutes in arguments.minutes:
        seconds, theirs, ours = 60 * minutes, [], []
        for seed in range(arguments.repeats):
            theirs.append(airbench(train, validation, facts, filters, seed, seconds)[0])
            ours.append(stretched("cifar10_cnn", arguments, home, inputs, rate, seed, seconds)[0])
        apart = [b - a for a, b in zip(theirs, ours, strict=True)]
        print(f"| {seconds:.0f} | {told(theirs, '.3f')} | {told(ours, '.3f')} | {told(apart, '+.3f')} |", flush=True)
    print()


def minute(arguments, home):
    """The README's table: what a minute of training reaches, schedules stretched over it."""
    print(f"| trained for {TABLE_SECONDS:.0f} s | algorithm | validation accuracy | test accuracy | trials |\n|---|---|---|---|---|")
    for name in TABLE:
        inputs, rate = prepared(name, arguments, home)
        found = [stretched(name, arguments, home, inputs, rate, seed, TABLE_SECONDS) for seed in range(arguments.repeats)]
        quality, test = (told([values[i] for values in found], ".3f") for i in (0, 1))
        print(f"| `{name}` | {plan_of(name, arguments.algorithm, 0, 1).algorithm.name} | {quality} | {test} | {len(found)} |", flush=True)
    print()


def prepared(name, arguments, home):
    """Inputs of a workload, and its examples a second of training: the second half of a short trial, evaluations excluded."""
    plan = plan_of(name, arguments.algorithm, 0, 2)
    inputs = open_inputs(plan.workload, home_folder())
    plan = plan_of(name, arguments.algorithm, 0, 2, examples=plan.workload.budget.examples // 2, charged_seconds=3600.0)
    _, folder = run_trial(plan, home, inputs=inputs, fresh=True)
    *_, before, last = read_record(folder)[1]
    return inputs, (last.examples - before.examples) / (last.charged_seconds - before.charged_seconds)


def stretched(name, arguments, home, inputs, rate, seed, seconds):
    """Validation and test quality at the end of a trial whose schedule is stretched over the seconds that it gets."""
    budget = {"examples": round(STRETCH * rate * seconds), "charged_seconds": seconds}
    record, _ = run_trial(plan_of(name, arguments.algorithm, seed, 4, **budget), home, inputs=inputs, fresh=True)
    return record.result.final_quality, record.result.test_quality_at_end


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("both", "characters", "pictures", "minute"), default="both")
    parser.add_argument("--steps", type=int, help="iterations of the first comparison")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 2.0, 5.0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--algorithm", help="ours; default: the frozen reference, else adamw")
    arguments = parser.parse_args()
    prepare_environment(home_folder())
    with tempfile.TemporaryDirectory() as home:
        if arguments.what == "minute":
            return minute(arguments, Path(home))
        print("## Against the field's recipes\n")
        if arguments.what != "pictures":
            characters(arguments, Path(home))
        if arguments.what != "characters":
            pictures(arguments, Path(home))
    return None


if __name__ == "__main__":
    main()
