"""The store's keys, brought to all workers: first their limits are known here, then the workers hear of them."""

import asyncio
from collections.abc import Awaitable, Callable

from router.config.snapshot import Snapshot
from router.jobs.bookkeeping import Bookkeeping
from router.jobs.key_book import KeyBook
from router.jobs.keyring import KeyRing
from router.model.keys import ApiKey, StoredKey


class SharedKeys:
    """Without a bookkeeper there are none."""

    def __init__(
        self,
        bookkeeping: Bookkeeping | None,
        snapshot: Callable[[], Snapshot],
        adopt: Callable[[tuple[ApiKey, ...]], None],
        tell: Callable[[list[StoredKey]], Awaitable[None]],
        event: Callable[..., None],
    ) -> None:
        """`adopt` takes them into the configuration in force, which is `snapshot`; `tell` is for the workers."""
        loop = asyncio.get_running_loop()
        self.read: tuple[ApiKey, ...] = ()  # as the configuration in force reads them
        self.book: KeyBook | None = None
        self._adopt, self._tell = adopt, tell
        self._ring = KeyRing(loop, snapshot, self._take, event)
        self._loop, self._spreading = loop, asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = False  # a task for its turn, which will spread what is known by then
        ledger = snapshot().ledger
        if bookkeeping is not None and ledger is not None:
            self.book = KeyBook(bookkeeping, ledger, event, self._changed)

    @property
    def known(self) -> list[StoredKey] | None:
        """None: nobody has ever heard of any."""
        return self.book.known if self.book is not None else None

    async def spread(self) -> None:
        """Reads them anew, and tells the workers: one after the other, and each time the newest."""
        async with self._spreading:
            await self._spread()

    def _changed(self, _: list[StoredKey]) -> None:
        if not self._waiting:
            self._waiting = True
            self._tasks.add(task := self._loop.create_task(self._spread_change()))
            task.add_done_callback(self._tasks.discard)

    async def _spread_change(self) -> None:
        async with self._spreading:
            self._waiting = False
            await self._spread()

    async def _spread(self) -> None:
        if self.known is not None:
            await self._ring.take(self.known)
            await self._tell(self.known)

    def _take(self, keys: tuple[ApiKey, ...]) -> None:
        self.read = keys
        self._adopt(keys)
