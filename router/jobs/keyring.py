"""The store's keys in one process: read against the configuration in force whenever either of the two changes."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

from router.config.snapshot import Snapshot
from router.config.stored_keys import StoredKeys, Unusable
from router.model.keys import ApiKey, StoredKey

FIRST_S: Final = 3.0
"""How long a start that knows nothing of the store's keys waits for them."""


class KeyRing:
    """Holds what the store was last known to have, whatever becomes of the store.

    A thread reads the keys: thousands of new ones take half a second, and requests go on meanwhile.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        snapshot: Callable[[], Snapshot],
        adopt: Callable[[tuple[ApiKey, ...]], None],
        event: Callable[..., None],
    ) -> None:
        """`snapshot`: the configuration in force; `adopt` takes its stored keys."""
        self._loop, self._snapshot, self._adopt, self.event = loop, snapshot, adopt, event
        self._stored: Sequence[StoredKey] = ()
        self._reader = StoredKeys()
        self._reading = asyncio.Lock()
        self._told: list[Unusable] = []
        self._known = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, stored: Sequence[StoredKey]) -> None:
        """Puts these in force, in place of those before. Returns once they are."""
        self._stored = stored
        await self._read()
        self._known.set()

    def put(self, stored: Sequence[StoredKey]) -> None:
        """As `take`, for who cannot wait."""
        self._keep(self.take(stored))

    def _keep(self, job: Coroutine[None, None, None]) -> None:
        self._tasks.add(task := self._loop.create_task(job))
        task.add_done_callback(self._tasks.discard)

    def refresh(self) -> None:
        """Another configuration is in force, which may have a place for other keys."""
        if self._known.is_set():
            self._keep(self._read())

    async def known(self) -> None:
        """Waits until the keys are known, for a while: a store that is away keeps nobody from serving."""
        try:
            async with asyncio.timeout(FIRST_S):
                await self._known.wait()
        except TimeoutError:
            self.event("stored_keys_unknown")

    async def _read(self) -> None:
        async with self._reading:
            while True:
                stored, snapshot = self._stored, self._snapshot()
                keys = await self._loop.run_in_executor(None, self._reader.read, stored, snapshot)
                if stored is self._stored and snapshot.version == self._snapshot().version:
                    break
            self._adopt(keys)
            self._complain(self._reader.unusable)

    def _complain(self, unusable: list[Unusable]) -> None:
        """Says which keys nobody can use, once each."""
        for each in unusable:
            if each not in self._told:
                self.event("stored_key_unusable", key=each.name, faults=[str(fault) for fault in each.faults])
        self._told = unusable
