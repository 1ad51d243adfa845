"""What all tests share: a home of their own, prepared data, and markers that say what a test needs."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from timetrial.data_pipelines.threads import prepare_environment
from timetrial.suite import config, machine_load

# marker -> (whether it is there, why not, the variable that turns its absence into a failure)
NEEDS = {
    "data": (lambda: bool(os.environ.get("TIMETRIAL_MIRROR")), "real data: TIMETRIAL_MIRROR is not set", "TIMETRIAL_REQUIRE_DATA"),
    "ffcv": (lambda: importlib.util.find_spec("ffcv") is not None, "FFCV is not installed", "TIMETRIAL_REQUIRE_FFCV"),
    "browser": (
        lambda: any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")),
        "no Chromium on this machine",
        "TIMETRIAL_REQUIRE_CHROMIUM",
    ),
}
COUNTS = pytest.StashKey[dict[str, int]]()


ROOT = Path(__file__).resolve().parent.parent


class RootIsNoTestPackage:
    """pytest would import the repository root, which is the package, once more under the name of the clone's folder."""

    def pytest_collect_directory(self, path, parent):
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config):
    config.stash[COUNTS] = {"ran": 0, "skipped": 0}
    config.pluginmanager.register(RootIsNoTestPackage())
    prepare_environment(ROOT / "build")  # kernels compile once a clone, not once a run
    for name in ("TIMETRIAL_PATH", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        os.environ.pop(name, None)


def pytest_runtest_setup(item):
    for marker, (present, reason, required) in NEEDS.items():
        if item.get_closest_marker(marker) and not present():
            if marker == "data":
                item.config.stash[COUNTS]["skipped"] += 1
            if os.environ.get(required) == "1":
                pytest.fail(f"{reason}, and {required}=1", pytrace=False)
            pytest.skip(reason)


def pytest_runtest_call(item):
    if item.get_closest_marker("data"):
        item.config.stash[COUNTS]["ran"] += 1


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.write_line("real-data tests: {ran} ran, {skipped} skipped".format(**config.stash[COUNTS]))


@pytest.fixture(scope="session", autouse=True)
def _home_of_the_session(tmp_path_factory):
    """Whatever a test forgets to direct elsewhere lands in a temporary home, never in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIMETRIAL_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _calm_machine():
    """Whatever the hypervisor of this machine does, no trial of a test is disturbed by it, so none is run again."""
    real = machine_load.stolen_seconds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine_load, "stolen_seconds", lambda probe=None: None if probe is None else real(probe))
        yield


@pytest.fixture(scope="session", autouse=True)
def _budgets_as_frozen():
    """Plans are the same on every machine that runs the tests: as on the hardware that targets were frozen on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "_elsewhere", lambda plan: plan)
        yield


@pytest.fixture(scope="session")
def prepared_home(tmp_path_factory):
    """A home for the whole session: a dataset that one test prepares is there for all others. Read it, do not damage it."""
    home = tmp_path_factory.mktemp("prepared")
    yield home
    shutil.rmtree(home)


@pytest.fixture
def mirror():
    """The folder of real data; only for tests marked ``data``."""
    return Path(os.environ["TIMETRIAL_MIRROR"])
