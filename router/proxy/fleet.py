"""The live side of a configuration: what its workloads and deployments are doing now, and the plans between them."""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Final

from router.balancing.choice import Balancer, balancer_for
from router.balancing.meter import Meter
from router.config.snapshot import Snapshot
from router.health.health import Health
from router.limits.concurrency import GradientLimit
from router.limits.quota_twin import QuotaTwin
from router.limits.settings import LimitSettings
from router.limits.waiting import WaitingRoom
from router.model.fleet import Deployment, Endpoint, Kind
from router.model.operation import OPERATIONS
from router.model.plan import Permit, Plan
from router.providers import dialect
from router.providers.identity import Identity, make_identity
from router.proxy.backend import Backend, Quota, Standing, Target
from router.proxy.queues import Queue
from router.proxy.traffic import Traffic
from router.transport.dialling import Way
from router.transport.names import Names
from router.transport.pool import Pool, PoolSettings

LOOK_AGAIN_S: Final = 0.05  # how long a tier's list is good while one of its deployments is left out for a time


class Tier:
    """Deployments that are balanced together, and which of them may be asked now."""

    __slots__ = ("_able", "_epoch", "_standing", "_until", "balancer", "targets")

    def __init__(self, targets: tuple[Target, ...], balancer: Balancer, standing: Standing) -> None:
        self.targets = targets
        self.balancer = balancer
        self._standing = standing
        self._able: Sequence[Target] = targets
        self._epoch = -1
        self._until = 0.0

    def able(self, now: float) -> Sequence[Target]:
        """Those that have no standing reason to be left out. Remembered until something changed, or may have."""
        if self._epoch != self._standing.epoch or now >= self._until:
            able = [target for target in self.targets if not target.backend.refusal(now)]
            whole = len(able) == len(self.targets)
            self._able = self.targets if whole else able
            # What is left out comes back when its time has come, which is nobody's event.
            self._until = inf if whole else now + LOOK_AGAIN_S
            self._epoch = self._standing.epoch
        return self._able


class LivePlan:
    """A plan whose deployments are live targets."""

    __slots__ = (
        "holder",
        "holder_tiers",
        "labels",
        "one_endpoint",
        "permit",
        "plan",
        "queue",
        "room",
        "stored_words",
        "tiers",
        "traffic",
    )

    def __init__(
        self,
        plan: Plan,
        tiers: tuple[Tier, ...],
        holder_tiers: int,
        traffic: Traffic,
        queue: Queue,
        room: WaitingRoom,
    ) -> None:
        self.plan = plan
        self.permit = plan.permit
        self.tiers = tiers
        self.holder = plan.holder
        self.holder_tiers = holder_tiers
        self.traffic = traffic
        self.queue = queue  # of all that ask for this model
        self.room = room  # this plan's own in it
        self.labels = (plan.model, plan.operation, plan.reason, plan.permit.rule_version)  # what its records say
        self.stored_words = OPERATIONS[plan.operation].stored_words
        self.one_endpoint = len({target.backend.deployment.endpoint.id for target in self.targets()}) == 1

    def targets(self) -> Iterator[Target]:
        for tier in self.tiers:
            yield from tier.targets


