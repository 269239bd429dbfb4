"""The line between supervisor and worker: what crosses it, and what becomes of those who wait."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import msgspec
import pytest

from router.transport.channel import Channel, ClosedError, FailedError, Verb

Labels: TypeAlias = dict[tuple[str, ...], float]


class Point(msgspec.Struct, frozen=True):
    """A value that has to arrive as what it was."""

    x: int
    labels: Labels


async def add(a: int, b: int) -> int:
    return a + b


async def mirror(point: Point) -> Point:
    return Point(-point.x, point.labels)


async def unknown() -> None:
    raise LookupError("no key is named 'x'")


async def full() -> None:
    raise OSError("the disk is full")


async def broken() -> None:
    raise ZeroDivisionError


async def mistaken() -> None:
    raise KeyError("a bug, and no name that somebody asked for")


VERBS: dict[str, Verb] = {
    "add": add,
    "mirror": mirror,
    "unknown": unknown,
    "full": full,
    "broken": broken,
    "mistaken": mistaken,
}


@asynccontextmanager
async def line(verbs: dict[str, Verb] | None = VERBS) -> AsyncIterator[tuple[Channel, Channel]]:
    """Two ends; the second serves."""
    loop = asyncio.get_running_loop()
    one, other = Channel(), Channel()
    for channel, end in zip((one, other), socket.socketpair(), strict=True):
        await loop.create_connection(lambda channel=channel: channel, sock=end)  # type: ignore[misc]
    if verbs is not None:
        other.serve(verbs)
    try:
        yield one, other
    finally:
        one.close()
        other.close()
        await asyncio.sleep(0.01)


async def test_values_arrive_as_what_they_were() -> None:
    async with line() as (one, _):
        assert await one.call(int, 1.0, "add", 2, 3) == 5
        labels: Labels = {("a", "b"): 0.5}
        assert await one.call(Point, 1.0, "mirror", Point(7, labels)) == Point(-7, labels)


async def test_calls_cross_each_other_and_large_ones_come_in_pieces() -> None:
    async with line() as (one, other):
        one.serve(VERBS)
        labels: Labels = {(f"label-{number}", "x" * 100): float(number) for number in range(10_000)}
        there, back = await asyncio.gather(
            one.call(Point, 10.0, "mirror", Point(1, labels)), other.call(Point, 10.0, "mirror", Point(2, labels))
        )
        assert (there, back) == (Point(-1, labels), Point(-2, labels))


async def test_an_answer_goes_to_who_asked_for_it_whatever_its_turn() -> None:
    release = asyncio.Event()

    async def slow() -> str:
        await release.wait()
        return "slow"

    async def quick() -> str:
        release.set()
        return "quick"

    async with line({"slow": slow, "quick": quick}) as (one, _):
        answers = await asyncio.gather(one.call(str, 1.0, "slow"), one.call(str, 1.0, "quick"))
        assert list(answers) == ["slow", "quick"]


async def test_calls_wait_for_who_does_not_serve_yet_and_keep_their_order() -> None:
    came: list[int] = []

    async def note(number: int) -> None:
        came.append(number)

    async with line(None) as (one, other):
        for number in range(5):
            one.tell("note", number)
        asked = asyncio.create_task(one.call(type(None), 1.0, "note", 5))
        await asyncio.sleep(0.01)
        assert not came
        other.serve({"note": note})
        await asked
        assert came == list(range(6))


@pytest.mark.parametrize(
    ("verb", "error", "text"),
    [
        ("unknown", LookupError, "no key is named 'x'"),
        ("full", FailedError, "the disk is full"),
        ("broken", FailedError, "ZeroDivisionError"),
        ("mistaken", FailedError, "KeyError"),
        ("nothing", FailedError, "KeyError"),
    ],
)
async def test_what_went_wrong_there_is_raised_here(verb: str, error: type[Exception], text: str) -> None:
    async with line() as (one, _):
        with pytest.raises(error, match=text):
            await one.call(int, 1.0, verb)
        assert await one.call(int, 1.0, "add", 1, 1) == 2, "the line goes on"


@pytest.mark.parametrize("whose", ["the asker's end", "this end"])
async def test_what_somebody_asked_for_who_is_gone_is_not_done_any_more(whose: str) -> None:
    """Else a worker's last word would be taken for one of the process in its place."""
    done, begun, release = [], asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await release.wait()
        done.append("slow")

    async with line({"slow": slow}) as (one, other):
        one.tell("slow")
        await begun.wait()
        if whose == "this end":
            release.set()  # it would go on in this very moment
            other.close()
        else:
            one.close()
            await other.closed.wait()
            release.set()
        await asyncio.sleep(0.01)
        assert not done


async def test_who_waits_hears_that_the_other_end_is_gone() -> None:
    async def never() -> None:
        await asyncio.sleep(60)

    async with line({"never": never}) as (one, other):
        waiting = asyncio.create_task(one.call(int, 10.0, "never"))
        await asyncio.sleep(0.01)
        other.close()
        with pytest.raises(ClosedError):
            await waiting
        with pytest.raises(ClosedError):
            await one.call(int, 1.0, "add", 1, 1)
        one.tell("add", 1, 1)


async def test_a_late_answer_disturbs_nobody() -> None:
    release = asyncio.Event()

    async def late() -> int:
        await release.wait()
        return 1

    async with line({"late": late, "add": add}) as (one, _):
        with pytest.raises(TimeoutError):
            await one.call(int, 0.01, "late")
        release.set()
        assert await one.call(int, 1.0, "add", 20, 22) == 42
