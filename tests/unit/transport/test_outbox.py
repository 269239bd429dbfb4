"""What is written in one turn of the loop leaves at its end, in order, and nothing after an end."""

import asyncio
from typing import cast

from router.transport.outbox import LARGE_BYTES, Outbox
from tests.wire.fakes import FakeLoop, FakeTransport


def made() -> tuple[Outbox, FakeLoop, FakeTransport, FakeTransport]:
    loop = FakeLoop()
    a, b = (FakeTransport(loop, asyncio.Protocol()) for _ in range(2))
    return Outbox(cast("asyncio.AbstractEventLoop", loop)), loop, a, b


def test_what_a_turn_writes_leaves_at_its_end_in_the_order_of_each_transport() -> None:
    outbox, loop, a, b = made()
    outbox.write(a, b"1")
    outbox.write(b, b"x")
    outbox.write(a, b"2")
    assert (bytes(a.out), bytes(b.out)) == (b"", b"")
    loop.run()
    assert (bytes(a.out), bytes(b.out)) == (b"12", b"x")
    outbox.write(a, b"3")
    loop.run()
    assert bytes(a.out) == b"123"


def test_a_flush_writes_at_once_and_leaves_nothing_for_the_turn_s_end() -> None:
    outbox, loop, a, _ = made()
    outbox.write(a, b"1")
    outbox.flush()
    assert bytes(a.out) == b"1"
    loop.run()
    assert bytes(a.out) == b"1"


def test_what_is_large_is_written_at_once_behind_what_was_before_it() -> None:
    outbox, loop, a, b = made()
    large = b"y" * (LARGE_BYTES + 1)
    outbox.write(a, b"1")
    outbox.write(b, large)
    outbox.write(a, large)
    assert (bytes(a.out), bytes(b.out)) == (b"1" + large, large)
    loop.run()
    assert bytes(a.out) == b"1" + large


def test_a_transport_that_ended_meanwhile_gets_nothing_and_the_others_theirs() -> None:
    outbox, loop, a, b = made()
    outbox.write(a, b"1")
    outbox.write(b, b"x")
    a.abort()
    loop.run()
    assert (bytes(a.out), bytes(a.late), bytes(b.out)) == (b"", b"", b"x")
