"""The waiting room: who is woken, who gives way, who may pass."""

import pytest

from router.limits.waiting import Ticket, WaitingRoom, shed
from router.model.policy import Priority

LOW, NORMAL, HIGH = Priority


class Crowd:
    """Enters by name, and writes down who is woken."""

    def __init__(self, size_max: int = 10) -> None:
        self.room = WaitingRoom(size_max)
        self.woken: list[str] = []
        self.tickets: dict[str, Ticket] = {}

    def enter(self, name: str, priority: Priority = NORMAL, deadline: float = 10.0) -> bool:
        ticket = self.room.enter(priority, deadline, lambda: self.woken.append(name))
        if ticket is not None:
            self.tickets[name] = ticket
        return ticket is not None

    def wake(self, count: int = 1, now: float = 0.0) -> list[str]:
        self.woken.clear()
        self.room.wake_first(count, now=now)
        return list(self.woken)


def test_priority_then_deadline_then_arrival() -> None:
    crowd = Crowd()
    crowd.enter("late", NORMAL, 9.0)
    crowd.enter("early", NORMAL, 5.0)
    crowd.enter("early too", NORMAL, 5.0)
    crowd.enter("low", LOW, 1.0)
    crowd.enter("high", HIGH, 20.0)
    assert [*crowd.wake(2), *crowd.wake(2), *crowd.wake(2)] == ["high", "early", "early too", "late", "low"]
    assert crowd.wake() == [], "they are all looking already"


def test_who_is_out_of_time_is_not_woken() -> None:
    crowd = Crowd()
    crowd.enter("over", HIGH, 3.0)
    crowd.enter("waiting", LOW, 4.0)
    assert crowd.wake(now=3.0) == ["waiting"]


def test_a_wake_that_was_for_nothing_goes_to_the_next() -> None:
    crowd = Crowd()
    for name in ("first", "second", "third"):
        crowd.enter(name)
    crowd.wake()
    crowd.room.leave(crowd.tickets["first"], took=False, now=0.0)
    assert crowd.woken == ["first", "second"]
    crowd.room.leave(crowd.tickets["second"], took=True, now=0.0)
    assert crowd.woken == ["first", "second"]
    assert len(crowd.room) == 1


def test_what_the_first_cannot_use_the_next_may() -> None:
    crowd = Crowd()
    for name in ("first", "second"):
        crowd.enter(name)
    crowd.enter("low", LOW)
    crowd.wake()
    crowd.room.wait_on(crowd.tickets["first"], 0.0)
    crowd.room.wait_on(crowd.tickets["second"], 0.0)
    crowd.room.wait_on(crowd.tickets["low"], 0.0)
    assert crowd.woken == ["first", "second", "low"], "and it ends there"
    assert crowd.wake() == ["first"], "which kept its place"


def test_a_full_room_takes_the_more_important_only() -> None:
    crowd = Crowd(size_max=2)
    crowd.enter("low", LOW, 5.0)
    crowd.enter("later low", LOW, 9.0)
    assert not crowd.enter("another low", LOW, 1.0)
    assert crowd.enter("normal", NORMAL)
    assert crowd.tickets["later low"].evicted
    assert crowd.woken == ["later low"], "so that it can say so to its client"
    crowd.room.leave(crowd.tickets["later low"], took=False, now=0.0)
    assert (len(crowd.room), crowd.room.waiting(LOW), crowd.room.waiting(NORMAL)) == (2, 1, 1)
    assert crowd.enter("high", HIGH)
    assert crowd.tickets["low"].evicted
    assert not crowd.enter("another normal", NORMAL)


def test_an_evicted_one_that_was_woken_passes_the_wake_on() -> None:
    crowd = Crowd(size_max=1)
    crowd.enter("low", LOW)
    crowd.wake()
    crowd.enter("high", HIGH)
    crowd.woken.clear()
    crowd.room.leave(crowd.tickets["low"], took=False, now=0.0)
    assert crowd.woken == ["high"]


def test_a_newcomer_overtakes_only_the_less_important() -> None:
    crowd = Crowd()
    assert crowd.room.may_pass(LOW)
    crowd.enter("normal", NORMAL)
    assert [crowd.room.may_pass(priority) for priority in Priority] == [False, False, True]
    crowd.room.leave(crowd.tickets["normal"], took=True, now=0.0)
    crowd.room.leave(crowd.tickets["normal"], took=True, now=0.0)
    assert crowd.room.may_pass(LOW)
    assert len(crowd.room) == 0


@pytest.mark.parametrize(
    ("priority", "waiting", "refused"),
    [(LOW, 49, False), (LOW, 50, True), (NORMAL, 79, False), (NORMAL, 80, True), (HIGH, 100, False)],
)
def test_the_less_important_are_shed_first(priority: Priority, waiting: int, refused: bool) -> None:
    assert shed(priority, waiting, 100, 1.0) is refused
    assert not shed(priority, waiting, 100, 0.99), "something is free"
