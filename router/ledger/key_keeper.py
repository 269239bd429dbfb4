"""The bookkeeper's part in keys: it tells of each change in the store, whoever made it, and makes what it is asked for.

It has a connection of its own to look with, so that no report keeps a revoked key alive.
"""

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from router.base.clock import Clock
from router.ledger.engines import StoreError, database_of, reached
from router.ledger.key_cache import write_cache
from router.ledger.key_table import change_key, read_keys, version
from router.model.keys import KeyAnswer, KeyChange, StoredKey
from router.transport.channel import FailedError

LOOK_EVERY_S: Final = 0.3
LOOK_S: Final = 5.0  # a server that hangs is asked anew
TELL_AGAIN_S: Final = 30.0  # a word to somebody who hangs is lost


class KeyKeeper:
    """`tell` is given all keys, whenever they have changed, and once they are first known."""

    def __init__(
        self,
        url: str,
        folder: str,
        writes: AsyncEngine,
        tell: Callable[[list[StoredKey]], None],
        clock: Clock,
    ) -> None:
        """`url`: of the store; `folder`: of the cache. Raises ValueError for a URL that names no database."""
        self._looks = database_of(url).engine(reads=True)
        self._folder, self._writes, self._tell, self._clock = folder, writes, tell, clock
        self._version = -1  # of `_keys`
        self._keys: list[StoredKey] = []
        self._told_at = -inf
        self._uncached: list[StoredKey] | None = None
        self._looking = asyncio.Lock()
        self.trouble = ""  # why keys are not what the store has, or the cache is not; empty: they are

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await self._look_and_remember()
            await asyncio.sleep(LOOK_EVERY_S)

    async def change(self, change: KeyChange) -> KeyAnswer:
        """Raises LookupError where there is no key to change, FailedError where the store is away."""
        try:
            async with reached(), self._writes.begin() as connection:
                answer = await change_key(connection, change, self._clock.wall())
        except StoreError as error:
            raise FailedError(f"the store of keys cannot be reached ({error})") from None
        await self._look_and_remember()
        return answer

    async def close(self) -> None:
        async with reached():
            await self._looks.dispose()

    async def _look_and_remember(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._look()
        except (StoreError, TimeoutError) as error:
            self.trouble = f"keys: {str(error) or 'no answer'}"
        except OSError as error:
            self.trouble = f"keys: their cache cannot be written ({error.strerror})"
        else:
            self.trouble = ""

    async def _look(self) -> None:
        async with self._looking:
            async with reached(), self._looks.connect() as connection:
                found = await version(connection)
                if found != self._version:
                    self._keys = self._uncached = await read_keys(connection)  # never older than their version
                    self._version, self._told_at = found, -inf
            if monotonic() - self._told_at >= TELL_AGAIN_S:
                self._tell(self._keys)
                self._told_at = monotonic()
            if self._uncached is not None:  # told already: a full disk must not keep a key alive
                await asyncio.get_running_loop().run_in_executor(None, write_cache, self._folder, self._uncached)
                self._uncached = None
