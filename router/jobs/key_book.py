"""The store's keys, in the process that has the bookkeeper: what was last heard of them, and how they are changed."""

from collections.abc import Callable
from typing import Final

from router.jobs.bookkeeping import Bookkeeping
from router.ledger.key_cache import read_cache
from router.model.keys import KeyAnswer, KeyChange, StoredKey

CHANGE_S: Final = 10.0  # a batch of entries may be on its way into the store


class KeyBook:
    """Implements the control plane's `KeyStore`. `on_change` is given all keys whenever there is news of them."""

    def __init__(self, bookkeeping: Bookkeeping, folder: str, event: Callable[..., None]) -> None:
        """`folder`: of the cache, which a start while the store is away goes by."""
        self._bookkeeping, self._event = bookkeeping, event
        self.on_change: Callable[[list[StoredKey]], None] = _nobody
        self.known: list[StoredKey] | None = self._cached(folder)  # None: nobody has ever heard of any
        bookkeeping.on_keys = self._take

    def _cached(self, folder: str) -> list[StoredKey] | None:
        try:
            return read_cache(folder)
        except (OSError, ValueError) as error:
            self._event("key_cache_unreadable", reason=type(error).__name__)
            return None

    def _take(self, keys: list[StoredKey]) -> None:
        if keys != self.known:
            self.known = keys
            self._event("stored_keys", keys=sum(key.revoked_at is None for key in keys))
        self.on_change(keys)

    async def stored_keys(self) -> list[StoredKey]:
        return self.known or []

    async def change_key(self, change: KeyChange) -> KeyAnswer:
        return await self._bookkeeping.ask(KeyAnswer, CHANGE_S, "change_key", change)


def _nobody(_: list[StoredKey]) -> None: ...
