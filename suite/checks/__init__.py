"""The contract suite of entries, for the command line and for anybody's own tests.

A third party tests its own entry with one line::

    from timetrial.suite.checks import check_entry

    def test_my_entry_keeps_the_rules():
        check_entry("my_entry").raise_if_refused()

or rule by rule, ``RULE_NAMES`` being what pytest parametrizes over and :meth:`Report.of` what it asserts on.
"""

from __future__ import annotations

from .report import Report, Violation
from .rules import RULES, Judge, Rule
from .runner import check_entry

__all__ = ["RULES", "RULE_NAMES", "Judge", "Report", "Rule", "Violation", "check_entry"]

RULE_NAMES = tuple(rule.name for rule in RULES if rule.judge is Judge.AUTOMATIC)
