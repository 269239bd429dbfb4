"""A client's connection over its whole life: bodies, pipelines, early answers, deadlines, and clients that leave."""

import itertools
from time import monotonic

import pytest

from router.base.errors import ClientGoneError, MalformedHttpError
from router.transport.client_connection import DRAIN_BYTES_MAX, EARLY_BYTES_MAX, LINGER_S
from router.transport.inbound import Inbound
from tests.wire.fakes import Bounds, Client, Early, Handler, Held, Seen, ok, pieces

H = b"Host: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def get(path: bytes = b"/", fields: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + H + fields + b"\r\n"


def post(body: bytes, path: bytes = b"/", fields: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b" % (path, H, fields, len(body), body)


def post_chunked(body: bytes, path: bytes = b"/", fields: bytes = b"") -> bytes:
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (body[:half], body[half:]) if each)
    return b"POST " + path + b" HTTP/1.1\r\n" + H + fields + CHUNKED + b"\r\n" + chunks + b"0\r\n\r\n"


def seen(client: Client) -> list[tuple[bytes, bytes | None]]:
    return [(each.target, each.body) for each in client.handler.seen]


# -- bodies


INNER = post(b"evil", b"/inner")


@pytest.mark.parametrize("write", [post, post_chunked])
@pytest.mark.parametrize(
    "fields",
    [b"", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"],
)
def test_a_body_that_is_a_request_stays_a_body(write, fields) -> None:
    """The smuggling hole of an upgrade with a body, and of every other mistake about where a body ends."""
    data = write(INNER, b"/outer", fields)
    for cuts in ([], *([cut] for cut in range(1, len(data))), list(range(len(data)))):
        client = Client().feed_pieces(data, cuts)
        client.feed(get(b"/next"))
        assert seen(client) == [(b"/outer", INNER), (b"/next", b"")], cuts
        assert client.statuses == [200, 200], cuts
        client.check()


@pytest.mark.parametrize("write", [post, post_chunked])
def test_a_connection_carries_requests_of_all_lengths(write) -> None:
    """A head that the client repeats is read once: only its length may differ, and must be believed each time."""
    bodies = [b"a" * size for size in (4, 5, 100, 4, 0, 12345, 1)]
    client = Client()
    for body in bodies:
        client.feed(write(body, b"/same"))
    for number, body in enumerate(bodies):
        client.feed_pieces(write(body, b"/same"), [number * 7 + 1, number * 11 + 30])
    assert seen(client) == [(b"/same", body) for body in bodies * 2]
    assert [reply.body for reply in client.answers] == bodies * 2
    client.check()


@pytest.mark.parametrize("name", [b"Dontent-Length", b"X-Content-Length", b"xontent-length", b"Content-Lengthx"])
def test_a_field_that_looks_like_a_length_is_none_when_the_head_is_repeated(name: bytes) -> None:
    """Were it taken for the length, the rest of the real body would be read as a request."""
    body = INNER
    before = b"POST /outer HTTP/1.1\r\n" + H + name + b": 4\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    after = b"POST /outer HTTP/1.1\r\n" + H + b"Content-Length: %d\r\n" % len(body) + name + b": 4\r\n\r\n" + body
    for data in (before, after):
        client = Client()
        for _ in range(3):
            client.feed(data)
        assert seen(client) == [(b"/outer", body)] * 3


@pytest.mark.parametrize(
    "again", [b"4 ", b"+4", b"", b"4\n", b"9" * 16, b"4, 4", b"0x4", b"-1", b"4\r\nContent-Length: 5"]
)
def test_a_repeated_head_is_read_as_strictly_as_the_first(again: bytes) -> None:
    def request(length: bytes) -> bytes:
        return b"POST / HTTP/1.1\r\n" + H + b"Content-Length: " + length + b"\r\n\r\nbody"

    fresh, kept = Client().feed(request(again)), Client().feed(request(b"4"))
    kept.feed(request(again))
    assert kept.statuses[1:] == fresh.statuses
    assert kept.ended == fresh.ended


# -- pipelines


def test_one_pipelined_request_is_served_in_its_order() -> None:
    data = post(b"one", b"/1") + post(b"two", b"/2")
    for cuts in ([], *([cut] for cut in range(1, len(data))), list(range(len(data)))):
        client = Client(Held()).feed_pieces(data, cuts)
        assert [target for target, _ in seen(client)] == [b"/1"], cuts
        client.handler.release()
        client.loop.run()
        assert [target for target, _ in seen(client)] == [b"/1", b"/2"], cuts
        client.handler.release()
        client.loop.run()
        assert [reply.body for reply in client.answers] == [b"one", b"two"], cuts
        assert not client.ended
        client.check()


@pytest.mark.parametrize("first", [get(b"/1"), post(b"one", b"/1")])
def test_more_than_one_pipelined_request_is_not_answered(first: bytes) -> None:
    """In whatever reads they come while one runs: that one is finished, and then the connection ends."""
    data = first + get(b"/2") + get(b"/3")
    for cuts in ([], *([cut] for cut in range(1, len(data), 3)), list(range(len(data)))):
        client = Client(Held()).feed_pieces(data, cuts)
        client.handler.release()
        client.loop.run()
        assert [target for target, _ in seen(client)] == [b"/1"], cuts
        assert client.statuses == [200], cuts
        assert client.ended, cuts
        client.feed(get(b"/4"))
        assert len(seen(client)) == 1, cuts
        client.check()


def test_a_connection_that_is_not_kept_says_so_where_it_knows_it_before() -> None:
    client = Client(Held()).feed(get() + get() + get())
    client.handler.release()
    client.loop.run()
    assert client.answers[0].fields[b"connection"] == b"close"


def test_who_is_to_dial_anew_hears_it_with_the_answer_that_it_waits_for() -> None:
    client = Client(Held())
    assert not client.connection.end_after_this(), "its next request may be on its way"
    client.feed(get())
    client.server.shed(3)
    client.handler.release()
    client.loop.run()
    assert client.answers[0].fields[b"connection"] == b"close"
    assert client.ended


def test_who_has_asked_for_more_already_is_not_sent_away() -> None:
    client = Client(Held()).feed(get(b"/1") + get(b"/2"))
    client.server.shed(1)
    for _ in range(2):
        client.handler.release()
        client.loop.run()
    assert [reply.fields.get(b"connection") for reply in client.answers] == [None, None]
    assert not client.ended


def test_64_kib_behind_a_running_request_end_its_connection() -> None:
    client = Client(Held()).feed(get(b"/1"))
    client.feed(post(b"x" * (Bounds.pipelined_bytes_max + 1), b"/2")[: Bounds.pipelined_bytes_max + 1])
    client.handler.release()
    client.loop.run()
    assert seen(client) == [(b"/1", b"")]
    assert client.ended
    client.check()


def test_bytes_between_an_answer_and_the_next_turn_of_the_loop_are_not_lost() -> None:
    client = Client(Held()).feed(get(b"/1") + get(b"/2"), run=False)
    client.handler.release()
    client.loop.run()
    client.feed(b"GET /3 HT", run=False)
    client.handler.release()
    client.feed(b"TP/1.1\r\n" + H + b"\r\n")
    client.handler.release()
    client.loop.run()
    assert [target for target, _ in seen(client)] == [b"/1", b"/2", b"/3"]
    assert client.statuses == [200] * 3
    client.check()


@pytest.mark.parametrize("more", [get(b"/3"), b"x" * (Bounds.pipelined_bytes_max + 1)])
def test_an_overrun_between_two_pipelined_requests_ends_the_connection(more: bytes) -> None:
    """Between an answer and the loop's next turn the second request waits; what comes then counts as behind it."""
    client = Client(Held()).feed(get(b"/1") + get(b"/2"), run=False)
    client.handler.release()
    client.feed(more)
    assert seen(client) == [(b"/1", b"")]
    assert client.ended
    client.check()


def test_bad_bytes_behind_a_good_request_are_answered_after_it() -> None:
    client = Client(Held()).feed(get(b"/1") + b"\0\0\0 bad\r\n\r\n")
    assert client.statuses == []
    client.handler.release()
    client.loop.run()
    assert client.statuses == [200, 400]
    assert client.ended
    client.check()


def test_nothing_is_served_behind_a_close() -> None:
    for close in (get(b"/1", b"Connection: close\r\n"), get(b"/1", b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n")):
        client = Client().feed(close + get(b"/2")).feed(get(b"/3"))
        assert seen(client) == [(b"/1", b"")]
        assert client.statuses == [200]
        assert client.answers[0].fields[b"connection"] == b"close"
        assert client.ended
        client.check()


def test_a_request_in_the_read_that_ends_a_chunked_body_is_not_served() -> None:
    """Where a chunked body ended in a read nobody can say, so nothing behind it is believed."""
    client = Client().feed(post_chunked(b"body", b"/1") + get(b"/2"))
    assert seen(client) == [(b"/1", b"body")]
    assert client.statuses == [200]
    assert client.ended
    client.check()
    client = Client().feed(post_chunked(b"body", b"/1")).feed(get(b"/2"))
    assert client.statuses == [200, 200]


# -- expectations


def test_100_continue_is_said_when_the_body_is_wanted_and_not_before() -> None:
    client = Client().feed(post(b"body", fields=b"Expect: 100-continue\r\n")[:-4])
    assert client.statuses == [100]
    client.feed(b"body")
    assert client.statuses == [100, 200]
    assert client.answers[1].body == b"body"
    client.check()


def test_100_continue_for_a_chunked_body() -> None:
    data = post_chunked(b"body", fields=b"Expect: 100-Continue\r\n")
    head = data.index(b"\r\n\r\n") + 4
    client = Client().feed(data[:head])
    assert client.statuses == [100]
    client.feed(data[head:])
    assert client.statuses == [100, 200]


def test_no_100_continue_where_the_request_is_refused_first() -> None:
    client = Client(Early()).feed(post(b"body", fields=b"Expect: 100-continue\r\n")[:-4])
    assert client.statuses == [401]


def test_no_100_continue_where_the_body_came_already() -> None:
    data = post(b"body", fields=b"Expect: 100-continue\r\n")
    for cut in (len(data), len(data) - 1, len(data) - 3):
        client = Client().feed_pieces(data, [cut])
        assert client.statuses == [200], cut


def test_no_100_continue_towards_http_10_or_without_a_body() -> None:
    client = Client().feed(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    assert client.statuses == []
    client.feed(b"body")
    assert client.statuses == [200]
    assert Client().feed(get(fields=b"Expect: 100-continue\r\n")).statuses == [200]


# -- early answers


def test_a_short_unread_body_is_thrown_away_and_the_connection_kept() -> None:
    """At every split of the body, and the request behind it in the same read or a later one."""
    data = post(INNER, b"/1")
    head = len(data) - len(INNER)
    for cut, together in itertools.product(range(head, len(data)), (True, False)):
        client = Client(Early()).feed(data[:cut])
        client.feed(data[cut:] + get(b"/2")) if together else client.feed(data[cut:]).feed(get(b"/2"))
        assert [target for target, _ in seen(client)] == [b"/1", b"/2"], (cut, together)
        assert client.statuses == [401, 401], (cut, together)
        assert not client.ended
        client.check()


class Late(Held):
    """Answers when told to, without having looked at the body: as a limit does that had to be asked for elsewhere."""

    async def serve(self, inbound: Inbound, seen: Seen) -> None:
        number = len(self.seen)
        while self.released < number:
            await inbound.rest()
        inbound.begin_answer(b"HTTP/1.1 429 X\r\n", b"", b"no", monotonic())
        inbound.end()


def test_a_body_that_came_before_its_late_refusal_is_no_part_of_the_next_request() -> None:
    """Whole, in part, or with the next request right behind it: what is left of it would be read as a head."""
    data = post(INNER, b"/1") + post(b"two", b"/2")
    head, end = data.index(INNER), data.index(INNER) + len(INNER)
    for cut, until in itertools.product((head, head + 1, end - 1), range(head, len(data) + 1)):
        handler = Late()
        client = Client(handler).feed_pieces(data[: max(cut, until)], [cut])
        handler.release()
        client.loop.run()
        client.feed(data[max(cut, until) :])
        assert [target for target, _ in seen(client)] == [b"/1", b"/2"], (cut, until)
        handler.release()
        client.loop.run()
        client.feed(get(b"/3"))
        handler.release()
        client.loop.run()
        assert [target for target, _ in seen(client)] == [b"/1", b"/2", b"/3"], (cut, until)
        assert client.statuses == [429, 429, 429], (cut, until)
        assert not client.ended
        client.check()


def test_a_long_body_that_nobody_has_asked_for_yet_is_counted_and_has_its_bound() -> None:
    long = b"x" * (EARLY_BYTES_MAX + 1)
    handler = Late()
    client = Client(handler, body_bytes_max=len(long)).feed_pieces(post(long, b"/1"), [60, EARLY_BYTES_MAX])
    assert client.server.buffered_bytes == len(long)
    handler.release()
    client.loop.run()
    assert client.statuses == [429]
    assert client.server.buffered_bytes == 0
    client.check()

    client = Client(Late(), body_bytes_max=len(long) - 1).feed_pieces(post(long, b"/1"), [60, EARLY_BYTES_MAX])
    assert client.statuses == [413]
    assert client.server.buffered_bytes == 0


def test_a_long_unread_body_ends_the_connection_and_the_answer_arrives_whole() -> None:
    """Half closed first, so that bytes under way do not turn the answer into a reset; aborted after a moment."""
    body = b"x" * (DRAIN_BYTES_MAX + 1000)
    client = Client(Early()).feed(post(body)[:100])
    assert client.statuses == [401]
    assert client.answers[0].fields[b"connection"] == b"close"
    assert client.transport.eof_sent
    assert not client.transport.closed
    for piece in pieces(post(body)[100:] + get(b"/2"), list(range(0, len(body), 65536))):
        client.feed(piece)
    assert len(client.handler.seen) == 1
    assert not client.transport.aborted
    client.pass_time(LINGER_S + 1)
    assert client.transport.aborted
    client.check()


def test_an_unread_chunked_body_ends_the_connection() -> None:
    client = Client(Early()).feed(post_chunked(INNER, b"/1") + get(b"/2")).feed(get(b"/3"))
    assert [target for target, _ in seen(client)] == [b"/1"]
    assert client.statuses == [401]
    assert client.transport.eof_sent
    client.check()


def test_a_whole_body_that_nobody_wanted_is_no_reason_to_close() -> None:
    client = Client(Early()).feed(post(INNER, b"/1")).feed(post(INNER, b"/2"))
    assert client.statuses == [401, 401]
    assert not client.ended


def test_a_body_that_stops_while_it_is_thrown_away_ends_the_connection() -> None:
    client = Client(Early()).feed(post(b"x" * 1000)[:-500])
    client.pass_time(31)
    assert client.transport.aborted
    client.check()


# -- HTTP/1.0


def test_a_client_of_http_10_is_closed_unless_it_asked_otherwise() -> None:
    client = Client().feed(b"GET /1 HTTP/1.0\r\n\r\n" + get(b"/2"))
    assert client.statuses == [200]
    assert client.answers[0].fields[b"connection"] == b"close"
    assert client.ended
    client = Client().feed(b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert client.answers[0].fields[b"connection"] == b"keep-alive"
    client.feed(b"GET /2 HTTP/1.0\r\n\r\n")
    assert client.statuses == [200, 200]
    assert client.ended


class Streaming(Handler):
    """Answers in pieces, and breaks off where it is told to."""

    def __init__(self, *, whole: bool) -> None:
        super().__init__()
        self.whole = whole

    async def serve(self, inbound: Inbound, seen: Seen) -> None:
        inbound.begin_answer(b"HTTP/1.1 200 OK\r\n", b"", None, 1.0)
        inbound.write_payload(b"first")
        inbound.write_payload(b"")
        inbound.write_payload(b" second")
        if self.whole:
            inbound.end()
        else:
            inbound.break_off(b" words")
        inbound.end()
        inbound.break_off(b"never")
        inbound.abandon()


def test_a_stream_ends_once_and_keeps_the_connection() -> None:
    client = Client(Streaming(whole=True)).feed(get()).feed(get())
    assert [reply.body for reply in client.answers] == [b"first second"] * 2
    assert not client.ended
    client.check()


def test_a_broken_stream_has_last_words_and_no_last_chunk() -> None:
    client = Client(Streaming(whole=False)).feed(get() + get(b"/2"))
    assert client.out.endswith(b"5\r\nfirst\r\n7\r\n second\r\n6\r\n words\r\n")
    assert client.transport.closed
    assert not client.transport.aborted
    assert len(client.handler.seen) == 1
    client.check()


def test_a_stream_to_http_10_has_no_chunks_and_ends_with_the_connection() -> None:
    client = Client(Streaming(whole=True)).feed(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    head, _, body = client.out.partition(b"\r\n\r\n")
    assert body == b"first second"
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
    assert client.transport.closed
    assert not client.transport.aborted


def test_a_broken_stream_to_http_10_is_reset() -> None:
    """A clean end would be a whole answer there."""
    client = Client(Streaming(whole=False)).feed(b"GET / HTTP/1.0\r\n\r\n")
    assert client.transport.aborted
    assert any(value == b"\x01\0\0\0\0\0\0\0" for _, _, value in client.transport.sock.options)
    client.check()


# -- deadlines


def test_a_slow_head_is_a_408() -> None:
    client = Client(head_timeout_s=5.0).feed(b"GET / HT")
    client.pass_time(4)
    assert not client.ended
    client.pass_time(6)
    assert client.statuses == [408]
    assert client.ended
    client.check()


def test_a_head_that_drips_is_late_all_the_same() -> None:
    """The time counts from the first byte, however many come."""
    client = Client(head_timeout_s=5.0).feed(b"GET / HT")
    deadline = client.connection._deadline
    for byte in b"TP/1.1\r\nHost: a\r\n":
        client.feed(bytes([byte]))
    assert client.connection._deadline == deadline
    client.pass_time(6)
    assert client.statuses == [408]


def test_a_connection_without_a_request_is_closed_without_a_word() -> None:
    client = Client(head_timeout_s=5.0)
    client.pass_time(6)
    assert client.out == b""
    assert client.transport.closed
    client.check()


def test_an_idle_connection_is_closed_after_its_time_and_not_before() -> None:
    client = Client(head_timeout_s=5.0, keepalive_timeout_s=20.0).feed(get())
    client.pass_time(19)
    assert not client.ended
    client.pass_time(21)
    assert client.transport.closed
    assert client.statuses == [200]
    client.check()


def test_a_running_request_is_not_closed_by_its_connections_timers() -> None:
    client = Client(Held(), head_timeout_s=5.0, keepalive_timeout_s=5.0).feed(get())
    client.pass_time(100)
    assert not client.ended
    client.handler.release()
    client.loop.run()
    assert client.statuses == [200]
    client.pass_time(107)
    assert client.transport.closed


@pytest.mark.parametrize("data", [post(b"body")[:-1], post_chunked(b"body")[:-9]])
def test_a_body_that_stops_is_a_408(data: bytes) -> None:
    client = Client(body_timeout_s=5.0).feed(data)
    client.pass_time(4)
    assert client.statuses == []
    client.pass_time(6)
    assert client.statuses == [408]
    assert client.ended
    client.feed(b"y" + get(b"/2"))
    assert len(client.handler.seen) == 1
    client.check()
    client.hang_up()
    client.check()


# -- many connections, and clients that leave


def test_a_connection_beyond_the_bound_gets_a_503() -> None:
    first = Client(connections_max=2)
    second, third = Client(server=first.server), Client(server=first.server)
    third.loop.run()
    assert third.statuses == [503]
    assert third.ended
    third.feed(get())
    assert len(first.handler.seen) == 0
    assert second.feed(get()).statuses == [200]
    second.hang_up()
    assert Client(server=first.server).feed(get()).statuses == [200]
    third.pass_time(LINGER_S + 1)
    assert third.transport.aborted


PHASES = {
    "before a byte": b"",
    "in the head": get()[:10],
    "in a body": post(b"body")[:-2],
    "before a body": post(b"body")[:-4],
    "in a chunked body": post_chunked(b"body")[:-9],
    "in a chunk's size": post_chunked(b"body" * 10)[:-60],
    "while it runs": post(b"body"),
    "while it runs, with another behind": post(b"body") + get(b"/2"),
    "while it runs, in the middle of another": post(b"body") + get(b"/2")[:9],
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_a_client_that_leaves_is_noticed_in_every_phase(phase: str, error: Exception | None) -> None:
    client = Client(Held()).feed(PHASES[phase])
    client.hang_up(error)
    if client.handler.seen:
        assert isinstance(client.handler.seen[0].error, ClientGoneError)
        assert client.handler.inbounds[0].finished
    assert client.out == b""
    assert len(client.server.wheel) == 0, "a timer of a connection that is gone"
    client.check()


def test_all_the_memory_of_bodies_is_given_back() -> None:
    """Refused, cut, late, or whole: the count of buffered bytes returns to nothing."""
    first = Client(Handler(), body_bytes_max=1000)
    server = first.server
    for data in (post(b"x" * 900), post_chunked(b"x" * 900), post_chunked(b"x" * 5000), post(b"x" * 900)[:-5]):
        client = Client(server=server).feed_pieces(data, list(range(0, len(data), 50)))
        client.hang_up()
        assert server.buffered_bytes == 0
    client = Client(Held())
    client.feed(post_chunked(b"x" * 900))
    assert client.server.buffered_bytes == 900
    client.handler.inbounds[0].release_body()
    assert client.server.buffered_bytes == 0


def test_a_chunked_body_is_counted_while_it_comes() -> None:
    """Else many of them could hold any amount of memory before one of them is whole."""
    client = Client(Held()).feed(post_chunked(b"x" * 900)[:-20])
    assert client.server.buffered_bytes > 800
    client.hang_up()
    assert client.server.buffered_bytes == 0


def test_chunked_bodies_together_have_a_bound() -> None:
    held = Client(Held(), buffered_bytes_max=1500).feed(post_chunked(b"x" * 900))
    other = Client(server=held.server).feed_pieces(post_chunked(b"y" * 900) + get(), [500])
    assert other.statuses == [503]
    assert other.ended
    assert held.server.buffered_bytes == 900
    held.handler.release()
    held.loop.run()
    assert held.statuses == [200]
    assert held.server.buffered_bytes == 0


def test_a_body_that_drips_is_late_however_steadily() -> None:
    """A byte every now and then must not hold a request's memory for days."""
    client = Client(body_timeout_s=5.0)
    client.feed(post(b"x" * 100_000)[:-99_990])
    inbound = client.handler.inbounds[0]
    began = inbound._deadline
    client.feed(b"x" * 10)
    assert inbound._deadline <= began + 0.1
    client.feed(b"x" * 50_000)
    assert inbound._deadline <= client.connection.progress_at + 5.0
    client.pass_time(6)
    assert client.statuses == [408]


class HeadFirst(Held):
    """Begins its answers at once, and ends them when told to."""

    async def serve(self, inbound: Inbound, seen: Seen) -> None:
        inbound.begin_answer(b"HTTP/1.1 200 OK\r\n", b"", None, monotonic())
        number = len(self.seen)
        while self.released < number:
            await inbound.rest()
        inbound.end()


def test_a_drain_ends_idle_connections_now_and_busy_ones_after_their_answer() -> None:
    busy = Client(Held())
    idle, begun = Client(server=busy.server), Client(server=busy.server)
    idle.feed(get())
    busy.handler.release()
    busy.feed(post(b"body") + get(b"/2"))
    begun.feed(get()[:5])
    busy.server.drain()
    busy.loop.run()
    assert idle.transport.closed
    assert not busy.ended
    begun.feed(get()[5:])
    for _ in range(2):
        busy.handler.release()
    busy.loop.run()
    assert busy.statuses == [200]
    assert busy.answers[0].fields[b"connection"] == b"close"
    assert busy.ended
    assert begun.statuses == [200]
    assert begun.ended


def test_who_has_just_connected_when_a_drain_begins_is_served_once() -> None:
    """Its connection was accepted, perhaps out of the queue a moment ago: its request is most likely on its way."""
    early = Client()
    silent = Client(server=early.server)
    early.server.drain()
    late = Client(server=early.server)
    for each in (early, late):
        assert not each.ended
        each.feed(get())
        assert each.statuses == [200]
        assert each.answers[0].fields[b"connection"] == b"close"
        assert each.ended
    assert not silent.ended
    silent.pass_time(1.5)
    assert silent.ended
    assert silent.out == b""


def test_a_patient_drain_waits_for_the_next_request_of_an_idle_connection() -> None:
    client = Client(keepalive_timeout_s=20.0)
    idle = Client(server=client.server)
    for each in (client, idle):
        each.feed(get())
    client.server.drain(patient=True)
    client.loop.run()
    assert not client.ended
    client.feed(get())
    assert client.statuses == [200, 200]
    assert client.answers[1].fields[b"connection"] == b"close"
    assert client.ended
    assert not idle.ended
    idle.pass_time(21)
    assert idle.ended


def test_an_answer_that_did_not_say_that_it_is_the_last_is_followed_by_another_in_a_patient_drain() -> None:
    """Its head was out before the drain began: its client may send the next request with the last byte read."""
    client = Client(HeadFirst())
    client.feed(get())
    client.server.drain(patient=True)
    client.handler.release()
    client.loop.run()
    assert b"connection" not in client.answers[0].fields
    assert not client.ended
    client.feed(get())
    client.handler.release()
    client.loop.run()
    assert client.statuses == [200, 200]
    assert client.ended


def test_a_refusal_is_counted_with_its_code() -> None:
    client = Client().feed(b"nonsense\r\n\r\n")
    assert [type(error) for error in client.handler.refusals] == [MalformedHttpError]


def test_a_head_request_gets_no_body() -> None:
    class Sized(Handler):
        async def serve(self, inbound: Inbound, seen: Seen) -> None:
            ok(inbound, b"body")

    client = Client(Sized()).feed(b"HEAD / HTTP/1.1\r\n" + H + b"\r\n")
    assert client.out.endswith(b"content-length: 4\r\n\r\n")
    assert not client.ended
