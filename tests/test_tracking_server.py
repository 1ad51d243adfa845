"""A tracking server with PostgreSQL behind it, and MLflow's own page in a browser: minutes, so only with ``-m slow``.

Needs Debian's ``postgresql`` (the server is started by the test, in a folder of its own, as a user without rights) and ``psycopg``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from timetrial.leaderboards.boards import board
from timetrial.leaderboards.render import json_text
from timetrial.suite.cli import main
from timetrial.suite.record import read_record, write_record
from timetrial.suite.tracking import default_uri, mirror, read_records

from .synthetic_records import LOSS, trial, workload

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def postgres_binaries():
    """The folder with ``initdb`` and ``postgres``: on the path, or where Debian keeps it."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@pytest.fixture(scope="module")
def postgres():
    """URI of an empty database of a PostgreSQL cluster that lives and dies with this module."""
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("no driver for PostgreSQL: pip install 'psycopg[binary]'")
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # initdb refuses to run as root
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="timetrial-pg-"))
    shutil.chown(folder, user)
    settings = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    data = folder / "data"
    try:
        making = [binaries / "initdb", "-D", data, "-U", "tester", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(making, check=True, capture_output=True, cwd=folder, **settings)
        serving = [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with running(serving, folder / "log", cwd=folder, **settings) as process:
            wait_for(
                process,
                folder / "log",
                lambda: subprocess.run([binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]).returncode == 0,
            )
            subprocess.run([binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "tester", "mlflow"], check=True)
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}/mlflow"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(arguments, log, **settings):
    """A process and its children for the length of the block."""
    with log.open("wb") as stream:
        process = subprocess.Popen(arguments, stdout=stream, stderr=stream, start_new_session=True, **settings)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def wait_for(process, log, ready, seconds=180):
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"not ready: {log.read_text()[-2000:]}")
        time.sleep(0.5)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@contextlib.contextmanager
def mlflow_server(folder, store):
    """Address of a tracking server over a store, its artefacts below ``folder``."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--artifacts-destination", str(folder / "served")]
    command += ["--port", str(port), "--workers", "2"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with running(command, folder / "server.log", cwd=folder, env=environment) as process:
        wait_for(process, folder / "server.log", lambda: answers(f"http://127.0.0.1:{port}/health"))
        yield f"http://127.0.0.1:{port}"


def records(home):
    """Two workloads, three entries, some misses: written as folders, as ``mirror`` takes them."""
    found = []
    for of in (workload(), workload("shakespeare_gpt", metric=LOSS)):
        for entry, seconds in (("adamw", 20), ("lion", 25), ("adamw + random 0.5", 70)):
            for seed in range(3):
                record, points = trial(of, entry, seed, seconds + seed, study="demo")
                record = dataclasses.replace(record, data_digests={"pool": "d" * 64})
                folder = home / "records" / record.record_id
                write_record(folder, record, points, "seed: 0\n")
                found.append((*read_record(folder), folder))
    return found


def test_boards_from_a_server_with_postgresql_are_those_from_folders(postgres, tmp_path, monkeypatch, capsys):
    found = records(tmp_path)
    monkeypatch.setenv("TIMETRIAL_HOME", str(tmp_path))
    with mlflow_server(tmp_path, postgres) as server:
        assert mirror(found[:6], server) == 6
        assert main(["mirror", "--home", str(tmp_path), "--uri", server]) == 0
        assert capsys.readouterr().out == f"{len(found) - 6} of {len(found)} records sent, 6 were there already\n"
        from_server = read_records(server)
        assert len(list((tmp_path / "served").rglob("record.json"))) == len(found)
        shutil.rmtree(tmp_path / "served")
        assert read_records(server, study="demo") == from_server
    assert sorted(from_server, key=lambda pair: pair[0].record_id) == sorted([f[:2] for f in found], key=lambda pair: pair[0].record_id)
    assert json_text(board([record for record, _ in from_server])) == json_text(board([record for record, _, _ in found]))
    assert read_records(postgres) == from_server  # the database itself, without its server


@pytest.mark.browser
def test_the_page_of_mlflow_lists_runs_by_readable_names(tmp_path):
    from playwright.sync_api import sync_playwright

    uri = default_uri(tmp_path)
    mirror(records(tmp_path)[:6], uri)
    chromium = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    with mlflow_server(tmp_path, uri) as server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.goto(f"{server}/#/experiments")
        page.get_by_text("nano/cifar10_cnn@1").first.wait_for(timeout=60_000)
        page.goto(f"{server}/#/experiments/1/runs")
        page.get_by_text("adamw · all · seed 2").first.wait_for(timeout=60_000)
        assert page.get_by_text("lion · all · seed 0").count() == 1
        assert page.get_by_text("cifar10_cnn.pool (dddd").count() == 6
        browser.close()
