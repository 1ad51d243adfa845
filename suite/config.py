"""From ``timetrial run`` overrides to a validated plan: Hydra composes, frozen dataclasses check."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any, ClassVar, Literal

from . import machine
from .errors import ConfigError, UserError
from .files import object_digest
from .protocol import protocol
from .record import Ruleset, StopRule
from .registry import config_folders, definition, definition_path
from .schema import STRICT, build, fields_at, plain
from .workload import Workload

__all__ = [
    "ENTRY_PACKAGE",
    "REFERENCE",
    "AlgorithmDefinition",
    "CurationDefinition",
    "Plan",
    "entry_name",
    "hardware_of",
    "instantiate",
    "plan_of",
    "resolve",
    "resolve_definition",
    "split_overrides",
    "teach_hydra",
    "under",
]

REFERENCE = "reference"
"""What ``algorithm=`` and boards call the frozen baseline of a workload, whichever algorithm it is."""
ENTRY_PACKAGE = "timetrial_entry_"
"""How the names begin under which the code of entries is imported (:mod:`.entry_code`)."""


@dataclass(frozen=True)
class AlgorithmDefinition:
    """A training algorithm by name: a class (``target``) with ``options``, and the hyperparameters it is run with.

    ``batch_size`` None follows the workload's suggestion. ``search_space`` maps hyperparameters to ranges for tuning.
    """

    __pydantic_config__: ClassVar = STRICT
    name: str
    summary: str
    target: str
    paper: str = ""
    needs: tuple[str, ...] = ()
    batch_size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    search_space: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CurationDefinition:
    """A curation method by name. ``kind``: ``static`` selects once, ``dynamic`` decides at every epoch."""

    __pydantic_config__: ClassVar = STRICT
    name: str
    summary: str
    target: str
    paper: str = ""
    needs: tuple[str, ...] = ()
    needs_labels: bool = False
    kind: str = "static"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """All that determines a trial. Two trials with equal plans on one numerics key have bit-identical curves.

    ``horizon`` multiplies the workload's budget: it is what the algorithm's schedule stretches over. ``loader`` is ``auto``
    (FFCV where it imports), ``ffcv`` or ``torch``; ``workers`` its threads, ``threads`` torch's in each process (None: all CPUs
    together). ``processes`` share every batch. ``defaults`` are the hyperparameters that the algorithm is defined with. What a ruleset
    changes, :func:`under` has changed. ``early_stop`` ends the trial where it is hopeless; it trains no differently up to there.
    """

    __pydantic_config__: ClassVar = STRICT
    workload: Workload
    algorithm: AlgorithmDefinition
    curation: CurationDefinition
    keep_fraction: float = 1.0
    seed: int = 0
    horizon: float = 1.0
    study: str | None = None
    loader: Literal["auto", "ffcv", "torch"] = "auto"
    workers: int = 1
    threads: int | None = None
    processes: int = 1
    ruleset: Ruleset = Ruleset.EXTERNAL_TUNING
    defaults: Mapping[str, Any] | None = None
    early_stop: StopRule | None = None

    @property
    def digest(self) -> str:
        """Identity of the trial: equal trainings, equal digest. What only says where a trial belongs or ends early is not part of it."""
        value = plain(self)
        for name in ("study", "ruleset", "defaults", "early_stop"):
            del value[name]
        if self.processes == 1:
            del value["processes"]  # nothing depends on it, and earlier trials keep their names
        return object_digest(value)

    @property
    def provides(self) -> tuple[str, ...]:
        """Needs that not the workload meets but the way in which it is run."""
        return ("two_processes",) if self.processes > 1 else ()

    @property
    def at_defaults(self) -> bool | None:
        """Whether the hyperparameters are those that the algorithm is defined with; None where nobody said which those are."""
        return None if self.defaults is None else object_digest(dict(self.defaults)) == object_digest(dict(self.algorithm.hyperparameters))

    @property
    def code(self) -> tuple[str, ...]:
        """Dotted paths of the classes that it runs: algorithm, curation method and, where the algorithm takes one, optimizer."""
        optimizer = self.algorithm.options.get("optimizer")
        return (self.algorithm.target, self.curation.target, *([optimizer] if isinstance(optimizer, str) else []))

    @property
    def entry_name(self) -> str:
        """What boards call it: ``adamw`` or ``adamw + random 0.5``."""
        return entry_name(self.algorithm.name, self.curation.name, self.keep_fraction)

    def checked(self) -> Plan:
        """This plan, or ``ConfigError`` / ``NeedsUnmet`` naming what does not fit together."""
        self.workload.checked(f"workload {self.workload.name}")
        for name, ok, expected in (
            ("keep_fraction", 0 < self.keep_fraction <= 1, "more than 0 and at most 1"),
            ("horizon", self.horizon > 0, "more than 0"),
            ("seed", self.seed >= 0, "0 or more"),
            ("workers", self.workers >= 1, "at least 1"),
            ("processes", self.processes >= 1, "at least 1"),
        ):
            if not ok:
                raise ConfigError(f"{name}: expected {expected}, given {getattr(self, name)!r}")
        if self.curation.name == "all" and self.keep_fraction < 1:
            raise ConfigError("curation 'all' keeps everything; to keep a fraction name a method: curation=random keep_fraction=0.5")
        if self.processes > 1:
            self._check_shares()
        return self

    def _check_shares(self) -> None:
        """``ConfigError`` when several processes cannot run what the plan says."""
        size = self.algorithm.batch_size or self.workload.batch_size
        if size % self.processes:
            raise ConfigError(f"processes: expected a divisor of the batch size {size}, given {self.processes}")
        if self.curation.kind == "dynamic":
            raise ConfigError(f"processes: curation method {self.curation.name!r} decides while it trains and runs on one process")
        if any(target.startswith(ENTRY_PACKAGE) for target in (self.algorithm.target, self.curation.target)):
            raise ConfigError("processes: the code of an entry runs on one process")


def entry_name(algorithm: str, curation: str, keep_fraction: float) -> str:
    """What boards call an algorithm with a curation method: ``adamw`` or ``adamw + random 0.5``."""
    return algorithm if curation == "all" and keep_fraction == 1.0 else f"{algorithm} + {curation} {keep_fraction:g}"


_GROUP_TYPES: Mapping[str, type] = {"workload": Workload, "algorithm": AlgorithmDefinition, "curation": CurationDefinition}


def resolve_definition(group: str, name: str) -> Any:
    """A workload, algorithm or curation method by name, validated, without Hydra."""
    found: Any = build(_GROUP_TYPES[group], definition(group, name), f"{group} {name}")
    return found.checked(f"workload {name}") if isinstance(found, Workload) else found


def resolve(overrides: Sequence[str]) -> Plan:
    """Compose ``workload=… algorithm=… key=value…`` into a plan.

    A bare key that is a hyperparameter or option of the chosen algorithm or curation method means that one: ``lr=0.1``.
    ``algorithm=reference`` is the workload's frozen reference, ``ruleset=self_tuning`` what :func:`under` says.
    Raises ``UnknownName`` or ``ConfigError`` with the nearest known names.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    shipped, *extra = config_folders()
    # Hydra takes a key that is also a config folder for a choice of file, and ``configs/study`` is one.
    study, ruleset = ([item.partition("=")[2] for item in overrides if item.startswith(key)] for key in ("study=", "ruleset="))
    spelled = _with_reference([item for item in overrides if not item.startswith(("study=", "ruleset="))])
    full = split_overrides(spelled)
    teach_hydra(item.partition("=")[2] for item in full if item.startswith("workload="))
    if extra:
        full.append(f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in extra)}]")
    try:
        with initialize_config_dir(str(shipped), version_base="1.3"):
            value = OmegaConf.to_container(compose("run", full), resolve=True)
    except (HydraException, OmegaConfBaseException) as problem:
        raise ConfigError(_one_line(problem, overrides)) from None
    composed: dict[str, Any] = {**value, "study": study[-1] if study else None, "defaults": _defaults(overrides, spelled)}  # type: ignore[dict-item]
    return under(plan_of(composed), ruleset[-1] if ruleset else Ruleset.EXTERNAL_TUNING)


