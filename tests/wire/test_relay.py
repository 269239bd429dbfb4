"""The law of the relay: whatever its cuts, an answer gives the client the same events; a cut one is never whole."""

from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Final

import h11
import orjson
import pytest

from tests.wire.test_upstream_answers import BAD, GOOD
from tests.wire.whole_router import Exchange, body_of, request

STREAM: Final = (Path(__file__).parents[1] / "corpus" / "azure_chat_stream.sse").read_bytes()
EVENTS: Final = [event + b"\n\n" for event in STREAM.split(b"\n\n")[:-1]]
USAGE: Final = next(event for event in EVENTS if b"completion_tokens" in event)
SHOWN: Final = b"".join(event for event in EVENTS if event is not USAGE)  # to a client that did not ask for usage
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\napim-request-id: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
ASK: Final = request(body_of(stream=True))
ASK_JSON: Final = request(body_of(stream=False))


def chunked(payloads: list[bytes], last: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in payloads if each) + last


def sized(payload: bytes, size: int) -> list[bytes]:
    return [payload[at : at + size] for at in range(0, len(payload), size)]


FRAMINGS: Final = {
    "an event a chunk": chunked(EVENTS),
    "one chunk": chunked([STREAM]),
    "two events a chunk": chunked([b"".join(EVENTS[at : at + 2]) for at in range(0, len(EVENTS), 2)]),
    "small chunks": chunked(sized(STREAM, 61)),
    "with extensions": chunked(EVENTS).replace(b"\r\ndata", b";x=y\r\ndata"),
    "with trailers": chunked(EVENTS, b"0\r\nx-checksum: 1\r\nset-cookie: a\r\n\r\n"),
}


class Read:
    """What a strict client makes of the bytes it got before its connection ended."""

    def __init__(self, out: bytes, *, closed: bool) -> None:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="POST", target="/", headers=[("host", "a"), ("content-length", "0")]))
        client.send(h11.EndOfMessage())
        client.receive_data(out)
        if closed:
            client.receive_data(b"")
        self.status, self.payload, self.whole, self.fields = 0, b"", False, dict[bytes, bytes]()
        try:
            while True:
                event = client.next_event()
                if isinstance(event, h11.Response):
                    self.status, self.fields = event.status_code, dict(event.headers)
                elif isinstance(event, h11.Data):
                    self.payload += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self.whole = True
                    assert not event.headers, "an upstream's trailers are not the client's"
                    return
                elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                    return
        except h11.RemoteProtocolError:
            return  # the end of a broken framing


def read(one: Exchange) -> Read:
    return Read(one.client.out, closed=one.client.transport.closed)


def assert_whole(one: Exchange, expected: bytes, how: object) -> None:
    found = read(one)
    assert (found.status, found.whole) == (200, True), how
    assert found.payload == expected, how
    assert one.record.outcome == "ok", how
    assert one.record.usage is not None, how
    assert one.record.usage.prompt_tokens == 12, how
    assert not one.client.ended, how
    assert one.backend.pool.idle == 1, how
    one.check()


def every_split(length: int, step: int = 1) -> Iterator[list[int]]:
    yield []
    for cut in range(1, length, step):
        yield [cut]
    yield list(range(length))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_client_gets_the_same_events_at_every_split_point(framing: str) -> None:
    wire = HEAD + FRAMINGS[framing]
    for cuts in every_split(len(wire)):
        assert_whole(Exchange(ASK).answer(wire, cuts), SHOWN, cuts)


def test_the_same_where_size_lines_and_ends_meet() -> None:
    """A reader goes wrong most easily where a read ends inside a size line and the next one ends with a chunk."""
    wire = HEAD + FRAMINGS["an event a chunk"]
    ends = [at + 4 for at in range(len(wire)) if wire.startswith(b"\n\n\r\n", at)]
    for end, following in pairwise(ends):
        for first, second in product(
            range(end - 4, end + 7), [*range(end, end + 8), *range(following - 4, following + 6)]
        ):
            assert_whole(Exchange(ASK).answer(wire, [first, second]), SHOWN, (first, second))


def test_whole_chunks_of_whole_events_pass_untouched() -> None:
    """The fast path: the framing that came is the framing that goes, byte for byte."""
    frames = [chunked([event], b"") for event in EVENTS if event is not USAGE]
    one = Exchange(ASK).answer(HEAD + b"".join(frames[:3]))
    for frame in frames[3:]:
        before = len(one.client.out)
        one.answer(frame)
        assert one.client.out[before:] == frame
    one.answer(b"0\r\n\r\n")
    one.check()


