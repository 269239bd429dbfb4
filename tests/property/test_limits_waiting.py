"""The waiting room against a plain list that does everything the slow way, and the laws of fair shares."""

from collections import Counter
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.limits.fair import Ticket
from router.limits.waiting import KEPT, PASSES_MAX, SHED_FROM, Contest, WaitingRoom
from router.model.policy import Priority

WEIGHTS = {"a": 1.0, "b": 2.0, "c": 0.5}
ROOMS = 2


class Waiter:
    """The model's view of one who waits."""

    def __init__(self, number: int, room: int, key: str, priority: int, deadline: float) -> None:
        self.number, self.room, self.key, self.priority, self.deadline = number, room, key, priority, deadline
        self.ticket: Ticket | None = None
        self.not_before = 0.0
        self.wakes = 0  # as it happened
        self.expected = 0  # as the model says

    def wake(self) -> None:
        self.wakes += 1


class Rooms(RuleBasedStateMachine):
    """Every step is taken by both; they must wake and hold the same."""

    @initialize(size_max=st.sampled_from([0, 1, 6, 45]))
    def open(self, size_max: int) -> None:
        self.size_max = size_max
        self.contest = Contest(size_max)
        self.rooms = [WaitingRoom(self.contest) for _ in range(ROOMS)]
        self.present: list[Waiter] = []
        self.all: list[Waiter] = []
        self.now = 0.0
        self.served: dict[tuple[int, str], float] = {}  # virtual times of those who wait or are ahead
        self.last = dict.fromkeys(Priority, 0.0)  # the furthest virtual time at which one was served

    @rule(
        room=st.integers(0, ROOMS - 1),
        key=st.sampled_from(list(WEIGHTS)),
        priority=st.sampled_from(list(Priority)),
        within_s=st.integers(1, 9),
        crowd=st.sampled_from([1, 1, 8]),
    )
    def enter(self, room: int, key: str, priority: Priority, within_s: int, crowd: int) -> None:
        for _ in range(crowd):
            self._enter(Waiter(len(self.all), room, key, int(priority), self.now + within_s))

    def _enter(self, waiter: Waiter) -> None:
        self.all.append(waiter)
        victim = None
        if not self._has_place(waiter.priority):
            victim = self._less_entitled(waiter)
        taken = victim is not None or self._has_place(waiter.priority)
        if taken:
            self._lift(waiter)
        room = self.rooms[waiter.room]
        waiter.ticket = room.enter(waiter.key, WEIGHTS[waiter.key], waiter.priority, waiter.deadline, waiter.wake)
        assert (waiter.ticket is not None) is taken
        if taken:
            self.present.append(waiter)
        if victim is not None:
            assert victim.ticket is not None
            assert victim.ticket.evicted
            victim.expected += 1  # so that it can say so
            self._gone(victim)

    @precondition(lambda self: self.present)
    @rule(data=st.data(), tokens=st.integers(0, 50), made_good=st.sampled_from([0, 0, -20, 20]))
    def serve(self, data: st.DataObject, tokens: int, made_good: int) -> None:
        """As often as not it is not the first one's: that of another room has ended."""
        waiter = data.draw(st.sampled_from(self.present))
        level, at = self.contest.levels[waiter.priority], (waiter.priority, waiter.key)
        share = level.began(waiter.key, WEIGHTS[waiter.key], tokens)
        self.last[Priority(waiter.priority)] = max(self.last[Priority(waiter.priority)], self.served[at])
        assert share is not None
        level.make_good(share, made_good)
        self.served[at] += tokens / WEIGHTS[waiter.key]
        self.served[at] += made_good / WEIGHTS[waiter.key]
        self.leave_one(waiter)

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.leave_one(data.draw(st.sampled_from(self.present)))

    def leave_one(self, waiter: Waiter) -> None:
        assert waiter.ticket is not None
        for _ in range(2):  # the second does nothing
            self.rooms[waiter.room].leave(waiter.ticket)
        self._gone(waiter)

    @precondition(lambda self: self.present)
    @rule(data=st.data(), within_s=st.integers(0, 5))
    def postpone(self, data: st.DataObject, within_s: int) -> None:
        waiter = data.draw(st.sampled_from(self.present))
        assert waiter.ticket is not None
        waiter.not_before = self.now + within_s if within_s else 0.0
        self.rooms[waiter.room].postpone(waiter.ticket, waiter.not_before)

    @rule(seconds=st.integers(1, 4))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def same_and_bounded(self) -> None:
        assert len(self.contest) == len(self.present) <= self.size_max
        for index, room in enumerate(self.rooms):
            here = [waiter for waiter in self.present if waiter.room == index]
            assert len(room) == len(here)
            assert bool(room) is bool(here)
            for priority in Priority:
                passes = all(w.priority < priority or w.not_before > self.now for w in here)
                assert room.may_pass(priority, self.now) == passes

    @invariant()
    def the_first_is_first(self) -> None:
        for index, room in enumerate(self.rooms):
            in_time = [w for w in self.present if w.room == index and w.deadline > self.now]
            able, unable = ([w for w in in_time if (w.not_before > self.now) is late] for late in (False, True))
            # An able one and an unable one, each as its line stands: and of the two the one with the better rank.
            firsts = [min(some, key=self._line) for some in (self._highest(able), self._highest(unable)) if some]
            for early, among in ((True, firsts), (False, firsts[: bool(able)])):
                found = room.first(self.now, early=early)
                expected = min(among, key=self._rank) if among else None
                assert found is (expected.ticket if expected else None)

    @invariant()
    def woken_as_expected(self) -> None:
        for waiter in self.all:
            assert waiter.wakes == waiter.expected

    @invariant()
    def nothing_is_kept_of_nobody(self) -> None:
        for priority, level in zip(Priority, self.contest.levels, strict=True):
            waiting = {w.key for w in self.present if w.priority == priority}
            assert waiting <= level.shares.keys()
            assert all(share.places == 0 for name, share in level.shares.items() if name not in waiting)
            if not waiting:
                assert not level.shares

    def _rank(self, waiter: Waiter) -> tuple[int, float, float, int]:
        return -waiter.priority, self.served[waiter.priority, waiter.key], waiter.deadline, waiter.number

    def _line(self, waiter: Waiter) -> tuple[float, float, int, int]:
        """A key's line stands where its first does, whose time may be over: it leaves as soon as it is told."""
        mine = waiter.room, waiter.priority, waiter.key, waiter.not_before > self.now
        line = (w for w in self.present if (w.room, w.priority, w.key, w.not_before > self.now) == mine)
        head = min(line, key=lambda w: (w.deadline, w.number))
        served = self.served[waiter.priority, waiter.key]
        return served, head.deadline, head.number, waiter.number if waiter is not head else -1

    @staticmethod
    def _highest(waiters: list[Waiter]) -> list[Waiter]:
        return [w for w in waiters if w.priority == max(each.priority for each in waiters)]

    def _places(self, priority: int, key: str | None = None) -> int:
        return sum(w.priority == priority and key in (None, w.key) for w in self.present)

    def _has_place(self, priority: int) -> bool:
        kept = self.size_max // KEPT
        if self._places(priority) < kept:
            return True
        for_others = sum(max(0, kept - self._places(other)) for other in Priority if other != priority)
        taken = len(self.present)
        return taken < SHED_FROM[priority] * self.size_max and taken + for_others < self.size_max

    def _less_entitled(self, newcomer: Waiter) -> Waiter | None:
        kept = self.size_max // KEPT
        for lower in range(newcomer.priority):
            if self._places(lower) > kept:
                return self._last_of_fullest(lower)
        if not self._places(newcomer.priority):
            return None
        found = self._last_of_fullest(newcomer.priority)
        has = self._places(found.priority, found.key) / WEIGHTS[found.key]
        wants = (self._places(newcomer.priority, newcomer.key) + 1) / WEIGHTS[newcomer.key]
        return found if has > wants else None

    def _last_of_fullest(self, priority: int) -> Waiter:
        """Of several that are as full as each other the room may choose: what it holds is looked at."""
        share = self.contest.levels[priority].fullest()
        assert share is not None
        fullest = max(self._places(priority, key) / weight for key, weight in WEIGHTS.items())
        assert self._places(priority, share.name) / WEIGHTS[share.name] == fullest
        mine = [w for w in self.present if w.priority == priority and w.key == share.name]
        return max(mine, key=lambda w: (w.deadline, w.number))

    def _lift(self, waiter: Waiter) -> None:
        at = waiter.priority, waiter.key
        if not self._places(*at):
            others = (self.served[w.priority, w.key] for w in self.present if w.priority == waiter.priority)
            begin = min([self.last[Priority(waiter.priority)], *others])
            self.served[at] = max(self.served.get(at, begin), begin)

    def _gone(self, waiter: Waiter) -> None:
        self.present.remove(waiter)
        if not self._places(waiter.priority):
            self.last[Priority(waiter.priority)] = 0.0
            for key in WEIGHTS:
                self.served.pop((waiter.priority, key), None)


