"""Debian packages that `make` needs beside Python: finds what is missing, installs it where it may, says in one line what is not.

`python .ci/system_packages.py venv` for the environment, `... ffcv` to build and load FFCV, `... browser` for the browser tests.
Standard library only. Exits 1 when something stays missing; what that means is in the line that it prints.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

SHIM = Path(__file__).resolve().parent / "opencv-shim"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def _links(library: str) -> bool:
    """Whether pkg-config knows a library, with the project's own description of OpenCV in reach."""
    environment = {**os.environ, "PKG_CONFIG_PATH": f"{SHIM}:{os.environ.get('PKG_CONFIG_PATH', '')}"}
    try:
        return subprocess.run(["pkg-config", "--exists", library], env=environment, check=False).returncode == 0
    except OSError:
        return False


def _header(name: str) -> Callable[[], bool]:
    return lambda: any((Path(root) / "opencv2" / name).exists() for root in ("/usr/include/opencv4", "/usr/local/include/opencv4"))


def _loads(library: str) -> Callable[[], bool]:
    def present() -> bool:
        try:
            ctypes.CDLL(library)
        except OSError:
            return False
        return True

    return present


# What for -> Debian package -> whether what it brings is there already, from whichever source
PACKAGES: dict[str, dict[str, Callable[[], bool]]] = {
    "venv": {"python3-venv": lambda: importlib.util.find_spec("ensurepip") is not None},
    "ffcv": {
        "python3-dev": lambda: (Path(sysconfig.get_path("include")) / "Python.h").exists(),
        "g++": lambda: shutil.which("g++") is not None,
        "pkg-config": lambda: shutil.which("pkg-config") is not None,
        "libopencv-core-dev": _header("core.hpp"),
        "libopencv-imgproc-dev": _header("imgproc.hpp"),
        "libturbojpeg0-dev": lambda: _links("libturbojpeg"),
        "libgl1": _loads("libGL.so.1"),  # this and the next are what opencv-python, which FFCV imports, links to
        "libglib2.0-0": _loads("libgthread-2.0.so.0"),
    },
    "browser": {"chromium": lambda: any(shutil.which(name) for name in CHROMIUM_NAMES)},
}
CONSEQUENCES = {
    "venv": "then run make again",
    "ffcv": "going on without FFCV: everything runs on the torch loader",
    "browser": "going on without the browser tests",
}


def apt_prefix(*, root: bool, apt: bool, sudo_works: Callable[[], bool]) -> list[str] | None:
    """How this user may call apt-get: directly, through a sudo that asks nothing, or (None) not at all."""
    if not apt:
        return None
    if root:
        return []
    return ["sudo", "-n"] if sudo_works() else None


def missing(packages: dict[str, Callable[[], bool]]) -> list[str]:
    """Packages whose content is not there, in the order of the table."""
    return [name for name, present in packages.items() if not present()]


def _sudo_works() -> bool:
    return shutil.which("sudo") is not None and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0


def _install(prefix: Sequence[str], packages: Sequence[str]) -> None:
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
    for command in ([*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            print(f"system packages: apt-get failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}", file=sys.stderr)


def main(purpose: str) -> int:
    packages = PACKAGES[purpose]
    wanted = missing(packages)
    if not wanted:
        return 0
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    prefix = apt_prefix(root=root, apt=shutil.which("apt-get") is not None, sudo_works=_sudo_works)
    if prefix is not None:
        print(f"system packages: installing {' '.join(wanted)}", file=sys.stderr)
        _install(prefix, wanted)
        importlib.invalidate_caches()
        wanted = missing(packages)
    if not wanted:
        return 0
    names = " ".join(wanted)
    remedy = f"missing {names}; install with: sudo apt-get install -y --no-install-recommends {names}"
    print(f"system packages: {remedy}; {CONSEQUENCES[purpose]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
