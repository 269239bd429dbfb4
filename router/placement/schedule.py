"""Which rule holds when: windows of a contract, and what holds outside them.

A clause holds from one moment to another, or to the moment that a condition of the contract was declared met;
outside that window holds the clause that was written down for it. Unrolled, that is a row of periods without gaps:
at each moment exactly one rule holds. Times are wall seconds since 1970, UTC.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from router.placement.rules import Rule


@dataclass(frozen=True, slots=True)
class Condition:
    """A named condition that a rule may end by: not met until an operator declares it so. `declared` may be to come."""

    name: str
    declared: float = math.inf  # wall seconds; inf: not declared
    by: str = ""  # who declared it


@dataclass(frozen=True, slots=True)
class Clause:
    """A rule with its window [since, until), and what holds outside of it (None only where the window is endless).

    `condition`: the one whose declaration ends the window, where that is what ends it.
    """

    rule: Rule
    since: float = -math.inf
    until: float = math.inf
    condition: Condition | None = None
    otherwise: "Clause | None" = None

    def rules(self) -> Iterator[Rule]:
        """All that are written down, also those that wait for a condition which nobody declared yet."""
        yield self.rule
        if self.otherwise is not None:
            yield from self.otherwise.rules()

    def meaning(self) -> list[object]:
        """All that it says, as JSON, for the rule version."""
        condition, otherwise = self.condition, self.otherwise
        return [
            [self.rule.meaning(), self.since, self.until],
            [condition.name, condition.declared, condition.by] if condition is not None else [],
            otherwise.meaning() if otherwise is not None else [],
        ]


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` up to, but not at, `until` the rule of this clause holds."""

    since: float
    until: float
    clause: Clause

    @property
    def rule(self) -> Rule:
        return self.clause.rule


@dataclass(frozen=True, slots=True)
class Schedule:
    """The periods of one workload: in order, without gaps, from the beginning of time to its end."""

    clause: Clause
    periods: tuple[Period, ...]

    @classmethod
    def of(cls, clause: Clause) -> "Schedule":
        return cls(clause, tuple(_unroll(clause, -math.inf, math.inf)))

    def at(self, wall: float) -> Period:
        """The one period that holds at a moment."""
        return next(period for period in self.periods if period.since <= wall < period.until)

    def starts(self) -> list[float]:
        """The moments at which another rule comes into force; the first is minus infinity."""
        return [period.since for period in self.periods]


def written(wall: float) -> str | None:
    """A moment as it stands in files, in UTC; None for the beginning and the end of time."""
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%dT%H:%M:%SZ}" if math.isfinite(wall) else None


def _unroll(clause: Clause, since: float, until: float) -> Iterator[Period]:
    """The periods of a clause within [since, until)."""
    begin, end = max(clause.since, since), min(clause.until, until)
    if begin >= end:  # its window is over before it begins, or lies elsewhere
        begin = end = until
    if clause.otherwise is not None and since < begin:
        yield from _unroll(clause.otherwise, since, begin)
    if begin < end:
        yield Period(begin, end, clause)
    if clause.otherwise is not None and begin < end < until:
        yield from _unroll(clause.otherwise, end, until)
