"""Hydra multirun: every combination of comma-separated values, through any Hydra launcher."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..config import split_overrides
from ..registry import config_folders

__all__ = ["run_all"]


def run_all(overrides: list[str], home: Path, arguments: argparse.Namespace) -> int:
    """Sweep with Hydra's own launcher machinery, its files below ``<home>/multirun``; 0 when every trial ran.

    The sweep's names are checked value by value in each job, so a typo stops that job with the usual message.
    """
    import hydra

    from .run import run_one

    # Hydra overrides choose what is composed; each job resolves them again into a plan of its own.
    folders = config_folders()
    first = [item.split("=", 1)[0] + "=" + item.split("=", 1)[1].split(",")[0] for item in overrides]
    spelled = [f"{full.split('=', 1)[0]}={given.split('=', 1)[1]}" for full, given in zip(split_overrides(first), overrides, strict=True)]
    codes: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(folders[0]), config_name="run")
    def job(config: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        codes.append(run_one(list(HydraConfig.get().overrides.task), home, arguments))

    settings = [f"hydra.sweep.dir={home}/multirun", "hydra.sweep.subdir=${hydra.job.num}", "hydra/job_logging=disabled", "hydra/hydra_logging=disabled"]
    if folders[1:]:
        settings.append(f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders[1:])}]")
    before = sys.argv
    sys.argv = ["timetrial run", "--multirun", *spelled, *settings]
    try:
        job()
    finally:
        sys.argv = before
    return 0 if all(code in (0, 3) for code in codes) else max(codes)
