"""Which machine, software and code produced a number, without anything that tells who or where.

Two timings compare only within one :func:`hardware_class`; two curves are bit-identical only within one :func:`numerics_key`.
Nothing here returns a user name, a host name or an absolute path. Only :func:`numerics` imports torch, and where there are GPUs
:func:`trial_hardware_class`.
"""

from __future__ import annotations

import getpass
import hashlib
import math
import os
import platform
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from .files import object_digest
from .protocol import protocol

__all__ = [
    "Probe",
    "cpu_class",
    "cpu_count",
    "fingerprint",
    "git_state",
    "gpus",
    "hardware_class",
    "numerics",
    "numerics_key",
    "peak_memory_bytes",
    "software_versions",
    "trial_hardware_class",
]

_ISA = frozenset(
    "sse4_2 avx avx2 fma f16c avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_bf16 amx_int8 "
    "asimd asimdhp asimddp bf16 i8mm sve sve2 sme".split()
)
_EXTENSIONS = {"amx_bf16": "amx", "avx512_bf16": "bf16", "bf16": "bf16", "avx512f": "avx512", "avx2": "avx2"}
"""What a step's products are computed with, fastest first: two machines of one CPU count and different entries differ twofold."""
_NO_NAME = re.compile(r"\((?:r|tm)\)|@.*|\bwith\b.*|\b\d+-core\b|\b\d+th gen\b|\b(?:intel|amd|cpu|processor)\b")
_FAMILIES = "OMP KMP GOMP MKL OPENBLAS BLIS NUMBA CUDA CUBLAS CUDNN NCCL TORCH PYTORCH ATEN DNNL ONEDNN MALLOC LD_PRELOAD".split()
_VARIABLES = re.compile(rf"({'|'.join(_FAMILIES)})[A-Z0-9_]*")
_NUMERIC = "OMP_NUM_THREADS MKL_NUM_THREADS ATEN_CPU_CAPABILITY ONEDNN_MAX_CPU_ISA DNNL_MAX_CPU_ISA CUBLAS_WORKSPACE_CONFIG".split()
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY")
_GPU_COLUMNS = {
    "index": "index",
    "uuid": "uuid",
    "name": "name",
    "memory.total": "memory_mib",
    "driver_version": "driver",
    "compute_cap": "compute_capability",
    "power.limit": "power_limit_watts",
    "persistence_mode": "persistence",
    "ecc.mode.current": "ecc",
    "mig.mode.current": "mig",
    "temperature.gpu": "temperature_celsius",
}


def _nvidia_smi(arguments: Sequence[str]) -> str:
    """Output of ``nvidia-smi``, empty where there is none or it fails."""
    try:
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _affinity() -> int:
    """Logical CPUs that the scheduler lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Probe:
    """Where facts about the machine are read; tests replace the parts. ``root`` is the folder that holds ``proc`` and ``sys``."""

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    affinity: Callable[[], int] = _affinity
    nvidia_smi: Callable[[Sequence[str]], str] = _nvidia_smi
    architecture: str = field(default_factory=lambda: platform.machine().lower())

    def read(self, path: str) -> str:
        """Content of a file below the root, empty when it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def values(self, path: str) -> dict[str, str]:
        """``key: value`` lines of a file, the first of each key (``/proc/cpuinfo`` repeats them for every CPU)."""
        found: dict[str, str] = {}
        for line in self.read(path).splitlines():
            key, separator, value = line.partition(":")
            if separator:
                found.setdefault(key.strip(), value.strip())
        return found


def fingerprint(folder: Path | None = None, probe: Probe | None = None) -> Mapping[str, Any]:
    """The machine as a JSON-able mapping: CPU, memory, GPUs, operating system, and the variables that change speed or numerics.

    ``folder``: where the data lies; its file system's type is told. A variable's value that holds a path, the user's or the
    host's name is withheld.
    """
    probe = probe or Probe()
    memory = probe.values("proc/meminfo").get("MemTotal", "")
    return {
        "cpu": _cpu(probe),
        "memory": {"total_bytes": _kibibytes(memory), "limit_bytes": _number(_cgroup(probe, "memory.max", "memory/memory.limit_in_bytes"))},
        "gpus": [{key: value for key, value in gpu.items() if key not in ("index", "uuid")} for gpu in gpus(probe)],
        "storage": {"filesystem": _filesystem(folder, probe) if folder else None},
        "os": {
            "system": platform.system(),
            "kernel": platform.release(),
            "distribution": _distribution(probe),
            "libc": " ".join(platform.libc_ver()).strip(),
        },
        "environment": _environment(probe),
    }


