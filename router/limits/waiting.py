"""Where requests wait while everything that may serve them is busy.

Bounded, and in order: priorities are strict, but for one request in twenty; within one, keys get their weighted shares
(`fair`); within a key, the earlier deadline goes first, then the earlier arrival. The room hands out no capacity: it
says who goes first, and who is woken looks for itself.
"""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from router.limits.fair import Lane, Share, Ticket
from router.model.policy import Priority

SHED_FROM: Final[tuple[float, ...]] = (0.5, 0.8, 1.0)
"""Share of the places that is taken when a newcomer LOW, NORMAL, HIGH gets none but another's."""
KEPT: Final = 20
"""One place in so many is kept for each priority, whatever crowd of another there is."""
PASSES_MAX: Final = 19
"""So many requests of higher priorities in a row begin on what a lower one waits for; then it is its turn."""
_STRICT: Final[Sequence[int]] = tuple(reversed(Priority))
_SLACK: Final = 64  # entries of a heap beyond twice those that count, before it is made anew


class Foremost:
    """Which of the keys that wait has the least of something, found lazily: a heap whose entries may be too low.

    So whoever has less than before is noted again; who has more is found out when its turn comes.
    """

    __slots__ = ("_entries", "_notes", "_of")

    def __init__(self, of: Callable[[Share], float]) -> None:
        self._of = of
        self._entries: list[tuple[float, int, Share]] = []
        self._notes = 0  # counts down, so that no shares are compared, and of two equals the later one is the first

    def note(self, share: Share) -> None:
        heappush(self._entries, self._entry(share))

    def first(self) -> Share | None:
        """None where nobody waits."""
        entries = self._entries
        while entries:
            said, _, share = entries[0]
            if not share.places:
                heappop(entries)
            elif said == self._of(share):
                return share
            else:
                heapreplace(entries, self._entry(share))
        return None

    def tidy(self, waiting: int) -> None:
        """Drops what is no longer true, where there is much of it: so many tickets wait."""
        if len(self._entries) > 2 * waiting + _SLACK:
            self._entries = [
                self._entry(share) for share in dict.fromkeys(entry[2] for entry in self._entries) if share.places
            ]
            heapify(self._entries)

    def clear(self) -> None:
        self._entries.clear()

    def _entry(self, share: Share) -> tuple[float, int, Share]:
        self._notes -= 1
        return self._of(share), self._notes, share


class Level:
    """The keys of one priority that wait, or have got more than others since somebody waits."""

    __slots__ = ("_fullest", "_last", "_least", "passed", "places", "shares")

    def __init__(self) -> None:
        self.shares: dict[str, Share] = {}
        self.places = 0
        self.passed = 0  # requests of higher priorities that began on what somebody here waits for, in a row
        self._last = 0.0  # the furthest virtual time at which one stood who was then served
        self._least, self._fullest = Foremost(_served), Foremost(_emptiness)

    def share(self, name: str, weight: float) -> Share:
        """A key's, as it is now: who comes back has no claim from the time when it did not wait."""
        share = self.shares.get(name)
        if share is None:
            share = self.shares[name] = Share(name, weight, self._begin())
        elif not share.places:
            share.served = max(share.served, self._begin())
        share.weight = weight
        return share

    def began(self, name: str, weight: float, tokens: float) -> Share | None:
        """A request of this key begins, which will most likely take so many tokens. None: nobody here has to wait."""
        self.passed = 0
        if not self.places:
            return None
        share = self.share(name, weight)
        self._last = max(self._last, share.served)
        share.serve(tokens)
        return share

    def make_good(self, share: Share, tokens: float) -> None:
        """What it began with took so many more tokens than were counted; less than 0: so many less."""
        share.serve(tokens)
        if share.places:
            self._least.note(share)

    def take(self, share: Share) -> None:
        share.places += 1
        self.places += 1
        for order in (self._least, self._fullest):
            order.note(share)
            order.tidy(self.places)

    def give(self, share: Share) -> None:
        share.places -= 1
        self.places -= 1
        if not self.places:  # nothing is short any more: what is past gives nobody a claim
            self.shares.clear()
            self._least.clear()
            self._fullest.clear()
            self._last, self.passed = 0.0, 0
        else:
            self.forget(share)

    def forget(self, share: Share) -> None:
        """Where nothing is known of it that it would not begin with again."""
        if not share.places and share.served <= self._begin():
            self.shares.pop(share.name, None)

    def fullest(self) -> Share | None:
        """The key with the most places by weight; of several the last that took one."""
        return self._fullest.first()

    def _begin(self) -> float:
        """Virtual time of a newcomer: where the last one stood who was served, but behind nobody who waits."""
        least = self._least.first()
        return min(self._last, least.served) if least is not None else self._last


