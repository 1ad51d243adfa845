"""The command line: verbs found by name, errors in one line, JSON for machines, and nothing slow before it is needed."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from timetrial.suite.cli import VERBS, doctor, list_, main, output
from timetrial.suite.errors import TimetrialError

CLI = Path(main.__globals__["__file__"]).parent
HEAVY = ("torch", "hydra", "omegaconf", "mlflow", "numba", "ffcv", "pytorch_lightning", "lightning_fabric", "sklearn", "scipy", "pandas")

WORKLOAD = """
name: {name}
version: 2
tier: nano
family: test_family
summary: a workload for tests
task: digits_mlp
data: {{source: digits, validation_examples: 300}}
metric: {{name: accuracy, direction: maximize, unit: fraction}}
ladder: {{levels: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9], main: 0.85}}
budget: {{examples: 12345, charged_seconds: 30.0}}
evaluation: {{every_examples: 1000, batch_size: 512}}
batch_size: 64
provides: [{provides}]
"""
ALGORITHM = "name: {name}\nsummary: for tests\ntarget: timetrial.suite.algorithms.optimizer.OptimizerAlgorithm\nneeds: [{needs}]\n"


@pytest.fixture
def own_definitions(tmp_path, monkeypatch):
    """A user's folder with two workloads and an algorithm that one of them refuses."""
    files = {
        "workload/zz_images.yaml": WORKLOAD.format(name="zz_images", provides="image_input, labels"),
        "workload/zz_text.yaml": WORKLOAD.format(name="zz_text", provides="token_input"),
        "algorithm/zz_mixup.yaml": ALGORITHM.format(name="zz_mixup", needs="labels, image_input"),
        "curation/zz_text.yaml": "name: zz_text\nsummary: for tests\ntarget: timetrial.x.Y\nneeds_labels: true\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("TIMETRIAL_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_ffcv_import(monkeypatch):
    """Doctor's trial import of FFCV takes seconds; one test of its own is enough."""
    monkeypatch.setattr(doctor, "ffcv_state", lambda: doctor.Finding("FFCV", "warning", "not installed", "make setup"))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    command = [sys.executable, "-m", "timetrial", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}, check=False)


def told(capsys) -> str:
    """What was printed on stderr, which must be one line."""
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.startswith("timetrial: ")
    return text


# The frame


def test_every_verb_has_its_module_and_every_module_its_verb():
    with_execute = {path.stem for path in CLI.glob("*.py") if "\ndef execute(" in path.read_text(encoding="utf-8")}
    assert set(VERBS.values()) == with_execute


def test_help_lists_every_verb_and_ends_with_examples(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in VERBS)
    assert "examples:\n  timetrial" in text
    assert main([]) == main(["help"]) == 0
    assert capsys.readouterr().out == text * 2


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_ends_with_examples_and_has_the_common_flags(verb, capsys):
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    flags, _, examples = text.partition("examples:\n")
    assert "--home" in flags and "--quiet" in flags
    assert all(line.split("timetrial ", 1)[1].startswith(verb) for line in examples.strip().splitlines())
    assert examples
    assert main(["help", verb]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list"], ["list", "workloads", "--json"], ["completion", "bash"], *([verb, "--help"] for verb in VERBS)],
    ids=" ".join,
)
def test_nothing_slow_is_imported_for_help_lists_and_completion(arguments):
    code = (
        "import sys; from timetrial.suite.cli import main; status = main(sys.argv[2:]); "
        "print(sorted(set(sys.argv[1].split()) & sys.modules.keys()), file=sys.stderr); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, " ".join(HEAVY), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_the_module_and_the_command_are_the_same():
    script = Path(sys.executable).with_name("timetrial")
    by_script = subprocess.run([script, "list", "workloads"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert by_script == run("list", "workloads").stdout != ""


def test_version(capsys):
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"timetrial {version('timetrial')}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lsit"], "unknown verb 'lsit'; did you mean 'list'"),
        (["--home", "x", "list"], "expected a verb before flags, given '--home'"),
        (["list", "--jsn"], "unknown flag '--jsn'; did you mean '--json'?"),
        (["list", "--js"], "unknown flag '--js'"),
        (["list", "workload"], "unknown kind 'workload'; did you mean 'workloads'?"),
        (["list", "workloads", "more"], "unrecognized arguments: more; see timetrial list --help"),
        (["show"], "the following arguments are required: NAME; see timetrial show --help"),
        (["show", "cifar10_cn"], "unknown name 'cifar10_cn'; did you mean 'cifar10_cnn'"),
        (["prepare", "digits_mpl"], "unknown workload 'digits_mpl'; did you mean 'digits_mlp'"),
        (["completion", "tcsh"], "unknown shell 'tcsh'"),
    ],
    ids=" ".join,
)
def test_what_a_user_gets_wrong_is_one_line_and_exit_1(arguments, message, capsys):
    assert main(arguments) == 1
    assert message in told(capsys)


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (TimetrialError("two\nlines"), 1, "timetrial: two lines\n"),
        (KeyboardInterrupt(), 130, "timetrial: interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/big/file"), 1, "timetrial: /big/file: No space left on device; "),
        (OSError(errno.EROFS, "Read-only file system", "/home/x"), 1, "timetrial: /home/x: Read-only file system; "),
        (OSError(errno.EBADF, "Bad file descriptor"), 2, "Traceback"),
        (RuntimeError("a defect"), 2, "Traceback"),
    ],
)
def test_exit_status_says_whose_fault_it_was(raised, status, message, capsys, monkeypatch):
    def execute(arguments):
        raise raised

    monkeypatch.setattr(list_, "execute", execute)
    assert main(["list"]) == status
    assert capsys.readouterr().err.startswith(message)


