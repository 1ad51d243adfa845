"""The published recipes of the field against our references, at equal seconds on this machine, interleaved.

``python tests/benchmarks/peers.py characters | pictures | growth | minute [--repeats R] [--minutes 1 2 5] [--algorithm NAME]``
    A comparison, as a section in Markdown. With three repeats on two cores characters take about ten minutes, pictures fifty (two loops
    x 3 repeats x 8 minutes), growth and the README's table, accuracy at 60 charged seconds, twelve each. Data: as
    ``timetrial prepare shakespeare_gpt cifar10_cnn cifar10_vit cifar10_clip molhiv_gnn`` leaves them below ``$TIMETRIAL_HOME``.
``python tests/benchmarks/peers.py pictures --minutes 0.1 --repeats 1``, ``... characters --steps 100 --repeats 1``
    The same cut short, to try it out: a minute or two; its numbers mean nothing.

Shakespeare   nanoGPT's CPU setting (:mod:`_bare`) and ``shakespeare_gpt``: seconds of training to 1.88 nats (2.712 bits) a character on the
              same windows of the validation text, read off the curves by straight lines between evaluations.
Pictures      ``cifar10_cnn`` by its reference and by the algorithm ``airbench``, schedules stretched over about so many seconds at the
              median pace of the trials before; then airbench's recipe (:mod:`_bare`) for the mean of the seconds that these took, its
              schedule stretched over them. Accuracy on the same 5,000 validation pictures, no test-time augmentation.
Growth        the models of two papers, CCT-2/3x2 and GIN with a virtual node, too long to train to the end here: whether the test quality
              rises towards what they publish when our budget and its schedule are four times as long.

Ours is the frozen reference of each workload, AdamW at its defaults where targets are not frozen yet.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from dataclasses import dataclass, replace
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
PUBLISHED = {
    "cifar10_vit": ("accuracy", "0.898 after 200 passes (Hassani et al., Compact Transformers, table 2)"),
    "molhiv_gnn": ("roc_auc", "0.771, five layers of 300 channels (Hu et al., Open Graph Benchmark)"),
}
LONGER = 4
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
    print("## Characters of Shakespeare against nanoGPT\n")
    print(f"| loop | seconds to {NATS} nats | seconds in all | validation loss at the end, nats |\n|---|---|---|---|")
    for name, found in (("nanoGPT's CPU setting, bare", theirs), (f"`shakespeare_gpt`, {plan.algorithm.name}", ours)):
        ends = [end for _, end in found]
        crossed = told([at for at, _ in found], ".1f")
        print(f"| {name} | {crossed} | {told([s for s, _ in ends], '.1f')} | {told([n for _, n in ends], '.3f')} |", flush=True)
    print()


def pictures(arguments, home):
    from timetrial.tasks.cifar10_cnn import whitening_filters

    paces = [Pace("cifar10_cnn", name, home) for name in (arguments.algorithm or REFERENCE, "airbench")]
    inputs = paces[0].inputs
    train, validation = (
        (
            torch.from_numpy(part.split.fields["image"].values[part.ids]).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(part.split.fields["label"].values[part.ids]),
        )
        for part in (inputs.pool, inputs.validation)
    )
    filters = whitening_filters(inputs.dataset.facts["patch_covariance"])
    print("## CIFAR-10 at equal seconds against airbench\n")
    print("| loop | seconds | pictures seen | validation accuracy | over the bare loop | trials |\n|---|---|---|---|---|---|")
    for minutes in arguments.minutes:
        ours, theirs = [[] for _ in paces], []
        for seed in range(arguments.repeats):
            for pace, found in zip(paces, ours, strict=True):
                found.append(pace.trial(seed, 60 * minutes))
            seconds = statistics.mean(found[-1].seconds for found in ours)
            accuracy, seen = airbench(train, validation, inputs.dataset.facts, filters, seed, seconds)
            theirs.append(Stretched(seen, seconds, accuracy, None))
        names = ["airbench's recipe, bare", *(f"`cifar10_cnn`, {pace.algorithm}" for pace in paces)]
        for name, found in zip(names, [theirs, *ours], strict=True):
            apart = "" if found is theirs else told([a.validation - b.validation for a, b in zip(found, theirs, strict=True)], "+.3f")
            cells = [told([one.seconds for one in found], ".0f"), told([one.examples for one in found], ",.0f")]
            cells += [told([one.validation for one in found], ".3f"), apart, str(len(found))]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print()


def growth(arguments, home):
    print("## Published models, longer trained\n")
    print("| workload | measure on the test split | passes | reached | passes | reached | published |\n|---|---|---|---|---|---|---|")
    for name, (measure, published) in PUBLISHED.items():
        plan = plan_of(name, arguments.algorithm, 0, 2)
        inputs, cells = open_inputs(plan.workload, home_folder()), []
        for factor in (1, LONGER):
            examples, found = factor * plan.workload.budget.examples, []
            for seed in range(arguments.repeats):
                longer = plan_of(name, arguments.algorithm, seed, 2, examples=examples, charged_seconds=3600.0)
                result = run_trial(longer, home, inputs=inputs, fresh=True)[0].result
                found.append({plan.workload.metric.name: result.test_quality_at_end, **result.test_measures_at_end}[measure])
            cells += [f"{examples / len(inputs.pool.ids):.2f}", told(found, ".3f")]
        print(f"| `{name}` | {measure} | {' | '.join(cells)} | {published} |", flush=True)
    print()


def minute(arguments, home):
    """The README's table: what a minute of training reaches."""
    print("## Accuracy at 60 s\n")
    print("| workload | algorithm | validation accuracy | test accuracy | trials |\n|---|---|---|---|---|")
    for name in TABLE:
        pace = Pace(name, arguments.algorithm or REFERENCE, home)
        found = [pace.trial(seed, 60.0, cut=True) for seed in range(arguments.repeats)]
        cells = [told([getattr(one, part) for one in found], ".3f") for part in ("validation", "test")]
        print(f"| `{name}` | {pace.algorithm} | {' | '.join(cells)} | {len(found)} |", flush=True)
    print()


