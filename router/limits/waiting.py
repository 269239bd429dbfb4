"""Where requests wait while everything that may serve them is busy.

Bounded, and strict: a higher priority goes first, then the earlier deadline, then the earlier arrival. The room hands
out no capacity. It wakes, and who is woken looks again, and says whether that was worth it.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Final

from router.model.policy import Priority

SHED_FROM: Final[tuple[float, ...]] = (0.5, 0.8)
"""Share of the room that is taken when LOW, and when NORMAL, is refused. HIGH is refused by a full room alone."""


class Ticket:
    """One who waits. `evicted`: somebody more important took the place."""

    __slots__ = ("deadline", "evicted", "order", "present", "priority", "wake", "woken")

    def __init__(self, priority: int, deadline: float, order: int, wake: Callable[[], None]) -> None:
        self.priority = priority
        self.deadline = deadline  # monotonic seconds
        self.order = order  # of arrival
        self.wake = wake
        self.evicted = False
        self.woken = False  # capacity was promised, and not answered for yet
        self.present = True

    def __lt__(self, other: "Ticket") -> bool:
        return (self.deadline, self.order) < (other.deadline, other.order)


class WaitingRoom:
    """All who wait for one kind of capacity: those who cannot use the same deployments need rooms of their own."""

    __slots__ = ("_arrivals", "_lanes", "_size", "size_max")

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self._size = 0
        self._arrivals = 0
        # Each sorted. A thousand pointers are moved in less time than a heap takes to find its worst entry.
        self._lanes: tuple[list[Ticket], ...] = tuple([] for _ in Priority)

    def __len__(self) -> int:
        return self._size

    def waiting(self, priority: int) -> int:
        """How many of this priority are in the room."""
        return len(self._lanes[priority])

    def may_pass(self, priority: int) -> bool:
        """Whether a newcomer may look for capacity at once: nobody waits who would go before it."""
        return not self._size or not any(self._lanes[priority:])

    def enter(self, priority: int, deadline: float, wake: Callable[[], None]) -> Ticket | None:
        """Takes a place, or None where the room is full of others at least as important.

        In a full room the last of the lowest priority gives way to a higher one: it is marked, woken, and out.
        """
        if self._size >= self.size_max:
            lowest = next((lane for lane in self._lanes[:priority] if lane), None)
            if lowest is None:
                return None
            last = lowest[-1]
            self._remove(last)
            last.evicted = True
            last.wake()
        self._arrivals += 1
        ticket = Ticket(priority, deadline, self._arrivals, wake)
        insort(self._lanes[priority], ticket)
        self._size += 1
        return ticket

    def leave(self, ticket: Ticket, *, took: bool, now: float) -> None:
        """Gives the place back; of one that was evicted too, and harmless when it is done already.

        `took`: it got what it waited for. One that was woken and did not (its client hung up, its time was over) passes
        the wake on, since the capacity is still there.
        """
        if ticket.present:
            self._remove(ticket)
        pass_on = ticket.woken and not took
        ticket.woken = False
        if pass_on:
            self.wake_first(now=now)

    def wait_on(self, ticket: Ticket, now: float) -> None:
        """One that was woken found nothing that *it* may use: it keeps its place, and the next one behind looks."""
        if ticket.present and ticket.woken:
            ticket.woken = False
            self._wake_behind(ticket, now)

    def first(self, now: float) -> Ticket | None:
        """The one who goes first, of those whose time is not over."""
        for lane in reversed(self._lanes):
            for ticket in lane:
                if ticket.deadline > now:
                    return ticket
        return None

    def wake_first(self, count: int = 1, *, now: float) -> None:
        """Capacity came free for `count` requests: wakes the first ones that are neither woken yet nor out of time."""
        for lane in reversed(self._lanes):
            if not lane:
                continue
            woken: list[Ticket] = []
            for ticket in lane:
                if len(woken) == count:
                    break
                if not ticket.woken and ticket.deadline > now:
                    woken.append(ticket)
            # Only then: a wake may leave the room, or another enter it.
            for ticket in woken:
                ticket.woken = True
            for ticket in woken:
                ticket.wake()
            count -= len(woken)
            if not count:
                return

    def _wake_behind(self, ticket: Ticket, now: float) -> None:
        lane = self._lanes[ticket.priority]
        behind = lane[bisect_left(lane, ticket) + 1 :]
        for lower in reversed(self._lanes[: ticket.priority]):
            behind += lower
        for other in behind:
            if not other.woken and other.deadline > now:
                other.woken = True
                other.wake()
                return

    def _remove(self, ticket: Ticket) -> None:
        lane = self._lanes[ticket.priority]
        del lane[bisect_left(lane, ticket)]
        ticket.present = False
        self._size -= 1


def shed(priority: int, waiting: int, size_max: int, pressure: float) -> bool:
    """Whether a newcomer is refused at once, so that what is left of the room is there for the more important.

    `pressure`: requests in flight over the limit of all that may serve it; below 1 something is free, and nobody is
    refused.
    """
    if pressure < 1.0 or priority >= len(SHED_FROM):
        return False
    return waiting >= SHED_FROM[priority] * size_max
