"""In which order those are served who wait: each key gets its share, by weight, of what is short.

Start-time fair queueing (Goyal, Vin and Cheng 1996) with a counter for each key in place of two tags for each request,
as in the virtual token counter of Sheng et al. (OSDI 2024): a key's virtual time is what it was served, in tokens by
weight, and who has the least goes first. Of two keys that always wait, neither gets ahead of the other by more than
one request of each, in tokens by weight. What a request really took is known at its end, and is made good then.
"""

from bisect import bisect_left, insort
from collections.abc import Callable


class Share:
    """What one key has of one model's capacity while that is short: the places it waits in, and what it was served."""

    __slots__ = ("lines", "name", "places", "served", "weight")

    def __init__(self, name: str, weight: float, served: float) -> None:
        self.name = name
        self.weight = weight
        self.served = served  # virtual time: tokens by weight
        self.places = 0  # in all rooms
        self.lines: list[Line] = []  # where it has some

    def serve(self, tokens: float) -> None:
        """Counts what it gets; less than 0: what it did not take after all."""
        self.served += tokens / self.weight
        for line in self.lines:
            line.lane.place(line)


class Ticket:
    """One who waits. `evicted`: somebody else has a better right to the place."""

    __slots__ = ("deadline", "evicted", "lane", "not_before", "order", "priority", "share", "wake")

    def __init__(self, share: Share, priority: int, deadline: float, order: int, wake: Callable[[], None]) -> None:
        self.share = share
        self.priority = priority
        self.deadline = deadline  # monotonic seconds
        self.order = order  # of arrival
        self.wake = wake
        self.evicted = False
        self.not_before = 0.0  # monotonic seconds until which it cannot be served, as far as is known
        self.lane: Lane | None = None  # None: it is out

    @property
    def present(self) -> bool:
        return self.lane is not None

    @property
    def rank(self) -> tuple[float, float, int]:
        """Its place among those of its priority, while it is the first of its key."""
        return self.share.served, self.deadline, self.order


class Line:
    """The tickets of one key in a lane: by deadline, then by arrival."""

    __slots__ = ("entry", "lane", "share", "tickets")

    def __init__(self, share: Share, lane: "Lane") -> None:
        self.share = share
        self.lane = lane
        self.tickets: list[tuple[float, int, Ticket]] = []
        self.entry: tuple[float, float, int, Line] | None = None  # as it stands in the lane


class Lane:
    """Keys in the order in which they are served: by virtual time, then by the first ticket's deadline and arrival."""

    __slots__ = ("_entries", "_lines")

    def __init__(self) -> None:
        self._lines: dict[Share, Line] = {}
        # Sorted; no two tickets have one order of arrival, so lines are never compared. Of a thousand entries two are
        # found and moved in less time than a heap takes to let one go that is not its first.
        self._entries: list[tuple[float, float, int, Line]] = []

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __len__(self) -> int:
        return sum(len(line.tickets) for line in self._lines.values())

    def add(self, ticket: Ticket) -> None:
        share = ticket.share
        line = self._lines.get(share)
        if line is None:
            line = self._lines[share] = Line(share, self)
            share.lines.append(line)
        insort(line.tickets, (ticket.deadline, ticket.order, ticket))
        ticket.lane = self
        if line.tickets[0][2] is ticket:
            self.place(line)

    def remove(self, ticket: Ticket) -> None:
        line = self._lines[ticket.share]
        at = bisect_left(line.tickets, (ticket.deadline, ticket.order))
        del line.tickets[at]
        ticket.lane = None
        if at == 0:
            self.place(line)

    def place(self, line: Line) -> None:
        """Puts a line where it belongs now; an empty one is forgotten."""
        if line.entry is not None:
            del self._entries[bisect_left(self._entries, line.entry)]
            line.entry = None  # it holds the line: what is forgotten must not wait for the collector
        if line.tickets:
            deadline, order, _ = line.tickets[0]
            line.entry = line.share.served, deadline, order, line
            insort(self._entries, line.entry)
        else:
            del self._lines[line.share]
            line.share.lines.remove(line)

    def first(self, now: float) -> Ticket | None:
        """Who goes first, of those whose time is not over."""
        for *_, line in self._entries:
            for deadline, _, ticket in line.tickets:
                if deadline > now:
                    return ticket
        return None