def hardware_class(gpu_count: int | None = None, probe: Probe | None = None) -> str:
    """The class within which times are ranked.

    ``cpu8-ryzen-7-5800x-avx2``: logical CPUs that this process may use (affinity and container quota counted), their model, and the best
    instruction set for products; architectures other than x86-64 say so (``cpu8-aarch64-…``). What the protocol has a short name for is
    called by it: ``cpu2``. With GPUs: ``h200x1-700w``, name, count and power limit. ``gpu_count`` is how many of the visible GPUs a trial
    uses; None means all, 0 means a trial on the CPU of a machine that has GPUs.
    """
    probe = probe or Probe()
    cards = gpus(probe)[:gpu_count] if gpu_count != 0 else ()
    if cards:
        kinds = sorted({(_slug(card["name"]), card["power_limit_watts"]) for card in cards}, key=str)
        counts = [sum((_slug(c["name"]), c["power_limit_watts"]) == kind for c in cards) for kind in kinds]
        return "+".join(f"{name}x{n}-{watts:.0f}w" if watts else f"{name}x{n}" for (name, watts), n in zip(kinds, counts, strict=True))
    return cpu_class(_cpu(probe))


def cpu_class(cpu: Mapping[str, Any]) -> str:
    """The :func:`hardware_class` of trials on CPUs that a :func:`fingerprint` describes under ``cpu``."""
    architecture = "" if cpu["architecture"] in ("x86_64", "amd64") else cpu["architecture"]
    words = re.findall(r"[a-z0-9]+", _NO_NAME.sub(" ", cpu["model"].lower()))
    extension = next((short for flag, short in _EXTENSIONS.items() if flag in cpu["isa"]), "")
    found = "-".join(filter(None, [f"cpu{cpu['usable_cpus']}", architecture, *words, extension]))
    return next((short for short, stands_for in protocol().hardware.classes.items() if stands_for == found), found)


@cache
def trial_hardware_class(gpus_allowed: bool = True) -> str:
    """The class that a trial started now will have: that of one GPU where torch can use one, else of the CPUs."""
    if not gpus_allowed or not gpus():
        return hardware_class(0)
    import torch

    return hardware_class(1 if torch.cuda.is_available() else 0)


