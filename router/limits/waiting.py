"""Where requests wait while everything that may serve them is busy.

Bounded, and strict: a higher priority goes first, then the earlier deadline, then the earlier arrival. The room hands
out no capacity: it says who goes first, and who is woken looks for itself.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Container
from math import inf
from typing import Final

from router.model.policy import Priority

SHED_FROM: Final[tuple[float, ...]] = (0.5, 0.8)
"""Share of the room that is taken when LOW, and when NORMAL, is refused. HIGH is refused by a full room alone."""


class Ticket:
    """One who waits. `evicted`: somebody more important took the place.

    `not_before`: monotonic seconds until which it cannot be served, as far as is known: a quota is too small for it
    until the minute ends. Until then it stands in nobody's way, since what others take it could not have had.
    """

    __slots__ = ("deadline", "evicted", "not_before", "order", "present", "priority", "wake")

    def __init__(self, priority: int, deadline: float, order: int, wake: Callable[[], None]) -> None:
        self.priority = priority
        self.deadline = deadline  # monotonic seconds
        self.order = order  # of arrival
        self.wake = wake
        self.evicted = False
        self.not_before = 0.0
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

    def may_pass(self, priority: int, now: float = inf) -> bool:
        """Whether a newcomer may look for capacity at once: nobody waits who would go before it, and could."""
        return not self._size or not any(ticket.not_before <= now for lane in self._lanes[priority:] for ticket in lane)

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

    def leave(self, ticket: Ticket) -> None:
        """Gives the place back; harmless where that is done already, as it is of one that was evicted."""
        if ticket.present:
            self._remove(ticket)

    def first(self, now: float, seen: Container[Ticket] = ()) -> Ticket | None:
        """The one who goes first, of those whose time is not over and who are not in `seen`.

        Of those who cannot be served yet only the very first is looked at: what is known may have changed.
        """
        leading = True
        for lane in reversed(self._lanes):
            for ticket in lane:
                if ticket.deadline > now:
                    if (leading or ticket.not_before <= now) and ticket not in seen:
                        return ticket
                    leading = False
        return None

    def _remove(self, ticket: Ticket) -> None:
        lane = self._lanes[ticket.priority]
        del lane[bisect_left(lane, ticket)]
        ticket.present = False
        self._size -= 1


def shed(priority: int, waiting: int, size_max: int) -> bool:
    """Whether a newcomer that would wait is refused at once, so that room is left for the more important.

    `waiting`: all who wait for the same capacity, whatever their priority.
    """
    return priority < len(SHED_FROM) and waiting >= SHED_FROM[priority] * size_max
