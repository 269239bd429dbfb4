"""The store's keys in one process: read against the configuration in force whenever either of the two changes."""

import asyncio
from collections.abc import Callable, Sequence

from router.config.stored_keys import StoredKeys, Unusable
from router.model.keys import StoredKey
from router.proxy.runtime import Runtime


class KeyRing:
    """Holds what the store was last known to have, whatever becomes of the store.

    A thread reads the keys: thousands of new ones take a tenth of a second, and requests go on meanwhile.
    """

    def __init__(self, runtime: Runtime, event: Callable[..., None]) -> None:
        self._runtime, self._event = runtime, event
        self._reader = StoredKeys()
        self._reading = asyncio.Lock()
        self._told: list[Unusable] = []
        self.stored: Sequence[StoredKey] = ()

    async def take(self, stored: Sequence[StoredKey]) -> None:
        """Puts these in force, in place of those before."""
        self.stored = stored
        await self.read()

    async def read(self) -> None:
        """Brings what is in force to what is known by now; after this, an unknown key is nobody's."""
        runtime = self._runtime
        async with self._reading:
            while True:
                stored, snapshot = self.stored, runtime.snapshot
                keys = await runtime.loop.run_in_executor(None, self._reader.read, stored, snapshot)
                if stored is self.stored and snapshot.version == runtime.snapshot.version:
                    break
            runtime.adopt_keys(keys)
            runtime.keys_known = True
            self._complain(self._reader.unusable)

    def _complain(self, unusable: list[Unusable]) -> None:
        """Says which keys nobody can use, once each."""
        for each in unusable:
            if each not in self._told:
                self._event("stored_key_unusable", key=each.name, faults=[str(fault) for fault in each.faults])
        self._told = unusable
