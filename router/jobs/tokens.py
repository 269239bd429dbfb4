"""Keeps every endpoint's identity fresh: tokens are fetched before they end, and off the hot path."""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

from router.base.clock import Clock, SystemClock
from router.jobs.loops import Surprised, every
from router.providers.identity import Identity, IdentityError
from router.resilience.backoff import full_jitter_s

LOOK_EVERY_S: Final = 1.0
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 60.0


class _Kept:
    """One identity: the refresh under way, and when the next may start after a failure."""

    __slots__ = ("endpoint_id", "failures", "retry_at", "task")

    def __init__(self, endpoint_id: str) -> None:
        self.endpoint_id = endpoint_id
        self.task: asyncio.Task[None] | None = None
        self.failures = 0
        self.retry_at = 0.0  # monotonic seconds


class TokenKeeper:
    """Refreshes what is due, each identity by itself: one that fails or hangs costs the others nothing.

    After a failure it tries again with growing waits (full jitter below 1, 2, 4 … 60 s); what there was serves on
    while it is valid. `on_failure` gets the endpoint's id and a text for the log, `on_refreshed` the id.
    """

    def __init__(
        self,
        identities: Callable[[], Iterable[tuple[str, Identity]]],
        on_failure: Callable[[str, str], None],
        on_refreshed: Callable[[str], None],
        surprised: Surprised,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`identities`: those of the configuration in force, by endpoint; asked anew each second."""
        self._identities = identities
        self._on_failure, self._on_refreshed, self._surprised = on_failure, on_refreshed, surprised
        self._clock, self._rng = clock or SystemClock(), rng or random.Random()
        self._kept: dict[Identity, _Kept] = {}
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.look()
        self._looking = asyncio.get_running_loop().create_task(
            every(LOOK_EVERY_S, "tokens", self.look, self._surprised)
        )

    async def stop(self) -> None:
        tasks = [kept.task for kept in self._kept.values() if kept.task is not None]
        tasks += [self._looking] if self._looking is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settle(self, within_s: float) -> None:
        """Refreshes what is due and waits for it, but no longer than this: at start, and after each reload."""
        self.look()
        tasks = [kept.task for kept in self._kept.values() if kept.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)

    def look(self) -> None:
        """Lets go of tokens that have ended, and starts each refresh that is due."""
        now, now_wall = self._clock.monotonic(), self._clock.wall()
        known, self._kept = self._kept, {}
        for endpoint_id, identity in self._identities():
            kept = self._kept[identity] = known.pop(identity) if identity in known else _Kept(endpoint_id)
            identity.lapse(now_wall)
            due_in_s = identity.refresh_in_s(now_wall)
            if due_in_s is not None and due_in_s <= 0 and kept.task is None and now >= kept.retry_at:
                self._refresh(identity, kept)
        for gone in known.values():  # no longer in the configuration
            if gone.task is not None:
                gone.task.cancel()

    def _refresh(self, identity: Identity, kept: _Kept) -> None:
        def done(task: asyncio.Task[None]) -> None:
            kept.task = None
            if not task.cancelled():
                self._settle(kept, task.exception())

        kept.task = asyncio.get_running_loop().create_task(identity.refresh())
        kept.task.add_done_callback(done)

    def _settle(self, kept: _Kept, error: BaseException | None) -> None:
        if error is None:
            kept.failures = 0
            self._on_refreshed(kept.endpoint_id)
            return
        wait_s = full_jitter_s(kept.failures, self._rng, base_s=RETRY_FIRST_S, max_s=RETRY_MAX_S)
        kept.failures += 1
        kept.retry_at = self._clock.monotonic() + wait_s
        # An error of another type is a library's surprise. Its text may hold anything.
        text = str(error) if isinstance(error, IdentityError) else f"the refresh broke with {type(error).__name__}"
        self._on_failure(kept.endpoint_id, text)