@dataclass(frozen=True)
class Stretched:
    examples: int
    seconds: float
    validation: float
    test: float


class Pace:
    """Trials of one workload whose schedule is stretched over about so many charged seconds, at the median pace of those before."""

    def __init__(self, name, algorithm, home):
        self.name, self.algorithm, self.home = name, algorithm, home
        plan = plan_of(name, self.algorithm, 0, 2)
        self.inputs, self.rates = open_inputs(plan.workload, home_folder()), []
        self.run(0, plan.workload.budget.examples // 2, 3600.0)

    def trial(self, seed, seconds, cut=False):
        """``cut``: never longer than the seconds, and stretched over a little less, since the pace wavers."""
        share, limit = (STRETCH, seconds) if cut else (1.0, 3600.0)
        return self.run(seed, round(share * statistics.median(self.rates) * seconds), limit)

    def run(self, seed, examples, limit):
        plan = plan_of(self.name, self.algorithm, seed, 4, examples=examples, charged_seconds=limit)
        record, folder = run_trial(plan, self.home, inputs=self.inputs, fresh=True)
        last, result = read_record(folder)[1][-1], record.result
        self.rates.append(last.examples / last.charged_seconds)
        return Stretched(last.examples, last.charged_seconds, result.final_quality, result.test_quality_at_end)


PARTS = {"characters": characters, "pictures": pictures, "growth": growth, "minute": minute}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(PARTS))
    parser.add_argument("--steps", type=int, help="iterations of the first comparison")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 2.0, 5.0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--algorithm", help="ours; default: the frozen reference, else adamw")
    arguments = parser.parse_args()
    prepare_environment(home_folder())
    with tempfile.TemporaryDirectory() as home:
        PARTS[arguments.what](arguments, Path(home))


if __name__ == "__main__":
    main()
