"""Thread settings: set in one place, read back for the record, never over the user's head."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from timetrial.data_pipelines.threads import prepare_environment, set_threads
from timetrial.suite.errors import ConfigError

NAMES = ("OMP_WAIT_POLICY", "NUMBA_THREADING_LAYER", "NUMBA_CACHE_DIR")


@pytest.fixture
def environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "numba", raising=False)


def test_the_environment_is_set_where_the_user_has_not(environment, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    prepare_environment(tmp_path)
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["NUMBA_THREADING_LAYER"] == "omp"
    assert Path(os.environ["NUMBA_CACHE_DIR"]).parent == tmp_path / "cache" / "numba"


def test_preparing_imports_neither_torch_nor_numba(tmp_path):
    script = (
        "import sys; from pathlib import Path; from timetrial.data_pipelines.threads import prepare_environment;"
        "prepare_environment(Path(sys.argv[1])); print({'torch', 'numba', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


def test_the_cache_of_compiled_code_is_moved_even_after_numba_was_imported(tmp_path):
    script = (
        "import sys, os; from pathlib import Path; import numba; from timetrial.data_pipelines.threads import prepare_environment;"
        "prepare_environment(Path(sys.argv[1])); from timetrial.data_pipelines import kernels;"
        "import numpy as np; kernels.philox(*[np.uint64(0)] * 6); print(len(list(Path(sys.argv[1]).rglob('*.nbi'))))"
    )
    free = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=free, capture_output=True, text=True, timeout=100, check=True)
    assert int(done.stdout) > 0


def test_settings_are_read_back(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    try:
        settings = set_threads(1)
        assert torch.get_num_threads() == settings["torch_threads"] == 1
        assert settings["omp_wait_policy"] == "PASSIVE"
        assert not any(os.sep in str(value) for value in settings.values()), "no path of this machine in a record"
    finally:
        torch.set_num_threads(before)


def test_no_threads_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        set_threads(0)
