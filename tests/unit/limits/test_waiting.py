"""The waiting room: who goes first, who gives way, who may pass."""

import pytest

from router.limits.fair import Ticket
from router.limits.waiting import KEPT, PASSES_MAX, Contest, WaitingRoom
from router.model.policy import Priority

LOW, NORMAL, HIGH = Priority


class Crowd:
    """Enters by name, each its own key unless told otherwise, and writes down who is woken."""

    def __init__(self, size_max: int = 10) -> None:
        self.contest = Contest(size_max)
        self.room = WaitingRoom(self.contest)
        self.woken: list[str] = []
        self.tickets: dict[str, Ticket] = {}

    def enter(
        self, name: str, priority: Priority = NORMAL, deadline: float = 10.0, *, key: str = "", weight: float = 1.0
    ) -> bool:
        ticket = self.room.enter(key or name, weight, priority, deadline, lambda: self.woken.append(name))
        if ticket is not None:
            self.tickets[name] = ticket
        return ticket is not None

    def name_of(self, ticket: Ticket | None) -> str:
        return next((name for name, each in self.tickets.items() if each is ticket), "")

    def serve(self, now: float = 0.0, tokens: int = 1) -> str:
        """The one who goes first, out of the room and counted."""
        first = self.room.first(now)
        if first is None:
            return ""
        self.contest.levels[first.priority].began(first.share.name, first.share.weight, tokens)
        self.room.leave(first)
        return self.name_of(first)

    def serve_all(self, now: float = 0.0, tokens: int = 1) -> list[str]:
        return list(iter(lambda: self.serve(now, tokens), ""))


def test_priority_then_deadline_then_arrival() -> None:
    crowd = Crowd(20)
    crowd.enter("late", NORMAL, 9.0)
    crowd.enter("early", NORMAL, 5.0)
    crowd.enter("early too", NORMAL, 5.0)
    crowd.enter("low", LOW, 1.0)
    crowd.enter("high", HIGH, 20.0)
    assert crowd.serve_all() == ["high", "early", "early too", "late", "low"]
    assert len(crowd.room) == len(crowd.contest) == 0
    assert not crowd.room


def test_keys_take_turns_whoever_came_first_or_has_more_waiting() -> None:
    crowd = Crowd(20)
    for number in range(5):
        crowd.enter(f"flood {number}", key="flood", deadline=1.0)
    crowd.enter("a 0", key="a", deadline=9.0)
    crowd.enter("a 1", key="a", deadline=9.0)
    assert crowd.serve_all() == ["flood 0", "a 0", "flood 1", "a 1", "flood 2", "flood 3", "flood 4"]


def test_a_key_of_twice_the_weight_gets_twice_as_much() -> None:
    crowd = Crowd(40)
    for number in range(9):
        crowd.enter(f"double {number}", key="double", weight=2.0)
        crowd.enter(f"single {number}", key="single")
    served = [crowd.serve().split()[0] for _ in range(12)]
    assert (served.count("double"), served.count("single")) == (8, 4)


def test_work_counts_and_not_requests() -> None:
    crowd = Crowd(100)
    for number in range(40):
        crowd.enter(f"large {number}", key="large")
        crowd.enter(f"small {number}", key="small")
    served = [crowd.serve(tokens=900 if crowd.name_of(crowd.room.first(0.0))[0] == "l" else 100) for _ in range(40)]
    assert sum(name.startswith("large") for name in served) == 4


def test_what_was_counted_too_much_is_made_good() -> None:
    crowd = Crowd(40)
    for number in range(9):
        crowd.enter(f"a {number}", key="a")
        crowd.enter(f"b {number}", key="b")
    assert [crowd.serve(tokens=5) for _ in range(2)] == ["a 0", "b 0"]
    level = crowd.contest.levels[NORMAL]
    level.make_good(level.shares["b"], -5)
    assert [crowd.serve(tokens=5) for _ in range(3)] == ["b 1", "a 1", "b 2"]


def test_who_comes_new_stands_behind_nobody_who_was_counted_too_much() -> None:
    """Estimates are made good at the end; until then they must not push others back."""
    crowd = Crowd(100)
    for number in range(20):
        crowd.enter(f"busy {number}", key="busy")
    for _ in range(9):
        crowd.serve(tokens=100)
    level = crowd.contest.levels[NORMAL]
    for _ in range(9):
        level.make_good(level.shares["busy"], -95)
    crowd.enter("new", key="new")
    assert "new" in [crowd.serve(tokens=100) for _ in range(2)]


