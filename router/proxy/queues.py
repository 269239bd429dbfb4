"""Who waits for which model, and who is told when capacity may have come free."""

import asyncio
from collections.abc import Container, Iterable
from typing import Final

from router.limits.fair import Share
from router.limits.waiting import Contest, WaitingRoom
from router.proxy.backend import Backend
from router.transport.wheel import Wheel

LOOK_EVERY_S: Final = 0.05  # cooldowns and quotas end by time, which is nobody's event
LOOKS_MAX: Final = 8  # of a room, in vain, before the others there are looked at the next time


class Queue:
    """The rooms of one model: one for each plan, so that all in a room can use the same deployments."""

    __slots__ = ("_reach", "contest", "rooms")

    def __init__(self) -> None:
        self.contest = Contest(0)
        self.rooms: dict[tuple[str, str], WaitingRoom] = {}  # by workload and operation
        self._reach: dict[tuple[str, str], frozenset[Backend]] = {}  # what those in a room wait for

    def room(self, workload: str, operation: str, size_max: int, reach: Iterable[Backend]) -> WaitingRoom:
        """`size_max`: places in all rooms together."""
        key = workload, operation
        self.contest.size_max = size_max
        self._reach[key] = frozenset(reach)
        return self.rooms.setdefault(key, WaitingRoom(self.contest))

    def keep(self, planned: Container[tuple[str, str]]) -> None:
        """Forgets the rooms of plans that are no more, once nobody is in them."""
        for key in [key for key, room in self.rooms.items() if key not in planned and not room]:
            del self.rooms[key], self._reach[key]

    def __len__(self) -> int:
        return len(self.contest)

    def promised(self, backend: Backend, priority: int, now: float) -> bool:
        """Whether somebody waits for this deployment who goes before a newcomer of this priority.

        The others are the newcomer's at once: who waits for a dead cloud costs nobody a live one.
        """
        return any(not room.may_pass(priority, now) and backend in self._reach[key] for key, room in self.rooms.items())

    def began(self, name: str, weight: float, priority: int, backend: Backend, tokens: int) -> Share | None:
        """A request of the key `name` begins on a deployment, and counts for its key where others wait for that.

        Returns what it was counted for, so that what it really took can be made good; None where it was not.
        """
        rooms = [room for key, room in self.rooms.items() if room and backend in self._reach[key]]
        if not rooms:
            return None
        levels = self.contest.levels
        for lower in range(priority):
            levels[lower].passed += any(room.waits_ready(lower) for room in rooms)
        return levels[priority].began(name, weight, tokens)

    def make_good(self, share: Share, priority: int, tokens: int) -> None:
        """What began, and was counted for this share, took so many tokens more than were counted, or less."""
        self.contest.levels[priority].make_good(share, tokens)

    def capacity_came(self, now: float) -> None:
        """Wakes who goes first over all rooms, again and again, while those who wake find something.

        A wake runs the request up to its next wait, so whether it left the room is known at once. In the room of one
        who found nothing the others would find nothing either, unless what it waits for is a time of its own.
        """
        looks = {room: LOOKS_MAX for room in self.rooms.values() if room}
        early = set(looks)  # where nobody was asked yet whose time has not come
        while looks:
            order = self.contest.order()
            firsts = [
                (order.index(first.priority), first.rank, first, room)
                for room in looks
                if (first := room.first(now, early=room in early)) is not None
            ]
            if not firsts:
                return
            *_, first, room = min(firsts)
            waited = first.not_before
            first.wake()
            if first.present:
                looks[room] -= 1
                if waited:
                    early.discard(room)
                if not first.not_before or not looks[room]:
                    del looks[room]


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
        self._occupied = {queue for queue in self._occupied if len(queue)}
        for queue in tuple(self._occupied):  # who is woken may make place for one who waits for another model
            queue.capacity_came(now)
        return now + LOOK_EVERY_S if self.count else None
