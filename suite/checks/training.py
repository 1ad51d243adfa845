"""The contract of a training algorithm, checked on small synthetic problems in the process of the entry.

Every check compares trainings that must be equal, so that no check knows how an algorithm works.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from ..algorithm import Need, StepReport
from ..config import ENTRY_PACKAGE, AlgorithmDefinition
from ..rehearsal import Rehearsal, fitting_scenes
from .probes import Listener, Place, Tracer, harness_fingerprint, held, line_of, random_state, replaced, structure, working
from .report import Violation

__all__ = ["Findings", "check_training"]

STEPS = 16
LEARNING_STEPS = 60
REORDERED_TOLERANCE = 1e-3
"""Relative, on losses and weights: sums over parameters are rounded in another order, and 16 steps amplify that."""


@final
class Findings:
    """What is found, each rule once at most a scene, with the line that the entry's own definition has where no better one is known."""

    def __init__(self, folder: Path, default: Place) -> None:
        self.folder, self.default = folder, default
        self.violations: list[Violation] = []
        self.checked: set[str] = set()
        self.undecided: dict[str, str] = {}

    def add(self, rule: str, message: str, place: Place = (None, None)) -> None:
        """Note a violation; the first of each rule stands for all."""
        if not self.broken(rule):
            self.violations.append(Violation(rule, message, *(place if place[0] else self.default)))

    def broken(self, rule: str) -> bool:
        """Whether a violation of the rule is known; what follows from it is not reported again."""
        return any(violation.rule == rule for violation in self.violations)

    def require(self, rule: str, kept: bool, message: str, place: Place = (None, None)) -> None:
        """Note that a rule was checked, and a violation unless it is kept."""
        self.checked.add(rule)
        if not kept:
            self.add(rule, message, place)

    @contextmanager
    def running(self, rule: str, doing: str) -> Iterator[None]:
        """An exception in the block is a violation of ``rule``; running out of memory goes through to the host."""
        self.checked.add(rule)
        try:
            yield
        except MemoryError:
            raise
        except Exception as problem:
            if "allocate memory" in str(problem):
                raise MemoryError(str(problem)) from problem
            last = traceback.extract_tb(problem.__traceback__)[-1]
            inside = line_of(self.folder, problem.__traceback__)
            if inside[0] is None and problem.__context__ is not None:  # a refusal that stands for what the entry raised
                inside = line_of(self.folder, problem.__context__.__traceback__)
            where = "" if inside[0] else f" ({Path(last.filename).name}:{last.lineno})"
            self.add(rule, f"{doing}: {type(problem).__name__}: {problem}{where}"[:600], inside)


def check_training(definition: AlgorithmDefinition, listener: Listener, findings: Findings) -> None:
    """All rules of training on every scene that meets the declared needs."""
    unknown = sorted(set(definition.needs) - {need.value for need in Need})
    findings.require("needs_can_be_met", not unknown, f"unknown needs: {', '.join(unknown)}; known: {', '.join(Need)}")
    scenes = [] if unknown else fitting_scenes(frozenset(definition.needs))
    if not scenes:
        why = f"no synthetic problem meets {', '.join(definition.needs)}; it is checked when it runs on a workload that does"
        findings.undecided |= dict.fromkeys(("runs", "steps_train", "same_seed_same_curve", "resume_equals_straight"), why)
        return
    learned = []
    for scene in scenes:
        _Scene(definition, scene, listener, findings).check()
        if findings.broken("runs"):
            return
        learned.append(_learns(definition, scene))
    worst = "; ".join(f"{scene}: {first:.4g} to {last:.4g}" for scene, (first, last) in zip(scenes, learned, strict=True))
    findings.require("steps_train", any(last < first for first, last in learned), f"{LEARNING_STEPS} steps do not lower the loss ({worst})")


def _learns(definition: AlgorithmDefinition, scene: str) -> tuple[float, float]:
    """Mean loss over all examples before and after training with the entry's hyperparameters."""
    training = Rehearsal(definition, scene, steps_in_budget=LEARNING_STEPS)
    first = _loss(training, None)
    training.setup().run(LEARNING_STEPS)
    last = _loss(training, training.algorithm.weights_for_evaluation(training.state))
    return first, last


def _loss(training: Rehearsal, weights: Mapping[str, Tensor] | None) -> float:
    own = training.weights()
    if weights is not None:
        training.model.load_state_dict(dict(weights), strict=False)
    with torch.no_grad():
        losses = [training.problem.losses(batch).mean() for batch in training.batches(128)]
    training.model.load_state_dict(own)
    return float(torch.stack(losses).mean())


