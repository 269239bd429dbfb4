"""What workers beside each other tell one another: which deployments are out or must be left alone, and what was spent.

Every 40 ms each tells what is new here, and takes over what the others told. So what one worker found out stops all of
them, each twin counts what all of them send, and a short minute is divided among the keys of all. In between they may
together send too much, by what they send in that time; answers correct the twins in any case. What cannot be told of so
fast (connections, requests at one time) is divided among the workers when the configuration is read.

Who starts begins with a picture of all that another one knows.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from router.health.cooldown import Cooldown
from router.health.health import COMPARED, Health
from router.health.outliers import spares_one
from router.health.word import Word
from router.jobs.loops import Surprised, every
from router.limits.minute_shares import News
from router.limits.quota_twin import Belief, QuotaTwin
from router.proxy.backend import Backend, Quota
from router.proxy.fleet import Fleet
from router.telemetry.names import NEWS_AGE, NEWS_BOUNDS_S
from router.telemetry.reading import Buckets, Reading

SHARE_EVERY_S: Final = 0.04
ENTRIES_MAX: Final = 512  # of one message: the loop that reads it stands still for a millisecond
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


class Ailing(msgspec.Struct, frozen=True, array_like=True):
    """The last word on a deployment's health."""

    deployment: str
    word: Word


class Changes(msgspec.Struct, frozen=True, array_like=True):
    """What is new at one worker. `since`: monotonic seconds, before which none of it happened."""

    since: float
    cooling: Sequence[Cooling] = ()
    spent: Sequence[Spent] = ()
    divided: Sequence[Divided] = ()
    ailing: Sequence[Ailing] = ()


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What a worker has learned of the quota that this deployment draws on."""

    deployment: str
    belief: Belief


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """A deployment's first bytes: when the last came, the average and the peak; of streams and of whole answers."""

    deployment: str
    stream: tuple[float, float, float]
    whole: tuple[float, float, float]


class Picture(msgspec.Struct, frozen=True, array_like=True):
    """All that a worker which has just started should know: it must not begin with a minute's quota of its own."""

    changes: Changes
    known: list[Known]
    seen: list[Seen]