TestRooms = Rooms.TestCase
TestRooms.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


class Capacity:
    """A room from which one after the other is served, and what each key got."""

    def __init__(self, size_max: int = 10_000) -> None:
        self.contest = Contest(size_max)
        self.room = WaitingRoom(self.contest)
        self.got: Counter[str] = Counter()
        self.sizes: dict[Ticket, int] = {}

    def enter(self, key: str, weight: float, tokens: int, priority: int = Priority.NORMAL) -> Ticket | None:
        ticket = self.room.enter(key, weight, priority, inf, lambda: None)
        if ticket is not None:
            self.sizes[ticket] = tokens
        return ticket

    def serve(self) -> Ticket:
        first = self.room.first(0.0)
        assert first is not None
        tokens = self.sizes[first]
        for lower in range(first.priority):
            self.contest.levels[lower].passed += self.room.waits_ready(lower)
        self.contest.levels[first.priority].began(first.share.name, first.share.weight, tokens)
        self.got[first.share.name] += tokens
        self.room.leave(first)
        return first


keys = st.lists(
    st.tuples(st.floats(0.1, 10.0), st.lists(st.integers(1, 5000), min_size=40, max_size=40)), min_size=2, max_size=6
)


@given(keys, st.integers(1, 39))
def test_two_that_always_wait_are_never_further_apart_than_a_request_of_each(
    crowd: list[tuple[float, list[int]]], rounds: int
) -> None:
    """At any moment, in tokens by weight; so over any time their shares are those of the weights."""
    capacity = Capacity()
    for name, (weight, sizes) in enumerate(crowd):
        for tokens in sizes:
            capacity.enter(f"{name}", weight, tokens)
    for _ in range(rounds):  # nobody runs out: each has more requests than are served in all
        capacity.serve()
        had = [capacity.got[f"{name}"] / weight for name, (weight, _) in enumerate(crowd)]
        largest = [max(sizes) / weight for weight, sizes in crowd]
        for one in range(len(crowd)):
            for other in range(len(crowd)):
                assert had[one] - had[other] <= largest[one] + largest[other] + 1e-6


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 100)), max_size=20),
)
def test_a_flood_makes_nobody_wait_longer_than_a_request_of_it(flood: list[int], mine: list[tuple[int, int]]) -> None:
    """One who asks for no more than its share is served next, or after one request of each other key."""
    capacity = Capacity()
    arrivals = sorted(mine)
    for tokens in flood * 5:
        capacity.enter("flood", 1.0, tokens)
    served = 0
    while capacity.room:
        while arrivals and arrivals[0][0] <= served:
            ticket = capacity.enter("mine", 1.0, arrivals.pop(0)[1])
            assert ticket is not None
        flood_before = capacity.got["flood"]
        if "mine" in {share.name for share in capacity.contest.levels[Priority.NORMAL].shares.values() if share.places}:
            behind = capacity.contest.levels[Priority.NORMAL].shares
            first = capacity.serve()
            if first.share.name == "flood":
                assert behind["flood"].served - (capacity.got["flood"] - flood_before) <= behind["mine"].served
        else:
            capacity.serve()
        served += 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), min_size=1, max_size=60))