def test_who_comes_back_has_saved_nothing_up() -> None:
    crowd = Crowd(100)
    crowd.enter("late 0", key="late")
    for number in range(20):
        crowd.enter(f"busy {number}", key="busy")
    served = [crowd.serve() for _ in range(10)]
    assert served.count("late 0") == 1
    for number in range(1, 6):
        crowd.enter(f"late {number}", key="late")
    assert [crowd.serve().split()[0] for _ in range(6)].count("late") == 3


def test_who_is_out_of_time_is_passed_over() -> None:
    crowd = Crowd()
    crowd.enter("over", HIGH, 3.0)
    crowd.enter("waiting", LOW, 4.0)
    assert crowd.serve_all(now=3.0) == ["waiting"]
    assert len(crowd.room) == 1, "and leaves by itself"


def test_a_full_room_takes_the_more_important_only() -> None:
    crowd = Crowd(size_max=4)
    crowd.enter("low", LOW, 5.0)
    crowd.enter("later low", LOW, 9.0)
    assert not crowd.enter("another low", LOW, 1.0)
    assert crowd.enter("normal")
    assert crowd.enter("high", HIGH)
    assert crowd.enter("second high", HIGH)
    assert crowd.tickets["later low"].evicted
    assert crowd.woken == ["later low"], "so that it can say so to its client"
    crowd.room.leave(crowd.tickets["later low"])
    assert (len(crowd.room), [level.places for level in crowd.contest.levels]) == (4, [1, 1, 2])
    assert crowd.enter("second normal")
    assert crowd.tickets["low"].evicted
    assert crowd.enter("third high", HIGH)
    assert crowd.tickets["second normal"].evicted, "the last of them"
    assert not crowd.enter("third normal")


def test_a_flood_cannot_fill_the_room_for_others() -> None:
    crowd = Crowd(size_max=100)
    taken = [crowd.enter(f"flood {number}", key="flood") for number in range(200)]
    assert sum(taken) == 80, "four fifths are for most, of whatever key"
    for number in range(50):
        assert crowd.enter(f"a {number}", key="a") is (number < 40)
    assert crowd.woken == [f"flood {number}" for number in range(79, 39, -1)], "the last that came are the first to go"
    assert not crowd.enter("one more", key="flood")
    assert crowd.enter("new", key="new"), "who has least takes a place of whoever has most"
    assert crowd.enter("heavy", key="heavy", weight=9.0)


def test_who_gives_way_may_come_back_at_once_with_another_request() -> None:
    """On the same connection, say: the wake runs it up to its next wait."""
    contest = Contest(5)
    room = WaitingRoom(contest)
    returned: list[Ticket | None] = []

    def come_back() -> None:
        returned.append(room.enter("heavy", 9.0, NORMAL, 9.0, lambda: None))

    for _ in range(4):
        assert room.enter("flood", 1.0, NORMAL, 9.0, come_back) is not None
    light = room.enter("light", 0.5, NORMAL, 9.0, lambda: None)
    assert light is not None
    assert [ticket is not None and ticket.present for ticket in returned] == [True] * 3
    assert light.evicted, "by its weight it had the most by then"
    assert len(room) == len(contest) == 4


def test_of_many_who_have_one_place_each_none_gives_way() -> None:
    crowd = Crowd(size_max=10)
    assert [crowd.enter(f"{number}") for number in range(9)] == [True] * 8 + [False]
    assert crowd.woken == []
    assert len(crowd.contest.levels[NORMAL].shares) == 8, "of who got no place nothing is kept"


