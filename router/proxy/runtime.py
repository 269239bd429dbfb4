"""What all requests of a process share: the configuration, the live fleet, and the books that are kept of them."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from itertools import chain
from typing import Final, Protocol

from router.base.clock import Clock
from router.base.errors import LimitedError, RefusedError, StrangerError, UnauthorizedError
from router.config.snapshot import Snapshot
from router.limits.strangers import Strangers
from router.model.decision import Decision, Leave
from router.model.keys import ApiKey
from router.model.outcome import RequestRecord
from router.model.plan import Permit
from router.placement import written
from router.proxy.backend import Backend
from router.proxy.context import Context
from router.proxy.fleet import Fleet
from router.proxy.limiting import Limiting
from router.proxy.own_usage import OwnUsage
from router.proxy.queues import Queues
from router.proxy.realtime.open_sessions import OpenSessions
from router.proxy.replies import retry_after
from router.proxy.stateful.homes import Homes
from router.telemetry.metrics import Gaps
from router.telemetry.tracing import Tracing
from router.transport.inbound import Inbound

STRANGERS_AT_ONCE: Final = 100  # requests without a key, from one address
STRANGERS_PER_S: Final = 10.0
CREDENTIAL_OUT_S: Final = 30.0  # an operator has to act; meanwhile one try in so many seconds


class Books(Protocol):
    """Where finished requests and changes of state are written down."""

    def request(self, record: RequestRecord) -> None: ...

    def gaps(self, workload: str, cloud: str) -> Gaps: ...

    def event(self, event: str, /, **fields: object) -> None: ...


class Decisions(Protocol):
    """Where it is recorded why each request went where it went."""

    def write(self, record: Leave | Decision) -> bool:
        """False: it could not be recorded, so nothing may be sent by it."""
        ...

    def write_event(self, event: str, /, **fields: object) -> None: ...


class Runtime:
    """Shared by every request; `adopt` swaps the configuration, and running requests keep theirs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        snapshot: Snapshot,
        fleet: Fleet,
        waiting: Queues,
        limits: Limiting,
        books: Books,
        decisions: Decisions,
        signers: Executor,
        clock: Clock,
    ) -> None:
        self.loop = loop
        self.snapshot = snapshot
        self.fleet = fleet
        self.waiting = waiting
        self.limits = limits
        self.books = books
        self.decisions = decisions
        self.signers = signers  # threads for signatures
        self.clock = clock
        self.tracing: Tracing | None = None  # None: the configuration has no such section
        self.own_usage = OwnUsage(loop)
        self.homes = Homes(loop, clock)
        self.sessions = OpenSessions()
        self.strangers = Strangers(STRANGERS_AT_ONCE, STRANGERS_PER_S)
        self.violations = 0
        self.in_flight: dict[str, int] = {}  # by workload
        self.credential_failures: dict[str, int] = {}  # by endpoint, since the start
        self._request_prefix = f"req_{secrets.token_hex(6)}-"  # of this process, among all that ever run
        self._requests = 0
        self.closing: set[asyncio.Task[None]] = set()
        self.on_adopt: Callable[[Snapshot], None] = _nobody
        self.keys_known = snapshot.ledger is None  # False: nobody has heard yet which keys the store has
        self._stored_keys: tuple[ApiKey, ...] = ()  # all of the store, also those that the file rules out

    def adopt(self, snapshot: Snapshot) -> None:
        """Puts a configuration in force, and says in the decision log what its rules are."""
        if self._stored_keys:
            snapshot = snapshot.joined(self._stored_keys, self.clock.wall())
        self.fleet.flush()  # what was sent by the old rules leaves before the new ones hold
        unused = self.fleet.adopt(snapshot)
        if self.tracing is not None and snapshot.tracing is not None:
            self.tracing.sampler.adopt(snapshot.tracing)
        self._take(snapshot)
        self.decisions.write_event("configuration", **described(snapshot))
        for identity in unused:
            self.closing.add(task := self.loop.create_task(identity.close()))
            task.add_done_callback(self.closing.discard)

    def adopt_keys(self, keys: tuple[ApiKey, ...]) -> None:
        """Puts these keys of the store in force, in place of those before, beside those of the file."""
        self._stored_keys, self.keys_known = keys, True
        self._move_to(self.snapshot.joined(keys, self.clock.wall()))

    def current(self) -> Snapshot:
        """The configuration in force, of this very moment: a rule's window may have begun, or a key ended."""
        snapshot, wall = self.snapshot, self.clock.wall()
        if not snapshot.since <= wall < snapshot.until:
            self._move_to(snapshot.seen_at(wall))
        return self.snapshot

    def _move_to(self, snapshot: Snapshot) -> None:
        """The same configuration at another moment, or with other keys: the fleet stays unless its plans change."""
        if snapshot.plans is self.snapshot.plans:
            self._take(snapshot)
        else:
            self.adopt(snapshot)

    def _take(self, snapshot: Snapshot) -> None:
        """Requests that begin now begin with it. Those that run see by its identity that something has changed."""
        self.snapshot = snapshot
        self.limits.adopt(snapshot)
        self.on_adopt(snapshot)
        self.sessions.recheck()

    def new_request_id(self) -> str:
        """Unique over processes and restarts; it need not be a secret."""
        self._requests += 1
        return f"{self._request_prefix}{self._requests}"

    def authenticate(self, fields: Mapping[bytes, bytes], certificates: Sequence[str] = ()) -> ApiKey:
        """Returns who asks. Raises UnauthorizedError, with one text for every cause.

        `certificates`: what names the client's, which has been verified. One that stands for a key is all that is
        needed, and a request that names another key beside it is nobody's.

        Raises RefusedError where nobody can tell yet: a valid key is never called an invalid one.
        """
        authorization = fields.get(b"authorization")
        presented = fields.get(b"api-key")
        if authorization is not None:
            scheme, _, token = authorization.partition(b" ")
            token = token.strip()
            if scheme.lower() != b"bearer" or (presented is not None and not hmac.compare_digest(presented, token)):
                raise _unauthorized()
            presented = token
        shown = self._key_shown(certificates) if certificates else None
        if not presented:
            if shown is not None and authorization is None:
                return shown
            raise _unauthorized() if self.keys_known or not certificates else _unknown_yet()
        digest = hashlib.sha256(presented).digest()
        key = self.snapshot.keys.get(digest)
        if key is None or not hmac.compare_digest(key.sha256, digest):
            raise _unauthorized() if self.keys_known else _unknown_yet()
        if shown is not None and shown.name != key.name:
            raise _unauthorized()
        return key

    def _key_shown(self, certificates: Sequence[str]) -> ApiKey | None:
        keys = self.snapshot.certificates
        return next((keys[name] for name in certificates if name in keys), None)

    def stranger(self, error: UnauthorizedError, inbound: Inbound) -> LimitedError | UnauthorizedError:
        """What to tell who has no key: `error`, or that too many such requests came from the same address."""
        wait_s = self.strangers.failed(inbound.peer, inbound.started_at)
        if not wait_s:
            return error
        # An SDK would come again by itself, and no wait makes its key a right one.
        headers = retry_after(wait_s) | {"x-should-retry": "false"}
        return StrangerError("Too many requests without a valid API key came from this address.", headers=headers)

    def permit(self, ctx: Context) -> Permit:
        """What the request may use: what was allowed when it began, and still is.

        Raises UnauthorizedError where its key has been taken away.
        """
        assert ctx.plan is not None
        assert ctx.caller.key is not None
        plan = ctx.plan.plan
        if ctx.snapshot is self.current():
            return plan.permit
        # The plan may be newer than the request, which began when its head came: the body took its time.
        began_with = ctx.snapshot.workloads[ctx.caller.key.workload].permit
        key = self.snapshot.keys.get(ctx.caller.key.sha256)
        if key is None:
            raise _unauthorized()
        same = key.workload == ctx.caller.key.workload and (not plan.model or key.may_use(plan.model))
        return began_with.narrowed(self.fleet.permits.get(key.workload) if same else None)

    def credential_refused(self, backend: Backend, now: float, *, condemn: bool = True) -> None:
        """Raises the alert, and takes a whole endpoint out whose credential was refused; one try in a while remains.

        `condemn`: False where the refusal may have been of something else, so that the alert is all.
        """
        endpoint_id = backend.deployment.endpoint.id
        self.credential_failures[endpoint_id] = self.credential_failures.get(endpoint_id, 0) + 1
        self.books.event("credential_refused", endpoint=endpoint_id)
        if not condemn:
            return
        for member in (backend, *self.fleet.siblings(backend)):
            member.health.condemn("credential", now, CREDENTIAL_OUT_S)
        self.fleet.standing.changed()


