"""The store's keys, in the process that has the bookkeeper: what was last heard of them, and how they are changed."""

from collections.abc import Callable
from typing import Final

from router.jobs.bookkeeping import Bookkeeping
from router.ledger.key_cache import read_cache
from router.ledger.settings import LedgerSettings
from router.model.keys import AddKey, KeyAnswer, KeyChange, RotateKey, StoredKey

CHANGE_S: Final = 10.0  # a batch of entries may be on its way into the store


class KeyBook:
    """Implements the control plane's `KeyStore`."""

    def __init__(
        self,
        bookkeeping: Bookkeeping,
        settings: LedgerSettings,
        event: Callable[..., None],
        on_change: Callable[[list[StoredKey]], None],
    ) -> None:
        """`settings.folder` has the cache, which a start goes by while the store is away: its keys are `known` from
        then on. `on_change` is given all keys whenever they are others than those.
        """
        self._bookkeeping, self.event, self._on_change = bookkeeping, event, on_change
        self.known: list[StoredKey] | None = self._cached(settings)  # None: nobody has ever heard of any
        bookkeeping.on_keys = self._take

    def _cached(self, settings: LedgerSettings) -> list[StoredKey] | None:
        try:
            cached = read_cache(settings.folder)
        except (OSError, ValueError) as error:
            self.event("key_cache_unreadable", reason=type(error).__name__)
            return None
        return [] if cached is None and settings.is_new else cached  # nobody waits for a store to be made, and be empty

    def _take(self, keys: list[StoredKey]) -> None:
        if keys == self.known:
            return  # it is said again and again, since a word may be lost
        self.known = keys
        self.event("stored_keys", keys=sum(key.revoked_at is None for key in keys))
        self._on_change(keys)

    async def stored_keys(self) -> list[StoredKey]:
        return self.known or []

    async def change_key(self, change: KeyChange) -> KeyAnswer:
        answer = await self._bookkeeping.ask(KeyAnswer, CHANGE_S, "change_key", change)
        if answer.key is not None:
            self._log(change)
        return answer

    def _log(self, change: KeyChange) -> None:
        if isinstance(change, AddKey):
            self.event("key_added", key=change.name)
        elif isinstance(change, RotateKey):
            self.event("key_rotated", key=change.name, overlap_s=change.overlap_s)
        else:
            self.event("key_revoked", key=change.name)
