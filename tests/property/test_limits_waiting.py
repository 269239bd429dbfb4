"""The waiting room against a sorted list that does everything the slow way."""

from collections.abc import Callable

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
        self.looking = False  # woken, and not answered for yet
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
            self._end(victim, took=False)

    @rule(count=st.integers(1, 3))
    def wake_first(self, count: int) -> None:
        self.room.wake_first(count, now=self.now)
        self._expect(count)

    @precondition(lambda self: self.present)
    @rule(data=st.data(), took=st.booleans())
    def leave(self, data: st.DataObject, took: bool) -> None:
        waiter = data.draw(st.sampled_from(self.present))
        self.present.remove(waiter)
        self._end(waiter, took=took)

    @precondition(lambda self: any(waiter.looking for waiter in self.present))
    @rule(data=st.data())
    def wait_on(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from([waiter for waiter in self.present if waiter.looking]))
        assert waiter.ticket is not None
        self.room.wait_on(waiter.ticket, self.now)
        waiter.looking = False
        self._expect(1, lambda other: other.rank > waiter.rank)

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
    def woken_as_expected(self) -> None:
        for waiter in self.all:
            assert waiter.wakes == waiter.expected

    @invariant()
    def nobody_is_lost(self) -> None:
        for waiter in self.all:
            assert waiter.ends + (waiter in self.present) == 1

    def _end(self, waiter: Waiter, *, took: bool) -> None:
        assert waiter.ticket is not None
        for _ in range(2):  # the second does nothing
            self.room.leave(waiter.ticket, took=took, now=self.now)
        waiter.ends += 1
        if waiter.looking and not took:
            self._expect(1)
        waiter.looking = False

    def _expect(self, count: int, eligible: Callable[[Waiter], bool] = lambda _: True) -> None:
        """Exactly the first of those that wait, in time."""
        waiting = [other for other in self.present if not other.looking and other.deadline > self.now]
        for other in sorted(filter(eligible, waiting), key=lambda other: other.rank)[:count]:
            other.expected += 1
            other.looking = True


TestRoom = Room.TestCase
TestRoom.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
