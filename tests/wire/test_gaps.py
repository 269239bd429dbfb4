"""How the gaps of a stream are counted: each once, on both ways through the relay, and only those of the deployment."""

import sys
from bisect import bisect_left
from collections.abc import Callable
from time import monotonic

import pytest

from router.telemetry.metrics import GAP_BOUNDS_S
from tests.wire.test_relay import ASK, HEAD, chunked
from tests.wire.whole_router import Exchange

COMMENT = b": still here\n\n"


def word(text: str) -> bytes:
    return (
        b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % text.encode()
    )


SILENT = word("")
FIRST, *LATER = map(word, ("one", "two", "three", "four", "five"))


class Clock:
    """Stands but for what a test turns it on."""

    def __init__(self) -> None:
        self.now_s = monotonic()

    def __call__(self) -> float:
        self.now_s += 1e-6  # nothing takes no time
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for name, module in tuple(sys.modules.items()):
        if name.startswith("router.") and hasattr(module, "monotonic"):
            monkeypatch.setattr(module, "monotonic", clock)
    return clock


def flowing(clock: Clock) -> Exchange:
    """A stream whose first content has come and is with the client."""
    one = Exchange(ASK).answer(HEAD + chunked([FIRST], b""))
    assert FIRST in one.client.out
    return one


def untouched(event: bytes) -> list[bytes]:
    return [chunked([event], b"")]


def in_halves(event: bytes) -> list[bytes]:
    """Two chunks, two reads: the relay has to put them together."""
    middle = len(event) // 2
    return [chunked([event[:middle]], b""), chunked([event[middle:]], b"")]


@pytest.mark.parametrize("framed", [untouched, in_halves])
def test_each_gap_is_counted_once_where_it_belongs(clock: Clock, framed: Callable[[bytes], list[bytes]]) -> None:
    one = flowing(clock)
    waits_s = [0.02, 0.02, 0.32, 7.0]
    for wait_s, event in zip(waits_s, LATER, strict=False):
        clock.now_s += wait_s
        for piece in framed(event):
            one.answer(piece)
    clock.now_s += 1.0
    one.close(ConnectionResetError())  # no event, so no gap

    gaps = one.books.stream_gaps
    expected = [0] * (len(GAP_BOUNDS_S) + 1)
    for wait_s in waits_s:
        expected[bisect_left(GAP_BOUNDS_S, wait_s)] += 1
    assert gaps.counts == expected
    assert gaps.sum_s == pytest.approx(sum(waits_s), abs=1e-3)


def test_comments_are_no_events(clock: Clock) -> None:
    one = flowing(clock)
    for piece in (COMMENT, LATER[0], COMMENT, COMMENT, LATER[1]):
        clock.now_s += 0.07
        one.answer(chunked([piece], b""))
    one.close(ConnectionResetError())

    gaps = one.books.stream_gaps
    assert (sum(gaps.counts), gaps.sum_s) == (2, pytest.approx(0.35, abs=1e-3))


def test_the_wait_for_a_slow_client_is_no_gap(clock: Clock) -> None:
    one = flowing(clock)
    clock.now_s += 0.02
    one.client.connection.pause_writing()
    clock.now_s += 5.0
    one.client.connection.resume_writing()
    clock.now_s += 0.07
    one.answer(chunked([LATER[0]], b"")).close(ConnectionResetError())

    gaps = one.books.stream_gaps
    assert gaps.counts[bisect_left(GAP_BOUNDS_S, 0.07)] == sum(gaps.counts) == 1
    assert gaps.sum_s == pytest.approx(0.07, abs=1e-3)


def test_the_first_content_may_come_after_the_commit(clock: Clock) -> None:
    """Silence committed the stream; from its first content on, whole chunks pass untouched again."""
    one = Exchange(ASK).answer(HEAD + chunked([SILENT], b""))
    assert not one.client.out
    clock.now_s += 6.0  # beyond `commit_after_ms`
    one.client.pass_time(6.0)
    assert SILENT in one.client.out

    clock.now_s += 3.0
    one.answer(chunked([FIRST], b""))
    before = len(one.client.out)
    padded = chunked([LATER[0]], b"").replace(b"\r\n", b";x=y\r\n", 1)  # as no relay of ours would write it
    one.answer(chunked([LATER[0]], b"")).answer(padded)
    assert one.client.out[before:] == chunked([LATER[0], LATER[0]], b""), "an extension is for nobody else"
    one.close(ConnectionResetError())
    assert 8_900 < one.record.first_token_ms < 9_900
    assert sum(one.books.stream_gaps.counts) == 3
