"""A checked configuration: frozen, complete, and the only form in which the rooms above meet it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.model.fleet import Deployment, Endpoint, Secret, Timeouts
from router.model.keys import ApiKey
from router.model.plan import Permit, Plan


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The process: its sockets and its bounds. A reload cannot change `listen`, `admin` or `workers`."""

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
    """A class of traffic: what its placement allows, and whether its callers may see who served them."""

    name: str
    permit: Permit
    reveal_upstream: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one configuration says. `version`: a short hash of it that logs and metrics carry."""

    version: str
    server: ServerSettings
    timeouts: Timeouts
    endpoints: Mapping[str, Endpoint]
    deployments: Mapping[str, Deployment]  # by `Deployment.id`
    workloads: Mapping[str, Workload]
    keys: Mapping[bytes, ApiKey]  # by SHA-256 digest
    aliases: Mapping[str, str]
    plans: Mapping[tuple[str, str, str], Plan]  # by (workload, canonical model, operation name)
    warnings: tuple[str, ...] = field(default=())  # what `check` marks: added hosts, private addresses
