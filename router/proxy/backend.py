"""One deployment, alive, and how one operation of it is asked.

A `Backend` lives under its deployment's id and survives reloads while the deployment is unchanged. A `Target` is a
backend as one operation sees it, with every byte of a request's head that does not change already written.
"""

import zlib
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson

from router.balancing.meter import Meter
from router.balancing.prices import cost_nano_usd
from router.health.cooldown import Cooldown
from router.health.health import Health
from router.health.verdict import State, Verdict, merged
from router.limits.concurrency import GradientLimit
from router.limits.minute_shares import MinuteShares, News
from router.limits.quota_twin import QuotaTwin
from router.model.decision import ACCEPTED, Offer
from router.model.fleet import Deployment
from router.model.operation import BodyKind, Operation
from router.model.outcome import Usage
from router.model.work import Work
from router.providers.dialect import Dialect, Judgement, Route
from router.providers.identity import Identity
from router.transport.pool import Pool

if TYPE_CHECKING:
    from router.proxy.context import Attempt
    from router.transport.inbound import Inbound

_PRESSED_SHARE: Final = 0.8  # of the concurrency limit: from here on affinity brings nobody here any more
# What a deployment said of itself, in the words of a refusal.
_COOLING: Final[Mapping[str, str]] = {"missing": "no_deployment", "overloaded": "busy"}


Serves: TypeAlias = tuple[str, str, str, tuple[Offer, ...]]  # deployment, cloud, endpoint, and the accepted offer


class Standing:
    """Counts the changes of what deployments may be asked, so that whoever remembers an answer knows when it is old."""

    __slots__ = ("epoch",)

    def __init__(self) -> None:
        self.epoch = 0

    def changed(self) -> None:
        self.epoch += 1


class Quota:
    """What the deployments of one quota share: the wait that they were told, and the twin of its limits."""

    __slots__ = ("cooldown", "limits", "shares", "twin")

    def __init__(self, twin: QuotaTwin | None, limits: tuple[int | None, int | None] = (None, None)) -> None:
        """`limits`: tokens and requests a minute, as configured."""
        self.cooldown = Cooldown()
        self.limits = limits
        self.twin = twin  # None: the provider's limits are not known, or not of this kind
        self.shares: MinuteShares | None = None  # of its tokens, while somebody is turned away for want of them

    def share_wait_s(self, name: str, weight: float, priority: int, tokens: int, now: float) -> float:
        """0.0 where a key may have so many of the minute's tokens, else seconds until the minute is over."""
        shares, twin = self.shares, self.twin
        if shares is None or twin is None:
            return 0.0
        left, ends_at = twin.tokens_left(now) / twin.factor, twin.minute_ends_at(now)
        wait_s = shares.wait_s(name, weight, priority, tokens, left, ends_at, now)
        if shares.idle:
            self.shares = None
        return wait_s

    def learn(self, news: list[News], now: float) -> None:
        """What keys did at another worker where this quota's minute is divided."""
        assert self.twin is not None
        ends_at = self.twin.minute_ends_at(now)
        if self.shares is None:
            self.shares = MinuteShares(ends_at)
        self.shares.learn(news, ends_at, now)

    def turned_away(self, name: str, weight: float, priority: int, tokens: int, now: float) -> None:
        """A request was: where that is for want of tokens, the minute is divided from now on."""
        twin = self.twin
        short = twin is not None and twin.tokens_wait_s(tokens, now) > 0.0
        if short or self.share_wait_s(name, weight, priority, tokens, now):
            if self.shares is None and twin is not None:
                self.shares = MinuteShares(twin.minute_ends_at(now))
            if self.shares is not None:
                self.shares.missed(name, weight, priority)


