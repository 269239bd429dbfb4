"""A worker's part of the limits: leased of the supervisor in slices, so that a request seldom waits for its answer.

Whoever finds a lease empty asks at once, together with all others of this turn of the loop; each 100 ms what nobody
needed goes back, and what was used beyond is told.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Final

from router.jobs.loops import Surprised, every
from router.limits.lease import TICK_S, Ask, Grant, Lease
from router.limits.terms import Places, Rate, Terms, largest, stock_of
from router.telemetry.reading import Numbers
from router.transport.channel import NO_ANSWER

PATIENCE_S: Final = 0.3
"""Either process may be as busy as that while a large configuration is read: nobody is refused for it."""


class Waiting:
    """A request that waits for what a lease is granted."""

    __slots__ = ("answered", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.answered = False
        self.wake = wake


class Waiters:
    """Who waits for which lease."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Waiting]] = {}

    def add(self, limit_id: str, wake: Callable[[], None]) -> Waiting:
        waiting = Waiting(wake)
        self._waiting.setdefault(limit_id, []).append(waiting)
        return waiting

    def wake(self, limit_id: str) -> None:
        """All who wait for a lease take again at each of its grants, whoever was first."""
        for each in self._waiting.pop(limit_id, ()):
            each.answered = True
            each.wake()


class Leases:
    """Implements `limiting.Supply` for one of several workers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lend: Callable[[Sequence[Ask]], Awaitable[list[Grant]]],
        holders: int,
        patience_s: float,
        surprised: Surprised,
    ) -> None:
        """`lend`: what the supervisor answers; `holders`: how many workers there are.

        `patience_s`: for how long a request waits for that.
        """
        self.patience_s = patience_s
        self._loop, self._lend, self._holders, self._surprised = loop, lend, holders, surprised
        self._leases: dict[str, Lease] = {}
        self._empty: dict[str, Lease] = {}  # found so in this turn of the loop
        self._waiters = Waiters()
        self._asking: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def source(self, limit_id: str, terms: Terms) -> Lease:
        lease = self._leases[limit_id] = Lease(limit_id, 0.0, borrows=isinstance(terms, Places))
        set_terms(lease, terms, stock_of(terms, self._holders))
        return lease

    def adapt(self, limit_id: str, terms: Terms) -> None:
        """What is in stock goes back, since it may be more than there is now."""
        lease = self._leases[limit_id]
        set_terms(lease, terms, stock_of(terms, self._holders))
        lease.surrender()

    def release(self, limit_id: str) -> None:
        """The supervisor has no such limit any more either, so nothing has to go back."""
        del self._leases[limit_id]
        self._waiters.wake(limit_id)

    def ask(self, limit_id: str, wake: Callable[[], None]) -> Waiting:
        if not self._empty:
            self._loop.call_soon(self._ask_for_empty)
        self._empty[limit_id] = self._leases[limit_id]
        return self._waiters.add(limit_id, wake)

    async def recall(self, limit_ids: Sequence[str]) -> None:
        """Another worker is short: gives back what nobody needs here, and returns once the supervisor has it."""
        leases = [self._leases[limit_id] for limit_id in limit_ids if limit_id in self._leases]
        for lease in leases:
            lease.recall()
        now = monotonic()
        asks = [ask for lease in leases if (ask := lease.ask(now)) is not None]
        # A limit may be gone here alone: with the end of a key, which was then given more time.
        asks += [Ask(limit_id, 0.0, 0.0, 0.0) for limit_id in limit_ids if limit_id not in self._leases]
        if asks:
            await self._trip(asks)

    def begin(self, spent: Mapping[str, int]) -> None:
        """Budgets are the supervisor's."""
        raise AssertionError(spent)

    def numbers(self) -> Numbers:
        """The supervisor tells of who is above."""
        return {}

    async def start(self) -> None:
        self._task = self._loop.create_task(every(TICK_S, "leases", self._tick, self._surprised))

    async def stop(self) -> None:
        """What is held comes back to the supervisor with the end of this process."""
        if self._task is not None:
            for task in (self._task, *self._asking):
                task.cancel()
            await asyncio.gather(self._task, *self._asking, return_exceptions=True)

    def _tick(self) -> None:
        self._ask_for(lease for lease in self._leases.values() if not lease.idle)

    def _ask_for_empty(self) -> None:
        empty, self._empty = self._empty, {}
        self._ask_for(empty.values())

    def _ask_for(self, leases: Iterable[Lease]) -> None:
        now = monotonic()
        asks = [ask for lease in leases if (ask := lease.ask(now)) is not None]
        if asks:
            self._asking.add(task := self._loop.create_task(self._trip(asks)))
            task.add_done_callback(self._asking.discard)

    async def _trip(self, asks: Sequence[Ask]) -> None:
        try:
            grants = await self._lend(asks)
        except NO_ANSWER:
            for ask in asks:
                if (lease := self._leases.get(ask.limit)) is not None:
                    lease.unanswered()
            return  # who waits will not wait for long, and asks again
        now = monotonic()
        for grant in grants:
            if (lease := self._leases.get(grant.limit)) is not None:
                lease.grant(grant, now)
                self._waiters.wake(grant.limit)


def set_terms(lease: Lease, terms: Terms, slice_units: float) -> None:
    lease.slice_units = slice_units
    lease.full, lease.largest = terms.full, largest(terms)
    lease.rate_per_s = terms.per_s if isinstance(terms, Rate) else 0.0