def test_usage_that_the_client_asked_for_is_shown() -> None:
    ask = request(body_of(stream=True, stream_options={"include_usage": True}))
    for framing in FRAMINGS.values():
        wire = HEAD + framing
        for cuts in every_split(len(wire), 23):
            assert_whole(Exchange(ask).answer(wire, cuts), STREAM, cuts)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
def test_other_line_ends_are_passed_on_as_they_are(line_end: bytes) -> None:
    events = [event.replace(b"\n", line_end) for event in EVENTS]
    shown = b"".join(event.replace(b"\n", line_end) for event in EVENTS if event is not USAGE)
    if line_end == b"\r":
        events.append(b"\n")  # a CR alone is an end only once the byte behind it is known
        shown += b"\n"
    wire = HEAD + chunked(events)
    for cuts in every_split(len(wire)):
        assert_whole(Exchange(ASK).answer(wire, cuts), shown, cuts)


def test_comments_pass_with_the_events_around_them() -> None:
    events = [b": hello\n\n", EVENTS[0], b": a\n: b\n\n", *EVENTS[1:3], b":\n\n", *EVENTS[3:]]
    shown = b"".join(event for event in events if event is not USAGE)
    for wire in (HEAD + chunked(events), HEAD + chunked([b"".join(events)])):
        for cuts in every_split(len(wire), 7):
            assert_whole(Exchange(ASK).answer(wire, cuts), shown, cuts)


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(STREAM)),
        HEAD.replace(b"Transfer-Encoding: chunked", b"Connection: close"),
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        + HEAD.replace(b"Transfer-Encoding: chunked", b"Connection: close"),
    ],
)
def test_a_stream_in_another_framing_reaches_the_client_in_chunks(head: bytes) -> None:
    for cuts in every_split(len(head + STREAM), 5):
        one = Exchange(ASK).answer(head + STREAM, cuts).close()
        found = read(one)
        assert (found.whole, found.payload) == (True, SHOWN), cuts
        assert found.fields[b"transfer-encoding"] == b"chunked"
        one.check()


def test_a_client_of_http_10_gets_the_events_bare_and_a_clean_end() -> None:
    wire = HEAD + FRAMINGS["an event a chunk"]
    for cuts in every_split(len(wire), 3):
        one = Exchange(request(body_of(stream=True), version="1.0")).answer(wire, cuts)
        head, _, body = one.client.out.partition(b"\r\n\r\n")
        assert body == SHOWN, cuts
        assert b"transfer-encoding" not in head
        assert one.client.transport.closed
        assert not one.client.transport.aborted
        one.check()


# -- cuts


def is_error_event(event: bytes) -> bool:
    return event.startswith(b"data: {") and "error" in orjson.loads(event[6:])


def assert_honest(one: Exchange, how: object) -> None:
    """A client that reads strictly knows that this is not the whole answer."""
    found = read(one)
    assert one.record.outcome in ("stream_broken", "upstream_error"), how
    if found.status != 200:
        assert found.status >= 500, how
        assert found.whole, how
        assert orjson.loads(found.payload)["error"]["message"], how
    else:
        assert not found.whole, how
        *events, last = [event + b"\n\n" for event in found.payload.split(b"\n\n")[:-1]]
        assert found.payload.endswith(b"\n\n"), how
        assert is_error_event(last), how
        assert SHOWN.startswith(b"".join(events)), how
        assert one.client.transport.closed, how
    one.check()


@pytest.mark.parametrize("framing", ["an event a chunk", "one chunk", "small chunks", "with trailers"])
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_a_stream_cut_at_any_byte_is_never_a_whole_one(framing: str, error: Exception | None) -> None:
    wire = HEAD + FRAMINGS[framing]
    for end in range(len(wire)):
        assert_honest(Exchange(ASK).answer(wire[:end]).close(error), end)


def test_a_stream_cut_at_any_byte_and_read_in_pieces_is_never_a_whole_one() -> None:
    wire = HEAD + FRAMINGS["an event a chunk"]
    for end in range(len(HEAD), len(wire), 3):
        assert_honest(Exchange(ASK).answer(wire[:end], list(range(0, end, 97))).close(), end)


