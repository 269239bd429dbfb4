"""A load test that takes a wrong answer for a right one says that all is well: each lie is told here once."""

import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.locust import bodies, checks
from loadtests.locust.checks import ChatStream, CutError, RefusedError, ResponseStream, ToldError, WrongAnswerError
from loadtests.locust.client import Answer, Connection

ERROR = {"error": {"message": "slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}
CHAT: dict[str, Any] = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a river"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice], **more})


STREAM = (b'data: {"choices":[],"prompt_filter_results":[]}', chunk("a"), chunk(" river"), chunk(finish="stop"))
DONE = b"data: [DONE]"


def read(events: Sequence[bytes], stream: checks.Stream | None = None) -> checks.Stream:
    stream = stream or ChatStream()
    for event in events:
        stream.event(event)
    stream.end()
    return stream


def changed(path: Sequence[str | int], value: Any) -> bytes:
    answer = orjson.loads(orjson.dumps(CHAT))
    place = answer
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return orjson.dumps(answer)


def test_right_answers_pass() -> None:
    checks.chat(orjson.dumps(CHAT))
    assert read([*STREAM, DONE]).tokens == 2
    read([b": a comment", *STREAM, b": another", DONE])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"object":"chat.completion"',
        changed(["object"], "list"),
        changed(["choices"], []),
        changed(["choices", 0, "message", "content"], None),
        changed(["choices", 0, "finish_reason"], None),
        changed(["usage"], None),
        changed(["usage", "total_tokens"], 6),
    ],
)
def test_answers_that_are_not_whole_are_wrong(body: bytes) -> None:
    with pytest.raises(WrongAnswerError):
        checks.chat(body)


@pytest.mark.parametrize(
    "events",
    [
        STREAM,  # no [DONE]
        [*STREAM[:-1], DONE],  # no finish_reason
        [DONE],
        [*STREAM, DONE, chunk("more")],
        [*STREAM, DONE, DONE],
        [*STREAM, chunk("more"), DONE],
        [*STREAM, b'data: {"choices":[],"usage":{"total_tokens":3}}', DONE],  # we did not ask
        [*STREAM[:2], b'data: {"choices":', *STREAM[2:], DONE],
        [*STREAM[:2], STREAM[2] + b"\n" + STREAM[2], STREAM[3], DONE],  # two events that lost their blank line
        [*STREAM[:2], b"river", *STREAM[2:], DONE],
    ],
)
def test_streams_that_are_not_whole_are_wrong(events: Sequence[bytes]) -> None:
    with pytest.raises(WrongAnswerError):
        read(events)


def test_a_stream_that_says_that_it_broke_is_honest() -> None:
    with pytest.raises(ToldError, match="stream_broken"):
        read([*STREAM[:2], b'data: {"error":{"message":"cut","code":"stream_broken"}}'])
    with pytest.raises(ToldError, match="stream_broken"):
        read([b'event: error\ndata: {"type":"error","code":"stream_broken","message":"cut"}'], ResponseStream("x"))


def test_errors_need_openais_shape() -> None:
    with pytest.raises(RefusedError, match="429 rate_limit_exceeded"):
        checks.refuse(429, "application/json", orjson.dumps(ERROR))
    for body in (b"<html>", b"{}", b'{"error":"no"}', b'{"error":{"message":"","type":"x","param":null,"code":null}}'):
        with pytest.raises(WrongAnswerError):
            checks.refuse(500, "application/json", body)
    with pytest.raises(WrongAnswerError):
        checks.refuse(500, "text/html", orjson.dumps(ERROR))
    del ERROR["error"]["code"]
    with pytest.raises(WrongAnswerError):
        checks.refuse(429, "application/json", orjson.dumps(ERROR))


def response_events(marker: str = "load-1", text: str = "a river") -> list[bytes]:
    whole = {"object": "response", "status": "completed", "output": [{}], "metadata": {"marker": marker}}
    events: list[dict[str, Any]] = [
        {"type": "response.created"},
        {"type": "response.output_text.delta", "delta": "a "},
        {"type": "response.output_text.delta", "delta": "river"},
        {"type": "response.output_text.done", "text": text},
        {"type": "response.completed", "response": whole},
    ]
    lines = [orjson.dumps({**event, "sequence_number": number}) for number, event in enumerate(events)]
    return [b"event: x\ndata: " + line for line in lines]


