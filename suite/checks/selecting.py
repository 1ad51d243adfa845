"""The contract of a curation method, checked on a small synthetic pool in the process of the entry."""

from __future__ import annotations

import numpy as np

from ...data_pipelines.curation.context import make_context
from ...data_pipelines.curation.interface import CurationMethod, DynamicMethod, Pool, curate
from ..config import CurationDefinition, instantiate
from .probes import Listener, random_state
from .training import Findings

__all__ = ["check_selecting"]

EXAMPLES = 400


def check_selecting(definition: CurationDefinition, keep_fraction: float, listener: Listener, findings: Findings) -> None:
    """Size, ids, determinism and random numbers of a selection; methods that train a proxy are decided by their first trial."""
    with findings.running("loads", "making the method"):
        method: CurationMethod = instantiate(definition.target, definition.options, CurationMethod)
    if any(violation.rule == "loads" for violation in findings.violations):
        return
    if method.needs_proxy:
        findings.undecided["selection_valid"] = "it trains proxies of the workload's model; a trial decides"
        return
    declared = definition.needs_labels == method.needs_labels and (definition.kind == "dynamic") == isinstance(method, DynamicMethod)
    findings.require("manifest", declared, "curation: needs_labels and kind must say what the class says")
    digests = []
    before = random_state()
    for _ in range(2):
        fresh: CurationMethod = instantiate(definition.target, definition.options, CurationMethod)
        pool = _pool()
        with findings.running("selection_valid", "select"), listener.listening():
            selection = curate(fresh, pool, keep_fraction, make_context(pool, np.random.default_rng(0)))
            digests.append(selection.digest)
    findings.require("no_global_random", before == random_state(), "draws from a global random generator; use context.generator")
    findings.require("selection_valid", len(set(digests)) <= 1, "two selections with the same seed differ")
    findings.checked.add("no_network")
    for rule, said, where in listener.heard:
        findings.add(rule, said, where)


def _pool() -> Pool:
    """Pictures of four classes that can be told apart by their colour; ids with gaps, as behind a validation split."""
    generator = np.random.default_rng(0)
    ids = np.arange(0, 2 * EXAMPLES, 2)
    labels = generator.integers(0, 4, 2 * EXAMPLES)
    pictures = generator.integers(0, 64, (2 * EXAMPLES, 16, 16, 3)) + 48 * labels[:, None, None, None]
    arrays: dict[str, np.ndarray] = {"image": pictures.astype(np.uint8), "label": labels}
    return Pool(ids, arrays, data_digest="synthetic", label="label", facts={"classes": 4})