class Sharing:
    """One worker's part. Keeps what the others know, so that nothing is told twice, or back to whom it came from."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fleet: Fleet, tell: Callable[[Changes], None], surprised: Surprised
    ) -> None:
        self._loop, self._fleet, self._tell, self._surprised = loop, fleet, tell, surprised
        self._seen: Mapping[str, Backend] = {}
        self._epoch = -1  # of the fleet's standing, at the last look: while it stands, so do cooldowns and health
        self._since = loop.time()  # of the last look
        self._cooldowns: list[tuple[str, bool, Cooldown]] = []
        self._healths: list[tuple[str, Health]] = []
        self._twins: list[tuple[str, QuotaTwin]] = []
        self._divisible: list[tuple[str, Quota]] = []
        self._tiers: dict[str, list[list[Health]]] | None = None  # that a deployment is in; made when first needed
        self._known: dict[Cooldown, float] = {}  # until when, as the others know it
        self._words: dict[Health, Word | None] = {}  # likewise
        self._told: dict[QuotaTwin, tuple[int, int]] = {}  # of what was ever charged: tokens and requests
        self._ages = [0] * (len(NEWS_BOUNDS_S) + 1)
        self._ages_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        job = every(SHARE_EVERY_S, "sharing", lambda: self.share(self._loop.time()), self._surprised)
        self._task = self._loop.create_task(job)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def share(self, now: float) -> None:
        """Tells what is new since the last time, in messages of a bounded size."""
        self._look()
        since, self._since = self._since, now
        cooling: list[Cooling] = []
        ailing: list[Ailing] = []
        if self._epoch != self._fleet.standing.epoch:
            self._epoch = self._fleet.standing.epoch
            cooling, ailing = self._new_cooldowns(now), self._new_words()
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
        for first in range(0, max(len(cooling), len(spent), len(divided), len(ailing)), ENTRIES_MAX):
            part = slice(first, first + ENTRIES_MAX)
            self._tell(Changes(since, cooling[part], spent[part], divided[part], ailing[part]))

    def apply(self, changes: Changes) -> None:
        """Takes over what another worker told. Of a deployment that is not here (any more) nothing is known."""
        self._take(changes)
        age_s = max(0.0, self._loop.time() - changes.since)
        self._ages[bisect_left(NEWS_BOUNDS_S, age_s)] += 1
        self._ages_s += age_s

    def picture(self) -> Picture:
        """For a worker that has just started."""
        self._look()
        now = self._loop.time()
        cooling = [
            Cooling(deployment, of_quota, cooldown.reason, cooldown.until)
            for deployment, of_quota, cooldown in self._cooldowns
            if cooldown.until > now + _NOT_WORTH_S
        ]
        ailing = [
            Ailing(deployment, health.word)
            for deployment, health in self._healths
            if health.word is not None and not health.clear
        ]
        known = [Known(deployment, twin.belief(now)) for deployment, twin in self._twins]
        seen = [
            Seen(name, *((first.at, first.mean_s, first.peak_s) for first in (meter.stream, meter.whole)))
            for name, meter in ((name, backend.meter) for name, backend in self._seen.items())
            if meter.stream.peak_s or meter.whole.peak_s
        ]
        return Picture(Changes(now, cooling, ailing=ailing), known, seen)

    def begin_with(self, picture: Picture) -> None:
        """What another one knew, before anything has been seen or sent here."""
        self._take(picture.changes)
        backends, now = self._fleet.backends, self._loop.time()
        for known in picture.known:
            backend = backends.get(known.deployment)
            if backend is not None and backend.quota.twin is not None:
                backend.quota.twin.believe(known.belief, now)
        for seen in picture.seen:
            if (backend := backends.get(seen.deployment)) is not None:
                backend.meter.stream.take(*seen.stream)
                backend.meter.whole.take(*seen.whole)

    def reading(self) -> Reading:
        """How old what others told was when it was in force here, at the most."""
        return Reading({}, {NEWS_AGE.name: {(): Buckets(list(self._ages), self._ages_s)}})

    def _take(self, changes: Changes) -> None:
        self._look()
        now = self._loop.time()
        for cooling in changes.cooling:
            self._cool(cooling, now)
        for spent in changes.spent:
            self._spend(spent, now)
        for divided in changes.divided:
            backend = self._fleet.backends.get(divided.deployment)
            if backend is not None and backend.quota.twin is not None:
                backend.quota.learn(divided.news, now)
        for ailing in changes.ailing:
            self._hear(ailing, now)
        if changes.cooling or changes.ailing:
            self._fleet.standing.changed()

    def _cool(self, cooling: Cooling, now: float) -> None:
        backend = self._fleet.backends.get(cooling.deployment)
        if backend is not None and cooling.until > now:
            cooldown = backend.quota.cooldown if cooling.of_quota else backend.cooldown
            cooldown.start(cooling.reason, cooling.until - now, now)
            # Later where the end was so near that `start` moved it: that is nothing to tell back.
            self._known[cooldown] = max(self._known.get(cooldown, 0.0), cooling.until)

    def _spend(self, spent: Spent, now: float) -> None:
        backend = self._fleet.backends.get(spent.deployment)
        twin = backend.quota.twin if backend is not None else None
        if twin is not None:
            twin.charge_elsewhere(spent.tokens, spent.requests, now)
            tokens, requests = self._told[twin]
            self._told[twin] = tokens + spent.tokens, requests

    def _hear(self, ailing: Ailing, now: float) -> None:
        backend = self._fleet.backends.get(ailing.deployment)
        if backend is None:
            return
        health, word = backend.health, ailing.word
        # Two workers may each take another one out at the same moment: never the last of a tier.
        if word.out and word.cause in COMPARED and not health.out and not self._spared(ailing.deployment):
            return
        health.hear(word, now)
        if health.word is word:
            self._words[health] = word

    def _spared(self, deployment: str) -> bool:
        tiers = self._tiers
        if tiers is None:
            tiers = self._tiers = {}
            for plan in self._fleet.plans.values():
                for tier in plan.tiers:
                    healths = [target.backend.health for target in tier.targets]
                    if len(healths) > 1:
                        for target in tier.targets:
                            tiers.setdefault(target.id, []).append(healths)
        return all(spares_one(members, members[0].settings) for members in tiers.get(deployment, ()))

    def _new_cooldowns(self, now: float) -> list[Cooling]:
        worth, found = now + _NOT_WORTH_S, []
        for deployment, of_quota, cooldown in self._cooldowns:
            until = cooldown.until
            if until > worth and until > self._known[cooldown] + _SAME_S:
                found.append(Cooling(deployment, of_quota, cooldown.reason, until))
                self._known[cooldown] = until
        return found

    def _new_words(self) -> list[Ailing]:
        found = []
        for deployment, health in self._healths:
            word = health.word
            if word is not self._words[health]:
                self._words[health] = word
                if word is not None:
                    found.append(Ailing(deployment, word))
        return found

    def _look(self) -> None:
        """Lists what there is to share, once for each configuration; what is known of what stays is kept."""
        backends = self._fleet.backends
        if backends is self._seen:
            return
        self._seen, self._epoch, self._tiers = backends, -1, None
        # A quota by the first deployment that draws on it: the same in every worker, since all read the same file.
        quotas: dict[Quota, str] = {}
        for name, backend in backends.items():
            quotas.setdefault(backend.quota, name)
        self._cooldowns = [(name, False, backend.cooldown) for name, backend in backends.items()]
        self._cooldowns += [(name, True, quota.cooldown) for quota, name in quotas.items()]
        self._healths = [(name, backend.health) for name, backend in backends.items()]
        self._divisible = [(name, quota) for quota, name in quotas.items() if quota.twin is not None]
        self._twins = [(name, quota.twin) for quota, name in quotas.items() if quota.twin is not None]
        self._known = {each: self._known.get(each, 0.0) for _, _, each in self._cooldowns}
        self._words = {each: self._words.get(each) for _, each in self._healths}
        self._told = {twin: self._told.get(twin, (0, 0)) for _, twin in self._twins}
