"""``timetrial doctor``: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from .. import machine, machine_load
from ..meters import energy_meter
from .output import print_json, print_table

HELP = "this machine, its software, and whatever would spoil a run, with the remedy"
EXAMPLES = (
    "timetrial doctor",
    "timetrial doctor --json",
    "timetrial doctor --home /big/disk",
)

_LOW_DISK_BYTES = 5 * 2**30
_BUSY_FRACTION = 0.1  # of all CPU time, by others: more than that shows in the third digit of a timing
_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_IMPORT_SECONDS = 120  # FFCV compiles at import; a cold, busy machine takes half a minute


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``advice`` says what to do about a warning."""

    name: str
    status: Literal["ok", "warning"]
    detail: str
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="an object with findings, machine, software and code")


def execute(arguments: argparse.Namespace) -> int:
    fingerprint = machine.fingerprint(arguments.home)
    software = machine.software_versions()
    git = machine.git_state()
    findings = examine(arguments.home, fingerprint)
    if arguments.json:
        facts = {"hardware_class": machine.hardware_class(), "machine": fingerprint, "software": software, "git": git}
        print_json({"findings": [asdict(finding) for finding in findings], **facts})
        return 0
    print_table(("", "part", "found"), [("ok" if f.status == "ok" else "!!", f.name, f.detail) for f in findings])
    versions = " ".join(f"{name} {version}" for name, version in software.items())
    print(f"\nversions: {versions}")
    warnings = [finding for finding in findings if finding.status == "warning"]
    for finding in warnings:
        print(f"warning: {finding.name}: {finding.advice or finding.detail}")
    if not warnings:
        print("nothing to mend")
    return 0


def examine(home: Path, fingerprint: Mapping[str, Any]) -> list[Finding]:
    """Look at every part; each warning says what to do. Never raises for the state of the machine."""
    return [
        _machine(fingerprint),
        _load(fingerprint),
        _gpu(fingerprint),
        _energy(fingerprint),
        _torch(fingerprint),
        _torchvision(),
        ffcv_state(),
        _home(home),
        _space(home),
        _tracking(home),
        _mirror(os.environ),
        _chromium(),
        _code(),
    ]


def _machine(fingerprint: Mapping[str, Any]) -> Finding:
    cpu, memory = fingerprint["cpu"], fingerprint["memory"]["total_bytes"]
    size = f", {memory / 2**30:.0f} GiB" if memory else ""
    text = f"{machine.hardware_class()}: {cpu['model']}, {cpu['usable_cpus']} of {cpu['logical_cpus']} CPUs usable{size}"
    return Finding("machine", "ok", f"{text}, {fingerprint['os']['distribution'] or fingerprint['os']['system']}")


def _load(fingerprint: Mapping[str, Any]) -> Finding:
    load = machine_load.load(0.5)
    busy = load["busy_fraction"]
    text = f"load average {load['load_average_1min']}, {'unknown' if busy is None else f'{busy:.0%}'} of the CPU time used by others"
    if busy is not None and busy > _BUSY_FRACTION:
        return Finding("load", "warning", text, "timings taken now are noisy: stop what else runs on this machine")
    return Finding("load", "ok", text)


def _gpu(fingerprint: Mapping[str, Any]) -> Finding:
    cards = [f"{card['name']} ({card['memory_mib']:.0f} MiB)" for card in fingerprint["gpus"]]
    return Finding("GPU", "ok", ", ".join(cards) or "none; tiers small and full need one")


def _energy(fingerprint: Mapping[str, Any]) -> Finding:
    kinds = {"processors (RAPL)": energy_meter(), "processors and cards": energy_meter([0]) if fingerprint["gpus"] else None}
    found = [kind for kind, meter in kinds.items() if meter is not None]
    return Finding("energy meter", "ok", ", ".join(found) or "none that may be read; records then hold no joules")


def _torch(fingerprint: Mapping[str, Any]) -> Finding:
    version = metadata.version("torch")
    if fingerprint["gpus"] and version.endswith("+cpu"):
        return Finding("torch", "warning", version, "there is a GPU but torch is a CPU build: make setup TORCH=any")
    return Finding("torch", "ok", version)


