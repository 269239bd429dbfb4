"""A checked configuration: frozen, complete, and the only form in which the rooms above meet it."""

import math
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import MappingProxyType

from router.health.settings import HealthSettings
from router.leasing.settings import RedisSettings
from router.ledger.settings import LedgerSettings
from router.limits.settings import LimitSettings
from router.model.fleet import Certificate, Deployment, Endpoint, Secret, Timeouts
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

    def __str__(self) -> str:
        """As it stands in a URL: an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration as it was read: another process that is handed it understands exactly the same. Holds secrets."""

    text: str = field(repr=False)
    references: Mapping[str, str] = field(repr=False)  # what each one meant then, by how it is written
    cores: int = 1  # that a process might run on then, which is what `workers: auto` meant
    files: Mapping[str, str] = field(default_factory=dict, repr=False)  # certificates and keys, by how they are named
    form: bytes = field(default=b"", repr=False, compare=False)  # what was found in the text, which takes long to find

    def files_of(self, file: Path) -> tuple[Path, ...]:
        """All that was read for it. `file`: the configuration's own, where relative paths start."""
        referred = (name.removeprefix("file:") for name in self.references if name.startswith("file:"))
        return (file, *sorted({file.parent / name for name in (*referred, *self.files)}))


@dataclass(frozen=True, slots=True)
class ServerTls:
    """TLS with clients. `context` is made of the rest when that is checked, and is not changed again."""

    certificate: Certificate
    context: ssl.SSLContext = field(repr=False, compare=False)
    authorities: str | None = field(default=None, repr=False)  # of clients' certificates; None: none are asked for
    required: bool = False  # who has none is not served
    minimum: str = "1.2"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The process: its sockets and its bounds. A reload cannot change `listen`, `admin` or `workers`.

    With several workers, `buffered_bytes_max`, `waiting_bytes_max`, `connections_max` and `connections_per_address_max`
    are one worker's share of what the file says.
    """

    listen: Address
    admin: Address
    workers: int = 1
    body_bytes_max: int = 64 << 20
    buffered_bytes_max: int = 1 << 30
    connections_max: int = 20_000
    connections_per_address_max: int | None = None
    head_bytes_max: int = 64 << 10
    pipelined_bytes_max: int = 64 << 10  # behind a running request
    waiting_bytes_max: int = 64 << 20  # of heads that are not whole and of what is pipelined, over all connections
    handshake_timeout_s: float = 10.0  # for a PROXY header and TLS, from the moment that it is connected
    head_timeout_s: float = 30.0  # for the whole head, counted from its first byte
    body_timeout_s: float = 60.0  # without one more byte of the body
    keepalive_timeout_s: float = 75.0  # idle between requests
    drain_s: float = 600.0
    drain_delay_s: float = 0.0  # in which it still takes connections, for load balancers to see that it ends
    loop_lag_max_s: float = 30.0  # a worker whose loop stands still for longer is ended, and replaced
    upstream_idle_s: float = 55.0  # under the 60 s and more that upstreams keep an idle connection
    admin_token: Secret | None = None
    access_log: str = "-"  # a path, `-` for standard output, `off` for none
    watch: bool = False  # reload when the file has changed
    cors_origins: frozenset[str] = frozenset()  # whose pages may ask the control plane
    log_clients: bool = False  # clients' addresses are in the access log
    tls: ServerTls | None = None
    proxy_protocol: bool = False  # every connection begins with a PROXY header, of a trusted proxy
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()  # may say where a client is

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        return self.tls.context if self.tls is not None else None

    @property
    def asks_clients(self) -> bool:
        """Clients may show a certificate."""
        return self.tls is not None and self.tls.authorities is not None


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
    stored: Mapping[str, Plan] = field(default_factory=lambda: MappingProxyType({}))  # by resource, without a model


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

    `workloads`, `plans` and `keys` are those that hold from `since` up to `until` (wall seconds); see `at`.
    """

    version: str
    server: ServerSettings
    timeouts: Timeouts
    endpoints: Mapping[str, Endpoint]
    deployments: Mapping[str, Deployment]  # by `Deployment.id`
    workloads: Mapping[str, Workload]
    keys: Mapping[bytes, ApiKey]  # by SHA-256 digest: those of the file and of the store that are valid now
    aliases: Mapping[str, str]
    plans: Mapping[tuple[str, str, str], Plan]  # by (workload, canonical model, operation name)
    file_keys: tuple[ApiKey, ...] = ()  # all of the file, also those that have expired
    stored_keys: tuple[ApiKey, ...] = ()  # all of the store that the file leaves a place for
    certificates: Mapping[str, ApiKey] = field(default_factory=lambda: MappingProxyType({}))  # whom clients' stand for
    health: HealthSettings = HealthSettings()
    retries: RetrySettings = RetrySettings()
    limits: LimitSettings = LimitSettings()
    model_limits: Mapping[str, Limits] = field(default_factory=lambda: MappingProxyType({}))  # of all who ask for one
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))  # that count as a cloud
    decision_log: DecisionLogSettings | None = None
    ledger: LedgerSettings | None = None
    tracing: TracingSettings | None = None
    redis: RedisSettings | None = None  # None: limits are this machine's own
    conditions: tuple[Condition, ...] = ()  # of the contract, as the file declares them
    since: float = -math.inf
    until: float = math.inf
    phases: tuple[Phase, ...] = ()  # all of them: in order and without gaps, made and verified at load
    warnings: tuple[str, ...] = field(default=())  # what `check` marks: added hosts, private addresses
    source: Source = field(default=Source("", MappingProxyType({})), repr=False)

    def at(self, wall: float) -> "Snapshot":
        """What holds at a moment: this very snapshot for as long as nothing begins or ends."""
        return self if self.since <= wall < self.until else self.seen_at(wall)

    def seen_at(self, wall: float) -> "Snapshot":
        """What holds at a moment, made anew, and from when until when: up to the next change of a rule or end of a key.

        Whatever the clock did meanwhile, a moment that comes again shows the same.
        """
        phase = next(phase for phase in self.phases if phase.since <= wall < phase.until)
        keys = (*self.file_keys, *self.stored_keys)
        valid = [key for key in keys if key.expires_at > wall]
        return replace(
            self,
            since=max(phase.since, max((key.expires_at for key in keys if key.expires_at <= wall), default=-math.inf)),
            until=min(phase.until, min((key.expires_at for key in keys if key.expires_at > wall), default=math.inf)),
            workloads=phase.workloads,
            plans=phase.plans,
            keys=MappingProxyType({key.sha256: key for key in valid}),
            # In this order what the file says of a certificate holds, as it does of a secret.
            certificates=MappingProxyType({each: key for key in reversed(valid) for each in key.certificates}),
        )

    def joined(self, stored: Iterable[ApiKey], wall: float) -> "Snapshot":
        """With these keys of the store, in place of those before. What the file says of a name or a secret holds;
        a key whose workload it does not have is left out.
        """
        names = {key.name for key in self.file_keys}
        digests = {key.sha256 for key in self.file_keys}
        own = (key for key in stored if key.name not in names and key.sha256 not in digests)
        return replace(self, stored_keys=tuple(key for key in own if key.workload in self.workloads)).seen_at(wall)
