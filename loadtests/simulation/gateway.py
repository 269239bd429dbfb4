"""A router on the fake clock: the real balancing, health, cooldowns, quota twins and retry budget around made-up sends.

It sees what a real one sees: its own requests, and what their answers say.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from loadtests.simulation.cloud import Cloud, Job, Timeline
from loadtests.simulation.trace import Sample
from router.balancing.choice import Balancer
from router.balancing.meter import Meter, tokens_of
from router.balancing.peers import tell_peers
from router.health.cooldown import Cooldown
from router.health.health import Health
from router.health.outliers import sweep
from router.health.settings import HealthSettings
from router.limits.estimate import tokens_of as charged_tokens
from router.limits.quota_twin import QuotaTwin
from router.model.work import Work
from router.resilience.attempts import SENDS_MAX
from router.resilience.retry_budget import RetryBudget
from router.resilience.settings import RetrySettings

_FAILS_AFTER_S: Final = 0.002  # a connect that is refused
_REFUSED_AFTER_S: Final = 0.02  # a 429


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, as balancing and limits see it."""

    prompt_tokens: int
    completion_tokens_max: int
    stream: bool = True
    affinity: int = 0


class View:
    """One deployment, as one router knows it."""

    __slots__ = (
        "cloud",
        "cooldown",
        "hash",
        "health",
        "id",
        "meter",
        "number",
        "pressed",
        "twin",
        "untouched",
        "waits",
    )

    def __init__(self, number: int, cloud: Cloud, settings: HealthSettings, rng: random.Random) -> None:
        self.number, self.id = number, str(number)
        self.hash = rng.getrandbits(64)
        self.cloud = cloud
        self.meter = Meter(float(cloud.slots))
        self.health = Health(settings, rng, fresh=self.meter.forgive)
        self.cooldown = Cooldown()
        self.twin = QuotaTwin(cloud.quota_tokens, None, 0.0)
        self.pressed = False
        self.untouched = True  # nothing was ever sent here, so nothing stands against it
        self.waits: dict[int, float] = {}  # attempts without a first byte, oldest first: when they were sent

    @property
    def first_byte_s(self) -> float:
        return self.meter.first_byte_s(stream=True)

    @property
    def oldest_wait_s(self) -> float:
        return self.cloud.timeline.now - next(iter(self.waits.values())) if self.waits else 0.0

    @property
    def waiting(self) -> int:
        return len(self.waits)

    def may_be_asked(self, tokens: int, now: float) -> bool:
        return (
            now >= self.cooldown.until
            and (self.health.clear or not self.health.refusal(now))
            and not self.twin.wait_s(tokens, now)
        )

    def price_nano_usd(self, work: Work) -> int:  # noqa: ARG002 - as every candidate
        return 0


@dataclass(slots=True, eq=False)
class Trip:
    """A request on its way."""

    ask: Ask
    sample: Sample
    arrived_at: float
    tried: list[View] = field(default_factory=list)


class Books:
    """What happened, as the figures want it."""

    def __init__(self, deployments: int, seconds: int) -> None:
        self.requests = 0
        self.sends = [[0] * seconds for _ in range(deployments)]
        self.in_flight: list[list[int]] = []  # of all deployments, once a second
        self.first_bytes: list[tuple[float, float]] = []  # arrival, seconds to the first byte with all tries
        self.throttled = 0
        self.failed_sends = 0
        self.cut = 0  # failed after their first byte
        self.unserved = 0
        self.retries = 0
        self.ejections = 0


