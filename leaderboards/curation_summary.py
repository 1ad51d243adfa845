"""What trials of curation show, one line a workload, algorithm and class of machine: who is told from ``random`` and from all data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .claims import tally
from .curation import ABOVE, BELOW, NEITHER, Arm, Comparison
from .curation_trials import finished
from .render import escape, markdown_row

__all__ = ["READING", "Summary", "summaries", "summary_markdown"]

READING = (
    "Each method at each keep fraction against random with as many examples, at equal examples seen, by a test of its own over seeds. "
    "Sooner: the target is shown to be reached sooner than by training on all data, after so many uses of the selection."
)
_HEAD = ("workload", "trained by", "methods", "above random", "below", "not told apart", "sooner", "published claims")


@dataclass(frozen=True)
class Summary:
    """One of :func:`~.curation.places`; ``trained_by`` names the algorithm and the class of machine.

    ``methods`` counts controls too; ``above`` and ``sooner`` name methods with their keep fraction.
    """

    workload: str
    trained_by: str
    methods: int
    above: tuple[str, ...]
    below: int
    neither: int
    sooner: tuple[str, ...]
    claims: str

    @property
    def compared(self) -> bool:
        """Whether any method could be held against ``random``."""
        return bool(self.above) or self.below + self.neither > 0

    @property
    def cells(self) -> tuple[str, ...]:
        """The line in words, as :data:`_HEAD` names its columns."""
        against = (", ".join(self.above) or "none", str(self.below), str(self.neither)) if self.compared else ("not measured", "", "")
        return (self.workload, self.trained_by, str(self.methods), *against, ", ".join(self.sooner) or "none shown", self.claims)


def summaries(compared: Sequence[Comparison]) -> tuple[Summary, ...]:
    """For every place: how many ways to choose were tried, what they show, what became of published claims."""
    found = []
    for one in compared:
        against = [arm.against_random for arm in one.arms]
        found.append(
            Summary(
                one.where.identity,
                f"{one.where.algorithm} on {one.where.hardware}",
                len({record.entry.curation for record, _ in finished(one.trials)} - {"all"}),
                tuple(_name(arm) for arm in one.arms if arm.against_random == ABOVE),
                against.count(BELOW),
                against.count(NEITHER),
                tuple(f"{_name(arm)} ({arm.pays.said})" for arm in one.arms if arm.pays and arm.pays.shown and arm.pays.uses is not None),
                f"{len(one.verdicts)}: {tally(one.verdicts)}" if one.verdicts else "",
            )
        )
    return tuple(found)


def summary_markdown(found: Sequence[Summary]) -> str:
    """The same as a table; empty without any."""
    if not found:
        return ""
    rows = [markdown_row([escape(cell) for cell in one.cells]) for one in found]
    lines = ["### Choosing data", "", markdown_row(_HEAD), f"|{'---|' * len(_HEAD)}", *rows, "", f"*{READING}*", ""]
    return "\n" + "\n".join(lines)


def _name(arm: Arm) -> str:
    return f"{arm.curation} {arm.keep_fraction:g}"
