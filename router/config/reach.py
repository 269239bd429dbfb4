"""How far the traffic of a workload may go by a configuration: clouds, the hosts that count as them, zones."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from router.config.snapshot import Snapshot
from router.placement import Exclusive, Period, Rule, Within


@dataclass(frozen=True, slots=True)
class Reach:
    """`places`: cloud, host pattern and zone, of which one may be empty: any zone."""

    places: frozenset[tuple[str, str, str]]

    def covers(self, other: "Reach") -> bool:
        """Whether whatever is in the other is in this one."""
        return all(place in self.places or (*place[:2], "") in self.places for place in other.places)


def reach_ahead(snapshot: Snapshot, workload: str, wall: float, moment: float | None) -> Reach:
    """Of the rule that holds at a moment; None: of all that will hold from `wall` on, or once a condition is met."""
    known = snapshot.workloads.get(workload)
    if known is None:
        return Reach(frozenset())
    rules = [known.schedule.at(moment).rule] if moment is not None else list(_rules_ahead(known.schedule.periods, wall))
    return Reach(
        frozenset(
            (cloud, host, zone)
            for rule in rules
            for cloud in rule.clouds()
            for host in snapshot.hosts.get(cloud, ())
            for zone in rule.zones or ("",)
        )
    )


def moments_ahead(snapshot: Snapshot, wall: float) -> set[float]:
    """From `wall` on, where another rule of any workload comes into force; `wall` itself first."""
    return {wall, *(phase.since for phase in snapshot.phases if phase.since > wall)}


def exclusive_ahead(snapshot: Snapshot, workload: str, wall: float) -> bool:
    """Whether a rule that holds now, or will, keeps its traffic to one cloud."""
    periods = snapshot.workloads[workload].schedule.periods
    return any(_is_exclusive(rule) for rule in _rules_ahead(periods, wall))


def _is_exclusive(rule: Rule) -> bool:
    return _is_exclusive(rule.rule) if isinstance(rule, Within) else isinstance(rule, Exclusive)


def _rules_ahead(periods: Iterable[Period], wall: float) -> Iterable[Rule]:
    for period in periods:
        if period.until <= wall:
            continue
        yield period.rule
        condition, otherwise = period.clause.condition, period.clause.otherwise
        if condition is not None and condition.declared == inf and otherwise is not None:
            yield from otherwise.rules()
