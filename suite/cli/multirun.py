"""Hydra multirun: every combination of comma-separated values, through any Hydra launcher."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..config import REFERENCE, plan_of, split_overrides, teach_hydra, under
from ..errors import TimetrialError, UserError
from ..record import Ruleset
from ..registry import config_folders, definition, definition_path

__all__ = ["run_all"]


def run_all(overrides: list[str], home: Path, arguments: argparse.Namespace) -> int:
    """Sweep with Hydra's own launcher machinery, its files below ``<home>/multirun``; 0 when every trial ran.

    The sweep's names are checked value by value in each job, so a typo stops that job with the usual message.
    """
    import hydra
    from omegaconf import DictConfig, OmegaConf

    from .single import run_one

    if not arguments.no_mlflow:
        from ..tracking import default_uri, initialise

        initialise(default_uri(home))  # jobs that a launcher starts at once must find a migrated database
    # Every name is checked before the first job; bare hyperparameters are spelled out on the first value of each list.
    folders = config_folders()
    apart = dict(item.split("=", 1) for item in overrides if item.startswith(("study=", "ruleset=")))
    overrides = [item for item in overrides if not item.startswith(("study=", "ruleset="))]
    if any(REFERENCE in values.split(",") for key, _, values in (item.partition("=") for item in overrides) if key == "algorithm"):
        raise UserError(f"algorithm={REFERENCE} is another one on every workload; a study compares it with others, a multirun does not")
    for group, _, values in (item.partition("=") for item in overrides):
        for name in values.split(",") if group in ("workload", "algorithm", "curation") else ():
            definition_path(group, name)
    teach_hydra(name for item in overrides if item.startswith("workload=") for name in item.partition("=")[2].split(","))
    first = [item.split("=", 1)[0] + "=" + item.split("=", 1)[1].split(",")[0] for item in overrides]
    spelled = [f"{full.split('=', 1)[0]}={given.split('=', 1)[1]}" for full, given in zip(split_overrides(first), overrides, strict=True)]
    codes: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(folders[0]), config_name="run")
    def job(config: DictConfig) -> None:
        value = OmegaConf.to_container(config, resolve=True)
        try:
            defaults = definition("algorithm", value["algorithm"]["name"]).get("hyperparameters")  # type: ignore[index, call-overload]
            plan = plan_of({**value, "study": apart.get("study"), "defaults": defaults})  # type: ignore[dict-item]
            codes.append(run_one(under(plan, apart.get("ruleset", Ruleset.EXTERNAL_TUNING)), home, arguments))
        except TimetrialError as problem:  # one job's mistake is told in one line and leaves the other jobs alone
            print(f"timetrial: {problem}", file=sys.stderr)
            codes.append(1)

    settings = [f"hydra.sweep.dir={home}/multirun", "hydra.sweep.subdir=${hydra.job.num}"]
    settings += ["hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
    if folders[1:]:
        settings.append(f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders[1:])}]")
    before = sys.argv
    sys.argv = ["timetrial run", "--multirun", *spelled, *settings]
    try:
        job()
    finally:
        sys.argv = before
    return next((code for code in codes if code not in (0, 3)), 0)
