"""The rules that a workload can be placed by."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from router.model.fleet import Deployment


class Rule(Protocol):
    """Says which clouds a workload may use, and in which order their deployments are tried."""

    @property
    def reason(self) -> str:
        """The rule in words: stands in plans, logs and metrics."""
        ...

    def clouds(self) -> frozenset[str]:
        """All that this rule can ever name: what permits are made from."""
        ...

    def tiers(self, able: Sequence[Deployment]) -> tuple[tuple[Deployment, ...], ...]:
        """Orders those of `able` that the rule allows; each tier is balanced within, and none is empty."""
        ...


@dataclass(frozen=True, slots=True)
class Exclusive:
    """One cloud and no other, whatever happens."""

    cloud: str

    @property
    def reason(self) -> str:
        return f"exclusive:{self.cloud}"

    def clouds(self) -> frozenset[str]:
        return frozenset((self.cloud,))

    def tiers(self, able: Sequence[Deployment]) -> tuple[tuple[Deployment, ...], ...]:
        return _by_tier([deployment for deployment in able if deployment.cloud == self.cloud])


@dataclass(frozen=True, slots=True)
class Spread:
    """Several clouds as one: their deployments of the same tier are balanced together."""

    names: tuple[str, ...]

    @property
    def reason(self) -> str:
        return f"spread:{'+'.join(sorted(self.names))}"

    def clouds(self) -> frozenset[str]:
        return frozenset(self.names)

    def tiers(self, able: Sequence[Deployment]) -> tuple[tuple[Deployment, ...], ...]:
        return _by_tier([deployment for deployment in able if deployment.cloud in self.names])


def _by_tier(deployments: Sequence[Deployment]) -> tuple[tuple[Deployment, ...], ...]:
    """The operator's `tier` decides the order alone: what is paid for already (`provisioned`) stands in a lower one."""
    ordered = sorted(deployments, key=lambda deployment: deployment.tier)
    return tuple(tuple(group) for _, group in groupby(ordered, key=lambda deployment: deployment.tier))