def test_a_client_of_http_10_sees_a_reset_where_a_stream_was_cut() -> None:
    """It has no framing that could be broken: a clean end would be a whole answer."""
    ask = request(body_of(stream=True), version="1.0")
    wire = HEAD + FRAMINGS["an event a chunk"]
    resets = 0
    for end in range(len(HEAD), len(wire), 3):
        one = Exchange(ask).answer(wire[:end]).close()
        if one.client.out.startswith(b"HTTP/1.1 200"):
            resets += 1
            assert one.client.transport.aborted, end
            assert any(value == b"\x01\0\0\0\0\0\0\0" for _, _, value in one.client.transport.sock.options), end
        one.check()
    assert resets > 100


@pytest.mark.parametrize(
    "tail", [b"0\r\n\r\nx", b"0\r\n\r\n" + HEAD, b"zz\r\n", b"5\r\nab\r\n\r\n", b"0\r\n\r\n\r\n", b"\0"]
)
def test_a_stream_whose_framing_breaks_is_never_a_whole_one(tail: bytes) -> None:
    wire = HEAD + chunked(EVENTS, b"")
    assert_honest(Exchange(ASK).answer(wire + tail).close(), "in one read")
    one = Exchange(ASK).answer(wire).answer(tail).close()
    assert_honest(one, "in its own read")


@pytest.mark.parametrize("missing", ["[DONE]", '"stop"'])
def test_a_well_framed_stream_that_lacks_its_own_end_is_not_whole(missing: str) -> None:
    """Azure ends a stream with a finish_reason and [DONE]; framing alone proves nothing."""
    events = [event for event in EVENTS if missing.encode() not in event]
    wire = HEAD + chunked(events)
    for cuts in every_split(len(wire), 17):
        one = Exchange(ASK).answer(wire, cuts)
        found = read(one)
        assert not found.whole, cuts
        assert is_error_event(found.payload.split(b"\n\n")[-2] + b"\n\n"), cuts
        assert one.record.outcome == "stream_broken"
        one.check()


def test_a_stream_that_ends_inside_an_event_passes_no_half_of_it_on() -> None:
    wire = HEAD + chunked([*EVENTS[:-1], b"data: [DO"])
    one = Exchange(ASK).answer(wire)
    assert_honest(one, "half of an event")
    assert b"[DO" not in one.client.out


# -- answers that are no streams


JSON: Final = orjson.dumps(
    {"id": "x", "choices": [{"index": 0}], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}
)
JSON_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
JSON_ANSWERS: Final = {
    "length": JSON_HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(JSON), JSON),
    "chunks": JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(sized(JSON, 20)),
    "1.0": JSON_HEAD.replace(b"1.1", b"1.0") + b"Content-Length: %d\r\n\r\n%b" % (len(JSON), JSON),
}


@pytest.mark.parametrize("name", JSON_ANSWERS)
def test_a_json_answer_is_the_same_at_every_split_point(name: str) -> None:
    wire = JSON_ANSWERS[name]
    for cuts in every_split(len(wire)):
        one = Exchange(ASK_JSON).answer(wire, cuts)
        found = read(one)
        assert (found.status, found.whole, found.payload) == (200, True, JSON), cuts
        assert one.record.usage is not None
        assert one.record.usage.completion_tokens == 3
        one.check()


@pytest.mark.parametrize("name", JSON_ANSWERS)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_a_json_answer_cut_at_any_byte_is_never_a_whole_one(name: str, version: str, error: Exception | None) -> None:
    wire = JSON_ANSWERS[name]
    for end in range(len(wire)):
        one = Exchange(request(body_of(stream=False), version=version)).answer(wire[:end]).close(error)
        found = read(one)
        if found.status == 200 and not one.client.transport.aborted:
            assert not found.whole, end
        elif found.status != 200:
            assert found.status >= 500, end
        one.check()


def test_an_answer_to_the_close_is_whole_after_a_clean_end_only() -> None:
    wire = JSON_HEAD + b"\r\n" + JSON
    one = Exchange(ASK_JSON).answer(wire).close()
    assert (read(one).whole, read(one).payload) == (True, JSON)
    one.check()
    one = Exchange(ASK_JSON).answer(wire).close(ConnectionResetError())
    assert not read(one).whole
    one.check()


