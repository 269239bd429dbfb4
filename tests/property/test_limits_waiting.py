"""The waiting room against a sorted list that does everything the slow way."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.limits.waiting import Ticket, WaitingRoom
from router.model.policy import Priority

SIZE_MAX = 6


class Waiter:
    """The model's view of one who waits."""

    def __init__(self, number: int, priority: int, deadline: float) -> None:
        self.number, self.priority, self.deadline = number, priority, deadline
        self.ticket: Ticket | None = None
        self.wakes = 0  # as it happened
        self.expected = 0  # as the model says
        self.ends = 0

    @property
    def rank(self) -> tuple[int, float, int]:
        return -self.priority, self.deadline, self.number

    def wake(self) -> None:
        self.wakes += 1


class Room(RuleBasedStateMachine):
    """Every step is taken by both; they must wake and hold the same."""

    def __init__(self) -> None:
        super().__init__()
        self.room = WaitingRoom(SIZE_MAX)
        self.present: list[Waiter] = []
        self.all: list[Waiter] = []
        self.now = 0.0

    @rule(priority=st.sampled_from(list(Priority)), within_s=st.integers(1, 9))
    def enter(self, priority: Priority, within_s: int) -> None:
        waiter = Waiter(len(self.all), int(priority), self.now + within_s)
        waiter.ticket = self.room.enter(priority, waiter.deadline, waiter.wake)
        self.all.append(waiter)
        lower = [other for other in self.present if other.priority < priority]
        if len(self.present) < SIZE_MAX:
            assert waiter.ticket is not None
            self.present.append(waiter)
        elif not lower:
            assert waiter.ticket is None
            waiter.ends += 1
        else:
            lowest = min(other.priority for other in lower)
            victim = max((other for other in lower if other.priority == lowest), key=lambda other: other.rank)
            assert victim.ticket is not None
            assert victim.ticket.evicted
            victim.expected += 1  # so that it can say so
            self.present.remove(victim)
            self.present.append(waiter)
            self._end(victim)

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.present))
        self.present.remove(waiter)
        self._end(waiter)

    @rule(seconds=st.integers(1, 4))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def same_and_bounded(self) -> None:
        assert len(self.room) == len(self.present) <= SIZE_MAX
        for priority in Priority:
            assert self.room.waiting(priority) == sum(waiter.priority == priority for waiter in self.present)
            assert self.room.may_pass(priority) == all(waiter.priority < priority for waiter in self.present)

    @invariant()
    def the_first_is_first(self) -> None:
        in_time = [waiter for waiter in self.present if waiter.deadline > self.now]
        expected = min(in_time, key=lambda waiter: waiter.rank).ticket if in_time else None
        assert self.room.first(self.now) is expected

    @invariant()
    def woken_as_expected(self) -> None:
        for waiter in self.all:
            assert waiter.wakes == waiter.expected

    @invariant()
    def nobody_is_lost(self) -> None:
        for waiter in self.all:
            assert waiter.ends + (waiter in self.present) == 1

    def _end(self, waiter: Waiter) -> None:
        assert waiter.ticket is not None
        for _ in range(2):  # the second does nothing
            self.room.leave(waiter.ticket)
        waiter.ends += 1


TestRoom = Room.TestCase
TestRoom.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