class Backend:
    """One deployment: its connections, its health, its load, and what may be sent to it now."""

    __slots__ = (
        "avoided",
        "cooldown",
        "deployment",
        "draining",
        "health",
        "identity",
        "in_flight",
        "limit",
        "meter",
        "pool",
        "quota",
        "sample_at",
        "standing",
        "streaming",
        "unanswered",
    )

    def __init__(
        self,
        deployment: Deployment,
        pool: Pool,
        quota: Quota,
        health: Health,
        meter: Meter,
        limit: GradientLimit,
        identity: Identity,
        standing: Standing,
    ) -> None:
        self.deployment = deployment
        self.pool = pool
        self.quota = quota
        self.health = health
        self.meter = meter
        self.limit = limit
        self.identity = identity
        self.standing = standing
        self.cooldown = Cooldown()  # it said itself that it cannot serve: missing, overloaded
        self.in_flight = 0
        self.draining = False
        self.sample_at = 0.0  # monotonic seconds from which on the next first byte tells how fast it is
        self.avoided = 0  # requests that its twin sent elsewhere
        self.unanswered: dict[Attempt, float] = {}  # streams asked for and without a first byte, the oldest first
        self.streaming: dict[Attempt, Inbound] = {}  # streams that flow

    def refusal(self, now: float) -> str:
        """Why nothing may be sent here, whatever it is, in the words of `decision.REFUSALS`; empty where it may."""
        if self.draining:
            return "draining"
        if now < self.quota.cooldown.until:
            return "throttled"
        if now < self.cooldown.until:
            return _COOLING.get(self.cooldown.reason, "unhealthy")
        if not self.health.clear and (why := self.health.refusal(now)):
            return why
        if self.identity.tail is None and not self.identity.signs:
            return "unhealthy"  # no token yet, or none any more
        return ""

    def refusal_of(self, tokens: int, now: float) -> str:
        """Why this one request may not be sent here at this moment; empty where it may."""
        if self.in_flight >= (self.limit.limit if self.health.clear else self.in_flight_max(now)) or self.pool.full:
            return "busy"
        twin = self.quota.twin
        if twin is not None and twin.wait_s(tokens, now) > 0.0:
            return "over_quota"
        return ""

    def in_flight_max(self, now: float) -> float:
        """Its concurrency limit, of which slow start leaves a share. At least one."""
        limit = self.limit.limit
        return limit if self.health.clear else max(1.0, limit * self.health.ramp(now))

    def drain(self, draining: bool) -> None:
        """An operator's word: nothing new is sent here, until it is taken back."""
        self.draining = draining
        self.standing.changed()

    @property
    def pressed(self) -> bool:
        return self.in_flight >= _PRESSED_SHARE * self.limit.limit

    def wait_s(self, tokens: int, now: float) -> float:
        """Seconds until it may be asked, as far as that is known; infinity where it is not."""
        waits = [cooldown.left_s(now) for cooldown in (self.quota.cooldown, self.cooldown) if cooldown.active(now)]
        if self.health.refusal(now):
            waits.append(max(0.0, self.health.verdict(now).until - now))
        twin = self.quota.twin
        if twin is not None:
            waits.append(twin.wait_s(tokens, now))
        known = max(waits, default=0.0)
        return known if known > 0.0 else inf

    def probed_now(self, now: float) -> bool:
        """A request is finding out at this moment whether it is back: all others wait for that one's end."""
        return self.verdict(now).state is State.PROBING

    def verdict(self, now: float) -> Verdict:
        """Health, throttling and the operator's word as one, with its reason."""
        found = self.health.verdict(now)
        if self.identity.tail is None and not self.identity.signs:
            found = Verdict(State.EJECTED, "no_credential")
        elif self.cooldown.active(now):
            found = Verdict(State.EJECTED, self.cooldown.reason, self.cooldown.until)
        return merged(found, now, throttled_until=self.quota.cooldown.until, draining=self.draining)


class Target:
    """A backend for one operation. `head` and the identity's lines enclose the few header lines that vary."""

    method = b"POST"

    __slots__ = (
        "_dialect",
        "backend",
        "cloud",
        "hash",
        "head",
        "id",
        "identity",
        "lines",
        "meter",
        "model_value",
        "operation",
        "price",
        "price_version",
        "route",
        "serves",
        "timeouts",
    )

    def __init__(self, backend: Backend, operation: Operation, route: Route, dialect: Dialect) -> None:
        endpoint = backend.deployment.endpoint
        self.backend = backend
        self.meter = backend.meter
        self.identity = backend.identity
        self.id = backend.deployment.id
        self.hash = zlib.crc32(self.id.encode())  # the same in every process
        self.cloud = backend.deployment.cloud
        price = self.price = backend.deployment.price
        self.price_version = price.version if price is not None else ""
        # What the record of a request that it served says of that.
        self.serves: Serves = (self.id, self.cloud, endpoint.id, (Offer(self.id, self.cloud, ACCEPTED),))
        self.operation = operation
        self.route = route
        self.timeouts = endpoint.timeouts
        name = backend.deployment.name
        # As it stands in the body: a JSON string, or a form's text.
        self.model_value = orjson.dumps(name) if operation.body is BodyKind.JSON else name.encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in endpoint.headers.items())
        self.lines = b"host: %b\r\naccept-encoding: identity\r\n%b" % (
            endpoint.base_url.authority.encode(),
            extra.encode("latin-1"),
        )
        self.head = b"POST %b HTTP/1.1\r\n%b" % (route.target, self.lines)
        self._dialect = dialect

    @property
    def pressed(self) -> bool:
        return self.backend.pressed

    def price_nano_usd(self, work: Work) -> int:
        """What this request will cost here, as far as its body tells. For a deployment without a price: 0."""
        price = self.price
        return cost_nano_usd(price, work.prompt_tokens, work.completion_tokens_max, 0) if price is not None else 0

    def cost_nano_usd(self, usage: Usage) -> int:
        """What an answer has cost, by what it reported; 0 where the price is not known."""
        price = self.price
        if price is None:
            return 0
        return cost_nano_usd(price, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)

    def judge(self, status: int, fields: Mapping[bytes, bytes], body: bytes) -> Judgement:
        """What an answer that is no success says, in this endpoint's dialect."""
        return self._dialect.judge(status, fields, body)

    def judge_event(self, error: object) -> Judgement:
        """Likewise for an error inside a stream."""
        return self._dialect.judge_event(error)
