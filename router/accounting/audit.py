"""Judges what the decision log says against the contract: nobody exclusive left, and who left the holder was refused.

Whether the log is what was written is for `chain`. This room reads the records in order and trusts them.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from router.accounting.chain import Event, Record
from router.model.decision import REFUSALS, Decision, Leave, Offer

_EXCLUSIVE: Final = "exclusive:"
_FIRST_REFUSAL: Final = "first_refusal:"
_REFUSED: Final = frozenset(REFUSALS)

_Asked = tuple[str, str, str, str]  # workload, model, operation, rule version


class Held(msgspec.Struct, frozen=True):
    """What a cloud with the right of first refusal has for one workload, model and operation under one rule."""

    workload: str
    model: str
    operation: str
    rule_version: str
    holder: str
    deployments: tuple[str, ...]


class Configuration(msgspec.Struct, frozen=True):
    """The fields of the event `configuration` that are judged by; it may have more."""

    version: str
    holders: tuple[Held, ...]


class Problem(NamedTuple):
    """A request that the contract does not explain. `kind`: `exclusivity`, `departure`, `configuration`."""

    kind: str
    text: str


class _InForce(NamedTuple):
    since: float  # wall seconds
    held: dict[_Asked, Held]


class _Left(NamedTuple):
    """A request that left the holder and has not ended. `known`: how many configurations there had been by then."""

    leave: Leave
    known: int


class Auditor:
    """Reads one writer's records in order. `tell`: is called for each problem, at the record that shows it."""

    def __init__(self, tell: Callable[[Problem], None]) -> None:
        self.requests = 0
        self.exclusive = 0  # requests under an exclusive rule
        self.held = 0  # requests under a right of first refusal
        self.departures = 0  # of these, that left the holder
        self.dropped = 0  # records that the log had no room for, as it says itself
        self._tell = tell
        self._configurations: list[_InForce] = []
        self._fields: dict[str, object] | None = None
        self._left: dict[str, _Left] = {}

    @property
    def open(self) -> int:
        """Requests that left the holder, were explained, and have no end in the log: running, or killed in between."""
        return len(self._left)

    def read(self, record: Record | None) -> None:
        """Takes the next record."""
        if type(record) is Decision:
            self._read_decision(record)
        elif type(record) is Leave:
            self._left[record.request] = _Left(record, len(self._configurations))
            self._check_exclusive(record, record.to_cloud)
        elif type(record) is Event:
            self._read_event(record)

    def finish(self) -> None:
        """Judges those that have no end."""
        for left in self._left.values():
            self._judge(left, left.leave.at)

    def _read_event(self, event: Event) -> None:
        if event.event == "configuration" and event.fields != self._fields:
            self._fields = event.fields  # each segment repeats it
            self._adopt(event)
        elif event.event == "records_dropped" and isinstance(records := event.fields.get("records"), int):
            self.dropped += records

    def _adopt(self, event: Event) -> None:
        try:
            configuration = msgspec.convert(event.fields, Configuration)
        except msgspec.ValidationError as error:
            self._tell(Problem("configuration", f"a configuration that cannot be read: {error}"))
            return
        held = {(each.workload, each.model, each.operation, each.rule_version): each for each in configuration.holders}
        self._configurations.append(_InForce(event.at, held))

    def _read_decision(self, decision: Decision) -> None:
        self.requests += 1
        left = self._left.pop(decision.request, None) if self._left else None
        if left is not None:
            self._judge(left, decision.at)
        rule = decision.rule
        if rule.startswith(_FIRST_REFUSAL):
            self.held += 1
            if left is None and (cloud := _elsewhere(rule.removeprefix(_FIRST_REFUSAL), decision)):
                self.departures += 1
                text = f"request {decision.request} went to {cloud} under {rule}, and no refusal was recorded before"
                self._tell(Problem("departure", text))
        elif rule.startswith(_EXCLUSIVE):
            self.exclusive += 1
            self._check_exclusive(decision, decision.cloud)

    def _check_exclusive(self, record: Leave | Decision, cloud: str) -> None:
        if not record.rule.startswith(_EXCLUSIVE):
            return
        own = record.rule.removeprefix(_EXCLUSIVE)
        foreign = {offer.cloud for offer in record.offers if offer.cloud != own}
        if cloud and cloud != own:
            foreign.add(cloud)
        if foreign:
            clouds = ", ".join(sorted(foreign))
            self._tell(Problem("exclusivity", f"request {record.request} under {record.rule} was offered to {clouds}"))

    def _judge(self, left: _Left, arrived_at: float) -> None:
        """Whether each deployment of the holder had refused before the request left it."""
        self.departures += 1
        leave = left.leave
        # A request keeps the plan that it began with: each configuration since its arrival may be the one.
        newest = left.known - 1
        missing: frozenset[str] | None = None
        for index in range(newest, -1, -1):
            if index < newest and self._configurations[index + 1].since <= arrived_at:
                break
            held = self._configurations[index].held.get(
                (leave.workload, leave.model, leave.operation, leave.rule_version)
            )
            if held is not None:
                missing = _not_refused(leave.offers, held)
                if not missing:
                    return
        if missing is None:
            why = f"the log does not say what the holder had for {leave.model} ({leave.operation}) then"
        else:
            why = f"no refusal of {', '.join(sorted(missing))} was recorded before"
        text = f"request {leave.request} went to {leave.to_cloud} under {leave.rule}, and {why}"
        self._tell(Problem("departure", text))


def _elsewhere(holder: str, decision: Decision) -> str:
    """Another cloud than the holder that a request was offered to or served by; empty: none."""
    if decision.cloud not in ("", holder):
        return decision.cloud
    for offer in decision.offers:
        if offer.cloud != holder:
            return offer.cloud
    return ""


def _not_refused(offers: tuple[Offer, ...], held: Held) -> frozenset[str]:
    """The holder's deployments whose last word was no refusal; the holder itself where it has none and nobody asked."""
    outcomes = {offer.deployment: offer.outcome for offer in offers if offer.cloud == held.holder}
    refused = {deployment for deployment, outcome in outcomes.items() if outcome in _REFUSED}
    if not held.deployments:
        return frozenset() if refused else frozenset((held.holder,))
    return frozenset(held.deployments) - refused
