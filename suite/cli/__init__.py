"""The ``timetrial`` command: one module a verb, imported only when its verb is used.

A verb's module has ``HELP`` (one line), ``EXAMPLES`` (command lines that end its ``--help``), ``add_arguments(parser)`` and
``execute(arguments) -> int``. Heavy imports (torch, Hydra, MLflow, numba) belong inside ``execute``, so that ``--help`` and
``list`` answer at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import NoReturn, final

from ..errors import TimetrialError, UserError, unknown_name
from ..files import home_folder

__all__ = ["VERBS", "main", "verb_parser"]

VERBS = MappingProxyType(
    {
        "list": "list_",
        "show": "show",
        "prepare": "prepare",
        "run": "run",
        "study": "study",
        "check": "check",
        "submit": "submit",
        "curate": "curate",
        "targets": "targets",
        "leaderboard": "leaderboard",
        "compare": "compare",
        "verify": "verify",
        "pack": "pack",
        "mirror": "mirror",
        "import": "import_",
        "doctor": "doctor",
        "completion": "completion",
    }
)

_EXIT_CODES = "exit status: 0 ok, 1 user error, 2 internal error, 3 target missed (run), 130 interrupted, 141 reader of a pipe gone"
_EXAMPLES = """examples:
  timetrial list workloads
  timetrial prepare cifar10_cnn
  timetrial run digits_mlp algorithm=lion seed=1
  timetrial leaderboard build
  timetrial run --help"""
_MACHINE_ERRNOS = frozenset({errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT})


@final
class _Parser(argparse.ArgumentParser):
    """argparse, with usage errors as :class:`UserError` (exit 1, one line) and flags spelled in full only."""

    def error(self, message: str) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        if message.startswith("unrecognized arguments: -"):
            given = message.partition(": ")[2].split()[0]
            raise unknown_name("flag", given.partition("=")[0], known)
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status; never raises for what a user can cause."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets a question mark, not a traceback
    try:
        status = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except SystemExit as done:  # argparse after --help
        return int(done.code or 0)
    except BrokenPipeError:
        # Python flushes stdout once more at exit; without a reader that would print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except TimetrialError as problem:
        return _fail(str(problem), 1)
    except Exception as problem:  # noqa: BLE001  told in full, and the exit status says whose fault it is
        if isinstance(problem, OSError) and problem.errno in _MACHINE_ERRNOS:
            place = f"{problem.filename}: " if problem.filename else ""
            return _fail(f"{place}{problem.strerror}; choose another place with --home or free this one", 1)
        traceback.print_exc()
        return 2


def verb_parser(verb: str) -> tuple[argparse.ArgumentParser, ModuleType]:
    """The parser of a verb, with the flags that every verb has, and the verb's module."""
    module = _load(verb)
    parser = _Parser(
        prog=f"timetrial {verb}",
        description=module.HELP[0].upper() + module.HELP[1:] + ".",
        epilog="\n  ".join(("examples:", *module.EXAMPLES)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.add_argument("--home", metavar="FOLDER", help="everything is written below this folder ($TIMETRIAL_HOME, ~/.timetrial)")
    parser.add_argument("--quiet", action="store_true", help="print results and errors only")
    return parser, module


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help") or argv == ["help"]:
        print(_overview())
        return 0
    if argv[0] == "--version":
        from importlib.metadata import version

        print(f"timetrial {version('timetrial')}")
        return 0
    verb, *rest = argv
    if verb == "help":
        verb, rest = rest[0], ["--help"]
    if verb.startswith("-"):
        raise UserError(f"expected a verb before flags, given {verb!r}; for example: timetrial list {verb}")
    if verb not in VERBS:
        raise unknown_name("verb", verb, VERBS)
    parser, module = verb_parser(verb)
    try:
        arguments = parser.parse_intermixed_args(rest)  # flags may stand between names
    except TypeError:  # this verb's positionals (sub-verbs, remainders) cannot be intermixed
        arguments = parser.parse_args(rest)
    arguments.home = home_folder(arguments.home)
    _prepare_environment(arguments.home)
    return int(module.execute(arguments))


def _prepare_environment(home: Path) -> None:
    """Thread and cache settings that must stand before torch or numba is imported."""
    from ...data_pipelines.threads import prepare_environment

    prepare_environment(home)


def _load(verb: str) -> ModuleType:
    return import_module(f".{VERBS[verb]}", __name__)


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {_load(verb).HELP}" for verb in VERBS)
    return (
        "usage: timetrial VERB [arguments]\n\nOne clock for training algorithms and for data.\n\n"
        f"verbs:\n{verbs}\n\nevery verb takes --help, --home FOLDER and --quiet\n{_EXIT_CODES}\n\n{_EXAMPLES}"
    )


def _fail(message: str, status: int) -> int:
    print(f"timetrial: {' '.join(message.split())}", file=sys.stderr)
    return status
