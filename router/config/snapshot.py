"""A checked configuration: frozen, complete, and the only form in which the rooms above meet it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from router.health.settings import HealthSettings
from router.limits.settings import LimitSettings
from router.model.fleet import Deployment, Endpoint, Secret, Timeouts
from router.model.keys import ApiKey
from router.model.limits import UNLIMITED, Limits
from router.model.plan import Permit, Plan
from router.model.policy import Policy
from router.placement import Condition, Period, Schedule
from router.resilience.settings import RetrySettings
from router.telemetry.decision_log import DecisionLogSettings
from router.telemetry.tracing import TracingSettings


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration as it was read: another process that is handed it understands exactly the same. Holds secrets."""

    text: str = field(repr=False)
    references: Mapping[str, str] = field(repr=False)  # what each one meant then, by how it is written
    cores: int = 1  # that a process might run on then, which is what `workers: auto` meant


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The process: its sockets and its bounds. A reload cannot change `listen`, `admin` or `workers`.

    With several workers, `buffered_bytes_max` and `connections_max` are one worker's share of what the file says.
    """

    listen: Address
    admin: Address
    workers: int = 1
    body_bytes_max: int = 64 << 20
    buffered_bytes_max: int = 1 << 30
    connections_max: int = 20_000
    head_timeout_s: float = 30.0  # for the whole head, counted from its first byte
    body_timeout_s: float = 60.0  # without one more byte of the body
    keepalive_timeout_s: float = 75.0  # idle between requests
    drain_s: float = 600.0
    upstream_idle_s: float = 55.0  # under the 60 s and more that upstreams keep an idle connection
    admin_token: Secret | None = None
    access_log: str = "-"  # a path, `-` for standard output, `off` for none


@dataclass(frozen=True, slots=True)
class Workload:
    """A class of traffic while one of its rules holds: what that allows, and how its requests are treated."""

    name: str
    permit: Permit
    reveal_upstream: bool  # whether its callers may see who served them
    reason: str
    policy: Policy
    period: Period  # the one that this is for
    schedule: Schedule  # all of its periods
    limits: Limits = UNLIMITED  # of all its keys together


@dataclass(frozen=True, slots=True)
class Phase:
    """What holds from `since` up to, but not at, `until` (wall seconds), in which no workload's rule changes."""

    since: float
    until: float
    workloads: Mapping[str, Workload]
    plans: Mapping[tuple[str, str, str], Plan]  # by (workload, canonical model, operation name)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one configuration says. `version`: a short hash of it that logs and metrics carry.

    `workloads` and `plans` are those of the phase from `since` up to `until` (wall seconds); see `at`.
    """

    version: str
    server: ServerSettings
    timeouts: Timeouts
    endpoints: Mapping[str, Endpoint]
    deployments: Mapping[str, Deployment]  # by `Deployment.id`
    workloads: Mapping[str, Workload]
    keys: Mapping[bytes, ApiKey]  # by SHA-256 digest
    aliases: Mapping[str, str]
    plans: Mapping[tuple[str, str, str], Plan]  # by (workload, canonical model, operation name)
    health: HealthSettings = HealthSettings()
    retries: RetrySettings = RetrySettings()
    limits: LimitSettings = LimitSettings()
    model_limits: Mapping[str, Limits] = field(default_factory=lambda: MappingProxyType({}))  # of all who ask for one
    decision_log: DecisionLogSettings | None = None
    tracing: TracingSettings | None = None
    conditions: tuple[Condition, ...] = ()  # of the contract, as the file declares them
    since: float = -math.inf
    until: float = math.inf
    phases: tuple[Phase, ...] = ()  # all of them: in order and without gaps, made and verified at load
    warnings: tuple[str, ...] = field(default=())  # what `check` marks: added hosts, private addresses
    source: Source = field(default=Source("", MappingProxyType({})), repr=False)

    def at(self, wall: float) -> "Snapshot":
        """What holds at a moment: this very snapshot while its phase lasts."""
        if self.since <= wall < self.until:
            return self
        phase = next(phase for phase in self.phases if phase.since <= wall < phase.until)
        return replace(self, since=phase.since, until=phase.until, workloads=phase.workloads, plans=phase.plans)