@final
class _Scene:
    """The checks of one scene. ``straight`` is the training that all others are held against."""

    def __init__(self, definition: AlgorithmDefinition, scene: str, listener: Listener, findings: Findings) -> None:
        self.definition, self.scene, self.listener, self.findings = definition, scene, listener, findings

    def _training(self, **options: Any) -> Rehearsal:
        return Rehearsal(self.definition, self.scene, steps_in_budget=STEPS, **options).setup()

    def check(self) -> None:
        """Observe a training closely, then compare it with others that must be equal."""
        found = self.findings
        with found.running("runs", f"training on {self.scene}"):
            self._observed()
        if found.broken("runs"):
            return
        self.straight = self._training().run(STEPS)
        with found.running("same_seed_same_curve", "a second training"):
            self._same("same_seed_same_curve", self._training().run(STEPS), "a second training with the same seed")
        if found.broken("same_seed_same_curve"):
            return  # nothing that follows could be told apart from this
        for rule, check in (
            ("state_round_trip", self._resume),
            ("evaluation_undisturbed", self._evaluation),
            ("name_invisible", self._names),
        ):
            with found.running(rule, f"on {self.scene}"):
                check()

    def _observed(self) -> None:
        """Setup and a few steps under every probe."""
        found, listener = self.findings, self.listener
        threads = frozenset(thread.ident or 0 for thread in threading.enumerate())
        listener.after_setup = False
        training = Rehearsal(self.definition, self.scene, steps_in_budget=STEPS)
        functions, settings = harness_fingerprint()
        shape, start = structure(training.model), training.weights()
        with listener.listening():
            training.setup()
        random_before = random_state()
        probes: dict[str, Callable[[], Any]] = {
            "no_global_random": random_state,
            "batch_not_changed": training.intact,
            "structure_unchanged": lambda: structure(training.model),
        }
        tracer = Tracer(found.folder, probes)
        listener.after_setup = True
        intact, kept = True, False
        for number in range(STEPS):
            batch = training.next_batch()
            with listener.listening(), tracer.tracing():
                report = training.algorithm.step(training.state, batch)
            lent = training.lent
            intact = intact and training.intact()
            self._report(report, len(lent or batch))
            kept = kept or self._keeps(training)
            training.take(report)
            if number == 0:
                busy = working(threads)
                found.require("no_thread_left", not busy, f"still alive after a step: {', '.join(busy)}")
        places = tracer.places
        found.require("batch_not_changed", intact, "changes its batch in place", places.get("batch_not_changed", (None, None)))
        found.require("batch_not_kept", not kept, "holds a tensor of a batch after the step")
        random_kept = random_before == random_state()
        place = places.get("no_global_random", (None, None))
        found.require("no_global_random", random_kept, "draws from a global random generator; use problem.generator", place)
        place = places.get("structure_unchanged", (None, None))
        found.require("structure_unchanged", shape == structure(training.model), "changes the model's structure", place)
        functions_after, settings_after = harness_fingerprint()
        swapped = replaced(functions, functions_after)
        found.require("harness_unchanged", not swapped, f"replaces {', '.join(swapped[:3])}")
        found.require("harness_unchanged", settings == settings_after, "changes a global setting of torch or the environment")
        found.checked |= {"no_network", "no_files_after_setup"}
        for rule, said, where in listener.heard:
            found.add(rule, said, where)
        self._ownership(training, start)

    def _report(self, report: object, batch_size: int) -> None:
        found, rule = self.findings, "reports_its_step"
        if not isinstance(report, StepReport) or not isinstance(report.loss, Tensor):
            found.require(rule, False, f"step returns {type(report).__name__}; expected a StepReport with a tensor as loss")
            raise TypeError("no StepReport")
        loss, each, size = report.loss, report.per_example_loss, report.next_batch_size
        found.require(rule, loss.numel() == 1 and not loss.requires_grad, "loss: expected a detached scalar")
        found.require(rule, bool(torch.isfinite(loss).all()), "loss: is no finite number")
        fits = each is None or (each.ndim == 1 and not each.requires_grad and len(each) <= max(batch_size, 1) * 64)
        found.require(rule, fits, "per_example_loss: expected a detached vector")
        found.require(rule, size is None or (isinstance(size, int) and size > 0), f"next_batch_size: expected 1 or more, given {size!r}")

    def _keeps(self, training: Rehearsal) -> bool:
        """Whether state or the entry's modules reach memory of the batch that was lent."""
        lent = training.lent
        if lent is None:
            return False
        memory = {value.untyped_storage().data_ptr() for value in (*lent.fields.values(), lent.ids)}
        own = [
            vars(module)
            for name, module in sys.modules.items()
            if name.startswith(ENTRY_PACKAGE) and self.definition.target.startswith(name.partition(".")[0])
        ]
        roots = [training.state, training.algorithm, *(value for names in own for key, value in names.items() if not key.startswith("__"))]
        reached = held(roots, [training, training.problem, training.model, training.__dict__, training.problem.__dict__])
        return any(isinstance(item, Tensor) and item.untyped_storage().data_ptr() in memory for item in reached)

    def _ownership(self, training: Rehearsal, start: Mapping[str, Tensor]) -> None:
        """Optimizers' parameters counted; without an optimizer, what moved."""
        found, rule = self.findings, "owns_every_parameter"
        parameters = dict(training.model.named_parameters())
        reached = held([training.state, training.algorithm], [training, training.problem, training.model, training.__dict__])
        optimizers = [item for item in reached if isinstance(item, torch.optim.Optimizer)]
        inner = {id(item) for outer in optimizers for item in held([vars(outer)], [outer]) if isinstance(item, torch.optim.Optimizer)}
        counts = dict.fromkeys(map(id, parameters.values()), 0)
        for optimizer in optimizers:
            for group in optimizer.param_groups if id(optimizer) not in inner else ():
                for parameter in group["params"]:
                    counts[id(parameter)] = counts.get(id(parameter), 0) + 1
        now = training.weights()
        moved = {name for name, value in now.items() if not torch.equal(value, start[name])}
        for name, parameter in parameters.items():
            count = counts[id(parameter)] if optimizers else int(name in moved)
            if parameter.requires_grad and any(counts.values()) | (not optimizers):
                said = f"{training.problem.kinds[name]} {name!r} is updated by {count} rules" if count != 1 else ""
                found.require(rule, count == 1, said)
            elif not parameter.requires_grad:
                found.require(rule, name not in moved, f"frozen parameter {name!r} is changed")

    def _same(self, rule: str, other: Rehearsal, what: str, straight: Rehearsal | None = None) -> bool:
        """Losses and weights, bit for bit."""
        one = straight or self.straight
        step = next((n for n, (a, b) in enumerate(zip(one.losses, other.losses, strict=True)) if a != b), None)
        weights = other.weights()
        alike = step is None and all(torch.equal(value, weights[name]) for name, value in one.weights().items())
        where = "weights" if step is None else f"loss of step {step + 1}"
        self.findings.require(rule, alike, f"{what} differs in the {where} ({self.scene})")
        return alike

    def _resume(self) -> None:
        half = self._training().run(STEPS // 2)
        payload = half.checkpoint()
        resumed = self._training()
        resumed.restore(payload)
        with self.findings.running("state_round_trip", "state_dict after load_state_dict"):
            again = resumed.checkpoint()
            same = _equal(payload["algorithm"], again["algorithm"])
            self.findings.require("state_round_trip", same, f"state_dict differs after load_state_dict ({self.scene})")
        self._same("state_round_trip", half.run(STEPS - STEPS // 2), "a training whose state was read")
        if self.findings.broken("state_round_trip"):
            return
        self._same("resume_equals_straight", resumed.run(STEPS - STEPS // 2), "a resumed training")

    def _evaluation(self) -> None:
        found, rule = self.findings, "evaluation_undisturbed"
        training = self._training()
        known = training.weights()
        for _ in range(STEPS):
            training.step()
            before = training.weights()
            weights = training.algorithm.weights_for_evaluation(training.state)
            after = training.weights()
            found.require(rule, all(torch.equal(value, after[name]) for name, value in before.items()), "changes the model's weights")
            for name, value in (weights or {}).items():
                fits = name in known and isinstance(value, Tensor) and value.shape == known[name].shape
                found.require(rule, fits, f"gives {name!r}, which is no parameter or buffer of this shape")
        self._same(rule, training, "a training that is asked for its weights")

    def _names(self) -> None:
        self._same("name_invisible", self._training(renamed=True).run(STEPS), "a training with other names")
        before = self._training().problem.generator.get_state()
        if self.findings.broken("owns_every_parameter") or not torch.equal(before, self.straight.problem.generator.get_state()):
            return  # what order decides is known, or it draws numbers for one parameter after another; another order is another draw
        other = self._training(reordered=True).run(STEPS)
        one, two = self.straight.weights(), other.weights()
        near = torch.allclose(torch.tensor(self.straight.losses), torch.tensor(other.losses), rtol=REORDERED_TOLERANCE, atol=1e-5)
        near = near and all(_near(value, two[name]) for name, value in one.items())
        self.findings.require("name_invisible", near, f"another order of the parameters gives another curve ({self.scene})")


def _near(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(
        one.double(), other.double(), rtol=REORDERED_TOLERANCE, atol=REORDERED_TOLERANCE * max(1e-3, float(one.abs().max()))
    )


def _equal(one: Any, other: Any) -> bool:
    """Equality of nested plain values and tensors, NaN equal to itself."""
    if isinstance(one, Tensor):
        same = isinstance(other, Tensor) and one.dtype == other.dtype and one.shape == other.shape
        return bool(
            same
            and torch.equal(one.nan_to_num() if one.is_floating_point() else one, other.nan_to_num() if one.is_floating_point() else other)
        )
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other or (one != one and other != other))
