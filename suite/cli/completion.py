"""``timetrial completion``: a static completion script, so that the tab key never starts Python."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from ..errors import unknown_name
from ..registry import names
from . import VERBS, verb_parser
from .catalogue import KINDS

HELP = "a completion script for bash, zsh or fish; names known now are written into it"
EXAMPLES = (
    "timetrial completion bash > ~/.local/share/bash-completion/completions/timetrial",
    "timetrial completion zsh > ~/.zfunc/_timetrial    # with fpath+=~/.zfunc before compinit",
    "timetrial completion fish > ~/.config/fish/completions/timetrial.fish",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")


def execute(arguments: argparse.Namespace) -> int:
    if arguments.shell not in _SCRIPTS:
        raise unknown_name("shell", arguments.shell, _SCRIPTS)
    print(_SCRIPTS[arguments.shell](_words()), end="")
    return 0


def _words() -> dict[str, list[str]]:
    """What may follow each verb: names first, then ``key=`` overrides, then flags."""
    workloads, algorithms, curation, studies = (list(names(group)) for group in ("workload", "algorithm", "curation", "study"))
    chosen = [f"algorithm={name}" for name in algorithms] + [f"curation={name}" for name in curation]
    overrides = [*chosen, "seed=", "keep_fraction=", "horizon=", "loader=", "ruleset="]
    operands: Mapping[str, list[str]] = {
        "list": list(KINDS),
        "show": sorted({*workloads, *algorithms, *curation, *studies}),
        "prepare": workloads,
        "run": workloads + overrides,
        "study": studies,
        "targets": workloads,
        "leaderboard": ["build", "show", "serve"],
        "import": ["algoperf"],
        "completion": list(_SCRIPTS),
    }
    return {verb: [*operands.get(verb, ()), *_flags(verb)] for verb in VERBS}


def _flags(verb: str) -> list[str]:
    """The long flags of a verb."""
    parser, _ = verb_parser(verb)
    return sorted({option for action in parser._actions for option in action.option_strings if option.startswith("--")})


def _bash(words: Mapping[str, list[str]]) -> str:
    cases = "\n".join(f'        {verb}) words="{" ".join(found)}" ;;' for verb, found in words.items())
    return f"""# bash completion for timetrial; written by `timetrial completion bash`
_timetrial() {{
    local words current="${{COMP_WORDS[COMP_CWORD]}}"
    # bash splits words at "=", so an override is put together again before it is matched
    local prefix="" start=$COMP_CWORD
    if [[ $current == "=" ]]; then prefix="${{COMP_WORDS[COMP_CWORD-1]}}="; current=""; fi
    if [[ ${{COMP_WORDS[start-1]}} == "=" ]]; then prefix="${{COMP_WORDS[start-2]}}="; fi
    case "${{COMP_WORDS[1]}}" in
{cases}
        *) words="" ;;
    esac
    if (( COMP_CWORD == 1 )); then words="{" ".join(words)} --help --version"; fi
    local found
    found=$(compgen -W "$words" -- "$prefix$current")
    COMPREPLY=()
    local word
    for word in $found; do COMPREPLY+=("${{word#"$prefix"}}"); done
    [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
    return 0
}}
complete -o default -F _timetrial timetrial
"""


def _zsh(words: Mapping[str, list[str]]) -> str:
    cases = "\n".join(f"        {verb}) candidates=({' '.join(found)}) ;;" for verb, found in words.items())
    return f"""#compdef timetrial
# zsh completion for timetrial; written by `timetrial completion zsh`
_timetrial() {{
    local -a candidates
    if (( CURRENT == 2 )); then
        candidates=({" ".join(words)} --help --version)
        compadd -- $candidates
        return
    fi
    case $words[2] in
{cases}
    esac
    compadd -- $candidates || _files
}}
if [[ $funcstack[1] == _timetrial ]]; then _timetrial "$@"; else compdef _timetrial timetrial; fi
"""


def _fish(words: Mapping[str, list[str]]) -> str:
    lines = ["# fish completion for timetrial; written by `timetrial completion fish`"]
    lines.append(f"complete -c timetrial -n __fish_use_subcommand -f -a '{' '.join(words)}'")
    lines += [f"complete -c timetrial -n '__fish_seen_subcommand_from {verb}' -a '{' '.join(found)}'" for verb, found in words.items()]
    return "\n".join(lines) + "\n"


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
