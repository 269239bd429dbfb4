"""Which workers say nothing any more, by the time in which they could have."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from router.supervisor.slot import Slot
from router.transport.channel import Channel

LOOK_EVERY_S: Final = 0.25
STEP_S_MAX: Final = 2 * LOOK_EVERY_S


class _Mark(NamedTuple):
    """What says that a worker lives while it changes. `heard_at`: of one that serves: at its start it says little."""

    channel: Channel
    up: bool
    heard_at: float


class Watch:
    """One crew's. Only time in which this process itself ran is counted.

    While the whole machine stands still (a paused guest, a closed lid) nobody is silent; and a supervisor that was kept
    from running has not read yet what its workers said meanwhile.
    """

    def __init__(self, now: float) -> None:
        self._looked_at = now
        self._silent: dict[int, tuple[_Mark, float]] = {}

    def look(self, slots: Sequence[Slot], bound_s: Callable[[Slot], float], now: float) -> list[Slot]:
        """To be called every `LOOK_EVERY_S`. Returns those that have been silent for longer than their bound: once."""
        step_s, self._looked_at = min(now - self._looked_at, STEP_S_MAX), now
        found = []
        for slot in slots:
            mark = _Mark(slot.channel, slot.up, slot.channel.heard_at if slot.up else 0.0)
            known, silent_s = self._silent.get(slot.index, (None, 0.0))
            silent_s = silent_s + step_s if mark == known else 0.0
            if silent_s > bound_s(slot) and slot.pid is not None:
                found.append(slot)
                silent_s = 0.0
            self._silent[slot.index] = mark, silent_s
        return found
