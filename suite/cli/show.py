"""``timetrial show``: one name in full, resolved and validated."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UnknownName, UserError, unknown_name
from ..protocol import protocol
from ..registry import GROUPS, adopt, definition_path, names, variant_names
from .catalogue import describe, unmet_needs
from .list_ import target_text
from .output import print_json

HELP = "one workload, algorithm, curation method or study in full: definition, targets, budget"
EXAMPLES = (
    "timetrial show cifar10_cnn",
    "timetrial show adamw",
    "timetrial show demo --json",
    "timetrial show cifar10_cnn --contamination",
)

EXAMPLES_SHOWN = 5  # pairs of a contamination report that are printed
_KIND_WORDS = {"workload": "workload", "algorithm": "training algorithm", "curation": "curation method", "study": "study"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a name that `timetrial list` shows")
    parser.add_argument("--contamination", action="store_true", help="a workload: which examples of a split are nearly there in another")
    parser.add_argument("--json", action="store_true", help="an object with one key for each kind of thing that has this name")


def execute(arguments: argparse.Namespace) -> int:
    if "@" in arguments.name:
        arguments.name = adopt(arguments.name)
    groups = [group for group in GROUPS if _is_known(group, arguments.name)]
    if not groups:
        variants = {variant for name in names("workload") for variant in variant_names(name)}
        raise unknown_name("name", arguments.name, {name for group in GROUPS for name in names(group)} | variants)
    if arguments.contamination:
        return _contamination(arguments, groups)
    resolved = {group: _resolved(group, arguments.name) for group in groups}
    if arguments.json:
        print_json(resolved)
        return 0
    for position, (group, content) in enumerate(resolved.items()):
        print(f"{chr(10) if position else ''}{_title(group, content)}\n{content['summary']}\n")
        facts = _workload_facts(content) if group == "workload" else _entry_facts(group, content)
        width = max(len(key) for key, _ in facts)
        for key, value in facts:
            print(f"{key:<{width}}  {value}")
        print(f"\n# {definition_path(group, arguments.name)}, resolved\n{_yaml(content)}", end="")
    return 0


def _contamination(arguments: argparse.Namespace, groups: Sequence[str]) -> int:
    from ..api import contamination

    if "workload" not in groups:
        raise UserError(f"--contamination: expected a workload, given {arguments.name!r}")
    found = contamination(arguments.name, home=arguments.home)
    if arguments.json:
        print_json({"contamination": [overlap.summary() for overlap in found]})
        return 0
    for overlap in found:
        said = overlap.summary()
        print(
            f"{overlap.one} in {overlap.other}: {said['pairs']:,} pairs, {said['exact_pairs']:,} of them exact; "
            f"{said['one_examples']:,} examples of {overlap.one}, {said['other_examples']:,} of {overlap.other}"
        )
        for i in overlap.similarity.argsort(kind="stable")[::-1][:EXAMPLES_SHOWN]:
            print(f"  {overlap.one_ids[i]} ~ {overlap.other_ids[i]}  {overlap.similarity[i]:.3f}")
    return 0


def _is_known(group: str, name: str) -> bool:
    try:
        definition_path(group, name)
    except UnknownName:
        return False
    return True


def _resolved(group: str, name: str) -> dict[str, Any]:
    """The validated definition as plain values, defaults filled in; a workload with its identity and digests."""
    from ..config import resolve_definition
    from ..schema import plain

    if group == "study":
        from ..study import load_study

        return dict(plain(load_study(name)))
    found = resolve_definition(group, name)
    digests = {"identity": found.identity, "digest": found.digest, "target_digest": found.ladder.digest} if group == "workload" else {}
    return {**digests, **plain(found)}


def _workload_facts(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    metric, ladder, budget, evaluation = (content[key] for key in ("metric", "ladder", "budget", "evaluation"))
    frozen = ladder["status"] == "frozen"
    standing = "frozen" if frozen else "provisional: results are never ranked"
    cannot = {entry["name"]: unmet_needs(entry, content) for kind in ("algorithms", "curation") for entry in describe(kind)}
    refused = [f"{name} (needs {', '.join(unmet)})" for name, unmet in cannot.items() if unmet]
    return [
        ("main target", f"{target_text(metric, ladder['main'])} ({metric['unit']}, validation split), {standing}"),
        ("ladder", " ".join(f"[{level:g}]" if level == ladder["main"] else f"{level:g}" for level in ladder["levels"])),
        ("confirmations", f"{ladder['confirmations']} (evaluations after the first that must reach a level too)"),
        ("budget", f"{budget['examples']:,} examples; cut off at {_cut_off(content)}"),
        ("evaluation", f"every {evaluation['every_examples']:,} examples, in batches of {evaluation['batch_size']:,}"),
        ("data", _data_fact(content["data"])),
        ("provides", ", ".join(content["provides"]) or "nothing that an entry may need"),
        ("refused here", "; ".join(refused) or "nothing"),
        ("digest", content["digest"]),
    ]


def _cut_off(content: Mapping[str, Any]) -> str:
    """The budget in seconds, and what becomes of it on other hardware than it was frozen on."""
    text = f"{content['budget']['charged_seconds']:g} charged seconds"
    if content["reference"] is None:
        return text
    return f"{text} on {content['reference']['hardware_class']}, {protocol().hardware.elsewhere_factor:g} times as many elsewhere"


def _entry_facts(group: str, content: Mapping[str, Any]) -> list[tuple[str, str]]:
    if group == "study":
        count = len(content["workloads"]) * len(content["arms"]) * content["seeds"]
        shape = f"{len(content['workloads'])} workload(s) x {len(content['arms'])} entries x {content['seeds']} seeds"
        return [("trials", f"{count} = {shape}"), ("workloads", ", ".join(content["workloads"]))]
    refused = [f"{w['name']} (lacks {', '.join(unmet)})" for w in describe("workloads") if (unmet := unmet_needs(content, w))]
    facts = [
        ("paper", content["paper"] or "none"),
        ("needs", ", ".join(content["needs"]) or "nothing"),
        ("cannot run on", "; ".join(refused) or "no workload refuses it"),
    ]
    if group == "algorithm":
        facts.append(("batch size", str(content["batch_size"] or "the workload's")))
        facts.append(("hyperparameters", _inline(content["hyperparameters"])))
    return facts


def _data_fact(data: Mapping[str, Any]) -> str:
    cut = data["validation_examples"]
    validation = f"{cut:,} validation examples cut from the training split" if cut else "the source's own validation split"
    return f"{data['source']}; {validation}"


def _inline(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items()) or "none"


def _title(group: str, content: Mapping[str, Any]) -> str:
    if group == "workload":
        return f"{content['identity']}: {_KIND_WORDS[group]}, tier {content['tier']}, {content['family']}"
    return f"{content['name']}: {_KIND_WORDS[group]}"


def _yaml(content: Mapping[str, Any] | Sequence[Any]) -> str:
    import yaml

    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None))
