"""The process in which an entry is checked: imports its code, runs it on synthetic problems, says what it found."""

from __future__ import annotations

import faulthandler
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...data_pipelines.curation.interface import CurationMethod
from ..algorithm import TrainingAlgorithm
from ..algorithms.optimizer import optimizer_class
from ..config import ENTRY_PACKAGE, instantiate
from ..entry import EntryFolder, read_entry
from ..schema import plain
from .probes import Listener, Place
from .selecting import check_selecting
from .training import Findings, check_training

__all__ = ["answer"]


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Check the entry in ``folder``; if that hangs, its stack is written out shortly before ``seconds`` are over."""
    sys.dont_write_bytecode = True
    faulthandler.enable()
    faulthandler.dump_traceback_later(0.9 * float(request["seconds"]))
    torch.set_num_threads(1)  # tiny problems: one thread is fastest, and the same on every machine
    folder = Path(request["folder"])
    entry = read_entry(folder)
    findings = Findings(folder, ("entry.yaml", _line(folder, "algorithm:")))
    listener = Listener(folder)
    with findings.running("loads", "importing the entry"), listener.listening():
        _load(entry, findings)
    if not findings.violations:
        if entry.manifest.algorithm is not None:
            check_training(entry.algorithm, listener, findings)
        if entry.manifest.curation is not None and entry.curation.target.startswith(ENTRY_PACKAGE):
            findings.default = _definition(entry, entry.curation.target, CurationMethod, "select")
            check_selecting(entry.curation, entry.keep_fraction, listener, findings)
    for rule, said, where in listener.heard:  # also what was heard while it was imported
        findings.add(rule, said, where)
    return {"violations": [plain(v) for v in findings.violations], "checked": sorted(findings.checked), "undecided": findings.undecided}


def _load(entry: EntryFolder, findings: Findings) -> None:
    """Import the code and make the object once; what is wrong with either is a violation of ``loads``."""
    if entry.manifest.algorithm is not None:
        instantiate(entry.algorithm.target, entry.algorithm.options, TrainingAlgorithm)
        if entry.manifest.algorithm.optimizer is not None:
            optimizer_class(entry.algorithm.options["optimizer"])
        optimizer = str(entry.algorithm.options.get("optimizer", ""))
        if optimizer.startswith(ENTRY_PACKAGE):
            findings.default = _definition(entry, optimizer, torch.optim.Optimizer, "step")
        else:
            findings.default = _definition(entry, entry.algorithm.target, TrainingAlgorithm, "step")
    if entry.manifest.curation is not None:
        instantiate(entry.curation.target, entry.curation.options, CurationMethod)


def _definition(entry: EntryFolder, target: str, kind: type, method: str) -> Place:
    """Where a class of the entry defines a method; the line of entry.yaml for classes that are not its own."""
    if not target.startswith(ENTRY_PACKAGE):
        return ("entry.yaml", _line(entry.folder, "algorithm:"))
    module, _, name = target.rpartition(".")
    cls = getattr(sys.modules[module], name, None)
    function = getattr(cls, method, None) if isinstance(cls, type) and issubclass(cls, kind) else None
    path = Path(inspect.getsourcefile(function) or "") if inspect.isfunction(function) else Path()
    if path.is_absolute() and path.is_relative_to(entry.folder) and function is not None:
        return (path.relative_to(entry.folder).as_posix(), function.__code__.co_firstlineno)
    return (module.partition(".")[2].replace(".", "/") + ".py", 1)


def _line(folder: Path, key: str) -> int:
    lines = (folder / "entry.yaml").read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if line.startswith(key)), 1)