def test_a_responses_stream_is_in_order_whole_and_ours() -> None:
    assert read(response_events(), ResponseStream("load-1")).tokens == 2
    events = response_events()
    for wrong in (events[:-1], events[:1] + events[2:], events[::-1], [*events, events[0]], response_events(text="a")):
        with pytest.raises(WrongAnswerError):
            read(wrong, ResponseStream("load-1"))
    with pytest.raises(WrongAnswerError, match="another request"):
        read(response_events("load-2"), ResponseStream("load-1"))


def test_vectors_are_one_for_each_input_in_their_order() -> None:
    def answer(*data: tuple[int, int]) -> bytes:
        return orjson.dumps({"data": [{"index": index, "embedding": [0.5] * size} for index, size in data]})

    checks.embeddings(answer((0, 3), (1, 3)), 2)
    for wrong in (answer((0, 3)), answer((1, 3), (0, 3)), answer((0, 3), (1, 2)), answer((0, 0), (1, 0)), b"{}"):
        with pytest.raises(WrongAnswerError):
            checks.embeddings(wrong, 2)


def test_bodies_have_the_sizes_that_they_claim() -> None:
    sizes = [len(bodies.large("m", "api", variant, stream=True)) for variant in range(bodies.VARIANTS)]
    low, high = bodies.LARGE_BYTES
    assert sizes == sorted(sizes)
    assert low - 300 <= sizes[0] <= low + 300
    assert high - 300 <= sizes[-1] <= high + 300
    picture = orjson.loads(bodies.image("m", "api", 3))["messages"][0]["content"][1]["image_url"]["url"]
    assert picture.startswith("data:image/png;base64,")


# The connection.

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(*parts: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


@contextmanager
def answering(*answers: bytes, cuts: Sequence[int] = ()) -> Iterator[str]:
    """A server whose one connection gives these answers, split at `cuts`, and then closes. Yields its URL."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        sock, _ = listening.accept()
        with sock:
            for answer in answers:
                got = b""
                while not got.endswith(b"{}"):
                    if not (data := sock.recv(65536)):
                        return
                    got += data
                places = [0, *sorted(cut % len(answer) for cut in cuts), len(answer)]
                for since, until in itertools.pairwise(places):
                    sock.sendall(answer[since:until])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with listening:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            thread.join(10)
    finally:
        thread.join(10)


def asked(url: str, on_event: Callable[[bytes, float], bool] | None = None) -> Answer:
    connection = Connection(url, 5.0)
    try:
        return connection.post("/v1/x", "secret", b"{}", on_event)
    finally:
        connection.close()


@given(st.lists(st.integers(0, 400), max_size=6))
def test_events_are_whole_however_the_bytes_are_split(cuts: list[int]) -> None:
    events = [*STREAM, DONE]
    seen: list[bytes] = []

    def note(event: bytes, _now: float) -> bool:
        seen.append(event)
        return True

    with answering(chunked(*(event + b"\n\n" for event in events)), cuts=cuts) as url:
        answer = asked(url, note)

    assert seen == events
    assert answer.complete
    assert not answer.body


def test_a_connection_is_used_again_and_a_client_that_leaves_ends_it() -> None:
    whole = chunked(chunk("a") + b"\n\n")
    with answering(whole, whole, whole) as url:
        connection = Connection(url, 5.0)
        for _ in range(2):
            assert connection.post("/v1/x", "secret", b"{}", lambda _event, _now: True).complete
        connection.post("/v1/x", "secret", b"{}", lambda _event, _now: False)
        assert connection._socket is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "before its answer"),
        (chunked(b"data: 1\n\n", end=b""), "inside its answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", "inside its answer"),
        (b"HTP/1.1 200 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", "not HTTP"),
    ],
)
def test_an_answer_that_does_not_come_to_its_end_is_cut(answer: bytes, why: str) -> None:
    with answering(answer) as url, pytest.raises(CutError, match=why):
        asked(url)


def test_nobody_there_is_cut_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(CutError, match="ConnectionRefusedError before its answer"):
        asked(f"http://127.0.0.1:{port}")


def test_an_answer_that_nobody_asked_for_is_a_wrong_one() -> None:
    """Behind ours in one read: whose it is nobody can say."""
    with (
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n") as url,
        pytest.raises(WrongAnswerError, match="more than its answer"),
    ):
        asked(url)
