"""What can be seen in an entry's code without running it: the syntax tree against lists of what no algorithm needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ..entry_code import code_files
from ..registry import names
from .report import Violation

__all__ = ["scan"]

# Names as they are written at their use; a module imported under another name is resolved to its own.
_PEEKING = (
    "inspect.stack", "inspect.currentframe", "inspect.getouterframes", "inspect.trace", "sys._getframe", "sys._current_frames", "sys.argv",
    "sys.settrace", "sys.setprofile", "sys.modules", "gc.get_objects", "gc.get_referrers", "os.environ", "os.getenv", "os.getcwd",
)  # fmt: skip
_CLOCKS = (
    "time.time", "time.time_ns", "time.perf_counter", "time.perf_counter_ns", "time.monotonic", "time.monotonic_ns", "time.process_time",
    "time.thread_time", "time.sleep", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today", "timeit.default_timer",
)  # fmt: skip
_UNREADABLE = (
    "eval",
    "exec",
    "compile",
    "__import__",
    "pickle.load",
    "pickle.loads",
    "marshal.loads",
    "ctypes",
    "cffi",
    "torch.ops.load_library",
)
_HIDDEN_ATTRIBUTES = frozenset(
    {"__closure__", "cell_contents", "f_back", "f_locals", "f_globals", "tb_frame", "gi_frame", "__subclasses__"}
)
_OPEN_MODULES = (
    "timetrial.suite.algorithm",
    "timetrial.suite.algorithms",
    "timetrial.data_pipelines.curation",
    "timetrial.data_pipelines.clusters",
)


def scan(folder: Path) -> list[Violation]:
    """Violations of ``loads`` (syntax), ``no_peeking``, ``no_workload_names``, ``no_clock`` and ``readable_code``, in file order."""
    found = []
    for inner in code_files(folder):
        if inner.suffix != ".py":
            continue
        try:
            tree = ast.parse((folder / inner).read_text(encoding="utf-8"))
        except SyntaxError as problem:
            found.append(Violation("loads", f"syntax error: {problem.msg}", inner.as_posix(), problem.lineno))
            continue
        except (UnicodeDecodeError, ValueError) as problem:
            found.append(Violation("loads", f"no Python source: {problem}", inner.as_posix()))
            continue
        found += [Violation(rule, message, inner.as_posix(), line) for line, rule, message in sorted(set(_findings(tree)))]
    return found


def _findings(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    aliases, texts = _aliases(tree), _documentation(tree)
    workloads = frozenset(names("workload"))
    for node in ast.walk(tree):
        yield from _imported(node)
        if isinstance(node, ast.Attribute) and node.attr in _HIDDEN_ATTRIBUTES:
            yield node.lineno, "no_peeking", f"reads {node.attr}"
        if isinstance(node, (ast.Attribute, ast.Name)):
            yield from _used(_dotted(node, aliases), node.lineno)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            spoken = sorted(name for name in workloads if name in node.value)
            if spoken:
                yield node.lineno, "no_workload_names", f"names the workload {spoken[0]!r}"


def _used(name: str, line: int) -> Iterator[tuple[int, str, str]]:
    for rule, listed, verb in (("no_peeking", _PEEKING, "uses"), ("no_clock", _CLOCKS, "reads"), ("readable_code", _UNREADABLE, "uses")):
        if name in listed:
            yield line, rule, f"{verb} {name}"


def _imported(node: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Harness internals and unreadable things that are imported."""
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        modules = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return
    for module in modules:
        inside = module == "timetrial" or module.startswith("timetrial.")
        if inside and not any(module == known or module.startswith(f"{known}.") for known in _OPEN_MODULES):
            yield node.lineno, "no_peeking", f"imports {module}; an entry sees {', '.join(_OPEN_MODULES)}"
        if module.partition(".")[0] in ("ctypes", "cffi"):
            yield node.lineno, "readable_code", f"imports {module}"


def _aliases(tree: ast.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {
                alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([aliases.get(node.id, node.id), *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _documentation(tree: ast.Module) -> set[int]:
    """Strings that stand alone: docstrings may speak of workloads."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
