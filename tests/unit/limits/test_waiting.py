"""The waiting room: who goes first, who gives way, who may pass."""

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

    def serve_all(self, now: float = 0.0) -> list[str]:
        served = []
        while (first := self.room.first(now)) is not None:
            served.append(next(name for name, ticket in self.tickets.items() if ticket is first))
            self.room.leave(first)
        return served


def test_priority_then_deadline_then_arrival() -> None:
    crowd = Crowd()
    crowd.enter("late", NORMAL, 9.0)
    crowd.enter("early", NORMAL, 5.0)
    crowd.enter("early too", NORMAL, 5.0)
    crowd.enter("low", LOW, 1.0)
    crowd.enter("high", HIGH, 20.0)
    assert crowd.serve_all() == ["high", "early", "early too", "late", "low"]
    assert len(crowd.room) == 0


def test_who_is_out_of_time_is_passed_over() -> None:
    crowd = Crowd()
    crowd.enter("over", HIGH, 3.0)
    crowd.enter("waiting", LOW, 4.0)
    assert crowd.serve_all(now=3.0) == ["waiting"]
    assert len(crowd.room) == 1, "and leaves by itself"


def test_a_full_room_takes_the_more_important_only() -> None:
    crowd = Crowd(size_max=2)
    crowd.enter("low", LOW, 5.0)
    crowd.enter("later low", LOW, 9.0)
    assert not crowd.enter("another low", LOW, 1.0)
    assert crowd.enter("normal", NORMAL)
    assert crowd.tickets["later low"].evicted
    assert crowd.woken == ["later low"], "so that it can say so to its client"
    crowd.room.leave(crowd.tickets["later low"])
    assert (len(crowd.room), crowd.room.waiting(LOW), crowd.room.waiting(NORMAL)) == (2, 1, 1)
    assert crowd.enter("high", HIGH)
    assert crowd.tickets["low"].evicted
    assert not crowd.enter("another normal", NORMAL)


def test_a_newcomer_overtakes_only_the_less_important() -> None:
    crowd = Crowd()
    assert crowd.room.may_pass(LOW)
    crowd.enter("normal", NORMAL)
    assert [crowd.room.may_pass(priority) for priority in Priority] == [False, False, True]
    crowd.room.leave(crowd.tickets["normal"])
    crowd.room.leave(crowd.tickets["normal"])
    assert crowd.room.may_pass(LOW)
    assert len(crowd.room) == 0


@pytest.mark.parametrize(
    ("priority", "waiting", "refused"),
    [(LOW, 49, False), (LOW, 50, True), (NORMAL, 79, False), (NORMAL, 80, True), (HIGH, 100, False)],
)
def test_the_less_important_are_shed_first(priority: Priority, waiting: int, refused: bool) -> None:
    assert shed(priority, waiting, 100) is refused
