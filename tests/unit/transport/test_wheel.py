"""Deadlines: never early, at most a tick late, and gone once taken back."""

from collections.abc import Callable

import pytest

from router.transport.wheel import LAG_WINDOW_TICKS, TICK_S, Wheel
from tests.wire.fakes import FakeLoop


class Entry:
    def __init__(self, again: float | None = None) -> None:
        self.tick = 0
        self.calls: list[float] = []
        self.again = again

    def on_time(self, now: float) -> float | None:
        self.calls.append(now)
        again, self.again = self.again, None
        return again


def wheel() -> tuple[Wheel, float]:
    loop = FakeLoop()
    return Wheel(loop), loop.time()  # type: ignore[arg-type]


def test_a_deadline_is_met_at_the_first_tick_after_it_and_never_before() -> None:
    turning, start = wheel()
    entry = Entry()
    turning.arm(entry, start + 1.0)
    for step in range(40):
        now = start + step * TICK_S / 2
        turning.advance(now)
        assert not entry.calls or now >= start + 1.0
    turning.advance(start + 1.0 + TICK_S)
    assert len(entry.calls) == 1
    assert len(turning) == 0


def test_what_is_due_long_ago_is_called_at_the_next_tick() -> None:
    turning, start = wheel()
    entry = Entry()
    turning.arm(entry, start - 100.0)
    turning.advance(start + 2 * TICK_S)
    assert len(entry.calls) == 1


def test_a_late_wheel_calls_everything_once() -> None:
    turning, start = wheel()
    entries = [Entry() for _ in range(100)]
    for number, entry in enumerate(entries):
        turning.arm(entry, start + number / 10)
    turning.advance(start + 60.0)
    assert all(len(entry.calls) == 1 for entry in entries)


def test_an_entry_says_when_it_wants_to_be_called_again() -> None:
    turning, start = wheel()
    entry = Entry(again=start + 5.0)
    turning.arm(entry, start + 1.0)
    turning.advance(start + 2.0)
    turning.advance(start + 4.9)
    assert len(entry.calls) == 1
    turning.advance(start + 5.1)
    assert len(entry.calls) == 2
    assert len(turning) == 0


def test_what_was_taken_back_is_not_called() -> None:
    turning, start = wheel()
    entry = Entry()
    turning.arm(entry, start + 1.0)
    turning.disarm(entry)
    turning.disarm(entry)
    turning.advance(start + 2.0)
    assert not entry.calls


def test_one_entry_of_a_slot_may_take_another_back() -> None:
    turning, start = wheel()

    class Taker(Entry):
        def __init__(self, other: Entry) -> None:
            super().__init__()
            self.other = other

        def on_time(self, now: float) -> float | None:
            turning.disarm(self.other)
            return super().on_time(now)

    first, second = Entry(), Entry()
    one, two = Taker(second), Taker(first)
    one.other, two.other = two, one
    for entry in (one, two):
        turning.arm(entry, start + 1.0)
    turning.advance(start + 2.0)
    assert len(one.calls) + len(two.calls) == 1


def test_ensure_moves_an_entry_forward_and_never_back() -> None:
    turning, start = wheel()
    entry = Entry()
    turning.ensure(entry, start + 5.0)
    turning.ensure(entry, start + 9.0)
    turning.ensure(entry, start + 1.0)
    assert len(turning) == 1
    turning.advance(start + 1.1)
    assert len(entry.calls) == 1
    turning.advance(start + 20.0)
    assert len(entry.calls) == 1


class Ticking(FakeLoop):
    """A loop that is asked for one call at a time, and makes it as late as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def time(self) -> float:
        return self.now_s

    def call_at(self, when: float, callback: Callable[[float], None], due: float) -> None:
        self._next = when, callback, due

    def tick(self, late_s: float = 0.0) -> None:
        when, callback, due = self._next
        self.now_s = round(when + late_s, 3)
        callback(due)


def test_each_tick_is_one_call() -> None:
    """Time on uvloop goes in whole milliseconds, so that a timer is called at its very moment and not after it."""
    loop = Ticking()
    turning = Wheel(loop)  # type: ignore[arg-type]
    turning.start()
    for number in range(1, 20_001):
        loop.tick()
        assert loop.now_s == pytest.approx(1000.0 + number * TICK_S)


def test_the_worst_lag_is_told_for_a_while_however_often_it_is_asked_for() -> None:
    loop = Ticking()
    turning = Wheel(loop)  # type: ignore[arg-type]
    turning.start()
    assert turning.lag_s == 0.0
    loop.tick(late_s=0.02)
    loop.tick(late_s=0.7)
    for _ in range(LAG_WINDOW_TICKS):
        loop.tick(late_s=0.001)
        assert turning.lag_s == pytest.approx(0.7)
    for _ in range(LAG_WINDOW_TICKS):
        loop.tick(late_s=0.001)
    assert turning.lag_s == pytest.approx(0.001)