def _nobody(_: Snapshot) -> None: ...


def described(snapshot: Snapshot) -> dict[str, object]:
    """What an auditor must know to judge the decisions that follow."""
    return {
        "version": snapshot.version,
        "conditions": [
            {"name": condition.name, "declared": written(condition.declared), "by": condition.by}
            for condition in snapshot.conditions
        ],
        "workloads": {
            name: {"rule": workload.reason, "rule_version": workload.permit.rule_version}
            for name, workload in snapshot.workloads.items()
        },
        "holders": [
            {
                "rule_version": plan.permit.rule_version,
                "workload": plan.workload,
                "model": plan.model,
                "operation": plan.operation,
                "holder": plan.holder,
                "deployments": [deployment.id for tier in plan.tiers[: plan.holder_tiers] for deployment in tier],
            }
            for plan in chain(snapshot.plans.values(), *(each.stored.values() for each in snapshot.workloads.values()))
            if plan.holder
        ],
    }


def _unknown_yet() -> RefusedError:
    return RefusedError(
        "The router has not been able to read its keys yet. Send the request again.",
        code="keys_unavailable",
        headers={"retry-after": "1", "retry-after-ms": "1000"},
    )


def _unauthorized() -> UnauthorizedError:
    return UnauthorizedError(
        "There is no valid API key in this request, or there are two that differ (a client certificate may stand for "
        "one). Send one as `Authorization: Bearer KEY` or as `api-key: KEY`."
    )