def test_for_one_key_the_order_is_by_priority_deadline_and_arrival(crowd: list[tuple[int, int]]) -> None:
    """What it was before keys had shares."""
    contest = Contest(10_000)
    room = WaitingRoom(contest)
    tickets = []
    for priority, deadline in crowd:
        ticket = room.enter("only", 1.0, priority, float(deadline), lambda: None)
        assert ticket is not None
        tickets.append(ticket)
    served = []
    while (first := room.first(0.0)) is not None:
        contest.levels[first.priority].began("only", 1.0, 10)
        room.leave(first)
        served.append(first)
    assert served == sorted(tickets, key=lambda t: (-t.priority, t.deadline, t.order))


@given(st.lists(st.sampled_from([Priority.NORMAL, Priority.HIGH]), min_size=200, max_size=200))
def test_no_priority_is_passed_more_often_than_the_bound(others: list[Priority]) -> None:
    capacity = Capacity()
    for number, priority in enumerate(others):
        capacity.enter(f"{number % 7}", 1.0, 10, priority)
    for _ in range(5):
        capacity.enter("low", 1.0, 10, Priority.LOW)
    order = [capacity.serve().priority for _ in range(len(others) + 5)]
    passed = {Priority.LOW: 0, Priority.NORMAL: 0}
    left = Counter(order)
    for priority in order:
        left[priority] -= 1
        for lower in passed:
            if priority > lower and left[lower]:
                passed[lower] += 1
                # One more where the one between them is due at the same time.
                assert passed[lower] <= PASSES_MAX + (lower is Priority.LOW)
            elif priority == lower:
                passed[lower] = 0


@given(st.integers(20, 200), st.integers(0, 400), st.integers(1, 30))
def test_a_flood_leaves_room_for_who_has_less(size_max: int, flood: int, wanted: int) -> None:
    """Whoever has fewer places than an equal part of them gets one, however many the flood asked for before."""
    capacity = Capacity(size_max)
    for _ in range(flood):
        capacity.enter("flood", 1.0, 1)
    for number in range(wanted):
        entered = capacity.enter("mine", 1.0, 1)
        if number + 1 < SHED_FROM[Priority.NORMAL] * size_max // 2:
            assert entered is not None
        capacity.enter("flood", 1.0, 1)
