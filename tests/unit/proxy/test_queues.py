"""Who is told when capacity may have come free: the most important over all rooms, and no more than find something."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.limits.fair import Ticket
from router.limits.waiting import PASSES_MAX, WaitingRoom
from router.model.policy import Priority
from router.proxy.queues import LOOK_EVERY_S, Queue, Queues
from tests.unit.proxy.fakes import FakeBackend

LOW, NORMAL, HIGH = Priority.LOW, Priority.NORMAL, Priority.HIGH


class Slots:
    """A deployment of so many slots, and those who wait for one."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.served: list[str] = []
        self.woken = 0

    def enter(self, room: WaitingRoom, name: str, priority: int, deadline: float) -> None:
        def wake() -> None:
            self.woken += 1
            if self.free:
                self.free -= 1
                self.served.append(name)
                room.leave(tickets[0])

        tickets: list[Ticket] = []
        ticket = room.enter(name, 1.0, priority, deadline, wake)
        assert ticket is not None
        tickets.append(ticket)


def room_of(queue: Queue, name: str, *backends: FakeBackend) -> WaitingRoom:
    return queue.room(name, "chat", 100, cast(Any, backends))


waiters = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 2), st.integers(1, 30)), min_size=1, max_size=12
)


@given(waiters, st.integers(0, 12))
def test_slots_go_by_importance_then_by_deadline_over_all_rooms(crowd: list[Any], free: int) -> None:
    """Each room has one priority, as each workload has."""
    queue, slots = Queue(), Slots(free)
    of_room = {room: priority for room, priority, _ in crowd}
    ranks = {}
    for order, (name, _, deadline) in enumerate(crowd):
        priority = of_room[name]
        slots.enter(room_of(queue, name), str(order), priority, float(deadline))
        ranks[str(order)] = (-priority, deadline)

    queue.capacity_came(0.0)

    assert [ranks[name] for name in slots.served] == sorted(ranks.values())[:free]
    assert slots.woken <= len(slots.served) + 3, "one for each room learns that nothing is left"


def test_whose_time_is_over_is_not_told() -> None:
    queue, slots = Queue(), Slots(1)
    room = room_of(queue, "a")
    slots.enter(room, "late", NORMAL, 5.0)
    queue.capacity_came(5.0)
    assert slots.woken == 0


def test_a_room_that_finds_nothing_does_not_stop_another() -> None:
    queue, dead, live = Queue(), Slots(0), Slots(2)
    dead.enter(room_of(queue, "dead"), "d", HIGH, 1.0)
    for name in ("x", "y"):
        live.enter(room_of(queue, "live"), name, LOW, 9.0)
    queue.capacity_came(0.0)
    assert (dead.woken, live.served) == (1, ["x", "y"])


@pytest.mark.parametrize(("newcomer", "expected"), [(LOW, True), (NORMAL, True), (HIGH, False)])
def test_only_what_others_wait_for_is_promised(newcomer: Priority, expected: bool) -> None:
    queue, slots = Queue(), Slots(0)
    wanted, other = FakeBackend(), FakeBackend()
    room = room_of(queue, "a", wanted)
    room_of(queue, "b", wanted, other)
    assert not queue.promised(cast(Any, wanted), newcomer, 0.0)
    slots.enter(room, "w", NORMAL, 9.0)
    assert queue.promised(cast(Any, wanted), newcomer, 0.0) is expected
    assert not queue.promised(cast(Any, other), newcomer, 0.0)


def test_what_begins_counts_only_where_others_wait_for_the_same() -> None:
    queue, slots = Queue(), Slots(0)
    wanted, other = FakeBackend(), FakeBackend()
    room = room_of(queue, "a", wanted)
    room_of(queue, "b", wanted, other)
    assert queue.began("b", 1.0, NORMAL, cast(Any, wanted), 10) is None
    slots.enter(room, "a", NORMAL, 9.0)
    assert queue.began("b", 1.0, NORMAL, cast(Any, other), 10) is None
    share = queue.began("b", 2.0, NORMAL, cast(Any, wanted), 10)
    assert share is not None
    assert share.served == 5.0
    assert queue.began("h", 1.0, HIGH, cast(Any, wanted), 10) is None, "nobody of its own has to wait"
    assert queue.contest.levels[NORMAL].passed == 1
    assert queue.contest.levels[LOW].passed == 0
    queue.began("b", 2.0, NORMAL, cast(Any, wanted), 10)
    assert queue.contest.levels[NORMAL].passed == 0