@pytest.mark.parametrize("crowding", [NORMAL, HIGH])
def test_some_places_are_kept_for_each_priority(crowding: Priority) -> None:
    size_max = 100
    crowd = Crowd(size_max)
    for number in range(2 * size_max):
        crowd.enter(f"crowd {number}", crowding)
    for number in range(2 * size_max // KEPT):
        assert crowd.enter(f"low {number}", LOW) is (number < size_max // KEPT)
    assert len(crowd.contest) <= size_max
    for number in range(size_max):
        crowd.enter(f"more {number}", HIGH)
    assert crowd.contest.levels[LOW].places == size_max // KEPT, "and they are not taken away"


def test_a_newcomer_overtakes_only_the_less_important() -> None:
    crowd = Crowd()
    assert crowd.room.may_pass(LOW, 0.0)
    crowd.enter("normal", NORMAL)
    assert [crowd.room.may_pass(priority, 0.0) for priority in Priority] == [False, False, True]
    crowd.room.leave(crowd.tickets["normal"])
    crowd.room.leave(crowd.tickets["normal"])
    assert crowd.room.may_pass(LOW, 0.0)
    assert len(crowd.room) == 0


def test_who_cannot_be_served_yet_stands_in_nobodys_way() -> None:
    crowd = Crowd()
    crowd.enter("large", key="a")
    crowd.room.postpone(crowd.tickets["large"], 5.0)
    assert crowd.room.may_pass(NORMAL, 4.9)
    crowd.enter("small", key="a")
    assert not crowd.room.may_pass(NORMAL, 4.9)
    assert crowd.name_of(crowd.room.first(4.9)) == "large", "what is known of it may have changed"
    assert crowd.name_of(crowd.room.first(4.9, early=False)) == "small"
    assert crowd.name_of(crowd.room.first(5.0, early=False)) == "large", "its time has come"
    assert crowd.tickets["large"].not_before == 0.0
    crowd.room.leave(crowd.tickets["small"])
    assert not crowd.room.may_pass(NORMAL, 5.0)


def test_a_time_that_changed_its_mind_is_the_one_that_counts() -> None:
    crowd = Crowd()
    crowd.enter("a")
    for until in (5.0, 3.0, 7.0):
        crowd.room.postpone(crowd.tickets["a"], until)
    assert crowd.room.may_pass(NORMAL, 6.9)
    assert not crowd.room.may_pass(NORMAL, 7.0)
    crowd.room.postpone(crowd.tickets["a"], 9.0)
    crowd.room.postpone(crowd.tickets["a"], 0.0)
    assert not crowd.room.may_pass(NORMAL, 7.0)
    crowd.room.leave(crowd.tickets["a"])
    crowd.room.postpone(crowd.tickets["a"], 8.0)
    assert crowd.room.may_pass(NORMAL, 9.0)


def test_times_of_those_who_left_are_not_kept_for_ever() -> None:
    crowd = Crowd()
    for number in range(1000):
        crowd.enter(f"{number}")
        crowd.room.postpone(crowd.tickets[f"{number}"], 100.0)
        crowd.room.leave(crowd.tickets[f"{number}"])
    assert len(crowd.room._times) < 100


def test_a_lower_priority_has_its_turn_after_so_many() -> None:
    crowd = Crowd(100)
    for number in range(50):
        crowd.enter(f"high {number}", HIGH)
    crowd.enter("low", LOW)
    levels, served = crowd.contest.levels, list[str]()
    while "low" not in served:
        served.append(crowd.serve())
        levels[LOW].passed += served[-1] != "low"
    assert len(served) == PASSES_MAX + 1
    assert crowd.serve().startswith("high")


def test_who_is_due_is_not_passed_by_a_newcomer() -> None:
    crowd = Crowd(100)
    crowd.enter("low", LOW)
    crowd.contest.levels[LOW].passed = PASSES_MAX - 1
    assert crowd.room.may_pass(HIGH, 0.0)
    crowd.contest.levels[LOW].passed = PASSES_MAX
    assert not crowd.room.may_pass(HIGH, 0.0)


def test_places_are_counted_over_all_rooms() -> None:
    contest = Contest(10)
    first, second = WaitingRoom(contest), WaitingRoom(contest)
    tickets = [room.enter("flood", 1.0, NORMAL, 9.0, lambda: None) for room in (first, second) * 4]
    assert first.enter("flood", 1.0, NORMAL, 9.0, lambda: None) is None
    assert first.enter("other", 1.0, NORMAL, 9.0, lambda: None) is not None
    assert [ticket is not None and ticket.evicted for ticket in tickets] == [False] * 7 + [True]
    assert (len(first), len(second)) == (5, 3)


@pytest.mark.parametrize("size_max", [0, 1])
def test_a_room_of_none_or_one(size_max: int) -> None:
    crowd = Crowd(size_max)
    assert crowd.enter("a", LOW) is bool(size_max)
    assert crowd.enter("b", HIGH) is bool(size_max)
    assert len(crowd.contest) == size_max


@pytest.mark.parametrize(
    ("priority", "waiting", "refused"),
    [(LOW, 49, False), (LOW, 50, True), (NORMAL, 79, False), (NORMAL, 80, True), (HIGH, 89, False), (HIGH, 90, True)],
)
def test_the_less_important_are_shed_first(priority: Priority, waiting: int, refused: bool) -> None:
    """The last tenth is what is kept for the two other priorities."""
    crowd = Crowd(100)
    for number in range(waiting):
        assert crowd.enter(f"{number}", priority)
    assert crowd.enter("one more", priority) is not refused
