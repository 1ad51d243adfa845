"""The fingerprint says what separates two timings, and never who or where."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from timetrial.suite import machine, machine_load
from timetrial.suite.machine import Probe

CPUINFO = """processor\t: {index}
model name\t: Test CPU @ 3.00GHz
physical id\t: 0
core id\t\t: {core}
flags\t\t: fpu sse4_2 avx2 avx512f avx512_bf16 hypervisor

"""
H200 = "0, GPU-aaaa, NVIDIA H200, 143771, 570.1, 9.0, 700.00, Enabled, Enabled, Disabled, 31"
OTHER_H200 = "1, GPU-bbbb, NVIDIA H200, 143771, 570.1, 9.0, 700.00, Enabled, Enabled, Disabled, 33"
RTX = "2, GPU-cccc, NVIDIA GeForce RTX 4090, 24564, 570.1, 8.9, 450.00, Disabled, [N/A], [N/A], 40"


def build_probe(root: Path, files: dict[str, str] | None = None, *, cpus: int = 2, cards=(), **environment: str) -> Probe:
    """A machine made of files below ``root``: two hyperthreads of one core unless told otherwise."""
    cpuinfo = "".join(CPUINFO.format(index=index, core=index // 2) for index in range(cpus))
    for name, text in ({"proc/cpuinfo": cpuinfo, "proc/meminfo": "MemTotal:  8000 kB\n"} | (files or {})).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    def nvidia_smi(arguments):
        return "\n".join(cards) if arguments[0].startswith("--query-gpu") else ""

    return Probe(root, environment, affinity=lambda: cpus, nvidia_smi=nvidia_smi, architecture="x86_64")


def test_the_cpu_is_described_by_what_changes_speed(tmp_path):
    cpu = machine.fingerprint(probe=build_probe(tmp_path, cpus=4))["cpu"]
    assert cpu["model"] == "Test CPU @ 3.00GHz"
    assert (cpu["logical_cpus"], cpu["physical_cores"], cpu["usable_cpus"]) == (4, 2, 4)
    assert cpu["isa"] == ["avx2", "avx512_bf16", "avx512f", "sse4_2"]
    assert cpu["virtual_machine"] is True


def test_memory_is_told_in_bytes_with_the_containers_limit(tmp_path):
    memory = machine.fingerprint(probe=build_probe(tmp_path, {"sys/fs/cgroup/memory.max": "4096000\n"}))["memory"]
    assert memory == {"total_bytes": 8000 * 1024, "limit_bytes": 4096000}


@pytest.mark.parametrize("unlimited", ["max", "9223372036854771712"])
def test_no_memory_limit_is_none(tmp_path, unlimited):
    assert machine.fingerprint(probe=build_probe(tmp_path, {"sys/fs/cgroup/memory.max": unlimited}))["memory"]["limit_bytes"] is None


def test_the_file_system_is_that_of_the_longest_mount_point(tmp_path):
    mounts = "overlay / overlay rw 0 0\n/dev/sda1 /data ext4 rw 0 0\nserver:/x /data/far\\040away nfs4 rw 0 0\n"
    probe = build_probe(tmp_path, {"proc/mounts": mounts})

    def kind(folder: str) -> str:
        return machine.fingerprint(Path(folder), probe)["storage"]["filesystem"]

    assert (kind("/home/x"), kind("/data/x"), kind("/data/far away/x"), kind("/database")) == ("overlay", "ext4", "nfs4", "overlay")


def test_a_class_is_cpus_model_and_best_instruction_set(tmp_path):
    assert machine.hardware_class(probe=build_probe(tmp_path)) == "cpu2-test-bf16"


def test_another_architecture_is_another_class(tmp_path):
    probe = build_probe(tmp_path)
    assert machine.hardware_class(probe=Probe(probe.root, {}, probe.affinity, probe.nvidia_smi, "aarch64")) == "cpu2-aarch64-test-bf16"


@pytest.mark.parametrize(
    ("model", "flags", "name"),
    [
        ("Intel(R) Xeon(R) Processor", "avx2 avx512f avx512_bf16 amx_bf16", "cpu2"),  # the protocol's short name
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "avx2 avx512f", "cpu2-xeon-avx512"),
        ("Intel(R) Xeon(R) Platinum 8488C", "avx512_bf16 amx_bf16", "cpu2-xeon-platinum-8488c-amx"),
        ("AMD EPYC 9R14 96-Core Processor", "avx2 avx512f avx512_bf16", "cpu2-epyc-9r14-bf16"),
        ("12th Gen Intel(R) Core(TM) i7-12700H", "avx2 avx_vnni", "cpu2-core-i7-12700h-avx2"),
        ("AMD Ryzen 7 PRO 6850U with Radeon Graphics", "avx2", "cpu2-ryzen-7-pro-6850u-avx2"),
        ("Old One", "sse4_2", "cpu2-old-one"),
    ],
)
def test_two_machines_that_compute_differently_are_never_one_class(tmp_path, model, flags, name):
    probe = build_probe(tmp_path, {"proc/cpuinfo": f"processor\t: 0\nmodel name\t: {model}\nflags\t\t: {flags}\n\n"})
    assert machine.hardware_class(probe=probe) == name
    assert machine.cpu_class(machine.fingerprint(probe=probe)["cpu"]) == name  # a record tells as much


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"sys/fs/cgroup/cpu.max": "10000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
        ({}, 8),
    ],
)
def test_a_container_quota_counts_like_missing_cpus(tmp_path, files, expected):
    probe = build_probe(tmp_path, files, cpus=8)
    assert machine.cpu_count(probe) == expected
    assert machine.hardware_class(probe=probe) == f"cpu{expected}-test-bf16"


def test_gpu_classes_name_card_count_and_power_limit(tmp_path):
    probe = build_probe(tmp_path, cards=(H200, OTHER_H200))
    assert machine.hardware_class(probe=probe) == "h200x2-700w"
    assert machine.hardware_class(1, probe) == "h200x1-700w"
    assert machine.hardware_class(0, probe) == "cpu2-test-bf16"


def test_mixed_cards_are_a_class_of_their_own(tmp_path):
    assert machine.hardware_class(probe=build_probe(tmp_path, cards=(H200, RTX))) == "h200x1-700w+rtx-4090x1-450w"


@pytest.mark.parametrize(
    ("visible", "names"),
    [("1,0", ["33", "31"]), ("GPU-bbbb", ["33"]), ("", []), ("-1", []), ("7", [])],
)
def test_only_visible_gpus_count_in_the_given_order(tmp_path, visible, names):
    probe = build_probe(tmp_path, cards=(H200, OTHER_H200), CUDA_VISIBLE_DEVICES=visible)
    assert [f"{card['temperature_celsius']:.0f}" for card in machine.gpus(probe)] == names


def test_a_mig_slice_is_not_the_whole_card(tmp_path):
    sliced = H200.replace("Disabled, 31", "Enabled, 31")
    assert machine.hardware_class(probe=build_probe(tmp_path, cards=(sliced,), CUDA_VISIBLE_DEVICES="MIG-1234")) == "h200-migx1"


def test_unknown_gpu_numbers_are_none(tmp_path):
    card = H200.replace("700.00", "[N/A]").replace(", 31", ", [N/A]")
    (gpu,) = machine.gpus(build_probe(tmp_path, cards=(card,)))
    assert gpu["power_limit_watts"] is None
    assert gpu["temperature_celsius"] is None
    assert machine.hardware_class(probe=build_probe(tmp_path, cards=(card,))) == "h200x1"


def test_variables_that_change_speed_are_kept_and_private_values_withheld(tmp_path):
    probe = build_probe(
        tmp_path,
        OMP_NUM_THREADS="2",
        NUMBA_CACHE_DIR="/home/somebody/cache",
        TORCH_HOME="~/torch",
        NCCL_SOCKET_IFNAME=f"eth-{socket.gethostname()}",
        TORCH_API_TOKEN="abc",
        PATH="/bin",
        EDITOR="vi",
    )
    environment = machine.fingerprint(probe=probe)["environment"]
    assert environment == {
        "NCCL_SOCKET_IFNAME": "(withheld)",
        "NUMBA_CACHE_DIR": "(withheld)",
        "OMP_NUM_THREADS": "2",
        "TORCH_HOME": "(withheld)",
    }


def test_nothing_real_names_user_host_or_place(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    told = [machine.fingerprint(tmp_path), machine.hardware_class(), machine.software_versions(), machine.git_state(), machine.numerics()]
    text = json.dumps(told).lower()
    for private in (socket.gethostname(), str(Path.home()), str(tmp_path), str(Path(machine.__file__).parent), f'"{getpass.getuser()}"'):
        assert not re.search(rf"(?<!\w){re.escape(private.lower())}(?!\w)", text)  # a host may have a name as short as a syllable


def test_a_machine_that_tells_nothing_is_still_described(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    probe = Probe(tmp_path, {}, affinity=lambda: 3, nvidia_smi=lambda arguments: "", architecture="x86_64")
    assert machine.hardware_class(probe=probe) == "cpu3-unknown"
    assert json.dumps(machine.fingerprint(tmp_path, probe))
    assert machine_load.load(0, probe, sleep=lambda seconds: None) == {"load_average_1min": None, "busy_fraction": None, "gpu_processes": 0}


def test_load_is_the_busy_share_while_waiting(tmp_path):
    probe = build_probe(tmp_path, {"proc/loadavg": "1.50 1.0 0.5 1/100 42", "proc/stat": "cpu  100 0 0 100 0 0 0 0 0 0\n"})

    def wait(seconds):
        assert seconds == 0.25
        (tmp_path / "proc/stat").write_text("cpu  110 0 20 160 10 0 0 0 10 0\n")  # 30 busy, 60 idle, 10 waiting for the disk

    assert machine_load.load(0.25, probe, wait) == {"load_average_1min": 1.5, "busy_fraction": 0.3, "gpu_processes": 0}


def test_stolen_time_is_what_the_hypervisor_kept_and_a_wait_ends_with_it(tmp_path):
    probe = build_probe(tmp_path, {"proc/stat": "cpu  100 0 0 100 0 0 0 500 0 0\n"})
    ticks = os.sysconf("SC_CLK_TCK")
    before = machine_load.stolen_seconds(probe)
    assert before == 500 / ticks
    stolen = iter([3.0, 2.0, 0.0, 0.0])  # seconds kept in each sample of five

    def wait(seconds):
        total = machine_load.stolen_seconds(probe) * ticks + next(stolen) * ticks
        (tmp_path / "proc/stat").write_text(f"cpu  100 0 0 100 0 0 0 {total:.0f} 0 0\n")

    assert machine_load.wait_until_calm(0.01, 60, probe, wait) is True and list(stolen) == [0.0]
    cpus = os.cpu_count()
    assert machine_load.stolen_fraction(before, 10.0, probe) == round(5.0 / (10 * cpus), 4)
    stolen = iter([5.0] * 3)
    assert machine_load.wait_until_calm(0.01, 15, probe, wait) is False
    assert machine_load.stolen_seconds(Probe(tmp_path / "nowhere")) is None and machine_load.stolen_fraction(None, 1.0, probe) is None


def test_peak_memory_is_the_high_water_mark(tmp_path):
    probe = build_probe(tmp_path, {"proc/self/status": "Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n"})
    assert machine.peak_memory_bytes(probe) == 2048 * 1024
    assert machine.peak_memory_bytes() > 2**20


def test_numerics_key_follows_cpu_threads_and_nothing_else(tmp_path):
    import torch

    key = machine.numerics_key(build_probe(tmp_path / "a"))
    assert key == machine.numerics_key(build_probe(tmp_path / "b", {"proc/meminfo": "MemTotal: 1 kB\n"}, HOME="/elsewhere"))
    other = CPUINFO.format(index=0, core=0).replace("3.00", "2.00")
    assert key != machine.numerics_key(build_probe(tmp_path / "c", {"proc/cpuinfo": other}))
    assert key != machine.numerics_key(build_probe(tmp_path / "d", ATEN_CPU_CAPABILITY="avx2"))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert key != machine.numerics_key(build_probe(tmp_path / "e"))
    finally:
        torch.set_num_threads(threads)


def test_software_versions_cover_what_is_declared():
    found = machine.software_versions()
    assert {"python", "timetrial", "torch", "numpy", "pytorch-lightning", "mlflow"} <= found.keys()
    assert "pytest" not in found
    assert found["torch"].startswith("2.")


def test_git_state_tells_commit_and_whether_it_was_changed(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        command = ["git", *identity, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert machine.git_state(tmp_path) == {}
    git("init", "-q")
    assert machine.git_state(tmp_path) == {}  # no commit yet
    (tmp_path / "a.txt").write_text("one")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert machine.git_state(tmp_path) == {"commit": commit, "dirty": False, "diff_digest": None}
    (tmp_path / "new.txt").write_text("untracked")
    assert machine.git_state(tmp_path) == {"commit": commit, "dirty": True, "diff_digest": None}
    (tmp_path / "a.txt").write_text("two")
    changed = machine.git_state(tmp_path)["diff_digest"]
    (tmp_path / "a.txt").write_text("three")
    assert machine.git_state(tmp_path)["diff_digest"] not in (None, changed)


def test_a_package_inside_a_foreign_checkout_does_not_claim_its_commit(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "site-packages" / "timetrial").mkdir(parents=True)
    assert machine.git_state(tmp_path / "site-packages" / "timetrial") == {}
