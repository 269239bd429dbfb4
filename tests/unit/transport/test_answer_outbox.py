"""No byte of a turn that settled a request leaves before the ledger has it, and what leaves keeps its order."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from router.transport.answer_outbox import TAIL_BYTES, AnswerOutbox
from router.transport.outbox import LARGE_BYTES
from tests.wire.fakes import FakeLoop, FakeTransport


class _Pending(Sequence[object]):
    """As many as were settled and not committed."""

    def __init__(self, ledger: "FakeLedger") -> None:
        self._ledger = ledger

    def __len__(self) -> int:
        return self._ledger.settled - self._ledger.committed

    def __getitem__(self, index: Any) -> Any:
        return range(len(self))[index]


class FakeLedger:
    """Knows how much was committed, and how much of it is on the disk."""

    def __init__(self, *, durable: bool) -> None:
        self.durable = durable
        self.settled = self.committed = self.on_disk = 0
        self.pending: Sequence[object] = _Pending(self)
        self.waiting: list[tuple[int, Callable[[], None]]] = []

    @property
    def safe(self) -> int:
        return self.on_disk if self.durable else self.committed

    def commit(self) -> None:
        self.committed = self.settled

    def when_durable(self, then: Callable[[], None]) -> None:
        self.waiting.append((self.committed, then))

    def sync(self) -> None:
        if self.waiting:
            self.on_disk, then = self.waiting.pop(0)
            then()


class Recorded(FakeTransport):
    """Notes how many requests were safe whenever something leaves."""

    def __init__(self, loop: FakeLoop, ledger: FakeLedger) -> None:
        super().__init__(loop, asyncio.Protocol())
        self._ledger = ledger
        self.left: list[tuple[int, int]] = []  # bytes in all, requests that were safe

    def write(self, data: Any) -> None:
        super().write(data)
        self.left.append((len(self.out), self._ledger.safe))


def made(*, durable: bool) -> tuple[AnswerOutbox, FakeLoop, FakeLedger, Recorded]:
    loop, ledger = FakeLoop(), FakeLedger(durable=durable)
    outbox = AnswerOutbox(cast("asyncio.AbstractEventLoop", loop))
    outbox.gate = ledger
    return outbox, loop, ledger, Recorded(loop, ledger)


def test_an_answer_leaves_after_its_request_is_written_down() -> None:
    outbox, loop, ledger, client = made(durable=False)
    outbox.write(client, b"answer")
    ledger.settled = 1
    loop.run()
    assert client.left == [(6, 1)]


def test_the_end_of_a_long_answer_waits_for_the_turn_s_end() -> None:
    outbox, loop, ledger, client = made(durable=False)
    outbox.write(client, b"y" * (LARGE_BYTES + 1))
    assert len(client.out) == LARGE_BYTES + 1 - TAIL_BYTES
    ledger.settled = 1
    loop.run()
    assert client.left[-1] == (LARGE_BYTES + 1, 1)


def test_the_end_of_a_connection_ends_an_answer_and_waits_as_well() -> None:
    outbox, loop, ledger, client = made(durable=True)
    outbox.write(client, b"answer without a length")
    outbox.close(client)
    ledger.settled = 1
    outbox.flush()
    assert not client.out
    assert not client.closed
    ledger.sync()
    assert client.left == [(23, 1)]
    assert client.is_closing()
    loop.run()
    assert not client.late


def test_streams_go_on_while_an_answer_waits_for_the_disk() -> None:
    outbox, loop, ledger, client = made(durable=True)
    stream = Recorded(loop, ledger)
    outbox.write(client, b"answer")
    ledger.settled = 1
    loop.run()
    outbox.write(stream, b"chunk")
    outbox.write(client, b"behind it")
    loop.run()
    assert (bytes(client.out), bytes(stream.out)) == (b"", b"chunk")
    ledger.sync()
    assert bytes(client.out) == b"answerbehind it"
    outbox.write(client, b", at once")
    loop.run()
    assert bytes(client.out) == b"answerbehind it, at once"


def test_our_direction_ends_behind_what_was_written() -> None:
    outbox, loop, _, client = made(durable=False)
    outbox.write(client, b"bye")
    outbox.end_writing(client)
    loop.run()
    assert (bytes(client.out), client.eof_sent, client.closed) == (b"bye", True, False)


_WRITES = ("write", "large", "answer", "long answer")
_STEPS = st.lists(st.tuples(st.sampled_from((*_WRITES, "turn", "sync", "flush")), st.integers(0, 2)), max_size=40)


@given(steps=_STEPS, durable=st.booleans())
def test_order_is_kept_and_no_answer_ends_unsafe(steps: list[tuple[str, int]], durable: bool) -> None:
    outbox, loop, ledger, first = made(durable=durable)
    clients = [first, Recorded(loop, ledger), Recorded(loop, ledger)]
    sent = [bytearray() for _ in clients]
    ends: list[list[tuple[int, int]]] = [[] for _ in clients]  # bytes until an answer's end, which request it was
    for number, (step, who) in enumerate(steps):
        data = bytearray(b"%d," % number)
        if step in ("large", "long answer"):
            data *= LARGE_BYTES
        if step in _WRITES:
            outbox.write(clients[who], bytes(data))
            sent[who] += data
        if step.endswith("answer"):
            ledger.settled += 1
            ends[who].append((len(sent[who]), ledger.settled))
        elif step == "turn":
            loop.run()
        elif step == "sync":
            ledger.sync()
        elif step == "flush":
            outbox.flush()
    loop.run()
    while ledger.waiting:
        ledger.sync()
    for client, all_of_it, answers in zip(clients, sent, ends, strict=True):
        assert client.out == all_of_it
        for length, request in answers:
            assert all(safe >= request for total, safe in client.left if total >= length)
