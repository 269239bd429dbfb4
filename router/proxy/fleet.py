"""The live side of a configuration: what its deployments are doing now.

A `Backend` lives under its deployment's id and survives reloads while the deployment is unchanged. A `Target` is a
backend as one operation sees it, with every byte of a request's head that does not change already written.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping

import orjson

from router.config.snapshot import Snapshot
from router.health.cooldown import Cooldown
from router.model.fleet import Deployment
from router.model.operation import OPERATIONS, BodyKind, Operation
from router.model.plan import Permit, Plan
from router.providers import dialect
from router.providers.dialect import Judgement, Route
from router.transport.names import Names
from router.transport.pool import Pool, PoolSettings
from router.transport.tls import ResumingContext, client_context


class Backend:
    """One deployment, alive: its connections, its cooldown, and how much of it is in use."""

    __slots__ = ("cooldown", "deployment", "draining", "failing", "in_flight", "pool", "quota", "weight")

    def __init__(self, deployment: Deployment, pool: Pool, quota: Cooldown) -> None:
        self.deployment = deployment
        self.pool = pool
        self.quota = quota  # shared by the deployments of one quota pool
        self.cooldown = Cooldown()  # credential, missing, overloaded: it said so itself
        self.failing = Cooldown()  # it failed without a word: last choice for a moment
        self.in_flight = 0
        self.draining = False
        self.weight = _weight(deployment)

    @property
    def load(self) -> float:
        return self.in_flight / self.weight

    def refusal(self, now: float) -> str:
        """Why nothing may be sent here now; empty where it may."""
        if now < self.quota.until:
            return "throttled"
        if now < self.cooldown.until:
            return self.cooldown.reason
        if self.draining:
            return "draining"
        return "busy" if self.pool.full else ""

    def wait_s(self, now: float) -> float:
        """Seconds until the refusal ends, as far as that is known; 0 where it is not."""
        return max(self.quota.left_s(now), self.cooldown.left_s(now))


class Target:
    """A backend for one operation. `head` and `tail` enclose the few header lines that vary."""

    __slots__ = ("_dialect", "backend", "cloud", "head", "id", "model_value", "operation", "route", "tail")

    def __init__(self, backend: Backend, operation: Operation, route: Route) -> None:
        endpoint = backend.deployment.endpoint
        self.backend = backend
        self.id = backend.deployment.id
        self.cloud = backend.deployment.cloud
        self.operation = operation
        self.route = route
        name = backend.deployment.name
        # As it stands in the body: a JSON string, or a form's text.
        self.model_value = orjson.dumps(name) if operation.body is BodyKind.JSON else name.encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in endpoint.headers.items())
        self.head = b"POST %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b" % (
            route.target,
            endpoint.base_url.authority.encode(),
            extra.encode("latin-1"),
        )
        self._dialect = dialect(endpoint.provider)
        credential = self._dialect.credential(endpoint)
        # The credential comes last: nothing that a client sent stands behind it.
        self.tail = (b"%b: %b\r\n" % credential if credential is not None else b"") + b"\r\n"

    @property
    def load(self) -> float:
        return self.backend.load

    def judge(self, status: int, fields: Mapping[bytes, bytes], body: bytes) -> Judgement:
        """What an answer that is no success says, in this endpoint's dialect."""
        return self._dialect.judge(status, fields, body)

    def judge_event(self, error: object) -> Judgement:
        """Likewise for an error inside a stream."""
        return self._dialect.judge_event(error)


class LivePlan:
    """A plan whose deployments are live targets."""

    __slots__ = ("labels", "permit", "plan", "tiers")

    def __init__(self, plan: Plan, tiers: tuple[tuple[Target, ...], ...]) -> None:
        self.plan = plan
        self.permit = plan.permit
        self.tiers = tiers
        self.labels = (plan.model, plan.operation, plan.reason, plan.permit.rule_version)  # what its records say

    def targets(self) -> Iterator[Target]:
        for tier in self.tiers:
            yield from tier

    @property
    def one_endpoint(self) -> bool:
        return len({target.backend.deployment.endpoint.id for target in self.targets()}) == 1