def hardware_of(plan: Plan) -> str:
    """The hardware class that the plan's trial has on this machine; several processes share its CPUs."""
    return machine.trial_hardware_class(gpus_allowed=plan.processes == 1)


def under(plan: Plan, ruleset: str) -> Plan:
    """The plan as this machine and a ruleset have it run: self-tuning multiplies the workload's budget, and so does, for seconds, hardware
    that its targets were not frozen on.

    Raises ``ConfigError`` for an unknown ruleset, and under self-tuning for hyperparameters that differ from the algorithm's own.
    """
    if ruleset not in list(Ruleset):
        raise ConfigError(f"ruleset: expected {' or '.join(Ruleset)}, given {ruleset!r}")
    plan = _elsewhere(plan)
    if ruleset == Ruleset.EXTERNAL_TUNING:
        return plan
    own = plan.defaults or {}
    given = [name for name, value in plan.algorithm.hyperparameters.items() if name not in own or own[name] != value]
    if given:
        raise ConfigError(f"ruleset {ruleset}: there are no hyperparameters to set; given {', '.join(sorted(given))}")
    larger = plan.workload.budget.times(protocol().self_tuning.budget_factor)
    return replace(plan, workload=replace(plan.workload, budget=larger), ruleset=Ruleset(ruleset)).checked()


