"""What an entry does to the world around it, observed in the process that it runs in, with the line of the entry that did it."""

from __future__ import annotations

import gc
import os
import random
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Listener", "Place", "Tracer", "harness_fingerprint", "held", "line_of", "random_state", "replaced", "structure", "working"]

Place = tuple[str | None, int | None]
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "socket.sendto", "socket.sendmsg")
_PROCESSES = ("subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn")


def line_of(folder: Path, frame: types.FrameType | types.TracebackType | None) -> Place:
    """The innermost line of the entry in a stack (a frame) or in an exception (its traceback); (None, None) without one."""
    found: Place = (None, None)
    while frame is not None:
        own = frame if isinstance(frame, types.FrameType) else frame.tb_frame
        line = frame.f_lineno if isinstance(frame, types.FrameType) else frame.tb_lineno
        path = Path(own.f_code.co_filename)
        if path.is_absolute() and path.is_relative_to(folder):
            found = (path.relative_to(folder).as_posix(), line)
            if isinstance(frame, types.FrameType):
                return found
        frame = frame.f_back if isinstance(frame, types.FrameType) else frame.tb_next
    return found


@final
class Tracer:
    """Compares probes after every line of the entry, so that a change has the line that made it. Slow: for a few steps only."""

    def __init__(self, folder: Path, probes: Mapping[str, Callable[[], Any]]) -> None:
        self._prefix, self._folder, self._probes = f"{folder}{os.sep}", folder, probes
        self.places: dict[str, Place] = {}

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Trace the main thread while the block runs."""
        self._seen = {name: probe() for name, probe in self._probes.items()}
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: types.FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._prefix):
            return None
        last = frame.f_lineno

        def follow(frame: types.FrameType, event: str, argument: object) -> Any:
            nonlocal last
            place: Place = (Path(frame.f_code.co_filename).relative_to(self._folder).as_posix(), last)
            for name, probe in self._probes.items():
                value = probe()
                if value != self._seen[name]:
                    self._seen[name] = value
                    self.places.setdefault(name, place)
            last = frame.f_lineno
            return follow

        return follow


@final
class Listener:
    """Python's audit events that an entry causes: connections, files and processes. An audit hook cannot be removed, only told to rest."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.after_setup, self._on = folder, False, False
        self.heard: list[tuple[str, str, Place]] = []
        places = [sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2]), "/proc/", "/sys/", "/dev/"]
        places += [os.environ.get(name, "") for name in ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")]
        places.append(str(Path(tempfile.gettempdir()) / "torchinductor"))
        places += [entry for entry in sys.path if entry]
        self._allowed = tuple(place for place in places if place)
        sys.addaudithook(self._hear)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Events count while the block runs."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on or (event != "open" and event not in _NETWORK and event not in _PROCESSES):
            return
        self._on = False  # what is looked up here must not be heard
        try:
            rule, said = self._judge(event, arguments)
            place = line_of(self._folder, sys._getframe(1))
            if rule and place[0] is not None:
                self.heard.append((rule, said, place))
        finally:
            self._on = True

    def _judge(self, event: str, arguments: tuple[Any, ...]) -> tuple[str, str]:
        if event in _NETWORK:
            return "no_network", f"{event} {arguments[-1] if event == 'socket.connect' else ''}".strip()
        if not self.after_setup:
            return "", ""
        if event in _PROCESSES:
            return "no_thread_left", f"starts a process ({event}) after setup"
        path = arguments[0]
        if not isinstance(path, (str, bytes)) or _importing():
            return "", ""
        name = os.path.abspath(os.fsdecode(path))
        return ("", "") if name.startswith(self._allowed) else ("no_files_after_setup", f"opens {Path(name).name} after setup")


def _importing() -> bool:
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def random_state() -> tuple[bytes, bytes, int]:
    """The state of the global generators of torch, NumPy and Python."""
    numpy_state: Any = np.random.get_state(legacy=True)
    return torch.get_rng_state().numpy().tobytes(), numpy_state[1].tobytes() + bytes(numpy_state[2] % 256), hash(random.getstate())


def structure(model: nn.Module) -> tuple[Any, ...]:
    """Everything about a model but the values in it and its mode."""
    parts: list[Any] = []
    for name, module in model.named_modules():
        hooks = [len(value) for key, value in vars(module).items() if key.endswith("_hooks") and isinstance(value, dict)]
        own = tuple(sorted(key for key, value in vars(module).items() if callable(value) and not isinstance(value, (nn.Module, type))))
        parts.append((name, id(module), type(module), tuple(hooks), own))
    parts += [(name, id(p), tuple(p.shape), p.dtype, p.requires_grad) for name, p in model.named_parameters()]
    parts += [(name, tuple(b.shape), b.dtype) for name, b in model.named_buffers()]
    return tuple(parts)


def harness_fingerprint() -> tuple[dict[str, tuple[int, str]], tuple[Any, ...]]:
    """Functions that no entry may replace, by name, and settings that no entry may change."""
    import time

    owners: list[Any] = [time, torch, torch.optim, nn.functional, Tensor, nn.Module, nn.Linear, nn.Conv2d, np.random]
    owners += [module for name, module in sorted(sys.modules.items()) if name.startswith(f"{__package__.rpartition('.')[0]}.") and module]
    functions = {}
    for owner in owners:
        for name, value in vars(owner).items():
            if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type)):
                file = getattr(getattr(value, "__code__", None), "co_filename", "")
                torchs_own = value.__name__ if f"{os.sep}torch{os.sep}" in file else ""
                functions[f"{owner.__name__}.{name}"] = (id(value), torchs_own)
    environment = tuple(sorted((k, v) for k, v in os.environ.items() if not k.startswith(("TORCH", "TRITON"))))
    settings = (
        torch.get_num_threads(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled(),
        torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled, environment, sys.getswitchinterval(),
    )  # fmt: skip
    return functions, settings


def replaced(before: Mapping[str, tuple[int, str]], after: Mapping[str, tuple[int, str]]) -> list[str]:
    """Names whose function is another one now; torch may wrap its own, as it does when it loads its compiler."""
    found = [name for name, (identity, _) in before.items() if after.get(name, (0, ""))[0] != identity]
    return sorted(name for name in found if after.get(name, (0, ""))[1] != name.rpartition(".")[2])


def working(before: frozenset[int]) -> list[str]:
    """Names of threads that are alive and were not in ``before`` (by ident), torch's own helpers apart, and of child processes."""
    found = []
    frames = sys._current_frames()
    for thread in threading.enumerate():
        if thread.ident in before or thread is threading.current_thread():
            continue
        files, frame = list[str](), frames.get(thread.ident or 0)
        while frame is not None:
            files.append(frame.f_code.co_filename)
            frame = frame.f_back
        if not any(f"{os.sep}torch{os.sep}" in file for file in files):
            found.append(f"thread {thread.name}")
    return found


def held(roots: list[Any], excluded: list[Any]) -> list[Any]:
    """Every object that can be reached from ``roots`` through containers, instances and closures, but not through ``excluded``."""
    seen = {id(item) for item in excluded}
    todo, found = list(roots), []
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, (type, types.ModuleType, types.CodeType, types.FrameType, str, bytes, int, float)):
            continue
        seen.add(id(item))
        found.append(item)
        if isinstance(item, types.FunctionType):
            todo += [cell.cell_contents for cell in item.__closure__ or () if cell != types.CellType()]
        elif not isinstance(item, nn.Module):
            todo += gc.get_referents(item)
    return found