class Fleet:
    """All backends, and the plans that lead to them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, names: Names) -> None:
        self._loop, self._names = loop, names
        self.backends: dict[str, Backend] = {}
        self.plans: dict[tuple[str, str, str], LivePlan] = {}
        self.permits: dict[str, Permit] = {}
        self._quotas: dict[str, Cooldown] = {}
        self._contexts: dict[tuple[str, str | None], ResumingContext] = {}  # by endpoint and its authorities

    def adopt(self, snapshot: Snapshot) -> None:
        """Takes over a new configuration in one step. Backends of unchanged deployments stay as they are."""
        pools = {pool_id: self._quotas.get(pool_id) or Cooldown() for pool_id in _quota_pools(snapshot)}
        contexts = {
            (endpoint.id, endpoint.ca_file): self._contexts.get((endpoint.id, endpoint.ca_file))
            or client_context(endpoint.ca_file)  # 20 ms, for the system's authorities: once an endpoint, not a reload
            for endpoint in snapshot.endpoints.values()
            if endpoint.base_url.tls
        }
        backends = {}
        for deployment in snapshot.deployments.values():
            settings = PoolSettings(
                deployment.connections_max, snapshot.server.upstream_idle_s, deployment.endpoint.timeouts.connect_s
            )
            quota = pools[deployment.quota_pool] if deployment.quota_pool is not None else None
            old = self.backends.get(deployment.id)
            if old is not None and old.deployment == deployment:
                old.pool.settings = settings
                backends[deployment.id] = old
            else:
                context = contexts.get((deployment.endpoint.id, deployment.endpoint.ca_file))
                pool = Pool(self._loop, self._names, deployment, settings, context)
                new = backends[deployment.id] = Backend(deployment, pool, quota or Cooldown())
                new.draining = old is not None and old.draining  # an operator's word, whatever else changes
        targets: dict[tuple[str, str], Target] = {}
        plans = {key: _live(plan, backends, targets) for key, plan in snapshot.plans.items()}
        replaced = [old for name, old in self.backends.items() if backends.get(name) is not old]
        self.backends, self.plans, self._quotas, self._contexts = backends, plans, pools, contexts
        self.permits = {name: workload.permit for name, workload in snapshot.workloads.items()}
        for backend in replaced:
            backend.pool.close()

    def endpoint_failing(self, failed: Backend, now: float) -> None:
        """Makes the other deployments of an endpoint that takes no connection the last choice for a moment as well."""
        for backend in self.backends.values():
            if backend is not failed and backend.deployment.endpoint.id == failed.deployment.endpoint.id:
                backend.failing.start("connect", None, now)

    def total(self, read: Callable[[Pool], int]) -> int:
        return sum(read(backend.pool) for backend in self.backends.values())

    def sweep(self, now: float) -> None:
        for backend in self.backends.values():
            backend.pool.sweep(now)

    def close(self) -> None:
        for backend in self.backends.values():
            backend.pool.close()


def _live(plan: Plan, backends: dict[str, Backend], known: dict[tuple[str, str], Target]) -> LivePlan:
    tiers = []
    for tier in plan.tiers:
        targets = []
        for deployment in tier:
            operation = OPERATIONS[plan.operation]
            key = deployment.id, plan.operation
            if key not in known:
                route = dialect(deployment.endpoint.provider).route(deployment, operation)
                if route is None:
                    continue
                known[key] = Target(backends[deployment.id], operation, route)
            targets.append(known[key])
        if targets:
            tiers.append(tuple(targets))
    return LivePlan(plan, tuple(tiers))


def _quota_pools(snapshot: Snapshot) -> set[str]:
    return {d.quota_pool for d in snapshot.deployments.values() if d.quota_pool is not None}


def _weight(deployment: Deployment) -> float:
    """Capacity, for balancing: tokens a minute, or requests a minute at a thousand tokens each."""
    if deployment.tpm is not None:
        return max(deployment.tpm / 1000, 0.001)
    return float(deployment.rpm or 100)
