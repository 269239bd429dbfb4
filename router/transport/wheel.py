"""One coarse timer wheel for all deadlines of a process: arming and disarming are a set's `add` and `discard`.

A deadline is met at the first tick after it, so up to one tick late and never early.
"""

import asyncio
from typing import Final, Protocol

TICK_S: Final = 0.05
TICKS_A_S: Final = 20
LAG_WINDOW_TICKS: Final = 300  # 15 s: a usual scrape interval


class Timed(Protocol):
    """Something with a deadline. `tick` belongs to the wheel."""

    tick: int

    def on_time(self, now: float) -> float | None:
        """Called when the armed time has come. Returns when to call again (monotonic seconds), or None."""
        ...


class Wheel:
    """Slots of entries by absolute tick number. `now` is `loop.time()`, the monotonic clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Timed]] = {}
        self._last = int(loop.time() * TICKS_A_S)
        self._handle: asyncio.TimerHandle | None = None
        self._lag_s = self._lag_before_s = 0.0  # the worst of this window, and of the one before
        self._lag_ticks = 0

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    @property
    def lag_s(self) -> float:
        """The event loop's lag: by how much a tick came late, at the worst in the last one to two windows.

        Two and not the time since it was last asked for: each of several who ask sees every lag.
        """
        return max(self._lag_s, self._lag_before_s)

    def start(self) -> None:
        self._last = int(self._loop.time() * TICKS_A_S)
        self._schedule()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def arm(self, entry: Timed, at: float) -> None:
        """Calls `entry.on_time` at the first tick after `at` (monotonic seconds)."""
        tick = int(at / TICK_S) + 1
        if tick <= self._last:
            tick = self._last + 1
        entry.tick = tick
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = {entry}
        else:
            slot.add(entry)

    def ensure(self, entry: Timed, at: float) -> None:
        """Like `arm`, but leaves an entry alone that is armed for that time or an earlier one already."""
        if entry.tick:
            if entry.tick <= at * TICKS_A_S + 1:
                return
            self.disarm(entry)
        self.arm(entry, at)

    def disarm(self, entry: Timed) -> None:
        """Takes an entry back; harmless where it is not armed."""
        slot = self._slots.get(entry.tick)
        if slot is not None:
            slot.discard(entry)
        entry.tick = 0

    def advance(self, now: float) -> None:
        """Calls everything that is due at `now`."""
        # By a product: at its very moment a tick's quotient is often a little below it, and would be called for again.
        current = int(now * TICKS_A_S)
        while self._last < current:
            self._last += 1
            for entry in self._slots.pop(self._last, ()):
                # An earlier entry of this slot may have disarmed or re-armed this one.
                if entry.tick != self._last:
                    continue
                entry.tick = 0
                try:
                    again = entry.on_time(now)
                except Exception as error:  # noqa: BLE001 - one entry's bug must not cost the others their deadlines
                    self._loop.call_exception_handler({"message": "a deadline failed", "exception": error})
                    continue
                if again is not None and entry.tick == 0:
                    self.arm(entry, again)

    def _schedule(self) -> None:
        due = (self._last + 1) / TICKS_A_S
        self._handle = self._loop.call_at(due, self._on_tick, due)

    def _on_tick(self, due: float) -> None:
        now = self._loop.time()
        self._lag_ticks += 1
        if self._lag_ticks > LAG_WINDOW_TICKS:
            self._lag_before_s, self._lag_s, self._lag_ticks = self._lag_s, 0.0, 1
        if now - due > self._lag_s:
            self._lag_s = now - due
        try:
            self.advance(now)
        finally:
            self._schedule()
