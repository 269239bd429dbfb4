"""What all requests of a process share: the configuration, the live fleet, and the books that are kept of them."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Protocol

from router.balancing.power_of_two import PowerOfTwo
from router.base.clock import Clock
from router.base.errors import RouterError, UnauthorizedError
from router.config.snapshot import Snapshot
from router.model.keys import ApiKey
from router.model.outcome import RequestRecord
from router.model.plan import Permit
from router.proxy.context import Context
from router.proxy.fleet import Backend, Fleet


class Books(Protocol):
    """Where finished requests and changes of state are written down."""

    def request(self, record: RequestRecord) -> None: ...

    def event(self, event: str, /, **fields: object) -> None: ...


class Runtime:
    """Shared by every request; `adopt` swaps the configuration, and running requests keep theirs."""

    def __init__(self, snapshot: Snapshot, fleet: Fleet, balancer: PowerOfTwo, books: Books, clock: Clock) -> None:
        self.snapshot = snapshot
        self.fleet = fleet
        self.balancer = balancer
        self.books = books
        self.clock = clock
        self.violations = 0
        self.in_flight: dict[str, int] = {}  # by workload
        self._request_prefix = f"req_{secrets.token_hex(6)}-"  # of this process, among all that ever run
        self._requests = 0

    def adopt(self, snapshot: Snapshot) -> None:
        self.fleet.adopt(snapshot)
        self.snapshot = snapshot

    def new_request_id(self) -> str:
        """Unique over processes and restarts; it need not be a secret."""
        self._requests += 1
        return f"{self._request_prefix}{self._requests}"

    def authenticate(self, fields: Mapping[bytes, bytes]) -> ApiKey:
        """Returns who asks. Raises UnauthorizedError, with one text for every cause."""
        authorization = fields.get(b"authorization")
        presented = fields.get(b"api-key")
        if authorization is not None:
            scheme, _, token = authorization.partition(b" ")
            token = token.strip()
            if scheme.lower() != b"bearer" or (presented is not None and not hmac.compare_digest(presented, token)):
                raise _unauthorized()
            presented = token
        if not presented:
            raise _unauthorized()
        digest = hashlib.sha256(presented).digest()
        key = self.snapshot.keys.get(digest)
        if key is None or not hmac.compare_digest(key.sha256, digest):
            raise _unauthorized()
        return key

    def count_in(self, ctx: Context, key: ApiKey) -> None:
        """Takes the request into the count of its workload, until `settle`."""
        ctx.key = key
        self.in_flight[key.workload] = self.in_flight.get(key.workload, 0) + 1

    def permit(self, ctx: Context) -> Permit:
        """What the request may use: what was allowed when it began, and still is.

        Raises UnauthorizedError where its key has been taken away.
        """
        assert ctx.plan is not None
        assert ctx.key is not None
        plan = ctx.plan.plan
        if ctx.snapshot is self.snapshot:
            return plan.permit
        # The plan may be newer than the request, which began when its head came: the body took its time.
        began_with = ctx.snapshot.workloads[ctx.key.workload].permit
        key = self.snapshot.keys.get(ctx.key.sha256)
        if key is None:
            raise _unauthorized()
        same = key.workload == ctx.key.workload and key.may_use(plan.model)
        return began_with.narrowed(self.fleet.permits.get(key.workload) if same else None)

    def attempt_failed(self, backend: Backend, outcome: str, error: RouterError) -> None:
        """Lets a deployment cool down as its failure demands, and writes down what is news."""
        if outcome in ("client_gone", "withdrawn"):  # which says nothing about the deployment
            return
        if outcome == "violation":
            self.violations += 1
            self.books.event("placement_violation", deployment=backend.deployment.id)
            return
        wait_s = getattr(getattr(error, "judgement", None), "wait_s", None)
        now = self.clock.monotonic()
        if outcome == "throttled":
            cooldown = backend.quota
        elif outcome in ("credential", "missing") or (outcome == "overloaded" and wait_s is not None):
            cooldown = backend.cooldown
        else:
            cooldown = backend.failing
        if outcome == "connect":  # that is its endpoint's fault, so the next attempt had better go to another one
            self.fleet.endpoint_failing(backend, now)
        if cooldown.start(outcome, wait_s, now):
            self.books.event(
                "cooldown", deployment=backend.deployment.id, reason=outcome, wait_s=round(cooldown.left_s(now), 3)
            )


def _unauthorized() -> UnauthorizedError:
    return UnauthorizedError(
        "There is no valid API key in this request. Send one as `Authorization: Bearer KEY` or as `api-key: KEY`."
    )