def test_an_error_answer_is_judged_whole_at_every_split_point() -> None:
    """A client's own error passes; at a cut it becomes a failure of the deployment."""
    body = b'{"error":{"message":"bad","type":"invalid_request_error","param":"messages","code":"x"}}'
    wire = b"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    for cuts in every_split(len(wire)):
        one = Exchange(ASK).answer(wire, cuts)
        assert (read(one).status, read(one).whole) == (400, True), cuts
        one.check()
    for end in range(len(wire)):
        one = Exchange(ASK).answer(wire[:end]).close()
        assert read(one).status >= 500, end
        one.check()


def test_a_silent_stream_gets_comments_between_its_events_and_keeps_its_end() -> None:
    """Inserted by us, and only between whole events: also where half of one is waiting for its rest."""
    half = len(EVENTS[3]) // 2
    one = Exchange(ASK).answer(HEAD + chunked(EVENTS[:3], b"") + chunked([EVENTS[3][:half]], b""))
    one.client.pass_time(16)
    one.answer(chunked([EVENTS[3][half:], *EVENTS[4:]]))
    found = read(one)
    comment = b": keep-alive\n\n"
    assert found.payload == b"".join(EVENTS[:3]) + comment + SHOWN.removeprefix(b"".join(EVENTS[:3]))
    assert found.whole
    one.check()


def test_comments_go_on_after_a_client_has_caught_up() -> None:
    one = Exchange(ASK).answer(HEAD + chunked(EVENTS[:3], b""))
    one.client.connection.pause_writing()
    assert one.transport.paused
    one.client.pass_time(16)
    assert b": keep-alive" not in one.client.out
    one.client.connection.resume_writing()
    assert not one.transport.paused
    one.client.pass_time(33)
    assert b": keep-alive" in one.client.out
    one.answer(chunked(EVENTS[3:]))
    assert read(one).whole
    one.check()


def test_comments_are_no_progress_and_silence_ends_a_stream() -> None:
    one = Exchange(ASK).answer(HEAD + chunked(EVENTS[:3], b""))
    one.client.pass_time(119)
    assert one.client.out.count(b": keep-alive") == 7
    one.client.pass_time(122)
    assert_honest_after_comments(one)


def assert_honest_after_comments(one: Exchange) -> None:
    found = read(one)
    assert not found.whole
    assert is_error_event(found.payload.split(b"\n\n")[-2] + b"\n\n")
    assert one.transport.aborted
    one.check()


def test_a_client_that_stands_still_is_cut() -> None:
    one = Exchange(ASK).answer(HEAD + chunked(EVENTS[:3], b""))
    one.client.connection.pause_writing()
    one.client.pass_time(122)
    assert one.record.outcome == "client_gone"
    assert one.transport.aborted
    assert one.client.transport.aborted
    one.check()


def test_no_connection_is_kept_after_a_client_left() -> None:
    """In every phase of the answer the deployment's connection is aborted at once."""
    wire = HEAD + FRAMINGS["an event a chunk"]
    for end in range(0, len(wire) - 1, 11):
        one = Exchange(ASK).answer(wire[:end])
        one.client.hang_up()
        assert one.transport.aborted, end
        assert one.record.outcome == "client_gone", end
        assert one.record.status == 499
        one.check()


def test_a_redirect_is_not_followed() -> None:
    wire = b"HTTP/1.1 302 Found\r\nLocation: http://other.example/\r\nContent-Length: 0\r\n\r\n"
    one = Exchange(ASK).answer(wire)
    assert read(one).status >= 500
    assert b"other.example" not in one.client.out
    one.check()


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("ask", [ASK, ASK_JSON], ids=["stream", "json"])
def test_an_answer_that_is_bad_http_is_never_a_whole_success(name: str, ask: bytes) -> None:
    wire = BAD[name]
    for cuts in every_split(len(wire)):
        one = Exchange(ask).answer(wire, cuts).close()
        found = read(one)
        assert not (found.whole and found.status < 300), cuts
        one.check()


@pytest.mark.parametrize("name", [name for name, (_, found) in GOOD.items() if found.kept and found.status < 300])
def test_an_answer_with_bytes_behind_it_in_one_read_is_never_a_whole_success(name: str) -> None:
    """Not even one whose head alone is whole: a length of 0, or a status without a body."""
    wire = GOOD[name][0] + b"x"
    for cuts in ([], *([cut] for cut in range(1, len(wire) - 1))):
        one = Exchange(ASK_JSON).answer(wire, cuts).close()
        found = read(one)
        assert not (found.whole and found.status < 300), cuts
        one.check()
