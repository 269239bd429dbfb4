"""Laws of the relay under any re-chunking, any cuts, any line ends, with comments anywhere."""

import itertools

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from router.accounting.events import read_events
from router.accounting.stream import is_hidden_usage
from tests.wire.test_relay import ASK, EVENTS, HEAD, Read, is_error_event
from tests.wire.whole_router import Exchange, body_of, request

LAW = settings(deadline=None, max_examples=150)

LINE_ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
COMMENTS = st.lists(st.sampled_from([b": ping\n\n", b":\r\n\r\n", b": a\n: b\n\n"]), max_size=2).map(b"".join)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """The recorded answer's events, each with line ends of its own, comments between, and some events again."""
    events: list[bytes] = []
    for event in EVENTS:
        line_end = draw(LINE_ENDS)
        events.append(draw(COMMENTS))
        events.append(event.replace(b"\n", line_end) + (b"\n" if line_end == b"\r" else b""))
    return [event for event in events if event]


@st.composite
def chunks(draw: st.DrawFn, payload: bytes) -> bytes:
    """Any way to cut the payload into chunks, with extensions here and there."""
    cuts = sorted(draw(st.lists(st.integers(1, len(payload) - 1), max_size=12, unique=True)))
    edges = [0, *cuts, len(payload)]
    wire = b""
    for start, end in itertools.pairwise(edges):
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % (end - start)
        wire += size + draw(st.sampled_from([b"", b"", b";a", b';a="b"'])) + b"\r\n" + payload[start:end] + b"\r\n"
    return wire + b"0\r\n\r\n"


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[bytes], bytes, list[int]]:
    """Events, the answer's bytes on the wire, and where they are cut into reads."""
    events = draw(streams())
    wire = HEAD + draw(chunks(b"".join(events)))
    return events, wire, draw(st.lists(st.integers(1, len(wire) - 1), max_size=12))


def shown(events: list[bytes]) -> list[tuple[bytes, bytes]]:
    return read_events(b"".join(event for event in events if not is_hidden_usage(event)))


@LAW
@given(answers())
def test_any_framing_gives_the_same_events(answer: tuple[list[bytes], bytes, list[int]]) -> None:
    events, wire, cuts = answer
    one = Exchange(ASK).answer(wire, cuts)
    found = Read(one.client.out, closed=one.client.transport.closed)
    assert found.whole
    assert read_events(found.payload) == shown(events)
    assert one.record.outcome == "ok"
    one.check()


@LAW
@given(answers())
def test_nothing_is_hidden_from_whoever_asked_for_usage(answer: tuple[list[bytes], bytes, list[int]]) -> None:
    events, wire, cuts = answer
    one = Exchange(request(body_of(stream=True, stream_options={"include_usage": True}))).answer(wire, cuts)
    assert Read(one.client.out, closed=False).payload == b"".join(events)
    one.check()


@LAW
@given(answers(), st.floats(0, 1, exclude_max=True), st.sampled_from([None, ConnectionResetError()]))
def test_any_cut_is_seen(answer: tuple[list[bytes], bytes, list[int]], share: float, error: Exception | None) -> None:
    events, wire, cuts = answer
    end = int(len(wire) * share)
    one = Exchange(ASK).answer(wire[:end], [cut for cut in cuts if cut < end]).close(error)
    found = Read(one.client.out, closed=one.client.transport.closed)
    if found.status == 200:
        assert not found.whole
        *passed, (_, last) = read_events(found.payload)
        assert is_error_event(b"data: " + last + b"\n\n")
        assert passed == shown(events)[: len(passed)]
    else:
        assert found.status >= 500
    one.check()


@LAW
@given(answers(), st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
@example(([EVENTS[0]], HEAD + b"1\r\na\r\n0\r\n\r\n", []), 0, b"\0")
def test_a_stream_that_was_tampered_with_never_passes_as_another_whole_one(
    answer: tuple[list[bytes], bytes, list[int]], at: int, junk: bytes
) -> None:
    """Bytes changed anywhere in the framing: whatever is said to be whole proved itself by its own last events."""
    _events, wire, cuts = answer
    at %= len(wire)
    assume(wire[at : at + len(junk)] != junk)
    one = Exchange(ASK).answer(wire[:at] + junk + wire[at + len(junk) :], cuts)
    if not one.books.records:
        one.close()
    found = Read(one.client.out, closed=one.client.transport.closed)
    if found.whole and found.status == 200 and one.record.stream and one.record.outcome == "ok":
        assert any(data == b"[DONE]" or data.startswith(b"[DONE]") for _, data in read_events(found.payload)) or (
            b"event-stream" not in found.fields.get(b"content-type", b"")
        )
    one.check()
