"""The process that has the store: `python -m router.ledger.bookkeeper CHANNEL`, the latter as an open descriptor.

It brings entries from the segments into the database, at low priority, and answers for what has been used. Nothing that
serves requests waits for it or for the database; while either is away, segments are kept.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final

from router.base.clock import Clock, SystemClock
from router.base.heap import map_large
from router.ledger.drain import Drain
from router.ledger.key_keeper import KeyKeeper
from router.ledger.reports import cost_since, key_usage
from router.ledger.state import LedgerState, Order
from router.ledger.store import PRUNED_AT_ONCE, Store, StoreError
from router.model.fleet import Price
from router.model.keys import KeyAnswer, KeyChange
from router.model.stored import Home, HomePage, OwnHomes
from router.transport.channel import NO_ANSWER, Channel, FailedError, Verb

ORDER_S: Final = 10.0
LOOK_EVERY_S: Final = 0.25
RETRY_S: Final = 1.0
TELL_EVERY_S: Final = 1.0
RECKON_EVERY_S: Final = 5.0
PRUNE_EVERY_S: Final = 600.0
SILENT_S: Final = 5.0  # without an answer of the store
END_S: Final = 1.0  # to take its leave of the store; what it was writing is rolled back otherwise
NICE: Final = 10  # beside a process that serves requests, and has all it can use, about a tenth of a core
MADE_S: Final = 5.0  # for the tables of a store that is new, before something is looked for or put into one
PASSES_S: Final = 3.0  # to read what was written before a question came
_FULL_PASS: Final = 1000  # requests in one pass, after which there may be as many again
OTHERS_S: Final = 1.0  # for other routers' bookkeepers to store what they told their clients a moment ago
OTHERS_EVERY_S: Final = 0.25
_DAY_S: Final = 86_400


class Bookkeeper:
    """`tell` and `event` are for whoever started it."""

    def __init__(
        self, order: Order, tell: Callable[..., None], event: Callable[..., None], clock: Clock | None = None
    ) -> None:
        """Raises ValueError for a store that it does not know."""
        self.event = event
        self.store = Store(order.url)
        self._order, self._word, self._clock = order, tell, clock or SystemClock()
        self._keys = KeyKeeper(order.url, order.folder, self.store.writes, partial(tell, "keys"), self._clock)
        self._drain: Drain | None = None
        self._migrated = self._away = False
        self._trouble = "the store has not been reached yet"
        self._prunes_at = self._reckons_at = 0.0
        self._today_nano_usd = 0
        self._passed = asyncio.Event()  # of the pass that runs
        self._wanted = asyncio.Event()  # somebody waits for the next pass
        self._shared = not order.url.startswith("sqlite")  # other routers may write to the store
        self._prices: list[Price] = []

    def verbs(self) -> dict[str, Verb]:
        """What may be asked of it. Those that need the store raise FailedError while it is away."""
        return {
            "spent": self._spent,
            "usage": self._usage,
            "change_key": self._change_key,
            "prices": self._take_prices,
            "find_homes": self._find_homes,
            "own_homes": self._own_homes,
            "finish": self._finish,
        }

    async def run(self) -> None:
        """Keeps the books until it is cancelled."""
        jobs = [asyncio.create_task(job()) for job in (self._keep, self._report, self._keys.run)]
        try:
            await asyncio.gather(*jobs)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            if self._drain is not None:
                self._drain.close()
            with suppress(StoreError):
                await self._keys.close()
                await self.store.close()

    def state(self) -> LedgerState:
        drain, trouble = self._drain, self._trouble
        if drain is None:
            return LedgerState(trouble=trouble)
        silent_s = monotonic() - drain.moved_at
        if not trouble and silent_s > SILENT_S:
            trouble = f"the store has not answered for {silent_s:.0f} s"
        try:
            waiting_bytes = drain.waiting_bytes()
        except OSError as error:
            waiting_bytes, trouble = 0, str(error)
        return LedgerState(
            up=not trouble,
            trouble=trouble or self._keys.trouble,
            stored=drain.stored,
            lag_s=drain.lag_s,
            waiting_bytes=waiting_bytes,
            damaged=drain.damaged,
            today_nano_usd=self._today_nano_usd,
        )

    async def _report(self) -> None:
        while True:
            self._word("state", self.state())
            await asyncio.sleep(TELL_EVERY_S)

    async def _keep(self) -> None:
        while True:
            try:
                wait_s = await self._pass()
            except (StoreError, OSError) as error:
                wait_s = RETRY_S
                self._say(str(error))
            else:
                self._say("")
            passed, self._passed = self._passed, asyncio.Event()
            passed.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wanted.wait()
            self._wanted.clear()

    async def _pass(self) -> float:
        """Does what there is to do; returns how long to rest. Raises StoreError, OSError."""
        if self._drain is None:
            self._drain = Drain(Path(self._order.folder), self.store, self.event)
        if not self._migrated:
            if steps := await self.store.migrate():
                self.event("ledger_migrated", steps=steps)
            self._migrated = True
        if prices := self._prices:
            await self.store.price(prices, self._clock.wall())
            if self._prices is prices:  # else others came meanwhile
                self._prices = []
        stored = await self._drain.run_once()
        if monotonic() >= self._reckons_at:
            wall = self._clock.wall()
            self._today_nano_usd = await cost_since(self.store, wall - wall % _DAY_S)
            self._reckons_at = monotonic() + RECKON_EVERY_S
        if monotonic() >= self._prunes_at:  # in between, and also where there is never a moment's rest
            pruned = await self.store.prune(self._clock.wall() - self._order.retain_days * _DAY_S)
            if pruned < PRUNED_AT_ONCE:
                self._prunes_at = monotonic() + PRUNE_EVERY_S
        return 0.0 if stored > _FULL_PASS else LOOK_EVERY_S

    def _say(self, trouble: str) -> None:
        self._trouble = trouble
        if bool(trouble) == self._away:
            return
        self._away = bool(trouble)
        if trouble:
            self.event("ledger_store_away", reason=trouble)
        else:
            self.event("ledger_store_back")

    async def _spent(self, at: float) -> dict[str, int]:
        """See `Store.spent`. What was written before the question is in the answer, unless that is more than can be
        stored in a moment.
        """
        await self._catch_up()
        try:
            return await self.store.spent(at)
        except StoreError as error:
            raise FailedError(str(error)) from None

    async def _usage(self, key: str, since: float, until: float, bucket: str) -> dict[str, object]:
        """See `reports.key_usage`."""
        try:
            return await key_usage(self.store, key, since, until, bucket)
        except StoreError as error:
            raise FailedError(str(error)) from None

    async def _find_homes(self, key: str, ids: list[str]) -> list[Home]:
        """See `Store.find_homes`. What any worker was told before the question is found; and, where other routers
        write to the same store, what they were told a moment before.
        """
        wanted = len(set(ids))
        await self._made()
        try:
            found = await self.store.find_homes(key, ids)
            if len(found) < wanted:
                if not await self._catch_up():
                    raise FailedError(self._trouble)  # they may be in what is not stored yet
                found = await self.store.find_homes(key, ids)
            until = monotonic() + (OTHERS_S if self._shared else 0.0)
            while len(found) < wanted and monotonic() < until:
                await asyncio.sleep(OTHERS_EVERY_S)
                found = await self.store.find_homes(key, ids)
        except StoreError as error:
            raise FailedError(str(error)) from None
        return found

    async def _own_homes(self, asked: OwnHomes) -> HomePage:
        """See `Store.own_homes`. What any worker was told before the question is in it."""
        await self._made()
        if not await self._catch_up():
            raise FailedError(self._trouble)
        try:
            return await self.store.own_homes(asked)
        except StoreError as error:
            raise FailedError(str(error)) from None

    async def _change_key(self, change: KeyChange) -> KeyAnswer:
        await self._made()
        return await self._keys.change(change)

    async def _made(self) -> None:
        """Waits a while for the tables of a store that is new."""
        with suppress(TimeoutError):  # then whoever asks says itself what keeps it from them
            async with asyncio.timeout(MADE_S):
                while not self._migrated:
                    await self._passed.wait()

    async def _take_prices(self, prices: list[Price]) -> None:
        self._prices = prices

    async def _finish(self) -> None:
        """Returns once all that was written is stored, or cannot be in a moment."""
        await self._catch_up()

    async def _catch_up(self) -> bool:
        """Waits for the end of a pass that has not begun yet; False where the store is away, or that takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PASSES_S):
                for _ in range(2):
                    if self._away:
                        return False
                    self._wanted.set()
                    await self._passed.wait()
                return not self._away
        return False


async def keep(line: socket.socket) -> None:
    """Serves whoever holds the other end, until it is gone."""
    channel = Channel()
    await asyncio.get_running_loop().create_connection(lambda: channel, sock=line)
    try:
        order = await channel.call(Order, ORDER_S, "order")
    except NO_ANSWER:
        return

    def event(event: str, /, **fields: Any) -> None:
        channel.tell("event", event, fields)

    bookkeeper = Bookkeeper(order, channel.tell, event)
    channel.serve(bookkeeper.verbs())
    job = asyncio.create_task(bookkeeper.run())
    gone = asyncio.create_task(channel.closed.wait())
    await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
    # A database that hangs would hold it, and with it the folder that whoever comes next wants to drain; so does a
    # connection to a file that is given up while it is made, for ever. A thread, since the loop may be over by then.
    last = threading.Timer(END_S, os._exit, (0,))
    last.daemon = True
    last.start()
    job.cancel()
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await job


def main() -> None:
    # A terminal signals all: this ends with the process that started it, and not before that has said so.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o027)  # what it makes is its owner's and group's, as segments are
    os.nice(NICE)
    map_large()  # what it reads at once, again and again
    asyncio.run(keep(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
