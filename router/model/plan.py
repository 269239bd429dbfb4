"""Which deployments a request may use, and the permit that every send is checked against."""

from dataclasses import dataclass

from router.model.fleet import Deployment
from router.model.policy import Prefer


@dataclass(frozen=True, slots=True)
class Permit:
    """The clouds that a workload's bytes may reach. Compared at every dial and every send.

    `clouds` is what was allowed when the request began, and shrinks by `narrowed` when a reload allows less.
    """

    workload: str
    clouds: frozenset[str]
    rule_version: str

    def allows(self, cloud: str) -> bool:
        return cloud in self.clouds

    def narrowed(self, now: "Permit | None") -> "Permit":
        """What was allowed at the start and is still allowed now; None: the workload is gone, so nothing is."""
        if now is self:
            return self
        clouds = self.clouds & now.clouds if now is not None else frozenset()
        return Permit(self.workload, clouds, self.rule_version)


@dataclass(frozen=True, slots=True)
class Removed:
    """A deployment that serves what is asked, and is in no tier of a plan. `why`: in words, for `explain`."""

    deployment: Deployment
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer to "where may this go" for one workload, model and operation, made when the configuration loads.

    `tiers`: in order; inside a tier the balancer chooses. `reason`: the rule in words, for logs. `holder`: the cloud
    with the right of first refusal, empty where none has it; its deployments are the first `holder_tiers` tiers.
    """

    workload: str
    model: str
    operation: str
    tiers: tuple[tuple[Deployment, ...], ...]
    permit: Permit
    reason: str
    holder: str = ""
    holder_tiers: int = 0
    prefer: Prefer = Prefer.BALANCED
    removed: tuple[Removed, ...] = ()
