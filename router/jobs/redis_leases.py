"""Keeps a router's leases supplied from Redis, off the path of every request, and by a stand-in while Redis is away.

A trip is made when somebody waits for it, and each 100 ms where a lease has something to say; for long there are never
more than ten a second, whatever the load. So a router costs Redis 10 trips a second at most, and a request none.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic, time
from typing import Final

from router.jobs.leases import Waiters, Waiting, set_terms
from router.jobs.loops import Surprised, every
from router.leasing.redis_pots import ASKS_MAX, Lost, RedisPots, SettlingError
from router.leasing.settings import RedisSettings
from router.leasing.shares import Shares
from router.limits.bucket import Bucket
from router.limits.lease import TICK_S, Ask, Grant, Lease, slice_of
from router.limits.source import SLACK
from router.limits.terms import Money, Places, Terms
from router.telemetry import names
from router.telemetry.reading import Numbers

PATIENCE_S: Final = 0.3  # a Redis that hangs is given up before, and who waits is served by the stand-in
TRIPS_PER_S: Final = 10.0  # for long; as many may follow each other at once
HEARTBEAT_S: Final = 1.0  # a router that has nothing to ask still lives
REFRESH_S: Final = 30.0  # places that long streams hold are told again, so that Redis may forget what nobody uses
RETRY_S: Final = 0.2
LONG_S: Final = 1.0  # without Redis: then others are without it too, and not only this router was slow
START_S: Final = 1.0  # that a start waits for Redis
BUDGET_SLICE: Final = 0.005  # of a budget may lie unspent at all routers together: a killed one's part is lost to it


class RedisLeases:
    """Where a router's shared limits come from. A process without workers takes from the leases themselves."""

    patience_s = PATIENCE_S

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: RedisSettings,
        event: Callable[..., None],
        surprised: Surprised,
    ) -> None:
        self.up = False
        self.losses = 0  # times that Redis was lost
        self.pots = RedisPots(settings)
        self.event, self._settings = event, settings
        self._loop, self._surprised = loop, surprised
        self._shares = Shares(settings.on_loss, self.pots.accounts, settings.routers)
        self._leases: dict[str, Lease] = {}
        self._parting: list[Ask] = []  # of limits that are no more
        self._pace = Bucket(TRIPS_PER_S, TRIPS_PER_S)
        self._wanted = asyncio.Event()
        self._waiters = Waiters()
        self._spoke_at = 0.0
        self._lost_at: float | None = None  # None: it is there, or was not missed yet
        self._routers = settings.routers  # by whom slices are cut
        self._tasks: list[asyncio.Task[None]] = []

    # Where sources come from.

    def source(self, limit_id: str, terms: Terms) -> Lease:
        """The lease of a limit: empty at first, and filled as it is needed."""
        self.pots.add(limit_id, terms)
        lease = self._leases[limit_id] = Lease(limit_id, 0.0, borrows=isinstance(terms, Places))
        set_terms(lease, terms, _slice(terms, self._routers))
        return lease

    def adapt(self, limit_id: str, terms: Terms) -> None:
        """Other figures for a limit that is in use. Redis hears of them with the next ask."""
        self.pots.add(limit_id, terms)
        lease = self._leases[limit_id]
        set_terms(lease, terms, _slice(terms, self._routers))
        lease.surrender()  # what is in stock may be more than there is now

    def release(self, limit_id: str) -> None:
        """There is no such limit any more: what is left of it here goes back."""
        lease = self._leases.pop(limit_id)
        self._waiters.wake(limit_id)
        self._parting.append(Ask(limit_id, 0.0, lease.draw(lease.full, monotonic()), 0.0))

    def ask(self, limit_id: str, wake: Callable[[], None]) -> Waiting:
        """Somebody waits, whose `take` noted what he needs: asks soon, and wakes him with the answer."""
        self._wanted.set()
        return self._waiters.add(limit_id, wake)

    async def fetch(self, limit_ids: Collection[str]) -> None:
        """Returns once each of these leases has been answered; each has noted what it needs."""
        answered = asyncio.Event()
        asked = [self.ask(limit_id, answered.set) for limit_id in limit_ids]
        while not all(each.answered for each in asked):
            answered.clear()
            await answered.wait()

    # Its life.

    def begin(self, spent: Mapping[str, int]) -> None:
        """What the ledger knows to be spent of budgets: Redis may know less, where it was emptied."""
        self.pots.begin(spent, time())

    async def start(self) -> None:
        """Returns when Redis has answered, or has not in time: then it goes on without."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._look()
        self._tasks = [
            self._loop.create_task(every(0.0, "redis_leases", self._round, self._surprised)),
            self._loop.create_task(every(RETRY_S, "redis_look", self._look, self._surprised)),
        ]

    async def stop(self) -> None:
        """Gives everything back, and ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.pots.close()  # a trip may have been cut off half-way
        for limit_id in tuple(self._leases):
            self.release(limit_id)
        try:
            if self.up:
                await self._each_part(self._parting)
                await self.pots.leave()
        except Lost:
            pass  # it will be missed in some seconds
        await self.pots.close()

    def numbers(self) -> Numbers:
        """For metrics."""
        pots = self.pots
        return {
            names.REDIS_UP.name: {(): int(self.up)},
            names.REDIS_ROUTERS.name: {(): pots.routers},
            names.REDIS_LOSSES.name: {(): self.losses},
            names.REDIS_TRIPS.name: {("answered",): pots.trips - pots.failures, ("failed",): pots.failures},
            names.REDIS_TRIP_SECONDS.name: {(): pots.last_s},
        }

    # A round.

    async def _round(self) -> None:
        """Waits until there may be something to ask, and sees to it that it is answered."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await self._wanted.wait()
        if self.up and (lacks := 1.0 - self._pace.left(monotonic())) > SLACK:
            await asyncio.sleep(lacks / TRIPS_PER_S)
        self._wanted.clear()
        await self._tell_overdue()
        now = monotonic()
        leases = [lease for lease in self._leases.values() if not lease.idle]
        asks = [ask for lease in leases if (ask := lease.ask(now)) is not None]
        try:
            self._hand_out(asks, await self._each_part(asks))
        except BaseException:
            for ask in asks:  # or nobody would ask for them ever again
                if (lease := self._leases.get(ask.limit)) is not None:
                    lease.unanswered()
            raise
        self._cut_slices()

    async def _each_part(self, asks: Sequence[Ask]) -> list[Grant]:
        """The answers of whoever is there to give them."""
        grants: list[Grant] = []
        for start in range(0, len(asks), ASKS_MAX):
            part = asks[start : start + ASKS_MAX]
            grants += await self._trip(part) or self._shares.answer(part, now := monotonic(), self.pots.wall_s(now))
        return grants

    async def _trip(self, asks: Sequence[Ask]) -> list[Grant] | None:
        """Redis' answers; None where it is not there, or is no more."""
        if not self.up:
            return None
        self._spoke_at = monotonic()
        self._pace.draw(1.0, self._spoke_at)
        try:
            return await self.pots.answer(asks)
        except Lost as error:
            self._lose(str(error))
            return None

    async def _tell_overdue(self) -> None:
        """What Redis should hear though no lease asks: debts, farewells, what is held for long, that we live."""
        now, accounts = monotonic(), self.pots.accounts
        if not self.up:
            return
        parting = tuple(self._parting)
        asks = [
            Ask(limit, 0.0, 0.0, account.held)
            for limit, account in accounts.items()
            if account.owed
            or account.distrusts
            or account.untold
            or (account.held and isinstance(account.terms, Places) and now >= account.told_at + REFRESH_S)
        ]
        asks += parting
        if not asks and now < self._spoke_at + HEARTBEAT_S:
            return
        for start in range(0, max(1, len(asks)), ASKS_MAX):
            if await self._trip(asks[start : start + ASKS_MAX]) is None:
                return  # told again when it is back
        for ask in parting:
            self._parting.remove(ask)
            if ask.limit not in self._leases:
                accounts.pop(ask.limit, None)

    def _hand_out(self, asks: Sequence[Ask], grants: Sequence[Grant]) -> None:
        now = monotonic()
        paced_s = max(0.0, 1.0 - self._pace.left(now)) / TRIPS_PER_S if self.up else 0.0
        for ask, grant in zip(asks, grants, strict=True):
            lease = self._leases.get(grant.limit)
            if lease is None:
                continue  # of a limit that went meanwhile
            if grant.units < ask.wanted and grant.wait_s < paced_s:  # sooner nobody can be asked
                grant = Grant(grant.limit, grant.units, paced_s, grant.left, grant.reset_s)
            lease.grant(grant, now)
            self._waiters.wake(grant.limit)

    def _cut_slices(self) -> None:
        """A router more or less: each may have less or more in stock."""
        if self.pots.routers != self._routers:
            self._routers = self.pots.routers
            for limit, lease in self._leases.items():
                lease.slice_units = _slice(self.pots.accounts[limit].terms, self._routers)

    # Redis comes and goes.

    async def _look(self) -> None:
        """Looks for Redis while it is away, and tells it first what is held here."""
        if self.up:
            return
        try:
            await self.pots.report()
        except SettlingError:
            if self.pots.routers != self._shares.routers:
                self._shares.owe(monotonic(), long=True)
                self._shares.begin(self.pots.routers)
            return
        except Lost as error:
            self._say_lost(str(error))
            return
        now = monotonic()
        self._shares.owe(now, long=now > self._spoke_at + LONG_S)
        self.up = True
        if self._lost_at is not None:
            self.event("redis_back", lost_s=round(monotonic() - self._lost_at, 1))
            self._lost_at = None

    def _lose(self, why: str) -> None:
        self.up = False
        self._shares.begin(self.pots.routers)
        self._say_lost(why)

    def _say_lost(self, why: str) -> None:
        """Once each time."""
        if self._lost_at is None:
            self._lost_at = monotonic()
            self.losses += 1
            self.event("redis_lost", reason=why, on_loss=self._settings.on_loss, routers=self.pots.routers)


def _slice(terms: Terms, routers: int) -> float:
    """What a router may have in stock."""
    return terms.limit * BUDGET_SLICE / routers if isinstance(terms, Money) else slice_of(terms.full, routers)
