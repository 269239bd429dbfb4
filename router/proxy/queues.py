"""Who waits for which model, and who is told when capacity may have come free."""

import asyncio
from typing import Final

from router.limits.waiting import Ticket, WaitingRoom
from router.transport.wheel import Wheel

LOOK_EVERY_S: Final = 0.05  # cooldowns and quotas end by time, which is nobody's event


class Queue:
    """The rooms of one model: one for each plan, so that all in a room can use the same deployments."""

    __slots__ = ("rooms",)

    def __init__(self) -> None:
        self.rooms: dict[tuple[str, str], WaitingRoom] = {}  # by workload and operation

    def room(self, workload: str, operation: str, size_max: int) -> WaitingRoom:
        room = self.rooms.setdefault((workload, operation), WaitingRoom(size_max))
        room.size_max = size_max
        return room

    def may_pass(self, priority: int) -> bool:
        """Whether a newcomer may look for a deployment at once: nobody waits who would go before it."""
        return all(room.may_pass(priority) for room in self.rooms.values())

    def capacity_came(self, now: float) -> None:
        """Wakes the first of each room, the most important rooms first, for as long as those who wake find something.

        A wake runs the request up to its next wait, so whether it left the room is known at once.
        """
        firsts = [(room, first) for room in self.rooms.values() if (first := room.first(now)) is not None]
        firsts.sort(key=_importance)
        for room, first in firsts:
            ticket: Ticket | None = first
            while ticket is not None:
                ticket.wake()
                ticket = room.first(now) if not ticket.present else None


class Queues:
    """All who wait. Looked after only while somebody does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel) -> None:
        self._loop, self._wheel = loop, wheel
        self._occupied: set[Queue] = set()
        self._told: set[Queue] = set()
        self.count = 0
        self.tick = 0  # the wheel's own

    def entered(self, queue: Queue) -> None:
        self.count += 1
        self._occupied.add(queue)
        self._wheel.ensure(self, self._loop.time() + LOOK_EVERY_S)

    def left(self) -> None:
        self.count -= 1
        if not self.count:
            self._wheel.disarm(self)

    def capacity_came(self, queue: Queue) -> None:
        """A request of this model ended. Looked at in the next iteration: who ends must not run who waits."""
        if queue in self._occupied and queue not in self._told:
            self._told.add(queue)
            self._loop.call_soon(self._tell, queue)

    def _tell(self, queue: Queue) -> None:
        self._told.discard(queue)
        queue.capacity_came(self._loop.time())

    def on_time(self, now: float) -> float | None:
        """The wheel's call."""
        self._occupied = {queue for queue in self._occupied if any(map(len, queue.rooms.values()))}
        for queue in self._occupied:
            queue.capacity_came(now)
        return now + LOOK_EVERY_S if self._occupied else None


def _importance(entry: tuple[WaitingRoom, Ticket]) -> tuple[int, float]:
    return -entry[1].priority, entry[1].deadline
