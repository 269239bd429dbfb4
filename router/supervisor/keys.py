"""The store's keys, brought to all workers: first their limits are known here, then the workers hear of them."""

import asyncio
from collections.abc import Callable

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
        tell: Callable[[list[StoredKey]], None],
        event: Callable[..., None],
    ) -> None:
        """`adopt` takes them into the configuration in force, which is `snapshot`; `tell` is for the workers."""
        loop = asyncio.get_running_loop()
        self.read: tuple[ApiKey, ...] = ()  # as the configuration in force reads them
        self.book: KeyBook | None = None
        self._adopt, self._tell = adopt, tell
        self._ring = KeyRing(loop, snapshot, self._take, event)
        self._tasks: set[asyncio.Task[None]] = set()
        ledger = snapshot().ledger
        if bookkeeping is not None and ledger is not None:
            self.book = KeyBook(bookkeeping, ledger.folder, event, lambda _: self._tasks.add(self._spreading(loop)))

    @property
    def known(self) -> list[StoredKey] | None:
        """None: nobody has ever heard of any."""
        return self.book.known if self.book is not None else None

    async def spread(self) -> None:
        """Reads them anew, and tells the workers."""
        if self.known is not None:
            await self._ring.take(self.known)
            self._tell(self.known)

    def _spreading(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        task = loop.create_task(self.spread())
        task.add_done_callback(self._tasks.discard)
        return task

    def _take(self, keys: tuple[ApiKey, ...]) -> None:
        self.read = keys
        self._adopt(keys)
