"""The house itself: the wheel is the tree, the package has one name, and nothing in it belongs to one machine."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import timetrial

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("configs", "data_pipelines", "leaderboards", "suite", "tasks")
LARGEST_FILE_BYTES = 2**20
LONGEST_MODULE_LINES = 450


def tree() -> list[str]:
    """Files of the checkout that git tracks or would track."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted({name for name in listed if name and (ROOT / name).is_file()})


def package_files() -> list[str]:
    return [name for name in tree() if name.split("/")[0] in PARTS or name in ("__init__.py", "__main__.py")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of the checkout, in a folder that is not called timetrial."""
    source, out = tmp_path_factory.mktemp("any-clone.name"), tmp_path_factory.mktemp("dist")
    for name in tree():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(source)]
    subprocess.run([sys.executable, *build], check=True, timeout=120, capture_output=True)
    (built,) = out.glob("timetrial-*.whl")
    return built


def test_the_wheel_is_the_tree(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == {f"timetrial/{name}" for name in package_files()}


def test_the_wheel_carries_licence_and_entry_point(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "timetrial = timetrial.suite.cli:main" in archive.read(entry_points).decode()
        assert any(name.endswith("/LICENSE") for name in names)


def test_an_installed_wheel_works_from_any_directory(wheel, tmp_path):
    """Unpacked like pip does it, away from the checkout, and used from a folder that has nothing to do with either."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, timeout=120, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "TIMETRIAL_HOME": str(tmp_path / "home")}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(run("-c", "import timetrial; print(timetrial.__file__)").strip()).is_relative_to(site)
    assert "digits_mlp" in run("-m", "timetrial", "list", "workloads")
    assert "digits_mlp@" in run("-m", "timetrial", "show", "digits_mlp")
    run("-m", "timetrial", "run", "digits_mlp", "--smoke", "--no-mlflow", "--quiet")
    assert list(elsewhere.iterdir()) == []


def test_the_editable_install_works_from_any_directory(tmp_path):
    command = [sys.executable, "-c", "import timetrial; print(timetrial.__file__)"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert Path(done.stdout.strip()) == ROOT / "__init__.py"


def test_the_package_is_imported_under_one_name_only():
    assert timetrial.__file__ == str(ROOT / "__init__.py")
    names = [name for name, module in sys.modules.items() if getattr(module, "__file__", None) == timetrial.__file__]
    assert names == ["timetrial"]


def test_torchvision_is_not_installed():
    assert find_spec("torchvision") is None, "torchvision beside this torch breaks torchmetrics and lightning"


def test_no_file_names_a_place_of_one_machine():
    place = re.compile(rb"(?<![\w.$~*{}<>:/-])/(home|root|work|tmp|Users|opt|mnt|srv|var/folders)/[\w.]")
    assert place.search(b'path = "/home/somebody/x"') and not place.search(b"https://example.org/home/x")
    found = {name for name in tree() if not name.startswith("tests/") and place.search((ROOT / name).read_bytes())}
    assert found == set()


def test_no_data_is_committed():
    large = {name for name in tree() if (ROOT / name).stat().st_size > LARGEST_FILE_BYTES}
    packs = {name for name in large if re.fullmatch(r"leaderboards/published/\w+/\w+\.zip", name)}  # records; test_published limits them
    assert large - packs == set()


@pytest.mark.parametrize("name", [name for name in package_files() if name.endswith(".py")])
def test_modules_are_short_and_say_what_they_are(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_MODULE_LINES
    body = ast.parse(text)
    assert ast.get_docstring(body) or not body.body, "a module begins by saying what it is"
