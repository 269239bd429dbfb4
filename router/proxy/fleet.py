"""The live side of a configuration: what its workloads and deployments are doing now, and the plans between them."""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import inf
from typing import Final

from router.balancing.choice import Balancer, Rendezvous, balancer_for
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
from router.model.stored import RESOURCES, RESPONSES
from router.providers import dialect
from router.providers.identity import Identity, make_identity
from router.proxy.backend import Backend, Quota, Standing, Target
from router.proxy.queues import Queue
from router.proxy.stateful.target import StoredTarget
from router.proxy.traffic import Traffic
from router.transport.dialling import Way
from router.transport.names import Names
from router.transport.pool import Pool, PoolSettings

_NO_MODEL: Final = ""  # the queue of those who ask for what is stored
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

    def of(self, targets: tuple[Target, ...]) -> "Tier":
        """Others, balanced as these are."""
        return Tier(targets, self.balancer, self._standing)

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
        "_at",
        "absent",
        "binds",
        "holder",
        "holder_tiers",
        "home",
        "keeps",
        "labels",
        "one_endpoint",
        "permit",
        "plan",
        "queue",
        "room",
        "stored_words",
        "tiers",
        "traffic",
        "watches_state",
    )

    def __init__(
        self,
        plan: Plan,
        tiers: tuple[Tier, ...],
        holder_tiers: int,
        traffic: Traffic,
        queue: Queue,
        room: WaitingRoom,
        *,
        keeps: bool,
        home: str = "",
        absent: tuple[Target, ...] = (),
    ) -> None:
        """`keeps`: the router remembers where what is stored lives. `home`: the endpoint that all of this is at, since
        what it asks for is stored there; `absent`: the holder's deployments that are not.
        """
        self.plan = plan
        self.permit = plan.permit
        self.tiers = tiers
        self.holder = plan.holder
        self.holder_tiers = holder_tiers
        self.traffic = traffic
        self.queue = queue  # of all that ask for this model
        self.room = room  # this plan's own in it
        self.labels = (plan.model, plan.operation, plan.reason, plan.permit.rule_version)  # what its records say
        self.keeps, self.home, self.absent = keeps, home, absent
        self.stored_words = OPERATIONS[plan.operation].stored_words if plan.operation in OPERATIONS else ()
        self.binds = keeps and bool(plan.model) and plan.operation == RESPONSES.name  # its answers have ids of new ones
        self.one_endpoint = len({target.backend.deployment.endpoint.id for target in self.targets()}) == 1
        self.watches_state = keeps or not self.one_endpoint  # where requests go that name something stored matters
        self._at: dict[str, LivePlan] = {}

    def targets(self) -> Iterator[Target]:
        for tier in self.tiers:
            yield from tier.targets

    def at(self, home: str) -> "LivePlan":
        """What of it is at one endpoint; without a tier where nothing is."""
        known = self._at.get(home)
        if known is None:
            known = self._at[home] = self.mapped(lambda target: target if _is_at(home, target) else None, home)
        return known

    def mapped(self, of: Callable[[Target], Target | None], home: str = "") -> "LivePlan":
        """The same with other targets in the places of these, or with fewer."""
        tiers: list[Tier] = []
        holder_tiers = 0
        for index, tier in enumerate(self.tiers):
            targets = tuple(found for target in tier.targets if (found := of(target)) is not None)
            if targets:
                tiers.append(tier.of(targets))
                holder_tiers += index < self.holder_tiers
        absent: tuple[Target, ...] = ()
        if home:
            held = chain.from_iterable(tier.targets for tier in self.tiers[: self.holder_tiers])
            absent = tuple(target for target in held if not _is_at(home, target))
        return LivePlan(
            *(self.plan, tuple(tiers), holder_tiers, self.traffic, self.queue, self.room),
            keeps=self.keeps,
            home=home,
            absent=absent,
        )