def _elsewhere(plan: Plan) -> Plan:
    """The plan with more seconds where the frozen ones belong to another hardware class; seconds that somebody set stay."""
    frozen, budget = plan.workload.reference, plan.workload.budget
    if frozen is None or budget.charged_seconds != definition("workload", plan.workload.name)["budget"]["charged_seconds"]:
        return plan
    if frozen.hardware_class == hardware_of(plan):
        return plan
    longer = replace(budget, charged_seconds=protocol().hardware.elsewhere_factor * budget.charged_seconds, cut_off_only=True)
    return replace(plan, workload=replace(plan.workload, budget=longer))


def _with_reference(overrides: Sequence[str]) -> list[str]:
    """``algorithm=reference`` spelled out: the algorithm and hyperparameters that are frozen with the workload's targets."""
    if f"algorithm={REFERENCE}" not in overrides:
        return list(overrides)
    workload = next((item.partition("=")[2] for item in overrides if item.startswith("workload=")), "")
    frozen = definition("workload", workload).get("reference")
    if frozen is None:
        hint = f"timetrial targets {workload}"
        raise ConfigError(f"algorithm={REFERENCE}: workload {workload!r} has none before its targets are frozen: {hint}")
    values = [f"algorithm.hyperparameters.{key}={json.dumps(value)}" for key, value in frozen["hyperparameters"].items()]
    spelled = [f"algorithm={frozen['algorithm']}", f"algorithm.name={REFERENCE}", *values]
    return [part for item in overrides for part in (spelled if item == f"algorithm={REFERENCE}" else [item])]


def _defaults(given: Sequence[str], spelled: Sequence[str]) -> dict[str, Any]:
    """The hyperparameters that the chosen algorithm is defined with: its file's or, of the reference, those frozen with the targets."""
    chosen = dict(item.split("=", 1) for item in spelled if item.startswith(("workload=", "algorithm=")))
    table = dict(definition("algorithm", chosen.get("algorithm", "adamw")).get("hyperparameters") or {})
    if f"algorithm={REFERENCE}" in given:
        table |= definition("workload", chosen["workload"])["reference"]["hyperparameters"]
    return table