def test_who_was_passed_too_often_is_told_first_and_no_newcomer_passes() -> None:
    queue, slots = Queue(), Slots(1)
    wanted = FakeBackend()
    slots.enter(room_of(queue, "a", wanted), "low", LOW, 9.0)
    slots.enter(room_of(queue, "b", wanted), "normal", NORMAL, 1.0)
    for _ in range(PASSES_MAX):
        assert not queue.promised(cast(Any, wanted), HIGH, 0.0)
        queue.began("h", 1.0, HIGH, cast(Any, wanted), 10)
        queue.contest.levels[NORMAL].passed = 0
    assert queue.promised(cast(Any, wanted), HIGH, 0.0)
    queue.capacity_came(0.0)
    assert slots.served == ["low"]


@given(st.integers(0, 3), st.integers(1, 12), st.integers(1, 5))
def test_a_room_where_times_are_waited_for_is_looked_at_so_often_and_no_more(able: int, unable: int, free: int) -> None:
    """Of those whose time has not come one is asked: where it finds something, the next as well."""
    queue, slots = Queue(), Slots(0)
    room = room_of(queue, "a")
    for number in range(unable):
        slots.enter(room, f"unable {number}", NORMAL, 1.0)
        first = room.first(0.0, early=False)
        assert first is not None
        room.postpone(first, 5.0)
    for number in range(able):
        slots.enter(room, f"able {number}", NORMAL, 9.0)
    queue.capacity_came(0.0)
    assert slots.woken == 1 + bool(able)
    slots.free = free
    queue.capacity_came(0.0)
    assert len(slots.served) == min(free, unable + able)


def test_a_room_is_the_same_after_a_reload_with_what_it_may_use_then() -> None:
    queue, slots = Queue(), Slots(0)
    before, after = FakeBackend(), FakeBackend()
    slots.enter(room_of(queue, "a", before), "w", NORMAL, 9.0)
    room = queue.room("a", "chat", 7, cast(Any, (after,)))
    assert (len(room), queue.contest.size_max) == (1, 7)
    assert queue.promised(cast(Any, after), LOW, 0.0)
    assert not queue.promised(cast(Any, before), LOW, 0.0)


class Loop:
    """Calls when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.soon: list[tuple[Any, tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Any, *arguments: Any) -> None:
        self.soon.append((call, arguments))

    def run(self) -> None:
        calls, self.soon = self.soon, []
        for call, arguments in calls:
            call(*arguments)


class Wheel:
    def __init__(self) -> None:
        self.armed: float | None = None

    def ensure(self, _entry: object, at: float) -> None:
        self.armed = at if self.armed is None else min(self.armed, at)

    def disarm(self, _entry: object) -> None:
        self.armed = None


def queues() -> tuple[Queues, Loop, Wheel]:
    loop, wheel = Loop(), Wheel()
    return Queues(cast(Any, loop), cast(Any, wheel)), loop, wheel


def test_an_end_is_told_once_and_in_the_next_iteration() -> None:
    waiting, loop, _ = queues()
    queue, slots = Queue(), Slots(1)
    slots.enter(room_of(queue, "a"), "w", NORMAL, 9.0)
    waiting.entered(queue)
    for _ in range(3):
        waiting.capacity_came(queue)
    assert slots.served == []
    assert len(loop.soon) == 1
    loop.run()
    assert slots.served == ["w"]
    waiting.left()
    waiting.capacity_came(Queue())  # where nobody waits there is nobody to tell
    assert loop.soon == []


def test_rooms_of_plans_that_are_no_more_are_forgotten_once_they_are_empty() -> None:
    queue, slots = Queue(), Slots(1)
    stays, goes = room_of(queue, "stays"), room_of(queue, "goes")
    slots.enter(goes, "w", NORMAL, 9.0)
    queue.keep({("stays", "chat")})
    assert list(queue.rooms.values()) == [stays, goes], "somebody waits there"
    queue.capacity_came(0.0)
    queue.keep({("stays", "chat")})
    assert list(queue.rooms.values()) == [stays]


def test_time_passes_only_while_somebody_waits() -> None:
    waiting, loop, wheel = queues()
    queue, slots = Queue(), Slots(0)
    room = room_of(queue, "a")
    slots.enter(room, "w", NORMAL, 9.0)
    waiting.entered(queue)
    assert wheel.armed == LOOK_EVERY_S
    assert waiting.on_time(0.05) == 0.05 + LOOK_EVERY_S
    assert slots.woken == 1
    waiting.left()
    assert wheel.armed is None
    assert waiting.on_time(0.1) is None
    assert loop.soon == []


def test_one_who_is_woken_may_go_on_to_wait_for_another_model() -> None:
    """On the same connection, say: the look goes on over all that are there."""
    waiting, _, _ = queues()
    first, second = Queue(), Queue()
    room = room_of(first, "a")

    def wake() -> None:
        room.leave(ticket)
        waiting.left()
        waiting.entered(second)

    entered = room.enter("a", 1.0, NORMAL, 9.0, wake)
    assert entered is not None
    ticket = entered
    waiting.entered(first)
    assert waiting.on_time(0.0) == LOOK_EVERY_S
    assert waiting.count == 1