def numerics(probe: Probe | None = None) -> Mapping[str, Any]:
    """What bit-identity depends on: CPU model, instruction set, thread settings, torch build; GPUs where torch sees them.

    Call it after the thread count has been set.
    """
    import torch

    probe = probe or Probe()
    cpu = _cpu(probe)
    cuda = torch.cuda.is_available()
    return {
        "cpu": cpu["model"],
        "isa": cpu["isa"],
        "torch": torch.__version__,
        "torch_build": hashlib.sha256(torch.__config__.show().encode()).hexdigest()[:12],
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_threads": torch.get_num_threads(),
        "environment": {name: probe.environment[name] for name in _NUMERIC if name in probe.environment},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


def numerics_key(probe: Probe | None = None) -> str:
    """Short digest of :func:`numerics`: equal keys promise bit-identical curves for equal plans."""
    return object_digest(numerics(probe))[:12]


def software_versions() -> Mapping[str, str]:
    """Versions of Python, timetrial and everything it declares (development tools left out), as installed."""
    found = {"python": platform.python_version(), "timetrial": metadata.version("timetrial")}
    for requirement in metadata.requires("timetrial") or ():
        if "extra == 'dev'" in requirement.replace('"', "'"):
            continue
        name = re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return dict(sorted(found.items()))


def git_state(folder: Path | None = None) -> Mapping[str, Any]:
    """Commit of the package's own checkout, and the digest of what differs from it; empty when it is no checkout.

    ``dirty`` counts changed and untracked files alike; ``diff_digest`` covers the changed ones.
    """
    folder = folder or Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return {}
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain")
    if commit is None or status is None:
        return {}
    difference = _git(folder, "diff", "HEAD") or ""
    return {
        "commit": commit.strip(),
        "dirty": bool(status.strip()),
        "diff_digest": hashlib.sha256(difference.encode()).hexdigest() if difference else None,
    }


def peak_memory_bytes(probe: Probe | None = None) -> int:
    """Peak resident memory of this process in bytes.

    ``VmHWM`` where there is one: ``ru_maxrss`` starts from the parent's peak after a fork, and counts bytes on macOS.
    """
    peak = _kibibytes((probe or Probe()).values("proc/self/status").get("VmHWM", ""))
    if peak is not None:
        return peak
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def cpu_count(probe: Probe | None = None) -> int:
    """Logical CPUs that this process can keep busy: the scheduler's affinity, cut by a container's quota."""
    probe = probe or Probe()
    count = probe.affinity()
    quota, _, period = _cgroup(probe, "cpu.max").partition(" ")
    if not quota:
        quota, period = probe.read("sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip(), probe.read("sys/fs/cgroup/cpu/cpu.cfs_period_us").strip()
    microseconds, per = _number(quota), _number(period)
    if microseconds and per and microseconds > 0:
        count = min(count, max(1, math.ceil(microseconds / per)))
    return count


def gpus(probe: Probe | None = None) -> tuple[Mapping[str, Any], ...]:
    """The NVIDIA GPUs that this process may use, in order, as ``nvidia-smi`` describes them; units are in the keys."""
    probe = probe or Probe()
    text = probe.nvidia_smi([f"--query-gpu={','.join(_GPU_COLUMNS)}", "--format=csv,noheader,nounits"])
    cards: list[dict[str, Any]] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(_GPU_COLUMNS):
            continue
        card: dict[str, Any] = dict(zip(_GPU_COLUMNS.values(), cells, strict=True))
        for key in ("memory_mib", "power_limit_watts", "temperature_celsius"):
            card[key] = _float(card[key])
        cards.append(card)
    visible = probe.environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(cards)
    chosen = [item.strip() for item in visible.split(",") if item.strip()]
    return tuple(found for item in chosen if (found := _visible(item, cards)))


def _visible(item: str, cards: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The card that an item of ``CUDA_VISIBLE_DEVICES`` means; a MIG slice is a card of its own kind, without a power limit."""
    for card in cards:
        if item == card["index"] or (item.startswith("GPU-") and card["uuid"].startswith(item)):
            return card
        if item.startswith("MIG-") and card["mig"] == "Enabled":
            return {**card, "name": f"{card['name']} MIG", "power_limit_watts": None}
    return None


def _cpu(probe: Probe) -> dict[str, Any]:
    info = probe.values("proc/cpuinfo")
    flags = set((info.get("flags") or info.get("Features") or "").split())
    text = probe.read("proc/cpuinfo")
    blocks = [dict(re.findall(r"^(physical id|core id)\s*:\s*(\d+)", block, re.MULTILINE)) for block in text.split("\n\n")]
    cores = {(block.get("physical id", "0"), block["core id"]) for block in blocks if "core id" in block}
    nodes = probe.root / "sys/devices/system/node"
    return {
        "model": info.get("model name") or _arm_model(info) or platform.processor() or "unknown",
        "architecture": probe.architecture,
        "isa": sorted(flags & _ISA),
        "logical_cpus": len(re.findall(r"^processor\s*:", text, re.MULTILINE)) or os.cpu_count(),
        "usable_cpus": cpu_count(probe),
        "physical_cores": len(cores) or None,
        "numa_nodes": len(list(nodes.glob("node[0-9]*"))) or None,
        "governor": probe.read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        "virtual_machine": "hypervisor" in flags,
    }


def _arm_model(info: Mapping[str, str]) -> str:
    """ARM kernels give no name but implementer and part numbers, which tell cores apart as well."""
    return f"arm {info.get('CPU implementer', '?')}:{info['CPU part']}" if "CPU part" in info else ""


def _environment(probe: Probe) -> dict[str, str]:
    private = {socket.gethostname().lower(), _user()} - {""}
    found = {}
    for name, value in sorted(probe.environment.items()):
        if not _VARIABLES.fullmatch(name) or _SECRET.search(name):
            continue
        hidden = "/" in value or "\\" in value or "~" in value or any(word in value.lower() for word in private)
        found[name] = "(withheld)" if hidden else value
    return found


def _user() -> str:
    try:
        return getpass.getuser().lower()
    except (KeyError, OSError):
        return ""


def _distribution(probe: Probe) -> str | None:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', probe.read("etc/os-release"), re.MULTILINE)
    return match[1] if match else None


def _filesystem(folder: Path, probe: Probe) -> str | None:
    """Type of the file system that holds a folder, from the longest mount point above it."""
    best, kind = -1, None
    place = str(folder.absolute())
    for line in probe.read("proc/mounts").splitlines():
        parts = line.split()
        if len(parts) < 3:
            continue
        mount = parts[1].replace("\\040", " ")
        if (place == mount or place.startswith(mount.rstrip("/") + "/")) and len(mount) >= best:
            best, kind = len(mount), parts[2]
    return kind


def _cgroup(probe: Probe, *names: str) -> str:
    """First of the named control-group files that says something."""
    return next((text for name in names if (text := probe.read(f"sys/fs/cgroup/{name}").strip())), "")


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _kibibytes(text: str) -> int | None:
    match = re.match(r"(\d+)\s*kB", text)
    return int(match[1]) * 1024 if match else None


def _number(text: str) -> int | None:
    """An integer, or None; a version 1 control group writes "no limit" as a number near 2**63."""
    value = int(text) if re.fullmatch(r"-?\d+", text) else None
    return None if value is not None and value >= 2**60 else value


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _slug(name: str) -> str:
    """``NVIDIA H200`` becomes ``h200``: the vendor and brand words add nothing, the rest is joined by dashes."""
    words = [word for word in re.findall(r"[a-z0-9]+", name.lower()) if word not in ("nvidia", "geforce", "tesla", "quadro")]
    return "-".join(words) or "gpu"
