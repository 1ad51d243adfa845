"""Which torch `make setup` installs. Runs before any dependency exists, so it uses the standard library only.

Prints pip's arguments on stdout and why on stderr; exits 1 with one line when no fitting build can be had.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
WISHES = ("auto", "cpu", "any")


def choose(requirement: str, wish: str, *, nvidia: bool, system: str, resolves: Callable[[Sequence[str]], bool]) -> tuple[list[str], str]:
    """pip's arguments for torch, and why.

    ``wish`` is what ``TORCH=`` says: ``auto`` takes a CPU build when there is no NVIDIA device, ``cpu`` always, ``any`` the
    default build. ``resolves(arguments)`` tells whether pip could install them. Raises ``LookupError`` when no CPU build can be
    had and ``ValueError`` for another wish.
    """
    if wish not in WISHES:
        raise ValueError(f"TORCH={wish}: expected one of {', '.join(WISHES)}")
    if wish == "any":
        return [requirement], "the default build, as TORCH=any asks"
    if wish == "auto" and nvidia:
        return [requirement], "the default build, because there is an NVIDIA device"
    if system == "Darwin":
        return [requirement], "the default build, which has no CUDA on macOS"
    cpu = f"{requirement}+cpu"
    if resolves([cpu]):
        return [cpu], "a CPU build, found through pip's own configuration"
    if resolves([cpu, "--extra-index-url", CPU_INDEX]):
        return [cpu, "--extra-index-url", CPU_INDEX], f"a CPU build from {CPU_INDEX}"
    raise LookupError(
        f"no CPU build of {requirement} can be had, neither through pip's configuration nor from {CPU_INDEX}; "
        "the default build works as well but brings CUDA, a download of about 3 GB: to take it, run make again with TORCH=any"
    )


def torch_requirement(pyproject: Path) -> str:
    """The pin in ``pyproject.toml``, such as ``torch==2.13.0``."""
    dependencies = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    return next(dependency for dependency in dependencies if re.match(r"torch\s*==", dependency)).replace(" ", "")


def nvidia_device() -> bool:
    """Whether the kernel driver is loaded or `nvidia-smi` sees a card."""
    if Path("/dev/nvidiactl").exists():
        return True
    smi = shutil.which("nvidia-smi")
    return smi is not None and subprocess.run([smi, "-L"], capture_output=True, check=False).returncode == 0


def pip_resolves(arguments: Sequence[str]) -> bool:
    """Whether this interpreter's pip finds a build for these arguments; gives up quickly on an index that does not answer."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet"]
    done = subprocess.run([*command, "--timeout", "15", "--retries", "1", *arguments], capture_output=True, check=False)
    return done.returncode == 0


def main() -> int:
    requirement = torch_requirement(Path(__file__).resolve().parent.parent / "pyproject.toml")
    try:
        arguments, why = choose(
            requirement, os.environ.get("TORCH") or "auto", nvidia=nvidia_device(), system=platform.system(), resolves=pip_resolves
        )
    except (LookupError, ValueError) as problem:
        print(f"torch: {problem.args[0]}", file=sys.stderr)
        return 1
    print(f"torch: {why} ({' '.join(arguments)})", file=sys.stderr)
    print(" ".join(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
