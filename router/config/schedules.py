"""Placement over time: from a workload's section, with the rules inside it, to the schedule of its rules."""

import math
from collections.abc import Collection, Mapping, Sequence

from router.config.clouds import Hosts
from router.config.document import Document
from router.config.faults import Path, listed, suggest
from router.config.moments import means_moment, read_moment
from router.config.rules import read_rule
from router.config.schema import ConditionSection, PlacementSection, WorkloadSection
from router.config.words import check_name
from router.model.fleet import Deployment
from router.model.policy import Prefer
from router.placement import Clause, Condition, Schedule, Within


def read_conditions(doc: Document, sections: Sequence[ConditionSection | None]) -> dict[str, Condition]:
    """The conditions of the contract by name, declared met or not."""
    conditions: dict[str, Condition] = {}
    for index, section in enumerate(sections):
        if section is None:
            continue
        path: Path = ("conditions", index)
        check_name(doc, (*path, "name"), section.name)
        if means_moment(section.name):
            doc.fault((*path, "name"), "reads like a date, as which a rule's `until` would take it")
        if section.name in conditions:
            doc.fault((*path, "name"), f"{doc.shown((*path, 'name'))} is the name of a condition above already")
        if section.declared is not None and section.by is None:
            doc.fault((*path, "declared"), "needs `by`: who declares that the condition is met")
        met = read_moment(doc, (*path, "declared"), section.declared) if section.declared is not None else math.inf
        conditions.setdefault(section.name, Condition(section.name, met, section.by or ""))
    return conditions


class ScheduleReader:
    """Reads the placement of each workload of a file, and keeps in mind which conditions decide something."""

    def __init__(self, doc: Document, hosts: Hosts, conditions: Mapping[str, Condition] | None) -> None:
        """`conditions`: None where some were lost to faults of their own."""
        self._doc, self._hosts, self._conditions = doc, hosts, conditions
        self._used: set[str] = set()

    def read(self, workload: str, section: WorkloadSection) -> Schedule | None:
        """The rules of a workload and when they hold; None where they cannot be told."""
        clause = self._clause(("workloads", workload, "placement"), section.placement, frozenset(section.zones or ()))
        return Schedule.of(clause) if clause is not None else None

    def warnings(self) -> list[str]:
        """Conditions that no rule ends by."""
        unused = sorted((self._conditions or {}).keys() - self._used)
        return [f"conditions: {name} ends no rule" for name in unused]

    def _clause(self, path: Path, section: PlacementSection, zones: frozenset[str]) -> Clause | None:
        rule = read_rule(self._doc, path, section, self._hosts)
        since, until, condition = self._window(path, section)
        otherwise = self._otherwise(path, section, zones)
        windowed = section.from_ is not None or section.until is not None
        if rule is None or math.isnan(since) or math.isnan(until) or (windowed and otherwise is None):
            return None
        return Clause(Within(rule, zones) if zones else rule, since, until, condition, otherwise)

    def _window(self, path: Path, section: PlacementSection) -> tuple[float, float, Condition | None]:
        """From when until when, and the condition that its end depends on; NaN for what cannot be told."""
        doc = self._doc
        since = read_moment(doc, (*path, "from"), section.from_) if section.from_ is not None else -math.inf
        if section.until is None:
            return since, math.inf, None
        if not means_moment(section.until):
            condition = self._condition((*path, "until"), section.until)
            return since, condition.declared if condition is not None else math.nan, condition
        until = read_moment(doc, (*path, "until"), section.until)
        if since >= until:
            doc.fault((*path, "until"), "is not after `from`, so the rule would never hold")
        return since, until, None

    def _condition(self, path: Path, name: str) -> Condition | None:
        self._used.add(name)
        if self._conditions is None:
            return None
        if name not in self._conditions:
            hint = suggest(name, self._conditions) if self._doc.literal(path) else ""
            message = f"{self._doc.shown(path)} is neither a date nor a condition of this file{hint}"
            self._doc.fault(path, message)
        return self._conditions.get(name)

    def _otherwise(self, path: Path, section: PlacementSection, zones: frozenset[str]) -> Clause | None:
        """What holds outside the window: it must be written down where there is one, and only there."""
        window = "from" if section.from_ is not None else "until" if section.until is not None else ""
        if section.then_rule is not None:
            if not window:
                self._doc.fault((*path, "then_rule"), "would never hold: the rule has neither `from` nor `until`")
            return self._clause((*path, "then_rule"), section.then_rule, zones)
        if window and not self._doc.has_fault((*path, "then_rule")):
            self._doc.fault((*path, window), "needs `then_rule`: what holds outside this window")
        return None


def check_zones(doc: Document, workload: str, zones: Sequence[str], known: Collection[str]) -> None:
    """Each zone must be one that an endpoint is in."""
    for index, zone in enumerate(zones):
        path: Path = ("workloads", workload, "zones", index)
        if zone not in known:
            hint = suggest(zone, known) if doc.literal(path) else ""
            doc.fault(path, f"{doc.shown(path)} is the zone of no endpoint{hint}")
    if len(set(zones)) != len(zones):
        doc.fault(("workloads", workload, "zones"), "names a zone twice")


def check_reach(doc: Document, workload: str, schedule: Schedule, fleet: Sequence[Deployment]) -> list[str]:
    """Each rule of a workload must have a deployment. Returns warnings for the clouds of a rule that have none."""
    warnings: list[str] = []
    for rule in schedule.clause.rules():
        clouds = rule.clouds()
        reached = {deployment.cloud for deployment in fleet if not rule.objection(deployment)}
        where = f" in {listed(sorted(rule.zones))}" if rule.zones else ""
        if not reached:
            message = f"has no deployment: no endpoint{where} is at {listed(sorted(clouds))}"
            doc.fault(("workloads", workload, "placement"), message)
            continue
        idle = sorted(clouds - reached)
        warnings += [f"workloads.{workload}: no endpoint{where} is at {cloud}, which its rule names" for cloud in idle]
    return list(dict.fromkeys(warnings))


def check_prices(doc: Document, workload: str, schedule: Schedule, fleet: Sequence[Deployment]) -> None:
    """The cheapest can be told only where each deployment in reach has a price."""
    for rule in schedule.clause.rules():
        if rule.prefer is Prefer.COST:
            for deployment in fleet:
                if deployment.price is None and not rule.objection(deployment):
                    message = f"cannot be by cost: {deployment.id} has no `price`, and none is known for it"
                    doc.fault(("workloads", workload, "placement"), message)
