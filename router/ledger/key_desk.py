"""The store's keys for a command that has no router to ask: straight from the store, and straight into it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from router.base.clock import Clock
from router.ledger.engines import reached
from router.ledger.key_table import change_key, read_keys
from router.ledger.store import Store
from router.model.keys import KeyAnswer, KeyChange, StoredKey


class KeyDesk:
    """Raises StoreError, from whatever it is asked. Running routers see a change when they look next."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def stored_keys(self) -> list[StoredKey]:
        async with reached(), self._store.reads.connect() as connection:
            return await read_keys(connection)

    async def change_key(self, change: KeyChange) -> KeyAnswer:
        async with reached(), self._store.writes.begin() as connection:
            return await change_key(connection, change, self._clock.wall())


@asynccontextmanager
async def key_desk(url: str, clock: Clock) -> AsyncIterator[KeyDesk]:
    """Opens a store, and makes its tables where it has none. Raises StoreError; ValueError for no URL of one."""
    store = Store(url)
    try:
        await store.migrate()
        yield KeyDesk(store, clock)
    finally:
        await store.close()