def teach_hydra(workloads: Iterable[str]) -> None:
    """Make workloads that are no file in a config group (variants, folders of their own) known to Hydra's config store."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name in workloads:
        path = definition_path("workload", name)
        if (path.parent.name, path.stem) != ("workload", name):
            store.store(name=name, group="workload", node=dict(definition("workload", name)))
        else:  # what an earlier call taught under this name would now stand beside the file
            store.repo.get("workload", {}).pop(f"{name}.yaml", None)


def plan_of(composed: Mapping[str, Any]) -> Plan:
    """Check what Hydra composed; ``ConfigError`` names the key that is wrong."""
    return build(Plan, composed, "run").checked()


def split_overrides(overrides: Sequence[str]) -> list[str]:
    """Check the names in an override list and spell bare hyperparameters out in full."""
    chosen = {"algorithm": "adamw", "curation": "all"}
    for item in overrides:
        key, separator, value = item.partition("=")
        if not separator:
            raise UserError(f"override {item!r}: expected key=value")
        if key in _GROUP_TYPES:
            chosen[key] = value
    if "workload" not in chosen:
        raise UserError("no workload named")
    homes: dict[str, str] = {}
    for group, name in chosen.items():
        definition_path(group, name)
        for section in ("hyperparameters", "options") if group != "workload" else ():
            for key in definition(group, name).get(section) or {}:
                homes.setdefault(key, f"{group}.{section}.{key}")
    top = {"workload", "algorithm", "curation", "keep_fraction", "seed", "horizon", "study", "loader", "workers", "threads"}
    top |= {"processes", "ruleset"}
    full = []
    for item in overrides:
        key, _, value = item.partition("=")
        bare = key.lstrip("+~")
        if "." not in bare and bare not in top and not bare.startswith("hydra"):
            if bare not in homes:
                near = get_close_matches(bare, [*top, *homes], n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(sorted([*top, *homes]))}"
                raise ConfigError(f"unknown override {bare!r}; {hint}")
            item = f"{homes[bare]}={value}"
        group, *path = bare.split(".")
        if group in _GROUP_TYPES and path and path[-1] in fields_at(_GROUP_TYPES[group], tuple(path[:-1])):
            item = f"++{bare}={value}"  # a field that its file leaves at the default can be set all the same
        full.append(_kept_text(item, chosen))
    return full


def _kept_text(item: str, chosen: Mapping[str, str]) -> str:
    """``key=12e345`` quoted where the option's default is a text: Hydra would read digits of a digest as a number."""
    key, _, value = item.partition("=")
    group, *path = key.lstrip("+").split(".")
    if len(path) != 2 or group not in chosen or re.fullmatch(r"[+-]?[\d._]+(e[+-]?[\d_]+)?", value, re.IGNORECASE) is None:
        return item
    default = (definition(group, chosen[group]).get(path[0]) or {}).get(path[1])
    return f"{key}='{value}'" if isinstance(default, str) else item


def instantiate(target: str, options: Mapping[str, Any], expected: type, allowed: tuple[str, ...] = ("timetrial.", ENTRY_PACKAGE)) -> Any:
    """Make the object that a definition names. ``ConfigError`` outside the allowed prefixes, or for wrong options or type."""
    if not target.startswith(allowed):
        raise ConfigError(f"target {target!r}: expected a dotted path below {', '.join(allowed)}")
    module, _, name = target.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise ConfigError(f"target {target!r}: {problem}") from None
    if not (isinstance(cls, type) and issubclass(cls, expected)):
        raise ConfigError(f"target {target!r}: expected a {expected.__name__}, found {cls!r}")
    try:
        return cls(**options)
    except TypeError as problem:
        raise ConfigError(f"target {target!r}: {problem}; options given: {', '.join(options) or 'none'}") from None


def _one_line(problem: Exception, overrides: Sequence[str]) -> str:
    """Hydra's message in one line, with the nearest key where an override names one that does not exist."""
    text = " ".join(str(problem).split())
    missed = re.match(r"Could not override '([^']+)'", text)
    if missed is None:
        return f"overrides {' '.join(overrides)}: {text}"
    group, _, _ = missed[1].partition(".")
    chosen = dict(item.split("=", 1) for item in overrides if "=" in item).get(group, {"algorithm": "adamw", "curation": "all"}.get(group))
    known = [f"{group}.{key}" for key in _keys(definition(group, chosen))] if group in _GROUP_TYPES and chosen else []
    near = get_close_matches(missed[1], known, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"unknown override {missed[1]!r}{hint}"


def _keys(value: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of every key in nested mappings."""
    found = []
    for key, inner in value.items():
        found.append(prefix + key)
        if isinstance(inner, Mapping):
            found += _keys(inner, f"{prefix}{key}.")
    return found
