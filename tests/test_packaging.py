"""What is installed: public names, declared versions, and the choices that `make` makes before anything is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import timetrial

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def script(name: str) -> ModuleType:
    """A script of `.ci`, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


choose_torch, system_packages = script("choose_torch"), script("system_packages")


# The Python face


def test_every_public_name_is_there():
    assert {"run", "board", "curate", "Record", "TimetrialError", "TrainingAlgorithm", "__version__"} <= set(timetrial.__all__)
    for name in timetrial.__all__:
        assert getattr(timetrial, name) is not None
    assert set(timetrial.__all__) <= set(dir(timetrial))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'timetrial' has no attribute 'nonsense'"):
        timetrial.nonsense  # noqa: B018


def test_public_names_are_loaded_on_first_use():
    code = "import sys, timetrial as t; t.Record, t.__version__; print({'torch', 'numpy', 'mlflow', 'hydra'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


# The declaration


def test_the_version_is_the_same_everywhere():
    assert timetrial.__version__ == metadata.version("timetrial") == PROJECT["version"]
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == PROJECT["version"]
    assert f"\n## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_licence_is_the_whole_apache_licence():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_extras_are_the_promised_ones():
    # beside the five of the stack: PostgreSQL under MLflow, the libraries of two deduplication methods, and pretrained encoders
    own = {"server", "dedup", "encoders", "picture-encoders"}
    assert set(PROJECT["optional-dependencies"]) == {"ffcv", "gpu", "slurm", "ray", "dev"} | own
    assert "ffcv==1.0.2" in PROJECT["optional-dependencies"]["ffcv"]


def test_nothing_asks_for_torchvision():
    declared = [*PROJECT["dependencies"], *(item for items in PROJECT["optional-dependencies"].values() for item in items)]
    assert not any("torchvision" in requirement for requirement in declared)


def test_this_environment_satisfies_the_declaration():
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in PROJECT["dependencies"]]
    assert all(metadata.version(name) for name in names)
    assert metadata.version("torch").split("+")[0] == choose_torch.torch_requirement(ROOT / "pyproject.toml").removeprefix("torch==")


# Which torch


def choice(wish: str = "auto", *, nvidia: bool = False, system: str = "Linux", offers: tuple[str, ...] = ()) -> list[str]:
    """The arguments chosen when pip can install from ``offers``: its own configuration (``pip``) or the project's index (``index``)."""

    def resolves(arguments):
        assert arguments[0] == "torch==9.9.9+cpu"
        return ("index" if choose_torch.CPU_INDEX in arguments else "pip") in offers

    return choose_torch.choose("torch==9.9.9", wish, nvidia=nvidia, system=system, resolves=resolves)[0]


def test_without_a_gpu_a_cpu_build_is_taken_a_local_one_first():
    assert choice(offers=("pip", "index")) == ["torch==9.9.9+cpu"]
    assert choice(offers=("index",)) == ["torch==9.9.9+cpu", "--extra-index-url", choose_torch.CPU_INDEX]


def test_with_a_gpu_the_default_build_is_taken():
    assert choice(nvidia=True, offers=("pip", "index")) == ["torch==9.9.9"]
    assert choice("cpu", nvidia=True, offers=("pip",)) == ["torch==9.9.9+cpu"]


def test_any_takes_the_default_build_without_looking():
    assert choice("any") == ["torch==9.9.9"]
    assert choice(system="Darwin") == ["torch==9.9.9"]


def test_when_no_cpu_build_can_be_had_the_size_and_the_way_out_are_told():
    with pytest.raises(LookupError, match=r"(?s)about \d+ GB.*TORCH=any"):
        choice()


def test_another_wish_is_refused():
    with pytest.raises(ValueError, match="TORCH=gpu: expected one of auto, cpu, any"):
        choice("gpu")


def test_the_script_prints_arguments_for_pip_and_its_reason_apart():
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "choose_torch.py"], env={**os.environ, "TORCH": "any"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{choose_torch.torch_requirement(ROOT / 'pyproject.toml')}\n"
    assert "TORCH=any" in done.stderr


# Which system packages


def test_only_who_may_calls_apt():
    def prefix(root: bool, apt: bool, sudo: bool):
        return system_packages.apt_prefix(root=root, apt=apt, sudo_works=lambda: sudo)

    assert prefix(root=True, apt=True, sudo=False) == []
    assert prefix(root=False, apt=True, sudo=True) == ["sudo", "-n"]
    assert prefix(root=False, apt=True, sudo=False) is None
    assert prefix(root=True, apt=False, sudo=True) is None


def test_missing_packages_are_told_in_one_line_with_the_command(monkeypatch, capsys):
    table = {"g++": lambda: True, "libx-dev": lambda: False, "liby-dev": lambda: False}
    monkeypatch.setitem(system_packages.PACKAGES, "ffcv", table)
    monkeypatch.setattr(system_packages, "apt_prefix", lambda **_: None)
    assert system_packages.main("ffcv") == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "sudo apt-get install -y --no-install-recommends libx-dev liby-dev; going on without FFCV" in line


def test_what_is_missing_is_installed_where_allowed(monkeypatch, capsys):
    installed = []
    monkeypatch.setitem(system_packages.PACKAGES, "browser", {"chromium": lambda: bool(installed)})
    monkeypatch.setattr(system_packages, "apt_prefix", lambda **_: ["sudo", "-n"])
    monkeypatch.setattr(system_packages, "_install", lambda prefix, packages: installed.append((prefix, packages)))
    assert system_packages.main("browser") == 0
    assert installed == [(["sudo", "-n"], ["chromium"])]
    assert capsys.readouterr().err == "system packages: installing chromium\n"


def test_an_apt_that_fails_is_told_and_still_names_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(system_packages.PACKAGES, "ffcv", {"libx-dev": lambda: False})
    monkeypatch.setattr(system_packages, "apt_prefix", lambda **_: ["false"])
    assert system_packages.main("ffcv") == 1
    assert "missing libx-dev" in capsys.readouterr().err


def test_make_says_in_one_line_when_there_is_no_python(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = subprocess.run(["make", "-C", str(tmp_path), "PYTHON=", "setup"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "none of version 3.11 or later found" in done.stderr
