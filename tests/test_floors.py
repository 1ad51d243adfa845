"""The house has floors: an import may go down or stay, never up, and never round in a circle.

Read from the syntax trees, so imports inside functions count as well. Those under TYPE_CHECKING count for the floors, but close no
circle: nothing is imported there.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("suite", "tasks", "data_pipelines", "leaderboards", "configs")

# From top to bottom; the longest matching prefix says where a module lives. What `suite` does not list lives on the trial's floor.
FLOORS = (
    ("", "__main__", "suite.cli", "suite.api"),
    ("suite.targets", "suite.target_setting", "suite.study", "suite.checks"),
    ("suite",),
    ("tasks",),
    ("data_pipelines",),
    (
        *(f"suite.{name}" for name in ("workload", "algorithm", "clock", "record", "machine", "errors", "files", "schema", "curve")),
        *(f"suite.{name}" for name in ("registry", "variants", "task", "config", "protocol")),
        "configs",
    ),
)
HEIGHT = {prefix: len(FLOORS) - level for level, prefixes in enumerate(FLOORS) for prefix in prefixes}
# The boards stand beside the house: on the record and what a record embeds, and only these may look at them.
BOARD_GROUND = {f"suite.{name}" for name in ("record", "curve", "workload", "schema", "files", "errors")}
BOARD_USERS = ("suite.cli", "suite.api", "suite.targets", "suite.target_setting", "suite.study", "")


def modules() -> dict[str, Path]:
    """Dotted names below the package (the package itself is the empty string) and their files."""
    paths = [ROOT / "__init__.py", ROOT / "__main__.py", *(path for part in PARTS for path in (ROOT / part).rglob("*.py"))]
    return {dotted(path): path for path in paths}


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(name: str, path: Path, known: set[str], *, types: bool = True) -> set[str]:
    """Modules of the package that a module imports, for ``types`` those of type checkers too.

    Raises ``AssertionError`` for an absolute import of the package itself.
    """
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not types:
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [part for part in package if part]
    for node in ast.walk(tree):
        absolute = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            absolute = [node.module or ""]
        assert "timetrial" not in {other.split(".")[0] for other in absolute}, f"{path.name}:{node.lineno}: import it relatively"
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - node.level + 1]
        target = ".".join([*base, *(node.module or "").split(".")]).strip(".")
        for alias in node.names:
            inner = f"{target}.{alias.name}".strip(".")
            found.add(inner if inner in known else target)
    return found - {name}


def height(name: str) -> int:
    """Floor of a module, counted from the ground."""
    parts = name.split(".")
    prefixes = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return next((HEIGHT[prefix] for prefix in prefixes if prefix in HEIGHT), HEIGHT[""])


MODULES = modules()
GRAPH = {name: imports(name, path, set(MODULES)) for name, path in MODULES.items()}


def is_board(name: str) -> bool:
    return name.split(".")[0] == "leaderboards"


def test_no_import_runs_up_the_floors():
    up = [
        f"{name} -> {other}"
        for name, others in GRAPH.items()
        for other in sorted(others)
        if not is_board(name) and not is_board(other) and height(other) > height(name)
    ]
    assert up == []


def test_no_import_runs_in_a_circle():
    graph = {name: imports(name, path, set(MODULES), types=False) for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"imports run in a circle: {' -> '.join(circle.args[1])}")


def test_every_import_leads_to_a_module():
    assert {f"{name} -> {other}" for name, others in GRAPH.items() for other in others if other not in MODULES} == set()


def test_boards_stand_on_the_record_alone():
    board_imports = {(name, other) for name, others in GRAPH.items() if is_board(name) for other in others}
    assert {(name, other) for name, other in board_imports if not is_board(other) and other not in BOARD_GROUND} == set()


def test_only_the_upper_floors_look_at_boards():
    lookers = {name for name, others in GRAPH.items() if not is_board(name) and any(map(is_board, others))}
    assert {name for name in lookers if not any(name == user or (user and name.startswith(f"{user}.")) for user in BOARD_USERS)} == set()


@pytest.mark.parametrize("name", sorted(name for name in MODULES if is_board(name)))
def test_boards_need_neither_torch_nor_mlflow(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    absolute = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    absolute |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level and node.module}
    assert {module.split(".")[0] for module in absolute} & {"torch", "mlflow", "pytorch_lightning", "lightning_fabric", "ffcv"} == set()


def test_suite_is_an_empty_package():
    assert (ROOT / "suite" / "__init__.py").read_text() == ""


def test_the_reader_of_imports_sees_every_form(tmp_path):
    source = "from . import clock\nfrom .record import Record\nif TYPE_CHECKING:\n    from .. import tasks\n"
    source += "def f():\n    from ..tasks import digits_mlp\n"
    (tmp_path / "x.py").write_text(source)
    known = {"suite.clock", "suite.record", "tasks", "tasks.digits_mlp"}
    runtime = {"suite.clock", "suite.record", "tasks.digits_mlp"}
    assert imports("suite.x", tmp_path / "x.py", known) == {*runtime, "tasks"}
    assert imports("suite.x", tmp_path / "x.py", known, types=False) == runtime
    (tmp_path / "x.py").write_text("import timetrial.suite.clock")
    with pytest.raises(AssertionError, match="relatively"):
        imports("suite.x", tmp_path / "x.py", known)