def test_a_reader_that_leaves_is_no_error_message():
    process = subprocess.Popen([sys.executable, "-m", "timetrial", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_home_is_the_flag_then_the_variable(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(list_, "execute", lambda arguments: seen.append(arguments.home) or 0)
    monkeypatch.setenv("TIMETRIAL_HOME", str(tmp_path / "variable"))
    assert main(["list"]) == main(["list", "--home", str(tmp_path / "flag")]) == 0
    assert seen == [tmp_path / "variable", tmp_path / "flag"]


def test_looking_writes_nothing(tmp_path, no_ffcv_import):
    home = tmp_path / "home"
    for arguments in (["list"], ["show", "adamw"], ["doctor"], ["completion", "zsh"]):
        assert main([*arguments, "--home", str(home)]) == 0
    assert not home.exists()


def test_output_into_a_pipe_is_plain_and_never_wrapped(own_definitions):
    lines = run("list", "workloads", COLUMNS="40").stdout.splitlines()
    assert len(lines) == 1 + len(json.loads(run("list", "workloads", "--json").stdout))
    assert "\x1b" not in "".join(lines)


def test_no_color_on_a_terminal():
    def on_terminal(**environment: str) -> str:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "timetrial", "list", "workloads"]
        plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", "CI")}
        with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=plain | environment) as process:
            os.close(theirs)
            text = b""
            while chunk := _read(ours):
                text += chunk
        os.close(ours)
        assert process.returncode == 0
        return text.decode()

    assert "\x1b[" in on_terminal(TERM="xterm-256color")
    assert "\x1b[" not in on_terminal(TERM="dumb")
    assert "\x1b[3" not in on_terminal(TERM="xterm-256color", NO_COLOR="1")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux says EIO when the other side has closed
        return b""


def test_ascii_terminals_get_question_marks_instead_of_tracebacks(own_definitions):
    path = own_definitions / "algorithm" / "zz_mixup.yaml"
    path.write_text(path.read_text().replace("for tests", "naïve × tests"))
    done = run("list", "algorithms", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0
    assert "na?ve ? tests" in done.stdout


# list and show


def test_list_json_is_an_array_of_objects_with_names(own_definitions, capsys):
    for kind in ("workloads", "algorithms", "curation", "studies"):
        assert main(["list", kind, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [item["name"] for item in found] == sorted(item["name"] for item in found)
        if kind == "workloads":
            assert {"name": "zz_images", "tier": "nano", "family": "test_family", "version": 2}.items() <= found[-2].items()


def test_list_without_a_kind_shows_all_four(capsys):
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["workloads", "algorithms", "curation", "studies"]
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(item["name"] in text for kind in found.values() for item in kind)


def test_list_says_where_an_algorithm_runs(own_definitions, capsys):
    assert main(["list", "algorithms", "--json"]) == 0
    mixup = {item["name"]: item for item in json.loads(capsys.readouterr().out)}["zz_mixup"]
    assert mixup["needs"] == ["image_input", "labels"]
    assert "zz_images" in mixup["runs_on"] and "zz_text" not in mixup["runs_on"]


def test_the_matrix_names_unmet_needs(own_definitions, capsys):
    assert main(["list", "algorithms", "--matrix"]) == 0
    everywhere, head, *rows = capsys.readouterr().out.splitlines()
    assert "adamw" in everywhere
    assert head.split()[0] == "algorithms" and head.split()[-2:] == ["zz_images", "zz_text"]
    (row,) = [row for row in rows if row.startswith("zz_mixup")]
    columns = dict(zip(head.split(), re.split(r"  +", row), strict=True))
    assert (columns["zz_images"], columns["zz_text"]) == ("runs", "no image_input, labels")


def test_methods_that_need_labels_are_refused_where_there_are_none(own_definitions, capsys):
    assert main(["list", "curation", "--json"]) == 0
    method = {item["name"]: item for item in json.loads(capsys.readouterr().out)}["zz_text"]
    assert method["needs"] == ["labels"]
    assert "zz_text" not in method["runs_on"]


def test_an_incomplete_definition_is_named(own_definitions, capsys):
    (own_definitions / "workload" / "zz_text.yaml").write_text("name: zz_text\nversion: 1\n")
    assert main(["list", "workloads"]) == 1
    assert "workload zz_text: key 'tier' is missing" in told(capsys)


def test_show_tells_targets_budget_and_who_cannot_run(own_definitions, capsys):
    assert main(["show", "zz_images"]) == 0
    text = capsys.readouterr().out
    for part in ("zz_images@2", "accuracy >= 0.85", "[0.85]", "provisional: results are never ranked", "12,345 examples"):
        assert part in text
    assert main(["show", "zz_mixup"]) == 0
    assert "zz_text (lacks image_input, labels)" in capsys.readouterr().out


def test_show_json_is_keyed_by_what_the_name_means(own_definitions, capsys):
    assert main(["show", "zz_text", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["workload", "curation"]
    assert found["workload"]["ladder"]["confirmations"] == 1  # defaults are filled in
    assert len(found["workload"]["digest"]) == 64


def test_show_refuses_what_the_schema_refuses(own_definitions, capsys):
    path = own_definitions / "workload" / "zz_text.yaml"
    path.write_text(path.read_text().replace("batch_size: 64", "batch_sise: 64"))
    assert main(["show", "zz_text"]) == 1
    message = told(capsys)
    assert "zz_text" in message and "batch_si" in message


@pytest.mark.parametrize("kind", ["workloads", "algorithms", "curation", "studies"])
def test_everything_listed_can_be_shown(kind, capsys):
    assert main(["list", kind, "--json"]) == 0
    names = [item["name"] for item in json.loads(capsys.readouterr().out)]
    assert names
    for name in names:
        assert main(["show", name]) == 0
        assert name in capsys.readouterr().out


# prepare


def test_prepare_fetches_converts_and_is_idempotent(tmp_path, capsys):
    home = ["--home", str(tmp_path), "--quiet"]
    assert main(["prepare", "digits_mlp", *home]) == 0
    line = capsys.readouterr().out
    assert line.startswith("digits_mlp: digits@") and "is ready" in line
    assert main(["prepare", "digits_mlp", "digits_mlp", *home]) == 0
    assert capsys.readouterr().out == line
    assert main(["prepare", "digits_mlp", "--json", *home]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["name"] == "digits_mlp" and found["digest"][:12] in line
    assert sum(found["examples"].values()) == 1797


def test_prepare_checks_all_names_before_the_first_download(tmp_path, capsys):
    assert main(["prepare", "digits_mlp", "nonsense", "--home", str(tmp_path)]) == 1
    assert "unknown workload 'nonsense'" in told(capsys)
    assert list(tmp_path.iterdir()) == []


def test_prepare_says_in_one_line_what_the_mirror_lacks(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TIMETRIAL_MIRROR", str(tmp_path))
    assert main(["prepare", "cifar10_cnn", "--home", str(tmp_path / "home"), "--quiet"]) == 1
    assert str(tmp_path) in told(capsys)


def test_progress_is_plain_lines_without_a_terminal(capsys):
    with output.progress_bars(quiet=False) as report:
        for done in (0, 50, 100):
            report("download a.bin", done, 100)
        report("write train.beton", 1, None)
    assert capsys.readouterr().err == "download a.bin\nwrite train.beton\n"
    with output.progress_bars(quiet=True) as report:
        report("download a.bin", 0, 100)
    assert capsys.readouterr().err == ""


# doctor


def test_doctor_reports_every_part_and_always_succeeds(tmp_path, capsys, no_ffcv_import):
    assert main(["doctor", "--json", "--home", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"findings", "hardware_class", "machine", "software", "git"} == found.keys()
    parts = {finding["name"] for finding in found["findings"]}
    assert parts == {
        *("machine", "load", "GPU", "energy meter", "torch", "torchvision", "FFCV"),
        *("home", "space", "MLflow", "mirror", "Chromium", "code"),
    }


def test_doctor_names_each_warning_with_its_remedy(tmp_path, capsys, monkeypatch, no_ffcv_import):
    monkeypatch.setenv("TIMETRIAL_MIRROR", str(tmp_path / "absent"))
    (tmp_path / "file").write_text("a file where a folder should be")
    assert main(["doctor", "--home", str(tmp_path / "file" / "home")]) == 0
    text = capsys.readouterr().out
    assert "warning: mirror: unset it or point it at a mirror" in text
    assert "warning: home: choose another with --home or TIMETRIAL_HOME" in text
    assert "warning: FFCV: make setup" in text
    assert "nothing to mend" not in text


def test_doctor_says_why_ffcv_is_not_used():
    assert doctor.ffcv_state(installed=False).status == "warning"

    def broken(arguments):
        return subprocess.CompletedProcess(arguments, 1, "", "Traceback\nImportError: libopencv_core.so.406: cannot open\n")

    assert "libopencv_core.so.406" in doctor.ffcv_state(broken, installed=True).detail

    def crashed(arguments):
        return subprocess.CompletedProcess(arguments, -11, "", "")

    assert "exit status -11" in doctor.ffcv_state(crashed, installed=True).detail

    def hung(arguments):
        raise subprocess.TimeoutExpired(arguments, 1)

    assert "did not end" in doctor.ffcv_state(hung, installed=True).detail


def test_doctor_says_when_the_tracking_store_does_not_answer(tmp_path, capsys, monkeypatch, no_ffcv_import):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["doctor", "--home", str(tmp_path)]) == 0
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: MLflow")]
    assert "`timetrial mirror` sends their records later" in warning


@pytest.mark.ffcv
def test_doctor_finds_a_working_ffcv():
    assert doctor.ffcv_state().status == "ok"


# completion


def complete(script: str, *words: str) -> list[str]:
    """What bash offers after these words, the last of which is being typed."""
    typed = " ".join(f"'{word}'" for word in words)
    call = "compopt() { :; }; _timetrial; printf '%s\\n' \"${COMPREPLY[@]}\""
    code = f"{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; {call}"
    return subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout.split()


def test_bash_completes_verbs_names_flags_and_overrides(own_definitions, capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert complete(script, "timetrial", "li") == ["list"]
    assert complete(script, "timetrial", "list", "w") == ["workloads"]
    assert complete(script, "timetrial", "show", "zz_") == ["zz_images", "zz_mixup", "zz_text"]
    assert complete(script, "timetrial", "list", "--j") == ["--json"]
    assert complete(script, "timetrial", "prepare", "digits_mlp", "zz_i") == ["zz_images"]
    # bash hands `algorithm=zz` over as three words
    assert complete(script, "timetrial", "run", "digits_mlp", "algorithm", "=", "zz") == ["zz_mixup"]
    assert "zz_mixup" in complete(script, "timetrial", "run", "digits_mlp", "algorithm", "=")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_verb_and_name(shell, own_definitions, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS)
    assert "zz_images" in script and "algorithm=zz_mixup" in script and "--json" in script
