"""A checker of streams that would pass a lost frame proves nothing about the router."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.frames import LATE, Fidelity, Frames, Script

EVENTS = [b'data: {"n":%d}\n\n' % number for number in range(12)] + [b"data: [DONE]\n\n"]
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SCRIPT = Script.of(EVENTS)


def chunked(payload: bytes, sizes: list[int]) -> bytes:
    """The payload in chunks of these sizes, the rest in one more, and the end."""
    parts, at = [], 0
    for size in sizes:
        parts.append(payload[at : at + size])
        at += size
    parts = [part for part in (*parts, payload[at:]) if part]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def fed(wire: bytes, cuts: list[int]) -> Frames:
    frames = Frames(SCRIPT)
    at = 0
    for cut in cuts:
        if at < len(wire):
            frames.feed(wire[at : at + cut])
            at += cut
    if at < len(wire):
        frames.feed(wire[at:])
    return frames


sizes = st.lists(st.integers(1, 60), max_size=30)


@given(sizes, sizes)
def test_an_answer_is_whole_however_it_is_chunked_and_read(chunks: list[int], cuts: list[int]) -> None:
    frames = fed(HEAD + chunked(b"".join(EVENTS), chunks), cuts)
    assert (frames.wrong, frames.ended, frames.events) == ("", True, len(EVENTS))


@given(st.integers(0, len(EVENTS) - 1), st.sampled_from(["lost", "twice", "swapped", "changed"]), sizes, sizes)
def test_no_fault_of_a_frame_passes(number: int, fault: str, chunks: list[int], cuts: list[int]) -> None:
    events = list(EVENTS)
    if fault == "lost":
        del events[number]
    elif fault == "twice":
        events.insert(number, events[number])
    elif fault == "swapped":
        other = (number + 1) % len(events)
        events[number], events[other] = events[other], events[number]
    else:
        events[number] = events[number].replace(b"data", b"date")
    assert fed(HEAD + chunked(b"".join(events), chunks), cuts).wrong


@given(st.integers(0, len(EVENTS) - 1))
def test_no_fault_passes_where_each_read_is_one_frame(number: int) -> None:
    """The short way: a read that is just the chunk that is due is not parsed."""
    frames = Frames(SCRIPT)
    frames.feed(HEAD)
    for index, wire in enumerate(SCRIPT.wire[:-1]):
        if index != number:
            frames.feed(wire)
    assert frames.wrong or not frames.ended


def test_a_whole_frame_in_the_middle_of_another_is_no_frame() -> None:
    frames = Frames(SCRIPT)
    first = EVENTS[0]
    frames.feed(HEAD + b"5\r\n" + first[:5] + b"\r\n")
    frames.feed(SCRIPT.wire[0])
    assert frames.wrong.startswith("behind byte 5")


@pytest.mark.parametrize(
    ("wire", "wrong"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "HTTP/1.1 502"),
        (HEAD + chunked(b"".join(EVENTS[:3]), []), "an answer ended after"),
        (HEAD + chunked(b"".join(EVENTS), []) + b"more", "bytes behind the end"),
    ],
)
def test_what_was_wrong_is_told(wire: bytes, wrong: str) -> None:
    assert fed(wire, []).wrong.startswith(wrong)


def test_a_second_answer_is_counted_on() -> None:
    frames = fed(HEAD + chunked(b"".join(EVENTS), []), [])
    frames.begin()
    frames.feed(HEAD + SCRIPT.wire[0])
    assert frames.events == len(EVENTS) + 1
    assert not frames.ended


def test_late_gaps_are_those_over_ten_paces() -> None:
    seen = Fidelity(4, 0, "", [0.1], [0.02, LATE * 0.02, LATE * 0.02 + 0.001, 1.0])
    assert seen.late(0.02) == 2
