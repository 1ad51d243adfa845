"""The rules as data: what an entry may know, and what it may do. ``RULES.md`` says the same for people; a test holds them equal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["RULES", "Concern", "Judge", "Rule", "rule"]


class Judge(StrEnum):
    """Who decides: the contract suite, or a person who reads the entry."""

    AUTOMATIC = "automatic"
    HUMAN = "human"


class Concern(StrEnum):
    """``form``: what the entry is made of. ``information``: what it uses. ``action``: what it does."""

    FORM = "form"
    INFORMATION = "information"
    ACTION = "action"


@dataclass(frozen=True)
class Rule:
    """One rule; ``what`` is the sentence that an entry must make true."""

    name: str
    concern: Concern
    judge: Judge
    what: str


def _auto(concern: Concern, name: str, what: str) -> Rule:
    return Rule(name, concern, Judge.AUTOMATIC, what)


def _human(concern: Concern, name: str, what: str) -> Rule:
    return Rule(name, concern, Judge.HUMAN, what)


_F, _I, _A = Concern.FORM, Concern.INFORMATION, Concern.ACTION

RULES: tuple[Rule, ...] = (
    _auto(_F, "manifest", "entry.yaml has every required key, no other one, and values of the right type."),
    _auto(_F, "loads", "Its code parses and imports, and the target is a class of the right kind."),
    _auto(_F, "needs_can_be_met", "The needs that it declares are known ones."),
    _auto(_F, "runs", "Setup, steps and checkpoints run without an error or a crash."),
    _auto(_F, "reports_its_step", "A step returns a StepReport: a detached, finite mean loss, and per-example losses of the batch if any."),
    _auto(_F, "time_limit", "It never hangs."),
    _auto(_F, "memory_limit", "It stays within the memory limit."),
    _auto(_I, "no_peeking", "It looks only at what it is given: no frames, no closures, no environment, no harness internals."),
    _auto(_I, "no_workload_names", "No workload's or data set's name occurs in its code."),
    _auto(_I, "name_invisible", "Other names of parameters change no bit of the curve; another order of them no more than rounding."),
    _auto(_I, "no_clock", "It reads no clock; progress is the fraction of the budget that it is told."),
    _auto(_I, "no_network", "It opens no connection, not even while it is imported."),
    _auto(_I, "no_files_after_setup", "After setup it opens no files; imports and compile caches are allowed."),
    _auto(_I, "same_seed_same_curve", "The same seed gives the same curve, bit for bit."),
    _auto(_I, "no_global_random", "It draws random numbers from its generator, never from a global one."),
    _auto(_I, "batch_not_kept", "It keeps no reference to a batch whose time is over."),
    _auto(_A, "batch_not_changed", "It does not change a batch in place."),
    _auto(_A, "structure_unchanged", "It leaves the model's structure alone: modules, parameters, hooks, forward functions."),
    _auto(_A, "harness_unchanged", "It replaces nothing in torch, timetrial or Python, and changes no global setting."),
    _auto(_A, "owns_every_parameter", "Every trainable parameter is updated by exactly one rule, a frozen one by none."),
    _auto(_A, "steps_train", "Its steps lower the training loss of a problem that can be learned."),
    _auto(_A, "state_round_trip", "Its state survives being written and read, bit for bit, and reading it disturbs nothing."),
    _auto(_A, "resume_equals_straight", "A resumed run goes on to the same curve as an uninterrupted one, bit for bit."),
    _auto(_A, "evaluation_undisturbed", "Asking for the weights to evaluate disturbs nothing, and gives names and shapes of the model."),
    _auto(_A, "no_thread_left", "No thread or process of its own is alive after a step."),
    _auto(_A, "selection_valid", "A selection has the size that was asked for, ids of the pool, and is the same for the same seed."),
    _auto(_A, "readable_code", "What runs can be read: no eval, no exec, no foreign binaries, no pickles."),
    _human(_I, "no_workload_constants", "No constant is meant for one workload, whether or not its name is spoken."),
    _human(
        _I, "no_outside_data", "Nothing learned from validation or test data, or from data outside the workload, comes in as a constant."
    ),
    _human(
        _A,
        "no_speed_from_engineering",
        "Faster kernels or data paths are no training algorithm; what could serve every entry belongs to the harness.",
    ),
    _human(_A, "tuning_is_agnostic", "The search space or the points were fixed without looking at single workloads."),
    _human(_F, "credit", "Authors, paper and licence are those of the code."),
)


def rule(name: str) -> Rule:
    """A rule by name; ``KeyError`` for a name that is none, since only this package asks."""
    return {known.name: known for known in RULES}[name]
