"""A key that offers fifty times its share, without a clock: what the others wait depends on the capacity alone."""

import math
import random
from collections.abc import Callable
from heapq import heappop, heappush

import pytest

from router.limits.fair import Share, Ticket
from router.limits.waiting import Contest, WaitingRoom
from router.model.policy import Priority

NORMAL = Priority.NORMAL
SLOTS = 40
SERVICE_S = 0.4
CAPACITY = SLOTS / SERVICE_S  # requests a second
KEYS = 5
USED_SHARE = 0.8  # of theirs, which the others use
MAX_WAIT_S = 1.0
SETTLE_S = 3.0  # at first the flood has all slots: what runs is not taken away
ESTIMATE, TAKEN = 100, 55  # tokens


class Deployment:
    """So many slots, and a waiting room before them; events in virtual time."""

    def __init__(self, flood_times: float, seconds: float) -> None:
        self._rng = random.Random(7)
        self._room = WaitingRoom(Contest(1000))
        self._level = self._room.contest.levels[NORMAL]
        self._busy = 0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = 0
        self._waiting: dict[Ticket, tuple[str, float]] = {}
        self.waits_s: list[float] = []  # of all but the flood
        self.refused = 0
        share = CAPACITY / KEYS
        rates = {f"other {number}": USED_SHARE * share for number in range(KEYS - 1)} | {"flood": flood_times * share}
        for name, rate in rates.items():
            for number in range(int(seconds * rate)):
                self._at((number + len(name) / 20) / rate, lambda now, name=name: self._arrives(name, now))
        while self._events:
            now, _, event = heappop(self._events)
            event(now)

    def _at(self, when: float, event: Callable[[float], None]) -> None:
        self._numbers += 1
        heappush(self._events, (when, self._numbers, event))

    def _arrives(self, name: str, now: float) -> None:
        if self._busy < SLOTS and self._room.may_pass(NORMAL, now):
            self._begin(name, 0.0, now)
            return
        ticket = self._room.enter(name, 1.0, NORMAL, now + MAX_WAIT_S, lambda: None)
        if ticket is None:
            self.refused += name != "flood"
        else:
            self._waiting[ticket] = name, now
            self._at(now + MAX_WAIT_S, lambda _: self._expires(ticket))

    def _begin(self, name: str, waited_s: float, now: float) -> None:
        self._busy += 1
        share = self._level.began(name, 1.0, ESTIMATE)
        self._at(now + SERVICE_S * math.exp(0.2 * self._rng.gauss(0, 1)), lambda end: self._end(share, end))
        if name != "flood" and now > SETTLE_S:
            self.waits_s.append(waited_s)

    def _expires(self, ticket: Ticket) -> None:
        if ticket in self._waiting:
            self.refused += self._waiting.pop(ticket)[0] != "flood"
            self._room.leave(ticket)

    def _end(self, share: Share | None, now: float) -> None:
        self._busy -= 1
        if share is not None:
            self._level.make_good(share, TAKEN - ESTIMATE)
        first = self._room.first(now)
        if first is not None:
            name, since = self._waiting.pop(first)
            self._begin(name, now - since, now)
            self._room.leave(first)

    @property
    def p99_s(self) -> float:
        return sorted(self.waits_s)[int(0.99 * len(self.waits_s))]


@pytest.mark.parametrize("times", [5, 50])
def test_the_others_wait_no_longer_however_great_the_flood(times: int) -> None:
    """Beside twice its share the capacity is short already; from then on more is the flood's own trouble."""
    mild, flood = Deployment(2, 15.0), Deployment(times, 15.0)
    assert mild.refused == flood.refused == 0
    assert mild.p99_s > 0.02, "it is short"
    assert flood.p99_s < 1.2 * mild.p99_s
    assert flood.p99_s < SERVICE_S / 3