class Fleet:
    """All backends, and the plans that lead to them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, names: Names, rng: random.Random) -> None:
        self._loop, self._names, self._rng = loop, names, rng
        self.standing = Standing()
        self.backends: dict[str, Backend] = {}
        self.stores: dict[str, Backend] = {}  # endpoints as what is stored there is asked for; by id, as the others
        self.stored: dict[tuple[str, str], LivePlan] = {}  # by workload and resource
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
        stored = [plan for workload in snapshot.workloads.values() for plan in workload.stored.values()]
        storing = {each.id: each for plan in stored for tier in plan.tiers for each in tier}
        quotas = self._quotas_of(snapshot, chain(snapshot.deployments.values(), storing.values()), now)
        backends, stores = (
            {each.id: self._backend(snapshot, each, quotas, identities, ways) for each in deployments}
            for deployments in (snapshot.deployments.values(), storing.values())
        )
        traffic = {}
        for name, workload in snapshot.workloads.items():
            known = self.traffic.get(name)
            if known is None or not known.like(workload.policy, snapshot.retries):
                known = Traffic(name, workload.policy, snapshot.retries, now)
            traffic[name] = known
        models = {deployment.model for deployment in snapshot.deployments.values()}
        queues = {model: self.queues[model] if model in self.queues else Queue() for model in models}
        queues[_NO_MODEL] = self.queues.get(_NO_MODEL) or Queue()
        targets: dict[tuple[str, str], Target] = {}
        every = backends | stores
        plans = {
            key: self._live(plan, snapshot, every, targets, traffic, queues) for key, plan in snapshot.plans.items()
        }
        live = [self._live(plan, snapshot, every, targets, traffic, queues) for plan in stored]
        known_before = self.backends | self.stores
        replaced = [old for name, old in known_before.items() if every.get(name) is not old]
        unused = [old for name, old in self.identities.items() if identities.get(name) is not old]
        self.backends, self.plans, self.identities = backends, plans, identities
        self.stores, self.stored = stores, {(plan.plan.workload, plan.plan.operation): plan for plan in live}
        self.traffic, self.queues = traffic, queues
        rooms: dict[str, set[tuple[str, str]]] = {model: set() for model in queues}
        for each in chain(plans.values(), live):
            rooms[each.plan.model].add((each.plan.workload, each.plan.operation))
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
        """All deployments of an endpoint, and what is stored there."""
        return [backend for backend in self._every() if backend.deployment.endpoint.id == endpoint_id]

    def total(self, read: Callable[[Pool], int]) -> int:
        return sum(read(backend.pool) for backend in self._every())

    def flush(self) -> None:
        """Writes all that was sent and still waits for the end of the loop's turn."""
        for backend in self._every():
            backend.pool.outbox.flush()

    def sweep(self, now: float) -> None:
        for backend in self._every():
            backend.pool.sweep(now)

    def close(self) -> None:
        for backend in self._every():
            backend.pool.close()

    def _every(self) -> Iterator[Backend]:
        return chain(self.backends.values(), self.stores.values())

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

    def _quotas_of(self, snapshot: Snapshot, deployments: Iterable[Deployment], now: float) -> dict[str, Quota]:
        """By the pool's name, or by the only deployment's. What is known of an unchanged quota is kept."""
        quotas: dict[str, Quota] = {}
        for deployment in deployments:
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
        old = self.backends.get(deployment.id) or self.stores.get(deployment.id)
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
        snapshot: Snapshot,
        backends: Mapping[str, Backend],
        known: dict[tuple[str, str], Target],
        traffics: Mapping[str, Traffic],
        queues: Mapping[str, Queue],
    ) -> LivePlan:
        traffic, queue = traffics[plan.workload], queues[plan.model]
        make = _target if plan.model else _stored_target
        tiers: list[Tier] = []
        holder_tiers = 0
        for index, tier in enumerate(plan.tiers):
            targets = []
            for deployment in tier:
                key = deployment.id, plan.operation
                if key not in known:
                    target = make(backends[deployment.id], plan.operation)
                    if target is None:
                        continue
                    known[key] = target
                targets.append(known[key])
            if targets:
                balancer = balancer_for(plan.prefer, traffic.policy.affinity, self._rng) if plan.model else Rendezvous()
                tiers.append(Tier(tuple(targets), balancer, self.standing))
                holder_tiers += index < plan.holder_tiers
        reach = (target.backend for tier in tiers for target in tier.targets)
        room = queue.room(plan.workload, plan.operation, snapshot.limits.waiting_max, reach)
        return LivePlan(*(plan, tuple(tiers), holder_tiers, traffic, queue, room), keeps=snapshot.ledger is not None)


def _target(backend: Backend, operation: str) -> Target | None:
    speaks = dialect(backend.deployment.endpoint.provider)
    route = speaks.route(backend.deployment, OPERATIONS[operation])
    return Target(backend, OPERATIONS[operation], route, speaks) if route is not None else None


def _stored_target(backend: Backend, resource: str) -> Target:
    """Of an endpoint, for one resource; each request has a path of its own."""
    return StoredTarget(backend, RESOURCES[resource].operation, dialect(backend.deployment.endpoint.provider))


def _is_at(home: str, target: Target) -> bool:
    return target.backend.deployment.endpoint.id == home


def _limit(snapshot: Snapshot, deployment: Deployment) -> GradientLimit:
    return GradientLimit(snapshot.limits, deployment.connections_max, deployment.concurrent_max)


def _quota_name(deployment: Deployment) -> str:
    return f"pool {deployment.quota_pool}" if deployment.quota_pool is not None else deployment.id


def _capacity(deployment: Deployment) -> float:
    """For balancing: tokens a minute, or requests a minute at a thousand tokens each."""
    if deployment.tpm is not None:
        return max(deployment.tpm / 1000, 0.001)
    return float(deployment.rpm or 100)
