"""The rules that a workload can be placed by."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import ClassVar, Protocol

from router.model.fleet import Deployment
from router.model.policy import Prefer

Tiers = tuple[tuple[Deployment, ...], ...]


class Rule(Protocol):
    """Says which clouds a workload may use, and in which order their deployments are tried."""

    @property
    def reason(self) -> str:
        """The rule in words: stands in plans, logs and metrics."""
        ...

    @property
    def holder(self) -> str:
        """The cloud that each request is offered to first, and left only once it has refused; empty: none has."""
        ...

    @property
    def holder_attempts(self) -> int:
        """Failed sends after which the rest of the holder's deployments count as failed; 0 without a holder."""
        ...

    @property
    def zones(self) -> frozenset[str]:
        """The zones that the rule keeps to; none: any."""
        ...

    @property
    def prefer(self) -> Prefer:
        """By what each tier is balanced."""
        ...

    def clouds(self) -> frozenset[str]:
        """All that this rule can ever name: what permits are made from."""
        ...

    def meaning(self) -> list[object]:
        """All that this rule says, as JSON: equal for two rules only where they would place everything alike."""
        ...

    def tiers(self, able: Sequence[Deployment]) -> Tiers:
        """Orders those of `able` that the rule allows; each tier is balanced within, and none is empty."""
        ...

    def objection(self, deployment: Deployment) -> str:
        """Why the rule never names a deployment, in words; empty where it does."""
        ...


@dataclass(frozen=True, slots=True)
class Exclusive:
    """One cloud and no other, whatever happens."""

    holder: ClassVar[str] = ""
    holder_attempts: ClassVar[int] = 0
    zones: ClassVar[frozenset[str]] = frozenset()

    cloud: str
    prefer: Prefer = Prefer.BALANCED

    @property
    def reason(self) -> str:
        return f"exclusive:{self.cloud}"

    def clouds(self) -> frozenset[str]:
        return frozenset((self.cloud,))

    def meaning(self) -> list[object]:
        return ["exclusive", self.cloud, self.prefer.value]

    def tiers(self, able: Sequence[Deployment]) -> Tiers:
        return _by_tier(able, (self.cloud,))

    def objection(self, deployment: Deployment) -> str:
        return _foreign(self, deployment)


@dataclass(frozen=True, slots=True)
class FirstRefusal:
    """Offers each request to `holder`; the others serve only what it has refused.

    `then`: groups of clouds in the order in which they come after it; a group is balanced together.
    """

    zones: ClassVar[frozenset[str]] = frozenset()

    holder: str
    then: tuple[tuple[str, ...], ...]
    holder_attempts: int = 2
    prefer: Prefer = Prefer.BALANCED

    @property
    def reason(self) -> str:
        return f"first_refusal:{self.holder}"

    def clouds(self) -> frozenset[str]:
        return frozenset((self.holder, *chain.from_iterable(self.then)))

    def meaning(self) -> list[object]:
        then = [sorted(group) for group in self.then]
        return ["first_refusal", self.holder, then, self.holder_attempts, self.prefer.value]

    def tiers(self, able: Sequence[Deployment]) -> Tiers:
        return tuple(chain.from_iterable(_by_tier(able, group) for group in ((self.holder,), *self.then)))

    def objection(self, deployment: Deployment) -> str:
        return _foreign(self, deployment)


@dataclass(frozen=True, slots=True)
class Spread:
    """Several clouds as one: their deployments of the same tier are balanced together."""

    holder: ClassVar[str] = ""
    holder_attempts: ClassVar[int] = 0
    zones: ClassVar[frozenset[str]] = frozenset()

    names: tuple[str, ...]
    prefer: Prefer = Prefer.BALANCED

    @property
    def reason(self) -> str:
        return f"spread:{'+'.join(sorted(self.names))}"

    def clouds(self) -> frozenset[str]:
        return frozenset(self.names)

    def meaning(self) -> list[object]:
        return ["spread", sorted(self.names), self.prefer.value]

    def tiers(self, able: Sequence[Deployment]) -> Tiers:
        return _by_tier(able, self.names)

    def objection(self, deployment: Deployment) -> str:
        return _foreign(self, deployment)


@dataclass(frozen=True, slots=True)
class Within:
    """A rule, kept within some zones: no failover leaves them, since no plan names anything outside."""

    rule: Rule
    zones: frozenset[str]

    @property
    def reason(self) -> str:
        return self.rule.reason

    @property
    def holder(self) -> str:
        return self.rule.holder

    @property
    def holder_attempts(self) -> int:
        return self.rule.holder_attempts

    @property
    def prefer(self) -> Prefer:
        return self.rule.prefer

    def clouds(self) -> frozenset[str]:
        return self.rule.clouds()

    def meaning(self) -> list[object]:
        return ["within", sorted(self.zones), self.rule.meaning()]

    def tiers(self, able: Sequence[Deployment]) -> Tiers:
        return self.rule.tiers([deployment for deployment in able if deployment.endpoint.zone in self.zones])

    def objection(self, deployment: Deployment) -> str:
        if objection := self.rule.objection(deployment):
            return objection
        zone, among = deployment.endpoint.zone, ", ".join(sorted(self.zones))
        if zone in self.zones:
            return ""
        return f"its zone {zone} is not among {among}" if zone else f"its endpoint names no zone, so is not in {among}"


def _by_tier(able: Sequence[Deployment], clouds: Sequence[str]) -> Tiers:
    """The operator's `tier` decides the order alone: what is paid for already (`provisioned`) stands in a lower one."""
    own = [deployment for deployment in able if deployment.cloud in clouds]
    ordered = sorted(own, key=lambda deployment: deployment.tier)
    return tuple(tuple(group) for _, group in groupby(ordered, key=lambda deployment: deployment.tier))


def _foreign(rule: Rule, deployment: Deployment) -> str:
    if deployment.cloud in rule.clouds():
        return ""
    return f"its cloud {deployment.cloud} is not one that {rule.reason} may use"
