"""Foreign code in a process of its own: whatever it does, the host gets an answer, in time, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from timetrial.suite.isolation import Ending, Limits, network_prefix, run_isolated


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Runs a function body as a child; the module is found through PYTHONPATH, as any module is."""

    def run(body: str, **limits):
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        (tmp_path / "isolation_probe.py").write_text(f"def answer(request):\n{lines}\n")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")])))
        return run_isolated("isolation_probe", {"n": 20}, Limits(**{"seconds": 30.0, **limits}))

    return run


def test_an_answer_comes_back(probe):
    found = probe("print('hello')\nreturn {'twice': 2 * request['n']}")
    assert (found.ending, found.answer) == (Ending.ANSWERED, {"twice": 40})
    assert "hello" in found.output


def test_an_exception_is_a_result_with_its_message(probe):
    found = probe("raise ValueError('no such thing')")
    assert found.ending is Ending.CRASHED and found.answer is None
    assert found.detail == "ValueError: no such thing"


@pytest.mark.parametrize(
    ("body", "said"),
    [("import os; os.abort()", "SIGABRT"), ("import os; os._exit(7)", "exit status 7"), ("raise SystemExit(0)", "SystemExit")],
)
def test_a_crash_is_a_result_that_names_the_signal(probe, body, said):
    found = probe(body)
    assert found.ending is Ending.CRASHED and said in found.detail


def test_a_hang_ends_with_the_time_limit_and_takes_its_children_along(probe, tmp_path):
    keep = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))"
    body = f"import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n{keep}\nwhile True: pass"
    began = time.monotonic()
    found = probe(body, seconds=3.0)
    assert found.ending is Ending.TIMED_OUT and "3 s" in found.detail
    assert time.monotonic() - began < 20
    pid = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 5
    while state.exists() and state.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_endless_allocation_ends_with_the_memory_limit(probe):
    found = probe("kept = []\nwhile True: kept.append(bytearray(2**24))", memory_bytes=2**28)
    assert found.ending is Ending.OUT_OF_MEMORY and "0.25 GiB" in found.detail


def test_endless_writing_ends_with_the_file_limit(probe):
    found = probe("while True: print('x' * 10000)", file_bytes=2**20)
    assert found.ending is Ending.CRASHED


def test_the_network_is_taken_away_where_the_machine_permits_it(probe):
    attempt = "    socket.create_connection(('127.0.0.1', 9), timeout=1)"
    found = probe(f"import socket\ntry:\n{attempt}\nexcept OSError as problem:\n    return problem.errno\nreturn 0")
    assert found.network == (not network_prefix())
    if not found.network:
        assert found.answer in (errno.ENETUNREACH, errno.EADDRNOTAVAIL)


def test_secrets_of_the_environment_are_not_handed_on(probe, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert probe("import os\nreturn os.environ.get('SECRET_TOKEN', 'not here')").answer == "not here"


def test_a_machine_without_unshare_says_that_there_is_network(monkeypatch):
    network_prefix.cache_clear()
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert network_prefix() == ()
    network_prefix.cache_clear()


def test_where_the_network_stays_connections_are_refused(probe):
    attempt = "    socket.create_connection(('127.0.0.1', 9), timeout=1)"
    refused = "from timetrial.suite.isolation import refuse_network\nimport socket\nrefuse_network()\n"
    found = probe(f"{refused}try:\n{attempt}\nexcept PermissionError as problem:\n    return str(problem)")
    assert "an entry has no network" in found.answer
