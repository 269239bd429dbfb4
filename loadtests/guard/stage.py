"""Client and cloud in one thread, on one connection each, in lockstep: nothing is sent before what came before arrived.

So each run reads and writes the same bytes in the same order, whatever else the machine does.
"""

import re
import socket
from typing import Final

import orjson

from loadtests.bench.bodies import raw_request
from loadtests.bench.processes import BenchError
from loadtests.bench.subjects import CLIENT_PATH

PATIENCE_S: Final = 30.0
READ_BYTES: Final = 1 << 20
HEAD_END: Final = b"\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
USAGE: Final = {"prompt_tokens": 250, "completion_tokens": 50, "total_tokens": 300}
STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    b"apim-request-id: 00000000-0000-4000-8000-000000000000\r\nx-ms-region: loopback\r\n\r\n"
)


class Stage:
    """The router's two ends. Raises BenchError where it does not do as it should."""

    def __init__(self, port: int, listener: socket.socket) -> None:
        self._listener = listener
        listener.settimeout(PATIENCE_S)
        self._client = _patient(socket.create_connection(("127.0.0.1", port)))
        self._cloud: socket.socket | None = None

    def close(self) -> None:
        self._client.close()
        if self._cloud is not None:
            self._cloud.close()

    def ask(self, body: bytes) -> None:
        """One request and its whole answer of 600 bytes."""
        cloud = self._deliver(body)
        cloud.sendall(ANSWER)
        _read_message(self._client)

    def stream(self, body: bytes, events: int) -> None:
        """One stream: each event leaves when the one before has reached the client."""
        cloud = self._deliver(body)
        cloud.sendall(STREAM_HEAD)
        for number in range(events):
            mark = b"word-%06d" % number
            cloud.sendall(_chunk(_event(mark.decode())))
            self._await(mark)
        cloud.sendall(STREAM_END)
        self._await(b"[DONE]", LAST_CHUNK)

    def _deliver(self, body: bytes) -> socket.socket:
        """Sends a request and reads it where the router sent it."""
        self._client.sendall(raw_request(CLIENT_PATH, body))
        if self._cloud is None:
            self._cloud = _patient(self._listener.accept()[0])
        _read_message(self._cloud)
        return self._cloud

    def _await(self, *marks: bytes) -> None:
        read = b""
        while not all(mark in read for mark in marks):
            read += _read(self._client)


def _patient(connection: socket.socket) -> socket.socket:
    connection.settimeout(PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _read(connection: socket.socket) -> bytes:
    try:
        data = connection.recv(READ_BYTES)
    except TimeoutError as error:
        raise BenchError(f"the router was silent for {PATIENCE_S:g} s") from error
    if not data:
        raise BenchError("the router closed a connection that it should have kept")
    return data


def _read_message(connection: socket.socket) -> None:
    """Reads a head and the body that its Content-Length announces. An answer must be a 200."""
    read = b""
    while HEAD_END not in read:
        read += _read(connection)
    head, _, body = read.partition(HEAD_END)
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if length is None or (head.startswith(b"HTTP/") and b" 200 " not in head[:16]):
        raise BenchError(f"not what was expected: {read[:500].decode(errors='replace')}")
    missing = int(length[1]) - len(body)
    while missing > 0:
        missing -= len(_read(connection))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(content: str | None) -> bytes:
    """A chunk of text; None: the last one, which says why there is no more."""
    delta, reason = ({}, "stop") if content is None else ({"content": content}, None)
    choice: dict[str, object] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return b"data: " + orjson.dumps(_completion("chat.completion.chunk", [choice]) | {"usage": None}) + b"\n\n"


def _stream_end() -> bytes:
    usage = b"data: " + orjson.dumps(_completion("chat.completion.chunk", []) | {"usage": USAGE}) + b"\n\n"
    return _chunk(_event(None)) + _chunk(usage) + _chunk(b"data: [DONE]\n\n") + LAST_CHUNK


def _completion(kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
    head = {"id": "chatcmpl-00000000000000000000", "object": kind, "created": 1_700_000_000, "model": "gpt-4o"}
    return head | {"system_fingerprint": "fp_plain", "choices": choices}


def _answer() -> bytes:
    message = {"role": "assistant", "content": "x" * 250, "refusal": None}
    choice: dict[str, object] = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = orjson.dumps(_completion("chat.completion", [choice]) | {"usage": USAGE})
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        b"apim-request-id: 00000000-0000-4000-8000-000000000000\r\nx-ms-region: loopback\r\n\r\n"
    )
    return head % len(body) + body


ANSWER: Final = _answer()
STREAM_END: Final = _stream_end()