class Fleet:
    """All backends, and the plans that lead to them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, names: Names, rng: random.Random) -> None:
        self._loop, self._names, self._rng = loop, names, rng
        self.standing = Standing()
        self.backends: dict[str, Backend] = {}
        self.identities: dict[str, Identity] = {}  # by endpoint
        self.plans: dict[tuple[str, str, str], LivePlan] = {}
        self.traffic: dict[str, Traffic] = {}
        self.permits: dict[str, Permit] = {}
        self.queues: dict[str, Queue] = {}  # by model
        self._limits: LimitSettings | None = None  # in force
        self._endpoints: dict[str, Endpoint] = {}
        self._quotas: dict[str, Quota] = {}
        self.ways: dict[str, Way] = {}  # by endpoint
        self._coming: dict[str, Way] = {}  # of what was prepared last

    def prepare(self, snapshot: Snapshot) -> None:
        """Makes what takes long of a configuration that may come into force next. In any thread."""
        self._coming = {name: self._way_to(endpoint) for name, endpoint in snapshot.endpoints.items()}

    def adopt(self, snapshot: Snapshot) -> list[Identity]:
        """Takes over a new configuration in one step. Backends of unchanged deployments stay as they are.

        Returns the identities that nobody uses any more, for the caller to close.
        """
        now = self._loop.time()
        identities = self._identities_of(snapshot)
        ways = {name: self._way_to(endpoint) for name, endpoint in snapshot.endpoints.items()}
        quotas = self._quotas_of(snapshot, now)
        backends = {
            deployment.id: self._backend(snapshot, deployment, quotas, identities, ways)
            for deployment in snapshot.deployments.values()
        }
        traffic = {}
        for name, workload in snapshot.workloads.items():
            known = self.traffic.get(name)
            if known is None or not known.like(workload.policy, snapshot.retries):
                known = Traffic(name, workload.policy, snapshot.retries, now)
            traffic[name] = known
        models = {deployment.model for deployment in snapshot.deployments.values()}
        queues = {model: self.queues[model] if model in self.queues else Queue() for model in models}
        waiting_max = snapshot.limits.waiting_max
        targets: dict[tuple[str, str], Target] = {}
        plans = {
            key: self._live(plan, backends, targets, traffic[plan.workload], queues[plan.model], waiting_max)
            for key, plan in snapshot.plans.items()
        }
        replaced = [old for name, old in self.backends.items() if backends.get(name) is not old]
        unused = [old for name, old in self.identities.items() if identities.get(name) is not old]
        self.backends, self.plans, self.identities = backends, plans, identities
        self.traffic, self.queues = traffic, queues
        rooms: dict[str, set[tuple[str, str]]] = {model: set() for model in queues}
        for workload, model, operation in plans:
            rooms[model].add((workload, operation))
        for model, queue in queues.items():
            queue.keep(rooms[model])
        self._quotas, self.ways, self._endpoints = quotas, ways, dict(snapshot.endpoints)
        self._coming = {}
        self._limits = snapshot.limits
        self.permits = {name: workload.permit for name, workload in snapshot.workloads.items()}
        self.standing.changed()
        for backend in replaced:
            backend.pool.close()
        return unused

    def siblings(self, backend: Backend) -> Iterator[Backend]:
        """The other deployments of its endpoint."""
        return (other for other in self.at_endpoint(backend.deployment.endpoint.id) if other is not backend)

    def at_endpoint(self, endpoint_id: str) -> list[Backend]:
        """All deployments of an endpoint."""
        return [backend for backend in self.backends.values() if backend.deployment.endpoint.id == endpoint_id]

    def total(self, read: Callable[[Pool], int]) -> int:
        return sum(read(backend.pool) for backend in self.backends.values())

    def flush(self) -> None:
        """Writes all that was sent and still waits for the end of the loop's turn."""
        for backend in self.backends.values():
            backend.pool.outbox.flush()

    def sweep(self, now: float) -> None:
        for backend in self.backends.values():
            backend.pool.sweep(now)

    def close(self) -> None:
        for backend in self.backends.values():
            backend.pool.close()

    def _identities_of(self, snapshot: Snapshot) -> dict[str, Identity]:
        return {
            name: self.identities[name] if self._endpoints.get(name) == endpoint else make_identity(endpoint)
            for name, endpoint in snapshot.endpoints.items()
        }

    def _way_to(self, endpoint: Endpoint) -> Way:
        """The one that is known, where that still is the way: it has sessions of TLS, and takes 20 ms to make."""
        for known in (self.ways.get(endpoint.id), self._coming.get(endpoint.id)):
            if known is not None and known.leads_to(endpoint):
                return known
        return Way(self._loop, self._names, endpoint)

    def _quotas_of(self, snapshot: Snapshot, now: float) -> dict[str, Quota]:
        """By the pool's name, or by the only deployment's. What is known of an unchanged quota is kept."""
        quotas: dict[str, Quota] = {}
        for deployment in snapshot.deployments.values():
            name = _quota_name(deployment)
            if name not in quotas:
                old = self._quotas.get(name)
                limits = deployment.tpm, deployment.rpm
                has_twin = snapshot.limits.quota_twin and deployment.kind is Kind.STANDARD
                twin = None
                if has_twin and (deployment.tpm is not None or deployment.rpm is not None):
                    twin = QuotaTwin(deployment.tpm, deployment.rpm, now)
                if old is not None and old.limits == limits and (old.twin is None) == (twin is None):
                    quotas[name] = old
                else:
                    quotas[name] = Quota(twin, limits)
        return quotas

    def _backend(
        self,
        snapshot: Snapshot,
        deployment: Deployment,
        quotas: Mapping[str, Quota],
        identities: Mapping[str, Identity],
        ways: Mapping[str, Way],
    ) -> Backend:
        endpoint = deployment.endpoint
        settings = PoolSettings(
            deployment.connections_max, snapshot.server.upstream_idle_s, endpoint.timeouts.connect_s
        )
        old = self.backends.get(deployment.id)
        if old is not None and old.deployment == deployment:
            old.pool.settings = settings
            old.pool.use(ways[endpoint.id])
            old.quota = quotas[_quota_name(deployment)]
            old.health.settings = snapshot.health
            if snapshot.limits != self._limits:
                old.limit = _limit(snapshot, deployment)
            return old
        pool = Pool(self._loop, ways[endpoint.id], deployment, settings)
        meter = Meter(_capacity(deployment))
        new = Backend(
            deployment,
            pool,
            quotas[_quota_name(deployment)],
            Health(snapshot.health, self._rng, meter.forgive),
            meter,
            _limit(snapshot, deployment),
            identities[endpoint.id],
            self.standing,
        )
        new.draining = old is not None and old.draining  # an operator's word, whatever else changes
        return new

    def _live(
        self,
        plan: Plan,
        backends: Mapping[str, Backend],
        known: dict[tuple[str, str], Target],
        traffic: Traffic,
        queue: Queue,
        waiting_max: int,
    ) -> LivePlan:
        operation = OPERATIONS[plan.operation]
        tiers: list[Tier] = []
        holder_tiers = 0
        for index, tier in enumerate(plan.tiers):
            targets = []
            for deployment in tier:
                key = deployment.id, plan.operation
                if key not in known:
                    speaks = dialect(deployment.endpoint.provider)
                    route = speaks.route(deployment, operation)
                    if route is None:
                        continue
                    known[key] = Target(backends[deployment.id], operation, route, speaks)
                targets.append(known[key])
            if targets:
                balancer = balancer_for(plan.prefer, traffic.policy.affinity, self._rng)
                tiers.append(Tier(tuple(targets), balancer, self.standing))
                holder_tiers += index < plan.holder_tiers
        reach = (target.backend for tier in tiers for target in tier.targets)
        room = queue.room(plan.workload, plan.operation, waiting_max, reach)
        return LivePlan(plan, tuple(tiers), holder_tiers, traffic, queue, room)


def _limit(snapshot: Snapshot, deployment: Deployment) -> GradientLimit:
    return GradientLimit(snapshot.limits, deployment.connections_max, deployment.concurrent_max)


def _quota_name(deployment: Deployment) -> str:
    return f"pool {deployment.quota_pool}" if deployment.quota_pool is not None else deployment.id


def _capacity(deployment: Deployment) -> float:
    """For balancing: tokens a minute, or requests a minute at a thousand tokens each."""
    if deployment.tpm is not None:
        return max(deployment.tpm / 1000, 0.001)
    return float(deployment.rpm or 100)