def _torchvision() -> Finding:
    if find_spec("torchvision") is None:
        return Finding("torchvision", "ok", "absent, as it must be")
    advice = "it can break torchmetrics and lightning beside this torch: pip uninstall torchvision"
    return Finding("torchvision", "warning", "installed", advice)


def ffcv_state(run: Callable[[Sequence[str]], subprocess.CompletedProcess[str]] | None = None, installed: bool | None = None) -> Finding:
    """Whether FFCV imports, and if not, why; tried in a process of its own, because a broken build may crash."""
    if not (find_spec("ffcv") is not None if installed is None else installed):
        return Finding(
            "FFCV",
            "warning",
            "not installed; the torch loader serves every workload",
            "for the fast loader install g++ pkg-config libopencv-core-dev libopencv-imgproc-dev libturbojpeg0-dev, then: make setup",
        )
    try:
        done = (run or _python)(["-W", "ignore", "-c", "import ffcv.loader"])
    except subprocess.TimeoutExpired:
        return Finding("FFCV", "warning", f"its import did not end within {_IMPORT_SECONDS} s", "run with loader=torch")
    if done.returncode == 0:
        return Finding("FFCV", "ok", f"{metadata.version('ffcv')}, imports")
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    advice = "build it again (pip uninstall ffcv, then make setup) or run with loader=torch"
    return Finding("FFCV", "warning", f"installed but does not import: {reason}", advice)


def _python(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False)


def _home(home: Path) -> Finding:
    place = _existing(home)
    if os.access(place, os.W_OK | os.X_OK):
        return Finding("home", "ok", f"{home}{'' if home.exists() else ' (made on first use)'}, writable")
    return Finding("home", "warning", f"{home} is not writable", "choose another with --home or TIMETRIAL_HOME")


def _space(home: Path) -> Finding:
    free = shutil.disk_usage(_existing(home)).free
    text = f"{free / 2**30:.1f} GiB free below home"
    if free < _LOW_DISK_BYTES:
        return Finding("space", "warning", text, "data sets and records may not fit: free some or choose another --home")
    return Finding("space", "ok", text)


def _tracking(home: Path) -> Finding:
    from ..errors import TrackingError
    from ..tracking_store import default_uri, open_store

    named = bool(os.environ.get("MLFLOW_TRACKING_URI"))
    if not named and not (home / "mlflow.db").exists():
        return Finding("MLflow", "ok", "SQLite below home, made by the first trial")
    try:
        with open_store(default_uri(home)) as client:
            count = len(client.search_experiments())
    except TrackingError as problem:
        return Finding("MLflow", "warning", str(problem), "trials finish all the same; `timetrial mirror` sends their records later")
    return Finding("MLflow", "ok", f"{count} experiment(s) in {'the store of MLFLOW_TRACKING_URI' if named else 'SQLite below home'}")


def _mirror(environment: Mapping[str, str]) -> Finding:
    folder = environment.get("TIMETRIAL_MIRROR")
    if not folder:
        return Finding("mirror", "ok", "TIMETRIAL_MIRROR is not set: data comes from the official addresses")
    if Path(folder).is_dir():
        return Finding("mirror", "ok", f"{folder}, in place of the network")
    return Finding("mirror", "warning", f"TIMETRIAL_MIRROR={folder} is no folder", "unset it or point it at a mirror")


def _chromium() -> Finding:
    found = next((path for name in _CHROMIUM_NAMES if (path := shutil.which(name))), None)
    if found:
        return Finding("Chromium", "ok", found)
    return Finding("Chromium", "ok", "none; only the project's own browser tests use it")


def _code() -> Finding:
    state = machine.git_state()
    if not state:
        return Finding("code", "ok", "an installed package, no checkout")
    return Finding("code", "ok", f"checkout at {state['commit'][:12]}{', with changes' if state['dirty'] else ''}")


def _existing(folder: Path) -> Path:
    """The folder itself, or its nearest ancestor that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())
