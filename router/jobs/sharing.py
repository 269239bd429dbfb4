"""What workers beside each other tell one another: who must be left alone for a while, and what was spent of quotas.

Every 150 ms each tells what is new here, and takes over what the others told. So a 429 that one worker saw stops all of
them, each twin counts what all of them send, and a short minute is divided among the keys of all. In between they may
together send too much, by what they send in that time; answers correct the twins in any case. What cannot be told of so
fast (connections, requests at one time) is divided among the workers when the configuration is read.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from router.health.cooldown import Cooldown
from router.jobs.loops import Surprised, every
from router.limits.minute_shares import News
from router.limits.quota_twin import QuotaTwin
from router.proxy.backend import Backend, Quota
from router.proxy.fleet import Fleet

SHARE_EVERY_S: Final = 0.15
# A cooldown that ends so soon, or that differs so little from the one known, would be over before it was told.
_NOT_WORTH_S: Final = 0.1
_SAME_S: Final = 0.001


class Cooling(msgspec.Struct, frozen=True, array_like=True):
    """A cooldown that runs. `until`: monotonic seconds, which are the same for all processes of a machine."""

    deployment: str
    of_quota: bool  # of the quota that this deployment draws on
    reason: str
    until: float


class Spent(msgspec.Struct, frozen=True, array_like=True):
    """What was charged to the quota that this deployment draws on; less than nothing where more was taken back."""

    deployment: str
    tokens: int
    requests: int


class Divided(msgspec.Struct, frozen=True, array_like=True):
    """Of the quota that this deployment draws on: which keys used how much of its minute, or were turned away."""

    deployment: str
    news: list[News]


class Changes(msgspec.Struct, frozen=True, array_like=True):
    """What is new at one worker."""

    cooling: list[Cooling]
    spent: list[Spent]
    divided: list[Divided] = []


class Sharing:
    """One worker's part. Keeps what the others know, so that nothing is told twice, or back to whom it came from."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fleet: Fleet, tell: Callable[[Changes], None], surprised: Surprised
    ) -> None:
        self._loop, self._fleet, self._tell, self._surprised = loop, fleet, tell, surprised
        self._seen: Mapping[str, Backend] = {}
        self._cooldowns: list[tuple[str, bool, Cooldown]] = []
        self._twins: list[tuple[str, QuotaTwin]] = []
        self._divisible: list[tuple[str, Quota]] = []
        self._known: dict[Cooldown, float] = {}  # until when, as the others know it
        self._told: dict[QuotaTwin, tuple[int, int]] = {}  # of what was ever charged: tokens and requests
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        job = every(SHARE_EVERY_S, "sharing", lambda: self.share(self._loop.time()), self._surprised)
        self._task = self._loop.create_task(job)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def share(self, now: float) -> None:
        """Tells what is new since the last time."""
        self._look()
        worth = now + _NOT_WORTH_S
        cooling = []
        for deployment, of_quota, cooldown in self._cooldowns:
            until = cooldown.until
            if until > worth and until > self._known.get(cooldown, 0.0) + _SAME_S:
                cooling.append(Cooling(deployment, of_quota, cooldown.reason, until))
                self._known[cooldown] = until
        spent = []
        for deployment, twin in self._twins:
            charged, told = twin.charged, self._told[twin]
            if charged != told:
                spent.append(Spent(deployment, charged[0] - told[0], charged[1] - told[1]))
                self._told[twin] = charged
        divided = [
            Divided(deployment, news)
            for deployment, quota in self._divisible
            if quota.shares is not None and (news := quota.shares.news())
        ]
        if cooling or spent or divided:
            self._tell(Changes(cooling, spent, divided))

    def apply(self, changes: Changes) -> None:
        """Takes over what another worker told. Of a deployment that is not here (any more) nothing is known."""
        self._look()
        now = self._loop.time()
        backends = self._fleet.backends
        for cooling in changes.cooling:
            backend = backends.get(cooling.deployment)
            if backend is not None and cooling.until > now:
                cooldown = backend.quota.cooldown if cooling.of_quota else backend.cooldown
                cooldown.start(cooling.reason, cooling.until - now, now)
                # Later where the end was so near that `start` moved it: that is nothing to tell back.
                self._known[cooldown] = max(self._known.get(cooldown, 0.0), cooling.until)
        for spent in changes.spent:
            backend = backends.get(spent.deployment)
            twin = backend.quota.twin if backend is not None else None
            if twin is not None:
                twin.charge_elsewhere(spent.tokens, spent.requests, now)
                tokens, requests = self._told[twin]
                self._told[twin] = tokens + spent.tokens, requests
        for divided in changes.divided:
            backend = backends.get(divided.deployment)
            if backend is not None and backend.quota.twin is not None:
                backend.quota.learn(divided.news, now)
        if changes.cooling:
            self._fleet.standing.changed()

    def picture(self) -> Changes:
        """All that a worker which has just started should know: it must not begin with a minute's quota of its own."""
        self._look()
        now = self._loop.time()
        cooling = [
            Cooling(deployment, of_quota, cooldown.reason, cooldown.until)
            for deployment, of_quota, cooldown in self._cooldowns
            if cooldown.until > now + _NOT_WORTH_S
        ]
        spent = [
            Spent(deployment, max(0, int(limit - twin.tokens_left(now))), 0)
            for deployment, twin in self._twins
            if (limit := twin.limit_tokens) is not None
        ]
        return Changes(cooling, spent)

    def _look(self) -> None:
        """Lists what there is to share, once for each configuration; what is known of what stays is kept."""
        backends = self._fleet.backends
        if backends is self._seen:
            return
        self._seen = backends
        # A quota by the first deployment that draws on it: the same in every worker, since all read the same file.
        quotas: dict[Quota, str] = {}
        for name, backend in backends.items():
            quotas.setdefault(backend.quota, name)
        self._cooldowns = [(name, False, backend.cooldown) for name, backend in backends.items()]
        self._cooldowns += [(name, True, quota.cooldown) for quota, name in quotas.items()]
        self._divisible = [(name, quota) for quota, name in quotas.items() if quota.twin is not None]
        self._twins = [(name, quota.twin) for quota, name in quotas.items() if quota.twin is not None]
        self._known = {each: self._known.get(each, 0.0) for _, _, each in self._cooldowns}
        self._told = {twin: self._told.get(twin, (0, 0)) for _, twin in self._twins}
