"""FFCV 1.0.2 behind guards. Importing this module imports FFCV; nothing else in the project does.

Used are FFCV's file reader, its memory map, its graph and its compiled stages. Not used is its ``EpochIterator``, the thread
that hangs for ever when a stage raises (ffcv issues #345, #393), hands out buffers that it then overwrites, and leaks itself when
a loop ends early: our own workers call the compiled stages, with memory of ours. Further guards are named where they stand.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numba
import numba.typed
import numpy as np
import torch
from numba.extending import is_jitted

from ..suite.errors import LoaderError

__all__ = ["FfcvPipeline"]


@contextmanager
def _harmless_import() -> Iterator[None]:
    """Keep FFCV's import from compiling, from starting threads, from changing torch, and from needing distutils.

    It fills a numba typed dictionary with two entries that only Python looks up (2 s of compiling), starts numba's OpenMP threads
    (after which a fork is unsafe), sets torch to one thread for the whole process, and takes from distutils, which Python 3.12
    dropped, one function that it never calls.
    """
    typed_dict, numba_threads, torch_threads = numba.typed.Dict, numba.set_num_threads, torch.get_num_threads()
    numba.typed.Dict, numba.set_num_threads = dict, lambda n: None
    stand_ins = {name: ModuleType(name) for name in ("distutils", "distutils.log") if "distutils" not in sys.modules}
    for name, module in stand_ins.items():
        module.warn = warnings.warn  # type: ignore[attr-defined]
        sys.modules[name] = module
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses distutils and, in its docstrings, invalid escapes
            yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
        numba.typed.Dict, numba.set_num_threads = typed_dict, numba_threads
        torch.set_num_threads(torch_threads)


try:
    with _harmless_import():
        from ffcv.loader import Loader, OrderOption
        from ffcv.memory_managers.os_cache import OSCacheManager
        from ffcv.pipeline import PipelineSpec
        from ffcv.pipeline.compiler import Compiler
        from ffcv.pipeline.operation import Operation
        from ffcv.pipeline.state import State
except ImportError as error:
    raise LoaderError(f"FFCV is installed but cannot be imported ({error}); reinstall it or run with loader=torch") from error


def _set_num_threads(count: int) -> None:
    """FFCV's own sets torch's and numba's threads for the whole process, at every loader and every epoch; ours sets nothing."""
    Compiler.num_threads = 1


def _compile(code: Callable[..., Any], signature: Any = None) -> Callable[..., Any]:
    """Pass on what is compiled already, so that nothing is compiled per loader; the rest is compiled only if it is ever called."""
    if is_jitted(code):
        return code
    compiled: Callable[..., Any] = numba.njit(nogil=True)(code)
    return compiled


def _state_type(manager: OSCacheManager) -> numba.types.Type:
    """FFCV's own sets ``mutable = False`` on ``uint8[::1]``, which numba shares in the whole process: every function that was compiled for
    such arrays is then listed twice under one key, and the next compilation that walks that list never ends."""
    pointers = numba.types.Array(numba.types.uint64, 1, "C")
    return numba.types.Tuple([numba.types.Array(numba.types.uint8, 1, "C", readonly=True), pointers, pointers])  # type: ignore[no-untyped-call]


Compiler.set_num_threads = _set_num_threads
Compiler.compile = _compile
OSCacheManager.state_type = property(_state_type)


class _Decoder(Operation):  # type: ignore[misc]
    """An FFCV decoder that is one of our kernels; its memory is given at each call instead of by FFCV's ring of buffers."""

    def __init__(self, kernel: Callable[..., Any]) -> None:
        super().__init__()
        self._kernel = kernel

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        return previous_state, None

    def generate_code(self) -> Callable[..., Any]:
        return self._kernel


@final
class FfcvPipeline:
    """The compiled pipeline of one ``.beton`` with these ``fields``: ``operations`` decode some, the others are not read.

    Safe to run from several threads at once. The file must have passed ``read_layout``: FFCV checks nothing.
    """

    def __init__(self, path: Path, fields: Iterable[str], operations: Mapping[str, Callable[..., Any]]) -> None:
        pipelines = {name: PipelineSpec(name, decoder=_Decoder(operation)) for name, operation in operations.items()}
        loader = Loader(
            str(path),
            batch_size=1,
            num_workers=1,
            os_cache=True,
            order=OrderOption.SEQUENTIAL,
            seed=0,
            drop_last=False,
            pipelines={name: pipelines.get(name) for name in fields},
        )
        context = loader.memory_manager.schedule_epoch([])
        context.__enter__()
        memory_map, *rest = context.state
        self.bytes = np.asarray(memory_map)
        self._storage = (self.bytes, *rest)
        self._metadata = loader.reader.metadata
        self._stages = [stage for stage, _ in loader.code[0]]
        self._nodes = {name: loader.graph.leaf_nodes[name].id for name in operations}
        # Both refer back to what holds them: the mapped file and tables of every example would wait for the garbage collector.
        del loader.traversal_order, loader.memory_manager.context

    def run(self, ids: np.ndarray, memory: Mapping[str, Any]) -> None:
        """Decode the examples ``ids`` (int64 ``[n]``, all inside the file) into ``memory``, per field what its operation takes."""
        arguments: dict[str, Any] = {"batch_indices": ids, "metadata": self._metadata, "storage_state": self._storage}
        for name, node in self._nodes.items():
            arguments[f"memory_{node}"], arguments[f"shared_memory_{node}"] = memory[name], None
        for stage in self._stages:
            stage(**arguments)
