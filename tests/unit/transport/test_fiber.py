"""A coroutine that is woken on its waker's stack: what it waits for, what it is thrown, and when it is late."""

import pytest

from router.transport.fiber import Fiber
from router.transport.wheel import Wheel
from tests.wire.fakes import FakeLoop


def fiber() -> tuple[Fiber, float]:
    loop = FakeLoop()
    return Fiber(Wheel(loop)), loop.time()  # type: ignore[arg-type]


def test_it_runs_up_to_its_first_wait_at_once_and_on_at_each_wake() -> None:
    driven, start = fiber()
    seen: list[str] = []

    async def life() -> None:
        seen.append("begin")
        await driven.park(start + 9, lambda: None)
        seen.append("woken")
        await driven.rest()
        seen.append("end")

    driven.run(life())
    assert seen == ["begin"]
    driven.wake()
    assert seen == ["begin", "woken"]
    assert not driven.finished
    driven.wake()
    assert seen == ["begin", "woken", "end"]
    assert driven.finished
    driven.wake()
    driven.throw(ValueError())
    assert len(driven.wheel) == 0


def test_a_wake_while_it_runs_is_no_second_entry() -> None:
    driven, start = fiber()
    turns = 0

    async def life() -> None:
        nonlocal turns
        while turns < 2:
            turns += 1
            driven.wake()
            await driven.park(start + 9, lambda: None)

    driven.run(life())
    assert turns == 1
    driven.wake()
    driven.wake()
    assert driven.finished


@pytest.mark.parametrize("parked", [True, False])
def test_what_is_thrown_is_raised_where_it_waits_or_will_wait(parked: bool) -> None:
    driven, start = fiber()
    caught: list[str] = []

    async def life() -> None:
        if not parked:
            driven.throw(ValueError("early"))
        try:
            await driven.park(start + 9, lambda: None)
        except ValueError as error:
            caught.append(str(error))

    driven.run(life())
    if parked:
        driven.throw(ValueError("late"))
        driven.throw(ValueError("later"))
    assert caught == ["late" if parked else "early"]
    assert driven.finished
    assert len(driven.wheel) == 0


def test_a_deadline_raises_what_it_was_told_to() -> None:
    driven, start = fiber()
    caught: list[str] = []

    async def life() -> None:
        try:
            await driven.park(start + 1, lambda: TimeoutError("late"))
        except TimeoutError as error:
            caught.append(str(error))

    driven.run(life())
    driven.wheel.advance(start + 0.9)
    assert not caught
    driven.wheel.advance(start + 1.2)
    assert caught == ["late"]


def test_a_deadline_without_an_error_is_a_wake() -> None:
    driven, start = fiber()
    turns = 0

    async def life() -> None:
        nonlocal turns
        for deadline in (start + 1, start + 3):
            await driven.park(deadline, lambda: None)
            turns += 1

    driven.run(life())
    driven.wheel.advance(start + 1.2)
    assert turns == 1
    driven.wheel.advance(start + 2.9)
    assert turns == 1
    driven.wheel.advance(start + 3.1)
    assert turns == 2


def test_a_rest_has_no_deadline_and_hears_what_is_thrown() -> None:
    driven, start = fiber()
    caught: list[str] = []

    async def life() -> None:
        try:
            await driven.rest()
        except ValueError:
            caught.append("thrown")

    driven.run(life())
    driven.wheel.advance(start + 1000)
    assert not caught
    driven.throw(ValueError())
    assert caught == ["thrown"]


def test_what_escapes_it_ends_it() -> None:
    driven, _ = fiber()

    async def life() -> None:
        await driven.rest()
        raise KeyError("ours")

    driven.run(life())
    with pytest.raises(KeyError):
        driven.wake()
    assert driven.finished


def test_time_spent_waiting_is_counted() -> None:
    driven, start = fiber()

    async def life() -> None:
        await driven.park(start + 9, lambda: None)
        await driven.rest()

    driven.run(life())
    driven.wake()
    first = driven.waited_s
    driven.wake()
    assert 0 < first < driven.waited_s < 5