class Contest:
    """All who wait for one model's capacity, whatever they may use of it: who has which places, and whose turn it is.

    `size_max`: places in all its rooms.
    """

    __slots__ = ("arrivals", "levels", "size_max")

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self.arrivals = 0
        self.levels = tuple(Level() for _ in Priority)

    def __len__(self) -> int:
        return sum(level.places for level in self.levels)

    def order(self) -> Sequence[int]:
        """Priorities, the highest first, but for those that were passed over too often."""
        due = [priority for priority in _STRICT if self.levels[priority].passed >= PASSES_MAX]
        return [*due, *(priority for priority in _STRICT if priority not in due)] if due else _STRICT

    def due(self, priority: int) -> bool:
        return self.levels[priority].passed >= PASSES_MAX

    def has_place(self, priority: int) -> bool:
        """Whether a newcomer takes nobody else's place."""
        kept = self.size_max // KEPT
        if self.levels[priority].places < kept:
            return True
        taken, for_others = 0, 0
        for other, level in enumerate(self.levels):
            taken += level.places
            if other != priority and level.places < kept:
                for_others += kept - level.places
        return taken < SHED_FROM[priority] * self.size_max and taken + for_others < self.size_max

    def less_entitled(self, priority: int, share: Share) -> Ticket | None:
        """Whose place a newcomer may take: of the lowest priority below its own, else of a fuller key of its own.

        In both it is the last ticket of the key with the most places by weight: a flood gives way to all others, and
        nobody to a flood.
        """
        kept = self.size_max // KEPT
        for level in self.levels[:priority]:
            if level.places > kept and (fullest := level.fullest()) is not None:
                return _last(fullest)
        fullest = self.levels[priority].fullest()
        if fullest is None or fullest.places / fullest.weight <= (share.places + 1) / share.weight:
            return None
        return _last(fullest)


class WaitingRoom:
    """Those of a contest who can use the same deployments: others need rooms of their own."""

    __slots__ = ("_later", "_ready", "_times", "contest")

    def __init__(self, contest: Contest) -> None:
        self.contest = contest
        # By priority. Who cannot be served yet stands in nobody's way: what others take it could not have had.
        self._ready = tuple(Lane() for _ in Priority)
        self._later = tuple(Lane() for _ in Priority)
        self._times: list[tuple[float, int, Ticket]] = []  # of those, the earliest first; and some that have left

    def __bool__(self) -> bool:
        return any(self._ready) or any(self._later)

    def __len__(self) -> int:
        return sum(map(len, self._ready)) + sum(map(len, self._later))

    def may_pass(self, priority: int, now: float) -> bool:
        """Whether a newcomer may look for capacity at once: nobody waits whose turn comes before, and who could."""
        if not self:
            return True
        self._pass_time(now)
        return not any(
            lane and (waiting >= priority or self.contest.due(waiting)) for waiting, lane in enumerate(self._ready)
        )

    def waits_ready(self, priority: int) -> bool:
        """Whether somebody of this priority waits who could be served, as of the last look."""
        return bool(self._ready[priority])

    def enter(
        self, name: str, weight: float, priority: int, deadline: float, wake: Callable[[], None]
    ) -> Ticket | None:
        """Takes a place for a request of the key `name`; None where all are taken by others with at least its right.

        Who has to give way to it is marked, woken, and out.
        """
        contest = self.contest
        level = contest.levels[priority]
        share = level.share(name, weight)
        last = None
        if not contest.has_place(priority):
            last = contest.less_entitled(priority, share)
            if last is None:
                level.forget(share)
                return None
        contest.arrivals += 1
        ticket = Ticket(share, priority, deadline, contest.arrivals, wake)
        level.take(share)
        self._ready[priority].add(ticket)
        if last is not None:  # only now: who is woken goes on at once, maybe with another request
            _out(last, contest)
            last.evicted = True
            last.wake()
        return ticket

    def postpone(self, ticket: Ticket, until: float) -> None:
        """It cannot be served before `until` (monotonic seconds), as far as is known; 0: it can, as soon as others."""
        if ticket.lane is None or ticket.not_before == until:
            return
        ticket.not_before = until
        lane = self._later[ticket.priority] if until else self._ready[ticket.priority]
        if lane is not ticket.lane:
            ticket.lane.remove(ticket)
            lane.add(ticket)
        if until:
            times = self._times
            heappush(times, (until, ticket.order, ticket))
            if len(times) > 2 * len(self) + _SLACK:
                self._times = [
                    entry for entry in times if entry[2].lane is not None and entry[2].not_before == entry[0]
                ]
                heapify(self._times)

    def leave(self, ticket: Ticket) -> None:
        """Gives the place back; harmless where that is done already, as it is of one that was evicted."""
        if ticket.lane is not None:
            _out(ticket, self.contest)

    def first(self, now: float, *, early: bool = True) -> Ticket | None:
        """Who goes first, of those whose time is not over. `early`: also one who is known to be unable to, yet.

        What is known of that may have changed.
        """
        self._pass_time(now)
        for priority in self.contest.order():
            found = self._ready[priority].first(now)
            later = self._later[priority].first(now) if early else None
            if later is not None and (found is None or later.rank < found.rank):
                return later
            if found is not None:
                return found
        return None

    def _pass_time(self, now: float) -> None:
        times = self._times
        while times and times[0][0] <= now:
            until, _, ticket = heappop(times)
            if ticket.lane is not None and ticket.not_before == until:
                ticket.not_before = 0.0
                ticket.lane.remove(ticket)
                self._ready[ticket.priority].add(ticket)


def _served(share: Share) -> float:
    return share.served


def _emptiness(share: Share) -> float:
    """The fuller it is by weight, the less."""
    return -share.places / share.weight


def _last(share: Share) -> Ticket:
    """The ticket of a key that would be served last."""
    return max(line.tickets[-1] for line in share.lines)[2]


def _out(ticket: Ticket, contest: Contest) -> None:
    assert ticket.lane is not None
    ticket.lane.remove(ticket)
    contest.levels[ticket.priority].give(ticket.share)