class Gateway:
    """One router. Without `judge` it has no health: it learns only what balancing, cooldowns and quota twins do."""

    def __init__(
        self,
        timeline: Timeline,
        clouds: Sequence[Cloud],
        balancer: Balancer,
        books: Books,
        rng: random.Random,
        *,
        judge: bool = True,
    ) -> None:
        self.timeline, self.books = timeline, books
        self._balancer, self._judge = balancer, judge
        self._settings = HealthSettings() if judge else HealthSettings(consecutive_failures=sys.maxsize)
        self._views = [View(number, cloud, self._settings, rng) for number, cloud in enumerate(clouds)]
        self._retries = RetryBudget(RetrySettings(), timeline.now)

    def serve(self, sample: Sample, ask: Ask) -> None:
        now = self.timeline.now
        self.books.requests += 1
        self._retries.request(now)
        self._try(Trip(ask, sample, now))

    def again(self, trip: Trip) -> None:
        """Another deployment, where attempts and budget allow."""
        if len(trip.tried) < SENDS_MAX and self._retries.spend(self.timeline.now):
            self.books.retries += 1
            self._try(trip)
        else:
            self.books.unserved += 1

    def sweep(self) -> None:
        """What the jobs of a router do several times a second."""
        now = self.timeline.now
        tell_peers(view.meter for view in self._views)
        if self._judge:
            self.books.ejections += len(sweep([self._views], self._settings, now))
            for view in self._views:
                view.meter.ramp = view.health.ramp(now)

    def _try(self, trip: Trip) -> None:
        now, tokens = self.timeline.now, charged_tokens(trip.ask)
        able = [view for view in self._views if view.untouched or view.may_be_asked(tokens, now)]
        if trip.tried:
            able = [view for view in able if view not in trip.tried]
        if not able:
            self.books.unserved += 1
            return
        view = self._balancer.pick(able, trip.ask, now)
        trip.tried.append(view)
        self.books.sends[view.number][int(now)] += 1
        Attempt(self, trip, view).begin(tokens)


class Attempt:
    """One send, from its begin to its end."""

    def __init__(self, gateway: Gateway, trip: Trip, view: View) -> None:
        self._gateway, self._trip, self._view = gateway, trip, view
        self._sent_at = gateway.timeline.now
        self._permit = view.health.begin(self._sent_at)
        self._tokens_left = tokens_of(trip.ask)

    def begin(self, tokens: int) -> None:
        """`tokens`: what the quota is charged."""
        view, timeline, sample = self._view, self._gateway.timeline, self._trip.sample
        view.meter.begin(self._tokens_left)
        view.untouched = False
        view.waits[id(self)] = self._sent_at
        view.twin.charge(tokens, self._sent_at)
        if view.cloud.dead:
            timeline.at(self._sent_at + _FAILS_AFTER_S, self._failed)
        elif wait_s := view.cloud.refused_s(tokens):
            timeline.at(self._sent_at + _REFUSED_AFTER_S, lambda: self._throttled(wait_s))
        else:
            rest_s = sample.total_s - sample.first_byte_s
            view.cloud.take(Job(sample.first_byte_s, rest_s, self._answered, self._ended, self._failed))

    def _answered(self) -> None:
        """The first byte, and with it the head."""
        view, trip, now = self._view, self._trip, self._gateway.timeline.now
        del view.waits[id(self)]
        view.twin.answered(view.cloud.rate_headers(), 200, now)
        view.meter.observe(now - self._sent_at, trip.ask, now)
        view.meter.progress(trip.ask.prompt_tokens)
        self._tokens_left -= trip.ask.prompt_tokens
        self._gateway.books.first_bytes.append((trip.arrived_at, now - trip.arrived_at))

    def _ended(self) -> None:
        now = self._gateway.timeline.now
        self._view.meter.end(self._tokens_left, now)
        self._view.health.succeeded(self._permit, now)

    def _throttled(self, wait_s: float) -> None:
        view, now = self._view, self._gateway.timeline.now
        del view.waits[id(self)]
        view.meter.end(self._tokens_left, now)
        view.health.ignored(self._permit, now)
        view.twin.refused(wait_s, now)
        view.cooldown.start("throttled", wait_s, now)
        self._gateway.books.throttled += 1
        self._gateway.again(self._trip)

    def _failed(self) -> None:
        view, books, now = self._view, self._gateway.books, self._gateway.timeline.now
        view.meter.end(self._tokens_left, now)
        view.meter.failed(now)
        view.health.failed(self._permit, "broken", now)
        if view.waits.pop(id(self), None) is None:
            books.cut += 1
        else:
            books.failed_sends += 1
            self._gateway.again(self._trip)
